"""What every source of detections offers, and what a row of its list is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol

from ioc_scan.errors import SourceError

Cursor = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One report a source lists. Some sources know the object's hashes and the score before the fetch."""

    detection_id: str
    report_id: str
    reported_at: datetime | None = None
    score: float | None = None
    hashes: dict[str, str] = field(default_factory=dict)
    name: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class SourceHealth:
    """``problems`` are sentences for people; empty means fine."""

    ok: bool
    problems: tuple[str, ...] = ()


class Source(Protocol):
    """Stateless towards its caller: whatever must be remembered is in the cursor, which is plain JSON."""

    name: str
    #: the fields ``{product}:{instance}`` of every detection id of this source
    product: str

    def list_new(self, cursor: Cursor | None, now: datetime) -> tuple[list[Row], Cursor]:
        """Reports of the look-back window, oldest first; the same may come again. Raises SourceError."""

    def fetch(self, report_id: str) -> dict[str, Any]:
        """The normalized detection. Raises SourceError (try later) or InputError (the report is bad)."""

    def fetch_degraded(self, report_id: str) -> dict[str, Any] | None:
        """What the list entry alone tells, once the report cannot be had; None where that is not enough."""

    def health(self) -> SourceHealth:
        """Can it be reached and read? Never raises."""


def window_start(cursor: Cursor | None, now: datetime, look_back: timedelta) -> datetime:
    """Where the look-back window begins: counted from the last look, so that absence loses nothing."""
    last = (cursor or {}).get("listed_at")
    if isinstance(last, (int, float)) and 0 < last < now.timestamp():
        return datetime.fromtimestamp(last, timezone.utc) - look_back
    return now - look_back


class SourceUnavailable(SourceError):
    """The source as a whole fails for now. ``retry_after_seconds``: what it asked for, if it did;
    ``lasting``: it will not mend by itself (login refused), so ask rarely; ``blames_report``: it may as well
    be the fault of the one report asked for (the answer broke off), which then counts as a try for it."""

    def __init__(
        self,
        code: str,
        message: str,
        hint: str = "",
        *,
        retry_after_seconds: float | None = None,
        lasting: bool = False,
        blames_report: bool = False,
    ) -> None:
        super().__init__(code, message, hint)
        self.retry_after_seconds = retry_after_seconds
        self.lasting = lasting
        self.blames_report = blames_report
