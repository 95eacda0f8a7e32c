"""Detections come in: fetched by id, or pushed to a webhook. Each is stored once, whatever happens after."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

from ioc_scan.clock import to_iso
from ioc_scan.detection import ids
from ioc_scan.detection.guard import Triage
from ioc_scan.detection.schema import validate
from ioc_scan.detection.sources.base import SourceUnavailable
from ioc_scan.errors import InputError, IocScanError, NotFoundError, SourceError
from ioc_scan.service.context import Context
from ioc_scan.service.guarding import guard_policy, judge
from ioc_scan.store.event_types import EventType
from ioc_scan.text import printable

#: A pushed detection larger than this is refused (the normal form is bounded, a report is not).
MAX_PAYLOAD_BYTES = 8 * 1024 * 1024
#: Pauses between tries to fetch a report; after the last one it is given up (facts: poison reports).
RETRY_PAUSES = tuple(timedelta(minutes=minutes) for minutes in (5, 15, 60, 240, 720))
#: A source that cannot be asked at all, or is asked too often, is no fault of the report: it waits, uncounted.
DEFER_PAUSE = timedelta(minutes=5)
LONGEST_DEFER = timedelta(hours=12)


def fetch_detection(context: Context, detection_id: str, degraded: bool | None = None) -> dict[str, Any]:
    """Fetch, normalize, guard and store one detection by its id. Idempotent.

    ``degraded``: the sensor has given the report up already, so its list entry is taken at the first failure
    and not after the last. A failure is recorded with its code and the time of the next try, then raised:
    SourceError and InputError of the source, NotFoundError ``source_unknown``.
    """
    _, instance, report_id = ids.split_id(detection_id)
    entry = context.source_entry(instance)
    with context.store.reading() as tx:
        known = tx.detections.get(detection_id)
    if known is not None and entry["type"] == "webhook":
        return _answer(known["document"], "same", judge(context, known["document"], known["source_name"]))
    try:
        detection = context.source(instance).fetch(report_id)
        validate(detection)
        if detection["detection_id"] != detection_id:
            raise SourceError(
                "source_answered_other",
                f"asked for {printable(detection_id)}, source {instance} answered with another detection",
                "Check that the instance name in the id is the name of the source.",
            )
    except IocScanError as error:
        if known is not None:  # the report is gone or unreadable now; what was stored is what counts
            return _answer(known["document"], "same", judge(context, known["document"], known["source_name"]))
        tried = len(RETRY_PAUSES) if degraded else _tries(context, detection_id)
        try:
            if is_source_wide(error):
                raise
            last = tried >= len(RETRY_PAUSES)
            entry_alone = _list_entry(context, instance, report_id) if last else None
        except SourceUnavailable as unavailable:
            defer(context, detection_id, instance, report_id, unavailable, tried)
            raise
        if entry_alone is None:
            record_failure(context, detection_id, instance, report_id, error)
            raise
        return store_detection(context, entry_alone, instance)
    return store_detection(context, detection, instance)


def _list_entry(context: Context, instance: str, report_id: str) -> dict[str, Any] | None:
    """What the source's list knows of a report that cannot be had: marked ``degraded``, better than nothing."""
    try:
        return context.source(instance).fetch_degraded(report_id)
    except IocScanError as error:
        if is_source_wide(error):
            raise  # a list that cannot be asked just now is not one that knows nothing
        return None


def _tries(context: Context, detection_id: str) -> int:
    with context.store.reading() as tx:
        known = tx.fetches.get(detection_id)
    return int(known["attempts"]) if known else 0


def submit_detection(context: Context, payload: str, source: str) -> dict[str, Any]:
    """Take in a pushed detection. Its id is made from the channel it came through, not from its own words.

    Raises InputError ``submission_*`` for what cannot be read, ``detection_invalid`` for what breaks the schema.
    """
    entry = context.source_entry(source)
    if entry["type"] != "webhook":
        raise InputError(
            "source_not_pushed", f"source {source} is polled; only sources of type webhook are pushed to"
        )
    detection = _decode(payload)
    claimed = detection.get("detection_id")
    if not isinstance(claimed, str) or not claimed:
        raise InputError(
            "submission_no_id", "the detection has no detection_id", "Send the id your system gave it."
        )
    part = ids.report_part(claimed)
    detection["source"] = {"product": "webhook", "instance": source, "report_id": part}
    detection["detection_id"] = ids.detection_id("webhook", source, part)
    validate(detection)
    return store_detection(context, detection, source)


def _decode(payload: str) -> dict[str, Any]:
    text = payload.strip()
    if len(text) > MAX_PAYLOAD_BYTES:
        raise InputError("submission_too_large", f"the detection has more than {MAX_PAYLOAD_BYTES} bytes")
    try:
        if not text.startswith("{") and text.isascii():
            text = unquote(text, errors="strict")
        detection = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise InputError(
            "submission_not_json", "the payload is not JSON", "Send the normal form of detection.schema.json."
        ) from None
    if not isinstance(detection, dict):
        raise InputError("submission_not_object", "the payload is JSON, but not an object")
    return detection


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


def store_detection(context: Context, detection: dict[str, Any], source_name: str) -> dict[str, Any]:
    """Store a normalized detection, with its events. One transaction."""
    detection_id = detection["detection_id"]
    triage = judge(context, detection, source_name)
    now = context.clock()
    with context.store.transaction() as tx:
        recovered = tx.fetches.get(detection_id)
        outcome, revision = tx.detections.put(
            detection, source_name=source_name, now=now, degraded=bool(detection.get("degraded"))
        )
        tx.fetches.succeeded(detection_id, now)
        facts = {"source": source_name, "verdict": detection["verdict"]["result"], "tiers": _counts(triage)}
        if outcome == "new":
            tx.events.add(EventType.DETECTION_RECEIVED, detection_id=detection_id, data=facts)
            if recovered is not None:
                tx.events.add(EventType.DETECTION_RECOVERED, detection_id=detection_id)
            if triage.suppressed:
                tx.events.add(
                    EventType.INDICATOR_SUPPRESSED,
                    detection_id=detection_id,
                    data={"reasons": _reasons(triage)},
                )
        elif outcome == "revision":
            tx.events.add(
                EventType.DETECTION_REVISED, detection_id=detection_id, data={**facts, "revision": revision}
            )
            tx.events.add(
                EventType.ALERT_RAISED,
                detection_id=detection_id,
                data={"alert": "detection_revised", "source": source_name, "revision": revision},
            )
        if outcome != "same":
            for alert in triage.alerts:
                tx.events.add(EventType.ALERT_RAISED, detection_id=detection_id, data={"alert": alert})
    return _answer(detection, outcome, triage)


def record_failure(
    context: Context, detection_id: str, source_name: str, report_id: str, error: IocScanError
) -> datetime | None:
    """Remember a failed fetch; returns when it is tried again, None if it was given up."""
    now = context.clock()
    with context.store.transaction() as tx:
        known = tx.fetches.get(detection_id)
        attempts = known["attempts"] if known else 0
        next_try = now + RETRY_PAUSES[attempts] if attempts < len(RETRY_PAUSES) else None
        tx.fetches.failed(
            detection_id,
            source_name=source_name,
            report_id=report_id,
            code=error.code,
            message=error.message,
            next_try_at=next_try,
            now=now,
        )
        kind = EventType.FETCH_FAILED if next_try else EventType.FETCH_GIVEN_UP
        data = {
            "code": error.code,
            "attempts": attempts + 1,
            "next_try": to_iso(next_try) if next_try else None,
        }
        tx.events.add(kind, detection_id=detection_id, data=data)
    return next_try


def is_source_wide(error: IocScanError) -> bool:
    """Whether the source as a whole is the trouble: nothing else need be asked of it now."""
    return isinstance(error, SourceUnavailable) and not error.blames_report


def defer(
    context: Context, detection_id: str, source_name: str, report_id: str, error: IocScanError, tried: int
) -> datetime:
    """Wait for the source; it stays at ``tried`` tries. One event for each kind of trouble, not for each look."""
    now = context.clock()
    asked = timedelta(seconds=getattr(error, "retry_after_seconds", None) or 0)
    next_try = now + min(max(asked, DEFER_PAUSE), LONGEST_DEFER)
    with context.store.transaction() as tx:
        known = tx.fetches.get(detection_id)
        tx.fetches.deferred(
            detection_id,
            source_name=source_name,
            report_id=report_id,
            code=error.code,
            message=error.message,
            attempts=tried,
            next_try_at=next_try,
            now=now,
        )
        if known is None or known["code"] != error.code:
            data = {"code": error.code, "deferred": True, "next_try": to_iso(next_try)}
            tx.events.add(EventType.FETCH_FAILED, detection_id=detection_id, data=data)
    return next_try


def stored_detection(context: Context, detection_id: str) -> dict[str, Any]:
    """The row of a stored detection. Raises NotFoundError ``detection_unknown``."""
    with context.store.reading() as tx:
        row = tx.detections.get(detection_id)
    if row is None:
        raise NotFoundError(
            "detection_unknown",
            f"detection {printable(detection_id)} is not in the store",
            f"st2 run ioc_scan.fetch_detection detection_id={printable(detection_id)}",
        )
    return row


def check_guard(context: Context) -> None:
    """Read every list the guard needs. Raises ConfigError; used by check_setup."""
    guard_policy(context, {"trust": "target"})


def _counts(triage: Triage) -> dict[str, int]:
    return {
        "actionable": len(triage.actionable),
        "hunt": len(triage.hunt),
        "suppressed": len(triage.suppressed),
    }


def _reasons(triage: Triage) -> dict[str, int]:
    """How many indicators were suppressed for which reason (the code before the colon)."""
    found: dict[str, int] = {}
    for entry in triage.suppressed:
        code = str(entry["reason"]).split(":", 1)[0]
        found[code] = found.get(code, 0) + 1
    return found


def _answer(detection: dict[str, Any], outcome: str, triage: Triage) -> dict[str, Any]:
    return {
        "detection_id": detection["detection_id"],
        "outcome": outcome,
        "starts_task": triage.starts_task,
        "result": detection["verdict"]["result"],
        "score": detection["verdict"].get("score"),
        "object_sha256": detection["target"].get("hashes", {}).get("SHA-256"),
        **_counts(triage),
        "reason": triage.reason,
    }
