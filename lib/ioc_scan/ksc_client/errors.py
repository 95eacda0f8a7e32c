"""What the server's error codes mean here, and what to do about each.

Codes: KSC Open API, "Error codes"; those not listed keep their number in the message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import DeviceError
from ..text import printable

NOT_FOUND = frozenset({1125, 1186})
NO_RIGHT = frozenset({1184, 1193})
UNAVAILABLE = 1195
LIMIT = 1229
_MEANINGS: dict[int, tuple[str, str]] = {
    1125: ("ksc_not_found", "it may have been deleted on the server"),
    1184: ("ksc_access_denied", "give the account the rights that docs/kaspersky.md lists"),
    1186: ("ksc_not_found", "it may have been deleted on the server"),
    1192: ("ksc_bad_format", "is this version of the server supported? see docs/kaspersky.md"),
    1193: ("ksc_not_permitted", "the server does not permit this to the account, or at all"),
    1194: ("ksc_no_such_call", "is this version of the server supported? see docs/kaspersky.md"),
    1195: ("ksc_unavailable", "the server is busy or starting; it is tried again"),
    1229: ("ksc_limit_reached", "remove tasks on the server that are no longer needed"),
    1445: ("ksc_log_on_failed", "check user, password and `internal_user`"),
    1453: ("ksc_log_on_failed", "check user, password and `internal_user`"),
    1454: ("ksc_log_on_failed", "check user, password and `internal_user`"),
    2013: ("ksc_account_blocked", "unblock the account in Kaspersky Security Center"),
}


class KscError(DeviceError):
    """The server could not be reached, or refused. ``pxg_code`` is its own number, 0 where it gave none."""

    def __init__(self, code: str, message: str, hint: str = "", pxg_code: int = 0) -> None:
        super().__init__(code, message, hint)
        self.pxg_code = pxg_code

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return (type(self), (self.code, self.message, self.hint, self.pxg_code))

    @property
    def not_found(self) -> bool:
        return self.pxg_code in NOT_FOUND


def from_pxg(method: str, raw: object) -> KscError:
    """The error of an answer with ``PxgError``."""
    error = raw if isinstance(raw, Mapping) else {}
    number = error.get("code")
    if isinstance(number, bool) or not isinstance(number, int):
        number = -1
    code, hint = _MEANINGS.get(number, ("ksc_error", "look the number up in the reference of KSC Open API"))
    said = printable(error.get("message") or "no message", 200)
    return KscError(code, f"{method}: {said} (error {number})", hint, number)
