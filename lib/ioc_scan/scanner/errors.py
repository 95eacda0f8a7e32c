"""The refusals and failures of the device side; standard library only, so not ``ioc_scan.errors``."""

from __future__ import annotations


class ScannerError(Exception):
    """A refusal or failure with a stable ``code``, a ``message`` and a ``hint`` for a person."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        return (type(self), (self.code, self.message, self.hint))

    def __str__(self) -> str:
        return self.code + ": " + self.message + (" (" + self.hint + ")" if self.hint else "")

    def as_dict(self) -> dict[str, str]:
        return {"code": self.code, "message": self.message, "hint": self.hint}
