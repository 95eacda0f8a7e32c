"""Kaspersky Security Center: detection events that its endpoints made with the sandbox, polled by their number.

The first look goes by time (EventProcessing), later ones by event_db_id (SrvView), which cannot miss a late event.
Where the account may not use the view, every look goes by time. The same event has the same detection id.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from ioc_scan.detection import ids, ksc
from ioc_scan.detection.normalize import finished
from ioc_scan.detection.sources.base import Cursor, Row, SourceHealth, SourceUnavailable, window_start
from ioc_scan.errors import ConfigError, IocScanError, SourceError
from ioc_scan.ksc_client import Ksc, KscError, KscSettings, connect
from ioc_scan.text import printable

MAX_EVENTS = 5000
MAX_EVENTS_OF_ALL_TIME = 100_000
FIELDS = (
    "event_db_id",
    "event_type",
    "rise_time",
    "hostname",
    "product_name",
    "GNRL_EA_SEVERITY",
    *(f"GNRL_EA_PARAM_{number}" for number in (1, 2, 5, 7, 8, 9)),
)
_ID = re.compile(r"[0-9]{1,18}")
_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")
_NO_VIEW = frozenset({"ksc_access_denied", "ksc_not_permitted", "ksc_no_such_call", "ksc_not_found"})
#: Will not mend by itself: asked rarely.
_LASTING = frozenset(
    {"ksc_log_on_failed", "ksc_account_blocked", "ksc_certificate", "ksc_access_denied", "ksc_no_such_call"}
)


class KscSource:
    product = "ksc"

    def __init__(
        self, name: str, client: Ksc, *, types: list[str], methods: list[int], look_back_hours: float
    ) -> None:
        self.name = name
        self._client = client
        self._types, self._methods = types, methods
        self._look_back = timedelta(hours=look_back_hours)

    @classmethod
    def from_config(cls, entry: dict[str, Any]) -> KscSource:
        """Raises ConfigError ``source_event_type`` or what is wrong with the connection's settings."""
        types = [str(kind) for kind in entry.get("event_types") or ["GNRL_EV_VIRUS_FOUND"]]
        if odd := next((kind for kind in types if not _TYPE.fullmatch(kind)), None):
            raise ConfigError(
                "source_event_type",
                f"source {entry['name']}: {printable(odd, 80)} cannot be a type of event",
                "for example GNRL_EV_VIRUS_FOUND",
            )
        methods = entry.get("detection_methods")
        return cls(
            entry["name"],
            connect(KscSettings.from_config(entry)),
            types=types,
            methods=[ksc.SANDBOX_METHOD] if methods is None else [int(method) for method in methods],
            look_back_hours=entry.get("look_back_hours") or 24,
        )

    def list_new(self, cursor: Cursor | None, now: datetime) -> tuple[list[Row], Cursor]:
        """Events beyond the cursor's number, or of the look-back window where there is none."""
        last = (cursor or {}).get("event_db_id")
        last = last if type(last) is int and last > 0 else 0
        try:
            events = self._after(last, MAX_EVENTS) if last else None
            if events is None:
                events = self._since(window_start(cursor, now, self._look_back))
        except KscError as error:
            raise self._unavailable(error) from error
        rows = [row for row in (self._row(event) for event in events) if row]
        newest = max([last, *(int(event["event_db_id"]) for event in events)])
        return rows, {"event_db_id": newest, "listed_at": int(now.timestamp())}

    def fetch(self, report_id: str) -> dict[str, Any]:
        if not _ID.fullmatch(report_id):
            raise self._gone(report_id, "is no number of an event")
        number = int(report_id)
        try:
            events = self._after(number - 1, 1)
            if events is None:
                events = self._since(None, most=MAX_EVENTS_OF_ALL_TIME)
        except KscError as error:
            raise self._unavailable(error) from error
        event = next((event for event in events if event["event_db_id"] == number), None)
        if event is None or not ksc.wanted(event, self._methods):
            raise self._gone(report_id, "is not among the detection events of the server")
        return finished(self.product, self.name, str(number), ksc.form_of(event), None)

    def fetch_degraded(self, report_id: str) -> dict[str, Any] | None:
        """An event is all there is."""
        return None

    def health(self) -> SourceHealth:
        try:
            text, numbers = self._client.version()
            if numbers[:2] < (13, 2):
                return SourceHealth(
                    False, (f"the server's version is {printable(text, 40)}, 13.2 is the oldest",)
                )
            if self._after(2**53, 1) is None:
                note = "the account may not use the view of events: they are listed by time"
                self._client.events_since(None, self._types[0], ["event_db_id"], most=1)
                return SourceHealth(True, (note,))
        except IocScanError as error:
            return SourceHealth(False, (str(error),))
        return SourceHealth(True)

    def _after(self, number: int, most: int) -> list[dict[str, Any]] | None:
        """None where the view of events is not to be had."""
        try:
            return _numbered(self._client.events_after(number, self._types, FIELDS, most=most))
        except KscError as error:
            if error.code not in _NO_VIEW:
                raise
            return None

    def _since(self, moment: datetime | None, most: int = MAX_EVENTS) -> list[dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        for kind in self._types:
            for event in _numbered(self._client.events_since(moment, kind, FIELDS, most=most)):
                found[event["event_db_id"]] = event
        return [found[number] for number in sorted(found)]

    def _row(self, event: dict[str, Any]) -> Row | None:
        if not ksc.wanted(event, self._methods):
            return None
        report_id = str(event["event_db_id"])
        risen = event.get("rise_time")
        return Row(
            ids.detection_id(self.product, self.name, report_id),
            report_id,
            risen if isinstance(risen, datetime) else None,
            hashes=ksc.hashes_of(event),
        )

    def _gone(self, report_id: str, why: str) -> SourceError:
        return SourceError(
            "report_gone",
            f"source {self.name}: {printable(report_id, 64)} {why}",
            "look it up in Kaspersky Security Center; events there are kept for a limited time",
        )

    def _unavailable(self, error: KscError) -> SourceUnavailable:
        return SourceUnavailable(
            error.code, f"source {self.name}: {error.message}", error.hint, lasting=error.code in _LASTING
        )


def _numbered(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if type(event.get("event_db_id")) is int and event["event_db_id"] > 0]
