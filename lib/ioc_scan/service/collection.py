"""Looking after running tasks: the short look of a workflow, and the round of process_results."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ioc_scan.config import pack_folder
from ioc_scan.detection.sources.triggers import Triggers
from ioc_scan.devices.base import Online
from ioc_scan.errors import InputError, NotFoundError
from ioc_scan.service import killswitch
from ioc_scan.service.announcing import announce
from ioc_scan.service.collecting import collect, release_stale_claims
from ioc_scan.service.context import Context
from ioc_scan.service.ending import withdraw_ended
from ioc_scan.service.names import new_id
from ioc_scan.service.publishing import push_jobs
from ioc_scan.service.reconciling import reconcile
from ioc_scan.service.targeting import reachability
from ioc_scan.store.event_types import EventType
from ioc_scan.store.states import LIVE_STATES
from ioc_scan.store.transaction import Transaction
from ioc_scan.text import printable

#: A look stays below 5 seconds, so that no action holds a slot for devices (StackStorm has 60 for all packs).
LOOK_SECONDS = 3.5
LEASE = "process_results"
#: Longer than StackStorm lets the action live (actions/collect_results.yaml): who holds it past that is dead.
LEASE_SECONDS = 320
#: What a round spends at most on each part of its work; what is left is first in the next one.
PUSH_SECONDS, COLLECT_SECONDS, WITHDRAW_SECONDS = 60, 60, 30
MAX_DUE = 50
#: Matches that are still due are announced again after this, so that none waits for ever.
DUE_AGAIN_SECONDS = 900


def await_results(context: Context, task_id: str) -> dict[str, Any]:
    """Collect for one task and say whether it has settled. Raises NotFoundError ``task_not_found``."""
    deadline = time.monotonic() + LOOK_SECONDS
    while True:
        collect(context, task_id, budget_seconds=max(deadline - time.monotonic(), 0.1))
        answer = _look(context, task_id)
        if (answer["settled"] and not answer["responses_running"]) or time.monotonic() > deadline:
            return answer
        time.sleep(0.2)


def _look(context: Context, task_id: str) -> dict[str, Any]:
    with context.store.reading() as tx:
        task = tx.tasks.get(task_id)
        if task is None:
            raise NotFoundError(
                "task_not_found", f"there is no task {printable(task_id, 80)}", "It may be pruned."
            )
        coverage = tx.task_devices.coverage(task_id)
        busy = _asked_devices(tx, task_id, context.clock())
        due = tx.matches.due(task_id, limit=100_000)
        running = tx.responses.list(task_id, "running")
    ended = task["state"] not in LIVE_STATES or task["state"] == "completed"
    return {
        "task_id": task_id,
        "settled": ended or not _awaited(context, busy),
        "state": task["state"],
        "targeted": coverage["targeted"],
        "answered": coverage["answered"],
        "matched": coverage["matched"],
        "failed": coverage["failed"],
        "actionable_matches": 0 if task["ended_at"] else len(due),
        "responses_running": len(running),
    }


def _asked_devices(tx: Transaction, task_id: str, now: datetime) -> list[dict[str, Any]]:
    """Devices that owe an answer: their job's time has come. Those behind canary devices have no job yet."""
    found: list[dict[str, Any]] = []
    for job in tx.jobs.open("scan", task_id):
        if job["not_before"] <= now:
            fields = ("manager", "group", "state")
            rows = tx.task_devices.pick(task_id, job["manager"], job["spec"]["device_ids"], fields).values()
            found += [row for row in rows if row["state"] in ("pending", "delivered", "running", "paused")]
    if any(row["state"] == "paused" for row in found) and _told_to_pause(tx, task_id):
        return [row for row in found if row["state"] != "paused"]
    return found


def _told_to_pause(tx: Transaction, task_id: str) -> bool:
    """Whether a person's last word to the run was to pause: after "go on" its devices soon do."""
    words = (EventType.TASK_PAUSED, EventType.TASK_RESUMED)
    last = tx.events.list(task_id=task_id, types=words, limit=1)
    return bool(last) and last[0]["type"] == EventType.TASK_PAUSED.value


def _awaited(context: Context, busy: Sequence[dict[str, Any]]) -> bool:
    """Whether any of these devices can be expected to answer now: it is not known to be away."""
    online = reachability(context, {(row["manager"], row["group"]) for row in busy})
    return any(online.get((row["manager"], row["device_id"])) is not Online.NO for row in busy)


def collect_results(context: Context, task_id: str | None = None) -> dict[str, Any]:
    """One round: deliver, collect, take up what was lost, and list the triggers that are due.

    One at a time: a second caller finds the lease taken and does nothing. A holder that died loses it.
    """
    holder = new_id("round", context.clock())
    with context.store.transaction() as tx:
        leased = tx.leases.acquire(LEASE, holder, LEASE_SECONDS, context.clock())
    if not leased:
        return {"leased": False, "matches": 0, "devices": 0, "due": []}
    try:
        killswitch.notice(context)
        push_jobs(context, task_id, budget_seconds=PUSH_SECONDS)
        found = collect(context, task_id, budget_seconds=COLLECT_SECONDS)
        if task_id is None:
            release_stale_claims(context)
            withdraw_ended(context, budget_seconds=WITHDRAW_SECONDS)
            reconcile(context)
        _announce_due(context, task_id)
        due = _due(context)
    finally:
        with context.store.transaction() as tx:
            tx.leases.release(LEASE, holder)
    return {"leased": True, "matches": found["matches"], "devices": found["devices"], "due": due}


def _announce_due(context: Context, task_id: str | None) -> None:
    """Matches of live tasks that nobody has acted on, asked about or reported lead to a response."""
    if context.stopped:
        return
    now = context.clock()
    period = int(now.timestamp() // DUE_AGAIN_SECONDS)
    with context.store.reading() as tx:
        tasks = tx.tasks.list(LIVE_STATES, limit=100_000)
        due = [
            (task, tx.matches.due(task["task_id"])) for task in tasks if task_id in (None, task["task_id"])
        ]
    places = {(row["manager"], row["group"]) for _, rows in due for row in rows}
    online = reachability(context, places)
    with context.store.transaction() as tx:
        for task, found in due:
            rows = [row for row in found if online.get((row["manager"], row["device_id"])) is not Online.NO]
            if not rows:
                continue
            names = "\n".join(row["match_id"] for row in rows)
            key = f"{hashlib.sha256(names.encode('ascii')).hexdigest()[:16]}:{period}"
            devices = {(row["manager"], row["device_id"]) for row in rows}
            announce(
                tx,
                "response_due",
                task,
                key,
                now,
                matches=len(rows),
                devices=len(devices),
                reason="matches_not_acted_on",
            )


def _due(context: Context) -> list[dict[str, Any]]:
    """What is to be injected. StackStorm fails on a payload that breaks its schema, so that is caught here."""
    triggers = Triggers(pack_folder() / "sensors" / "sandbox_detections.yaml")
    found = []
    with context.store.transaction() as tx:
        for row in tx.outbox.due(MAX_DUE):
            try:
                triggers.check(row["trigger"], row["payload"])
            except InputError as error:
                tx.outbox.mark_injected([row["outbox_id"]], context.clock())
                data = {"alert": "trigger_invalid", "trigger": row["trigger"], "message": error.message}
                tx.events.add(EventType.ALERT_RAISED, data=data)
                continue
            found.append({name: row[name] for name in ("outbox_id", "trigger", "payload", "trace_tag")})
    return found


def confirm_dispatch(context: Context, outbox_ids: Sequence[int]) -> dict[str, Any]:
    """Mark triggers as injected. Unconfirmed ones come again with the next round."""
    with context.store.transaction() as tx:
        tx.outbox.mark_injected(list(outbox_ids), context.clock())
    return {"confirmed": len(outbox_ids)}
