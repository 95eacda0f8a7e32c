"""What devices say becomes rows: states, matches, outcomes. Delivered often, stored once.

The events of one poll and the cursor behind them go into the store in one transaction: a crash repeats a
poll, and every write here bears repetition.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from ioc_scan.clock import from_iso
from ioc_scan.devices.base import DeviceEvent, EventKind
from ioc_scan.errors import IocScanError
from ioc_scan.service import outcomes
from ioc_scan.service.announcing import announce
from ioc_scan.service.context import Context
from ioc_scan.service.publishing import note_managers, push_jobs
from ioc_scan.service.widening import judge
from ioc_scan.store.event_types import EventType
from ioc_scan.store.states import LIVE_STATES, SIGNS_OF_LIFE
from ioc_scan.store.transaction import Transaction

#: A device that refuses a scan job has failed it; the code says why.
_STATE_OF = {"refused": "failed"}
_DEVICE_EVENTS = {
    "delivered": EventType.DEVICE_DELIVERED,
    "waiting_idle": EventType.DEVICE_WAITING_IDLE,
    "running": EventType.DEVICE_STARTED,
    "paused": EventType.DEVICE_PAUSED,
    "done": EventType.DEVICE_DONE,
    "failed": EventType.DEVICE_FAILED,
    "cancelled": EventType.DEVICE_CANCELLED,
    "expired": EventType.DEVICE_EXPIRED,
}
#: A respond job that has not answered this long after its end never will: its matches are free again.
CLAIM_GRACE = timedelta(minutes=20)


def collect(context: Context, task_id: str | None = None, budget_seconds: float = 120.0) -> dict[str, int]:
    """Poll open jobs until nothing is new or the time is used up. Returns how much was new."""
    with context.store.reading() as tx:
        jobs = tx.jobs.open(task_id=task_id)
        if task_id is not None:  # these belong to no task, and are answered with it
            for kind in ("restore", "critical_areas"):
                jobs += [job for job in tx.jobs.open(kind) if job["spec"].get("of_task") == task_id]
    failing: dict[str, IocScanError] = {}
    asked: set[str] = set()
    polled: list[str] = []
    found = {"matches": 0, "devices": 0}
    deadline = time.monotonic() + budget_seconds
    for job in jobs:
        if job["manager"] in failing or time.monotonic() > deadline:
            continue
        if not (job["cursor"] or {}).get("published"):
            continue
        asked.add(job["manager"])
        polled.append(job["job_id"])
        try:
            _drain(context, job, deadline, found)
        except IocScanError as error:
            failing[job["manager"]] = error
    if task_id is None and polled:  # a round: those it did not come to are first in the next
        with context.store.transaction() as tx:
            tx.jobs.touch(polled, context.clock())
    note_managers(context, asked, failing)
    # A task that is asked for may have no job at all: no device in its groups.
    touched = {job["task_id"] for job in jobs if job["task_id"]} | ({task_id} if task_id else set())
    for widened in _settle(context, touched):
        push_jobs(context, widened)  # a crash before this: the next round pushes
    return found


def _drain(context: Context, job: dict[str, Any], deadline: float, found: dict[str, int]) -> None:
    manager = context.manager(job["manager"])
    cursor = (job["cursor"] or {}).get("poll")
    while True:
        events, cursor = manager.poll(job["job_id"], cursor)
        if not events:
            return
        with context.store.transaction() as tx:
            current = tx.jobs.get(job["job_id"])
            if current is None or current["state"] not in ("open", "closed"):
                return  # withdrawn meanwhile: nothing of it counts any more
            _store(context, tx, job, events, found)
            tx.jobs.save_cursor(job["job_id"], {"published": True, "poll": cursor}, now=context.clock())
        if not cursor.get("more", True) or time.monotonic() > deadline:
            return


def _store(
    context: Context,
    tx: Transaction,
    job: dict[str, Any],
    events: Sequence[DeviceEvent],
    found: dict[str, int],
) -> None:
    _store_rejected(tx, job, events)
    states = [event for event in events if event.kind in (EventKind.STATE, EventKind.HELD)]
    if job["kind"] == "scan":
        found["matches"] += _store_matches(context, tx, job, events)
        found["devices"] += _store_states(context, tx, job, states)
    else:
        for event in events:
            if event.kind is EventKind.RESPONSE:
                outcomes.store_response(context, tx, job, event)
            elif event.kind is EventKind.RESTORED:
                outcomes.store_restored(context, tx, job, event)
            elif event.kind is EventKind.AREA:
                outcomes.store_area(tx, job, event)
        for event in states:
            outcomes.store_job_state(context, tx, job, event)


def _store_states(
    context: Context, tx: Transaction, job: dict[str, Any], events: Iterable[DeviceEvent]
) -> int:
    """The newest word of each device; an event for each change a person would want to see."""
    now = context.clock()
    rows: dict[str, dict[str, Any]] = {}
    for event in events:
        earlier = rows.get(event.device_id)
        row = rows[event.device_id] = _state_row(job, event)
        row["seen"] = earlier is not None and (earlier["seen"] or earlier["state"] in SIGNS_OF_LIFE)
    fields = ("run", "state", "outcome")
    picked = tx.task_devices.pick(job["task_id"], job["manager"], rows, fields)
    known = {name: row for name, row in picked.items() if row["run"] == job["run"]}
    changed = [
        row
        for row in rows.values()
        if row["device_id"] in known and known[row["device_id"]]["outcome"] is None
    ]
    taken = tx.task_devices.apply_states(list(rows.values()), now=now)
    audit = []
    for row in changed:
        kind = _DEVICE_EVENTS.get(row["state"])
        if kind is None or known[row["device_id"]]["state"] == row["state"]:
            continue
        data = {"run": job["run"], "files_seen": row["files_seen"], "matches": row["matches"]}
        if row["error_code"]:
            data |= {"code": row["error_code"], "message": row["error_message"]}
        audit.append(
            {
                "type": kind,
                "task_id": job["task_id"],
                "manager": job["manager"],
                "device_id": row["device_id"],
                "data": data,
            }
        )
    if audit:
        tx.events.add_many(audit)
    return taken


def _state_row(job: dict[str, Any], event: DeviceEvent) -> dict[str, Any]:
    data = event.data
    held = event.kind is EventKind.HELD
    state = "failed" if held else _STATE_OF.get(data["state"], data["state"])
    error = {"code": data.get("code"), "message": data.get("message")} if held else data.get("error")
    finished = data.get("finished_at")
    return {
        "task_id": job["task_id"],
        "manager": job["manager"],
        "device_id": event.device_id,
        "run": job["run"],
        "state": state,
        "job_id": job["job_id"],
        "files_seen": data.get("files_seen"),
        "bytes_hashed": data.get("bytes_hashed"),
        "matches": data.get("matches"),
        "progress": data.get("progress"),
        "not_evaluated": data.get("not_evaluated"),
        "skipped": data.get("skipped"),
        "error_code": error["code"] if error else None,
        "error_message": error["message"] if error else None,
        "finished_at": from_iso(finished) if finished else None,
    }


def _store_matches(
    context: Context, tx: Transaction, job: dict[str, Any], events: Iterable[DeviceEvent]
) -> int:
    now = context.clock()
    wanted = [event for event in events if event.kind is EventKind.MATCH]
    if not wanted:
        return 0
    names = {event.device_id for event in wanted}
    picked = tx.task_devices.pick(job["task_id"], job["manager"], names, ("group",))
    groups = {name: row["group"] for name, row in picked.items()}
    rows = [
        {
            "task_id": job["task_id"],
            "run": job["run"],
            "manager": job["manager"],
            "device_id": event.device_id,
            "group": groups[event.device_id],
            "item_key": event.data["item_key"],
            "ioc_digest": event.data["ioc"],
            "tier": event.data["tier"],
            "document": event.data["document"],
            "item": event.data["item"],
            "proof": event.data["proof"],
            "path": event.data["path"],
            "path_b64": event.data["path_b64"],
            "sha256": event.data["sha256"],
            "size": event.data["size"],
            "st_dev": event.data["device"],
            "st_ino": event.data["inode"],
            "found_at": now,
        }
        for event in wanted
        if event.device_id in groups
    ]
    new = tx.matches.add(rows)
    if new:
        _record_matches(context, tx, job, new)
    return len(new)


def _record_matches(context: Context, tx: Transaction, job: dict[str, Any], match_ids: Sequence[str]) -> None:
    by_device: dict[str, list[str]] = {}
    actionable = 0
    for start in range(0, len(match_ids), 500):
        for row in tx.matches.list(match_ids=match_ids[start : start + 500], limit=500):
            by_device.setdefault(row["device_id"], []).append(row["match_id"])
            actionable += row["tier"] == "actionable"
    tx.events.add_many(
        [
            {
                "type": EventType.MATCH_FOUND,
                "task_id": job["task_id"],
                "manager": job["manager"],
                "device_id": device,
                "data": {"matches": len(ids), "match_ids": ids[:20], "run": job["run"]},
            }
            for device, ids in by_device.items()
        ]
    )
    task = tx.tasks.get(job["task_id"])
    if task is not None:
        announce(
            tx,
            "matches_found",
            task,
            match_ids[0],
            context.clock(),
            matches=len(match_ids),
            devices=len(by_device),
            actionable=actionable,
        )


def _store_rejected(tx: Transaction, job: dict[str, Any], events: Iterable[DeviceEvent]) -> None:
    kinds = {EventKind.REJECTED: EventType.RESULT_REJECTED, EventKind.HELD: EventType.DEVICE_HELD}
    rows = [
        {
            "type": kinds[event.kind],
            "task_id": job["task_id"],
            "manager": job["manager"],
            "device_id": event.device_id,
            "data": {"job_id": job["job_id"], **{k: event.data.get(k) for k in ("code", "message", "count")}},
        }
        for event in events
        if event.kind in kinds
    ]
    if rows:
        tx.events.add_many(rows)


def _settle(context: Context, task_ids: Iterable[str]) -> list[str]:
    """Close what is over: runs whose devices have all ended, responses whose matches all have an outcome.

    Returns the tasks whose canary devices made room for the rest.
    """
    now = context.clock()
    wider: list[str] = []
    for task_id in sorted(task_ids):
        with context.store.transaction() as tx:
            task = tx.tasks.get(task_id)
            if task is None or task["state"] not in LIVE_STATES:
                continue
            outcomes.finish_responses(context, tx, task)
            if task["state"] == "running" and judge(context, tx, task):
                wider.append(task_id)
            coverage = tx.task_devices.coverage(task_id)
            unfinished = {"pending", "delivered", "waiting_idle", "running", "paused"} & set(
                coverage["by_state"]
            )
            if task["state"] != "running" or unfinished:
                continue
            tx.tasks.update(task_id, state="completed")
            for job in tx.jobs.open("scan", task_id):
                tx.jobs.set_state(job["job_id"], "closed", now=now)
            matches = tx.matches.counts(task_id, run=task["run"])
            data = {"run": task["run"], "targeted": coverage["targeted"], "matches": matches["matches"]}
            tx.events.add(EventType.TASK_COMPLETED, task_id=task_id, data=data)
            announce(
                tx,
                "task_ended",
                task,
                f"completed:{task['run']}",
                now,
                state="completed",
                reason="completed",
                matches=matches["matches"],
                devices=coverage["targeted"],
                answered=coverage["answered"],
            )
    return wider


def release_stale_claims(context: Context) -> int:
    """Matches of responses that never answered are free again, and the responses have failed."""
    now = context.clock()
    with context.store.transaction() as tx:
        freed = tx.matches.release_stale(now - CLAIM_GRACE)
        if freed:
            tx.events.add(EventType.CLAIM_RELEASED, data={"matches": len(freed), "match_ids": freed[:20]})
        for response in tx.responses.list(state="running"):
            if response["requested_at"] + CLAIM_GRACE <= now:
                tx.responses.finish(response["response_id"], "failed", counts=response["counts"], now=now)
                tx.events.add(
                    EventType.RESPONSE_FAILED,
                    task_id=response["task_id"],
                    data={"response_id": response["response_id"], "reason": "no answer within 20 minutes"},
                )
                for job in tx.jobs.open(response_id=response["response_id"]):
                    tx.withdrawals.request(job["job_id"], job["spec"]["device_ids"], now)
    return len(freed)
