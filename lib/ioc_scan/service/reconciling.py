"""A dispatch is a hint, not a hand-over: what a source lists and the store lacks is taken up here.

Covers a trigger that was dropped, a rule that was off, a workflow that died, a fetch that failed.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

from ioc_scan.clock import from_iso, to_iso
from ioc_scan.detection import ids
from ioc_scan.detection.sources.base import Row
from ioc_scan.detection.sources.triggers import DETECTION, detection_payload
from ioc_scan.errors import IocScanError
from ioc_scan.service import intake, tasks
from ioc_scan.service.context import Context
from ioc_scan.store.event_types import EventType

#: The sensor and its workflow get this long before their detection is taken up from here.
GRACE = timedelta(minutes=10)
#: What a workflow left behind half-way is dispatched again after this, and then every hour.
LEFT_OVER = timedelta(minutes=20)
#: How old an undecided detection may be to be dispatched again.
WINDOW = timedelta(days=7)
MAX_FETCHES_PER_ROUND = 20
#: More are looked at than fetched, so that those of a silent source do not stand in the way of others.
MAX_DUE_LOOKED_AT = 2000
MAX_DISPATCHES_PER_ROUND = 200


def reconcile(context: Context, budget_seconds: float = 60.0) -> int:
    """List every source's look-back window and take up what is missing. Returns how many were taken up."""
    deadline = time.monotonic() + budget_seconds
    taken = 0
    silent: set[str] = set()
    for entry in context.config["sources"]:
        if entry["type"] == "webhook":
            continue
        try:
            rows, _ = context.source(entry["name"]).list_new(None, context.clock())
        except IocScanError as error:
            _note_source(context, entry["name"], error)
            silent.add(entry["name"])
            continue
        _note_source(context, entry["name"], None)
        taken += _take_up(context, entry, rows, deadline, silent)
    return taken + _retry_failed(context, deadline, silent) + _dispatch_left_over(context)


def _take_up(
    context: Context, entry: dict[str, Any], rows: list[Row], deadline: float, silent: set[str]
) -> int:
    now = context.clock()
    since = _baseline(context, entry, now)
    with context.store.reading() as tx:
        known = {row.detection_id for row in rows if tx.fetches.get(row.detection_id) is not None}
        missing = set(tx.detections.missing([row.detection_id for row in rows])) - known
    taken = 0
    for row in rows:
        arrived = row.reported_at
        if row.detection_id not in missing or (
            arrived is not None and (arrived <= since or arrived > now - GRACE)
        ):
            continue
        if taken >= MAX_FETCHES_PER_ROUND or time.monotonic() > deadline or entry["name"] in silent:
            break
        taken += _fetch(context, row.detection_id, silent)
    return taken


def _baseline(context: Context, entry: dict[str, Any], now: datetime) -> datetime:
    """What arrived before the first look is left alone, but for the backfill asked for; as the sensor does."""
    flag = f"source_since:{entry['name']}"
    with context.store.transaction() as tx:
        known = tx.flags.get(flag)
        if known is None:
            # The sensor may have started a little before this first look.
            since = now - timedelta(hours=entry["backfill_hours"]) - GRACE
            tx.flags.set(flag, to_iso(since), now=now)
            return since
    return from_iso(known)


def _retry_failed(context: Context, deadline: float, silent: set[str]) -> int:
    with context.store.reading() as tx:
        due = tx.fetches.due(context.clock(), MAX_DUE_LOOKED_AT)
    tried = taken = 0
    for row in due:
        if tried >= MAX_FETCHES_PER_ROUND or time.monotonic() > deadline:
            break
        if row["source_name"] not in silent:
            tried += 1
            taken += _fetch(context, row["detection_id"], silent)
    return taken


def _fetch(context: Context, detection_id: str, silent: set[str]) -> int:
    """Fetch and store; below the threshold that is all, else the rule is told again. Failures are recorded.

    A source that turns out to be the trouble itself joins ``silent`` and is left alone for this round.
    """
    try:
        answer = intake.fetch_detection(context, detection_id)
        if answer["starts_task"]:
            _dispatch(context, detection_id, "recovered")
        else:
            tasks.create_task(context, detection_id)
    except IocScanError as error:  # recorded by fetch_detection with the time of the next try
        if intake.is_source_wide(error):
            silent.add(ids.split_id(detection_id)[1])
        return 0
    return 1


def _dispatch_left_over(context: Context) -> int:
    """Where a workflow stopped half-way: before the decision, or between the new task and its start."""
    now = context.clock()
    before, hours = now - LEFT_OVER, int(now.timestamp() // 3600)
    with context.store.reading() as tx:
        rows = tx.detections.list(limit=MAX_DISPATCHES_PER_ROUND, since=now - WINDOW, undecided=True)
        tasks = tx.tasks.list({"created"}, limit=100_000)
    undecided = [row["detection_id"] for row in rows if row["received_at"] <= before]
    unstarted = [
        task["detection_id"]
        for task in tasks
        if task["run"] == 0 and task["created_at"] <= before and task["settings"].get("start") != "manual"
    ]
    return sum(_dispatch(context, name, f"undecided:{hours}") for name in undecided) + sum(
        _dispatch(context, name, f"unstarted:{hours}") for name in unstarted
    )


def _dispatch(context: Context, detection_id: str, key: str) -> bool:
    """Note the trigger that starts the workflow; the rule decides as it does for the sensor's own dispatch."""
    row = intake.stored_detection(context, detection_id)
    payload = detection_payload(row["document"], row["source_name"])
    now = context.clock()
    with context.store.transaction() as tx:
        noted = tx.outbox.add(
            DETECTION,
            payload,
            dedupe_key=f"{DETECTION}:{detection_id}:{key}",
            now=now,
            trace_tag=detection_id,
        )
        if noted:
            tx.events.add(
                EventType.DETECTION_RECOVERED, detection_id=detection_id, data={"why": key.split(":")[0]}
            )
    return noted


def _note_source(context: Context, name: str, error: IocScanError | None) -> None:
    flag = f"source_unreachable:{name}"
    code = error.code if error else None
    with context.store.transaction() as tx:
        was = tx.flags.get(flag)
        if was == code:
            return
        tx.flags.set(flag, code, now=context.clock())
        if error is not None:
            data = {"source": name, "code": error.code, "message": error.message}
            tx.events.add(EventType.SOURCE_UNREACHABLE, data=data)
        else:
            tx.events.add(EventType.SOURCE_RECOVERED, data={"source": name})
