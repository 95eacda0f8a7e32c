"""The one exception family of the pack: every refusal has a stable code, a message and a hint."""

from __future__ import annotations


class IocScanError(Exception):
    """A refusal or failure that a person can act on.

    ``code`` is stable (``lower_snake``) and may be matched on by playbooks, ``message`` says what is
    wrong and where, ``hint`` says what to do next. Text from outside must be made printable
    (``ioc_scan.text.printable``) before it goes into a message.
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        return (type(self), (self.code, self.message, self.hint))

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" + (f" ({self.hint})" if self.hint else "")

    def as_dict(self) -> dict[str, str]:
        return {"code": self.code, "message": self.message, "hint": self.hint}


class InputError(IocScanError):
    """What was handed in cannot be used: a report, an IOC file, a parameter."""


class ConfigError(IocScanError):
    """The pack's configuration is wrong or incomplete."""


class SourceError(IocScanError):
    """A sandbox or folder could not be read."""


class StoreError(IocScanError):
    """The database cannot be opened, written or migrated."""


class DeviceError(IocScanError):
    """A device manager or a device failed."""


class NotFoundError(IocScanError):
    """The named object does not exist (any more)."""


class RefusedError(IocScanError):
    """The request is understood and not allowed: safety rule, state, or right."""
