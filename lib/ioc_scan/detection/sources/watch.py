"""Watches one source at least once: list, fetch, decide, dispatch, remember.

The state is plain JSON: ``{"cursor", "seen": {report id: epoch}, "retry": {report id: {...}}, "began_at"}``, the
last being the epoch of the first start until the first look is through, so that a sensor that dies before does
not take what came meanwhile for old. A report is
marked as seen only after its dispatch, so a crash repeats it and never loses it; later steps know it by its
id. Times are the source's and the caller's clock; nothing here sleeps.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from ioc_scan.clock import Clock
from ioc_scan.detection.guard import is_malicious
from ioc_scan.detection.sources.base import Row, Source, SourceUnavailable
from ioc_scan.detection.sources.triggers import DETECTION, FAILED, Triggers, detection_payload, failed_payload
from ioc_scan.errors import IocScanError

MAX_TRIES = 5
#: CAPE allows a user five requests a minute by default, KATA one.
REMOTE_PAUSE_SECONDS = 60
#: One look takes no longer than this (but for the request it is in), so that other sources get their turn.
LONGEST_LOOK = timedelta(seconds=30)
FIRST_PAUSE_SECONDS = 30.0
LONGEST_PAUSE_SECONDS = 900.0
#: Remembered beyond the look-back window, so that no report at its edge comes twice.
SEEN_MARGIN = timedelta(hours=2)

#: ``dispatch(trigger, payload, trace_tag)``; raises if StackStorm did not take it.
Dispatch = Callable[[str, dict[str, Any], str], None]
Log = Callable[[str], None]


@dataclass(frozen=True)
class WatchSettings:
    look_back: timedelta = timedelta(hours=24)
    backfill: timedelta = timedelta(0)
    pause: timedelta = timedelta(0)
    max_dispatch_per_poll: int = 20
    threshold_score: float = 70.0

    @classmethod
    def from_config(cls, entry: dict[str, Any], guard: dict[str, Any]) -> WatchSettings:
        return cls(
            look_back=timedelta(hours=entry.get("look_back_hours") or 24),
            backfill=timedelta(hours=entry.get("backfill_hours") or 0),
            pause=timedelta(
                seconds=entry.get("poll_interval_seconds")
                or (REMOTE_PAUSE_SECONDS if entry.get("url") else 0)
            ),
            max_dispatch_per_poll=entry.get("max_dispatch_per_poll") or 20,
            threshold_score=70.0 if guard.get("threshold_score") is None else guard["threshold_score"],
        )


class Watch:
    """``state`` is what :attr:`state` was when last saved, or None at the very first start."""

    def __init__(
        self,
        source: Source,
        settings: WatchSettings,
        triggers: Triggers,
        state: dict[str, Any] | None,
        *,
        clock: Clock,
        log: Log,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._source, self._settings, self._triggers = source, settings, triggers
        self._clock, self._log, self._jitter = clock, log, jitter
        self.state: dict[str, Any] = _sound(state)
        self.changed = state is None
        if state is None:
            self.state["began_at"] = int(clock().timestamp())
        self._failures = 0
        self._not_before: datetime | None = None
        self._longest_wait = max(LONGEST_PAUSE_SECONDS * 4, settings.pause.total_seconds())

    @property
    def first(self) -> bool:
        """Whether no look has been through yet; the state must then be stored before one is begun."""
        return self.state["began_at"] is not None

    def poll(self, dispatch: Dispatch) -> int:
        """One look. Returns how many were dispatched; the source's troubles are logged, not raised."""
        now = self._clock()
        if self._not_before and not _is_due(self._not_before.timestamp(), now, self._longest_wait):
            return 0
        try:
            rows, cursor = self._source.list_new(self.state["cursor"], now)
        except IocScanError as error:
            self._back_off(error, now)
            return 0
        self._failures, self._not_before = 0, None
        if self.first:
            self._begin(rows, now)
        budget = self._settings.max_dispatch_per_poll
        dispatched = 0
        deferred = False
        fresh, again = self._due(rows, now)
        for number, row in enumerate(fresh + again):
            # what is tried again is remembered by itself; only something new keeps the window where it is
            if budget <= 0 or self._clock() - now > LONGEST_LOOK:
                deferred = number < len(fresh)
                break
            try:
                taken = self._take(row, dispatch, now)
            except SourceUnavailable as error:
                self._back_off(error, now)
                deferred = number < len(fresh)
                break
            dispatched += taken
            budget -= 1
        if not deferred:
            # while something waits, the window must not move past it
            self.state["cursor"] = cursor
            self._not_before = max(self._not_before or now, now + self._settings.pause)
        self._prune({row.report_id for row in rows}, now)
        return dispatched

    def _begin(self, rows: list[Row], now: datetime) -> None:
        """First start: what was there before counts as seen, but for the backfill asked for."""
        began = datetime.fromtimestamp(self.state["began_at"], timezone.utc)
        since = min(began, now) - self._settings.backfill
        for row in rows:
            if row.reported_at is None or row.reported_at <= since:
                self._mark(row.report_id, now)
        self.state["began_at"] = None
        self.changed = True

    def _due(self, rows: list[Row], now: datetime) -> tuple[list[Row], list[Row]]:
        """New reports first, then retries whose pause is over, also of reports no longer listed."""
        seen, retry = self.state["seen"], self.state["retry"]
        fresh, listed = [], set()
        for row in rows:
            if row.report_id not in seen and row.report_id not in retry and row.report_id not in listed:
                fresh.append(row)
            listed.add(row.report_id)
        again = [
            Row(detection_id=entry["detection_id"], report_id=report_id)
            for report_id, entry in retry.items()
            if _is_due(entry["next"], now, LONGEST_PAUSE_SECONDS)
        ]
        return fresh, again

    def _take(self, row: Row, dispatch: Dispatch, now: datetime) -> int:
        try:
            detection = self._source.fetch(row.report_id)
            wanted = is_malicious(detection["verdict"], self._settings.threshold_score)
            payload = detection_payload(detection, self._source.name)
            self._triggers.check(DETECTION, payload)
        except SourceUnavailable as error:
            if error.blames_report:
                self._retry_later(row, error.code, str(error), dispatch, now)
            raise
        except IocScanError as error:
            self._retry_later(row, error.code, str(error), dispatch, now)
            return 0
        except Exception as error:  # noqa: BLE001  a poison report must never stand in the way of later ones
            self._retry_later(row, "internal_error", f"{type(error).__name__}", dispatch, now)
            return 0
        if wanted:
            dispatch(DETECTION, payload, detection["detection_id"])
        self.state["retry"].pop(row.report_id, None)
        self._mark(row.report_id, now)
        return int(wanted)

    def _retry_later(self, row: Row, code: str, text: str, dispatch: Dispatch, now: datetime) -> None:
        """Try again after a growing pause; after the last try take the list entry, or say that it failed."""
        tries = self.state["retry"].get(row.report_id, {}).get("tries", 0) + 1
        self._log(
            f"source {self._source.name}: report {row.report_id}: try {tries} of {MAX_TRIES} failed: {text}"
        )
        self.changed = True
        if tries < MAX_TRIES:
            self.state["retry"][row.report_id] = {
                "detection_id": row.detection_id,
                "tries": tries,
                "next": now.timestamp() + self._pause(tries),
                "code": code,
            }
            return
        degraded = self._degraded(row)
        if degraded and is_malicious(degraded["verdict"], self._settings.threshold_score):
            payload = detection_payload(degraded, self._source.name)
            self._triggers.check(DETECTION, payload)
            dispatch(DETECTION, payload, row.detection_id)
        else:
            payload = failed_payload(row.detection_id, row.report_id, self._source.name, code, tries)
            self._triggers.check(FAILED, payload)
            dispatch(FAILED, payload, row.detection_id)
        self.state["retry"].pop(row.report_id, None)
        self._mark(row.report_id, now)

    def _degraded(self, row: Row) -> dict[str, Any] | None:
        try:
            return self._source.fetch_degraded(row.report_id)
        except Exception as error:
            if isinstance(error, SourceUnavailable) and not error.blames_report:
                raise
            self._log(f"source {self._source.name}: report {row.report_id}: {type(error).__name__}")
            return None

    def _back_off(self, error: IocScanError, now: datetime) -> None:
        self._failures += 1
        if getattr(error, "lasting", False):
            pause = LONGEST_PAUSE_SECONDS
        else:
            pause = getattr(error, "retry_after_seconds", None) or self._pause(self._failures)
        self._not_before = now + timedelta(seconds=min(pause, self._longest_wait))
        self._log(f"source {self._source.name}: {error}; next look in {int(pause)} s")

    def _pause(self, tries: int) -> float:
        longest = min(FIRST_PAUSE_SECONDS * 2 ** min(tries - 1, 10), LONGEST_PAUSE_SECONDS)
        return longest * (0.5 + 0.5 * self._jitter())

    def _mark(self, report_id: str, now: datetime) -> None:
        self.state["seen"][report_id] = int(now.timestamp())
        self.changed = True

    def _prune(self, listed: set[str], now: datetime) -> None:
        oldest = (now - self._settings.look_back - SEEN_MARGIN).timestamp()
        seen = self.state["seen"]
        for report_id in [key for key, at in seen.items() if at < oldest and key not in listed]:
            del seen[report_id]
            self.changed = True


def _is_due(at: float, now: datetime, longest_seconds: float) -> bool:
    """Reached, or so far ahead that the clock must have been set back since it was noted."""
    return at <= now.timestamp() or at > now.timestamp() + longest_seconds


def _sound(state: dict[str, Any] | None) -> dict[str, Any]:
    """A state of the right shape, whatever was stored."""
    state = state if isinstance(state, dict) else {}
    seen, retry, began = state.get("seen"), state.get("retry"), state.get("began_at")
    sane = isinstance(began, int) and not isinstance(began, bool) and 0 <= began < 1 << 40
    return {
        "began_at": began if sane else None,
        "cursor": state.get("cursor") if isinstance(state.get("cursor"), dict) else None,
        "seen": {str(key): at for key, at in seen.items() if isinstance(at, (int, float))}
        if isinstance(seen, dict)
        else {},
        "retry": {
            str(key): entry
            for key, entry in retry.items()
            if isinstance(entry, dict) and {"detection_id", "tries", "next"} <= entry.keys()
        }
        if isinstance(retry, dict)
        else {},
    }
