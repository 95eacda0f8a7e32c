"""One poll of one job: the states of its tasks on the server, and the events about objects, since the cursor.

The cursor is plain JSON: per device what every manager keeps, ``events_after`` (the last event_db_id read), and
for a response ``answered`` (per device, the matches that have an outcome). A damaged one starts over.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..ksc_client import KscError
from ..ksc_client.values import any_of
from .base import ControlOp, Cursor, DeviceEvent, EventKind, Job
from .ksc_answers import OK, RUNNING, WARNING, EventShape, FoundObject, device_status, match_data
from .ksc_ioc import Matcher
from .ksc_parts import Part, Record
from .result_shapes import BadShape
from .results import DeviceCursor, Limits, state_event
from .status import own_status

if TYPE_CHECKING:
    from .ksc import KscManager

MAX_EVENTS_PER_POLL = 2000
_FINAL = frozenset({"done", "failed", "cancelled", "expired"})
#: Where the account may not read the view of all events, the task's own history is read.
_NO_VIEW = frozenset({"ksc_access_denied", "ksc_no_such_call", "ksc_not_permitted", "ksc_not_found"})


class Reading:
    """Build one per poll; ``read`` once, then ``cursor``."""

    def __init__(
        self,
        manager: KscManager,
        job: Job,
        record: Record | None,
        devices: dict[str, DeviceCursor],
        cursor: Cursor | None,
        now: datetime,
    ) -> None:
        self._manager, self._job, self._now = manager, job, now
        self._record = record or Record(job.id, False, "", "")
        self._devices = {d: devices.get(d, DeviceCursor()) for d in job.device_ids}
        raw = cursor or {}
        after = raw.get("events_after")
        self._after = after if type(after) is int and after >= 0 else 0
        answered = raw.get("answered")
        self._answered: dict[str, list[str]] = (
            {str(k): [str(m) for m in v] for k, v in answered.items() if isinstance(v, list)}
            if isinstance(answered, dict)
            else {}
        )
        self._more = False
        self._rejected: Counter[tuple[str, str, str]] = Counter()
        self._limits = Limits()

    @property
    def all_closed(self) -> bool:
        return all(cursor.closed for cursor in self._devices.values())

    def cursor(self) -> Cursor:
        cursor: Cursor = {
            "devices": {d: c.dump() for d, c in self._devices.items()},
            "events_after": self._after,
            "more": self._more,
        }
        if self._answered:
            cursor["answered"] = self._answered
        return cursor

    @staticmethod
    def last_look(manager: KscManager, task_id: str, part: Part) -> tuple[list[str], list[str]]:
        """Devices on which a task is running now, and those on which it has ended."""
        try:
            rows = manager.ksc.host_states(task_id)
        except KscError as error:
            if error.not_found:
                return [], []
            raise
        states = {str(row["hostname"]): row.get("state_code") for row in rows if row.get("hostname")}
        named = [device for device in part.devices if device in states]
        return [d for d in named if states[d] == RUNNING], [d for d in named if states[d] in (OK, WARNING)]

    def read(
        self, failures: Mapping[str, Mapping[str, str]], control: Mapping[str, str]
    ) -> list[DeviceEvent]:
        """Objects first, states after them: whoever sees "done" has been given what came before. Raises KscError."""
        parts = [part for part in self._record.parts if part.task_id is not None]
        events: list[DeviceEvent] = []
        rows: dict[str, list[Mapping[str, Any] | None]] = {}
        gone: set[str] = set()
        if self._job.dry_run:
            events += self._would_respond()
        elif parts:
            for part in parts if not self._record.retired else ():
                self._states_of(part, rows, gone)
            events += self._objects(parts)
        for device_id, own in self._devices.items():
            if own.closed or self._more:
                continue
            cancelled = control.get(device_id) == ControlOp.CANCEL.value
            status = self._status(device_id, rows, gone, failures.get(device_id), cancelled)
            if status is None:
                continue
            if self._record.respond and status["state"] == "done" and not self._job.dry_run:
                events += self._unconfirmed(device_id)
                if self._unanswered(device_id):
                    status = {**status, "state": "running", "finished_at": None}
            own.final = status["state"] in _FINAL
            events += state_event(device_id, status, own)
        for (device_id, code, message), count in sorted(self._rejected.items()):
            data = {"code": code, "message": message, "count": count}
            events.append(DeviceEvent(device_id, EventKind.REJECTED, 0, data))
        return events

    # -- states

    def _states_of(self, part: Part, rows: dict[str, list[Mapping[str, Any] | None]], gone: set[str]) -> None:
        try:
            found = {row.get("hostname"): row for row in self._manager.ksc.host_states(str(part.task_id))}
        except KscError as error:
            if not error.not_found:
                raise
            gone.update(part.devices)
            return
        for device_id in part.devices:
            rows.setdefault(device_id, []).append(found.get(device_id))

    def _status(
        self,
        device_id: str,
        rows: Mapping[str, list[Mapping[str, Any] | None]],
        gone: set[str],
        failure: Mapping[str, str] | None,
        cancelled: bool,
    ) -> dict[str, Any] | None:
        job, record = self._job, self._record
        if job.dry_run and device_id in record.covered():
            return own_status(job, device_id, "done")
        if record.retired:
            return self._after_retirement(device_id)
        if device_id in gone:
            error = {
                "code": "ksc_task_gone",
                "message": "the task was deleted on the server, by somebody or with its group",
                "hint": "start the task again",
            }
            return own_status(job, device_id, "failed", error)
        if device_id in rows:
            unseen = not record.respond and self._manager.found_event is None
            return device_status(job, device_id, rows[device_id], cancelled=cancelled, unseen=unseen)
        if failure is not None:
            return own_status(job, device_id, "failed", failure)
        if cancelled:
            return own_status(job, device_id, "cancelled")
        return own_status(job, device_id, "expired") if self._now > job.not_after else None

    def _after_retirement(self, device_id: str) -> dict[str, Any] | None:
        """A response whose time was over: what was at work then may have been done, the rest was not."""
        if device_id in self._record.cut_off:
            error = {
                "code": "ksc_response_unknown",
                "message": "the device was at work when the response's time was over",
                "hint": "look at its quarantine in Kaspersky Security Center",
            }
            return own_status(self._job, device_id, "failed", error)
        return own_status(self._job, device_id, "done" if device_id in self._record.finished else "expired")

    # -- objects

    def _objects(self, parts: list[Part]) -> list[DeviceEvent]:
        shape = self._manager.quarantined_event if self._record.respond else self._manager.found_event
        if shape is None:
            return []
        by_name = {part.name: part for part in parts}
        rows = sorted(self._rows(parts, shape), key=lambda row: row["event_db_id"])
        self._more = len(rows) >= MAX_EVENTS_PER_POLL
        matcher = Matcher(self._job.plan or b"") if not self._record.respond else None
        events = []
        for row in rows:
            self._after = max(self._after, row["event_db_id"])
            part, device_id = by_name.get(str(row.get("task_display_name"))), row.get("hostname")
            if part is None or not isinstance(device_id, str) or device_id not in part.devices:
                continue  # a device that came to the group later is not part of this run
            own = self._devices[device_id]
            if own.held:
                continue
            try:
                found = FoundObject.of(row, shape)
                if matcher is None:
                    events += self._quarantined(device_id, found)
                    continue
                data = match_data(found, device_id, part, matcher)
            except BadShape as bad:
                self._reject(device_id, own, bad)
                continue
            own.seq += 1
            own.matches += 1
            events.append(DeviceEvent(device_id, EventKind.MATCH, own.seq, {"seq": own.seq, **data}))
            if own.matches >= self._limits.job_matches:
                events.append(self._hold(device_id, own, "too_many_matches"))
        return events

    def _rows(self, parts: list[Part], shape: EventShape) -> list[dict[str, Any]]:
        ksc = self._manager.ksc
        try:
            named = any_of("task_display_name", [part.name for part in parts])
            rows = ksc.events_after(
                self._after, [shape.type], shape.fields, most=MAX_EVENTS_PER_POLL, extra=named
            )
        except KscError as error:
            if error.code not in _NO_VIEW:
                raise
            rows = []
            for part in parts:
                try:
                    told = ksc.task_history(str(part.task_id), shape.type, shape.fields, most=100_000)
                except KscError as gone:
                    if not gone.not_found:
                        raise
                    continue
                rows += [{**row, "task_display_name": part.name} for row in told]
        usable = [row for row in rows if type(row.get("event_db_id")) is int]
        return [row for row in usable if row["event_db_id"] > self._after]

    def _reject(self, device_id: str, own: DeviceCursor, bad: BadShape) -> None:
        own.rejected += 1
        self._rejected[(device_id, bad.code, bad.message)] += 1
        if own.rejected > self._limits.job_rejected:
            own.held = "too_many_rejected"

    def _hold(self, device_id: str, own: DeviceCursor, code: str) -> DeviceEvent:
        own.held = code
        message = "the device reports more matches than a job may have"
        return DeviceEvent(device_id, EventKind.HELD, 0, {"code": code, "message": message})

    # -- responses

    def _would_respond(self) -> list[DeviceEvent]:
        events = []
        for device_id in sorted(self._record.covered()):
            if self._devices[device_id].closed:
                continue
            for match_id in self._unanswered(device_id):
                events.append(self._response(device_id, match_id, "would_quarantine", "", None))
        return events

    def _quarantined(self, device_id: str, found: FoundObject) -> list[DeviceEvent]:
        """One event of a quarantine answers one match of that content: its path if it is the same, else the next."""
        asked = [item for item in self._job.items.get(device_id, ()) if item.get("sha256") == found.sha256]
        left = [item for item in asked if item["match_id"] in self._unanswered(device_id)]
        same = [item for item in left if item.get("path_b64") == _b64(found.path)]
        if not asked:
            raise BadShape("not_asked", "a quarantine is of an object that the response is not about")
        return [
            self._response(device_id, item["match_id"], "quarantined", "", found.sha256)
            for item in (same or left)[:1]
        ]

    def _unconfirmed(self, device_id: str) -> list[DeviceEvent]:
        """The device is done and said nothing of these objects; given up once the response's time is over."""
        if self._now <= self._job.not_after:
            return []
        return [
            self._response(device_id, match_id, "failed", "ksc_not_confirmed", None)
            for match_id in self._unanswered(device_id)
        ]

    def _unanswered(self, device_id: str) -> list[str]:
        answered = set(self._answered.get(device_id, ()))
        return [
            str(i["match_id"]) for i in self._job.items.get(device_id, ()) if i["match_id"] not in answered
        ]

    def _response(
        self, device_id: str, match_id: str, outcome: str, code: str, sha256: str | None
    ) -> DeviceEvent:
        self._answered.setdefault(device_id, []).append(match_id)
        own = self._devices[device_id]
        own.seq += 1
        messages = {
            "would_quarantine": "Kaspersky's task would be aimed at this device; the device itself was not asked",
            "quarantined": "in Kaspersky's quarantine on the device; it is restored from the console",
            "failed": "the task ended on the device without an event that confirms the quarantine",
        }
        data = {
            "seq": own.seq,
            "match_id": match_id,
            "outcome": outcome,
            "code": code,
            "message": messages[outcome],
            "quarantine_id": None,
            "sha256": sha256,
            "size": None,
            "terminated": [],
        }
        return DeviceEvent(device_id, EventKind.RESPONSE, own.seq, data)


def _b64(path: str) -> str:
    return base64.b64encode(path.encode("utf-8", "surrogatepass")).decode("ascii")
