"""From the canary devices to the rest: widen when they answered as hoped, else stop and ask.

Where a task stands is in its settings, ``canary``: ``{state: waiting|passed|stopped, run, plan_digest, devices,
since}``. It changes in the transaction that notes the jobs of the rest, so that a crash leaves either or neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ioc_scan.clock import from_iso
from ioc_scan.errors import RefusedError
from ioc_scan.service.approvals import open_approval
from ioc_scan.service.context import Context
from ioc_scan.service.people import Actor
from ioc_scan.service.publishing import CANARY, create_scan_jobs
from ioc_scan.service.rollout import without
from ioc_scan.store.event_types import EventType
from ioc_scan.store.transaction import Transaction

#: The reason of the question that a stop puts to people.
STOPPED = "canary_stopped"
Row = dict[str, Any]


@dataclass(frozen=True)
class Count:
    """Canary devices by what is known of them."""

    devices: int
    matched: int
    failed: int
    open: int


def standing(task: Row) -> str | None:
    """waiting, passed or stopped; None for a task without canary devices."""
    record = task["settings"].get(CANARY)
    return str(record["state"]) if record else None


def judge(context: Context, tx: Transaction, task: Row) -> bool:
    """Look at the canary devices of a running task once more. True if the run was widened just now."""
    record = task["settings"].get(CANARY)
    if not record or record["state"] != "waiting" or record["run"] != task["run"]:
        return False
    count = _count(tx, task, record)
    limits = context.config["canary"]
    late = context.clock() >= from_iso(record["since"]) + timedelta(hours=limits["wait_hours"])
    failed = count.failed + (count.open if late else 0)  # silence is no good sign
    data = {"run": task["run"], "devices": count.devices, "matched": count.matched, "failed": failed}
    if count.matched * 100 > limits["max_matched_percent"] * count.devices:
        _stop(context, tx, task, data | {"reason": "too_many_matched"})
        return False
    if failed * 100 > limits["max_failed_percent"] * count.devices:
        _stop(context, tx, task, data | {"reason": "too_many_failed"})
        return False
    if count.open and not late:
        return False
    _widen(context, tx, task, data, None)
    return True


def _count(tx: Transaction, task: Row, record: Row) -> Count:
    rows = [
        row
        for manager, ids in record["devices"].items()
        for row in tx.task_devices.pick(task["task_id"], manager, ids, ("matches", "outcome")).values()
    ]
    return Count(
        devices=len(rows),
        matched=sum(row["matches"] > 0 for row in rows),
        failed=sum(row["outcome"] not in (None, "done") for row in rows),
        open=sum(row["outcome"] is None for row in rows),
    )


def _stop(context: Context, tx: Transaction, task: Row, data: Row) -> None:
    task_id = task["task_id"]
    _note(tx, task, "stopped")
    tx.events.add(EventType.CANARY_STOPPED, detection_id=task["detection_id"], task_id=task_id, data=data)
    tx.events.add(EventType.ALERT_RAISED, task_id=task_id, data={"alert": STOPPED, **data})
    open_approval(context, tx, task, (), STOPPED)


def require_held_back(task: Row) -> None:
    """Raises RefusedError ``nothing_to_widen`` where no canary devices hold the present run back."""
    record = task["settings"].get(CANARY)
    if (
        not record
        or record["state"] == "passed"
        or task["state"] != "running"
        or record["run"] != task["run"]
    ):
        raise RefusedError(
            "nothing_to_widen",
            f"no canary devices hold back run {task['run']} of task {task['task_id']}",
            f"st2 run ioc_scan.get_coverage task_id={task['task_id']}",
        )


def pass_by(context: Context, tx: Transaction, task: Row, actor: Actor) -> None:
    """The run of a task that is held back goes on to the rest, on a person's word."""
    record = task["settings"][CANARY]
    for approval in _questions(tx, task):
        tx.approvals.decide(
            approval["approval_id"],
            "approved",
            decided_by=actor.name,
            now=context.clock(),
            chat_user=actor.chat_user,
        )
    count = _count(tx, task, record)
    data = {"run": task["run"], "devices": count.devices, "matched": count.matched, "failed": count.failed}
    _widen(context, tx, task, data, actor)


def ask_again(context: Context, tx: Transaction, task: Row) -> None:
    """Put the question of a stop once more, if nobody is asked at present."""
    if standing(task) == "stopped" and not _questions(tx, task):
        open_approval(context, tx, task, (), STOPPED)


def _questions(tx: Transaction, task: Row) -> list[Row]:
    asked = tx.approvals.list(task["task_id"], "open", limit=10_000)
    return [row for row in asked if row["reason"] == STOPPED]


def _widen(context: Context, tx: Transaction, task: Row, data: Row, actor: Actor | None) -> None:
    task_id, record = task["task_id"], task["settings"][CANARY]
    managers = {group["manager"] for group in tx.task_groups.list(task_id)} | set(record["devices"])
    everybody = {
        name: list(tx.task_devices.device_ids(task_id, name, run=task["run"])) for name in sorted(managers)
    }
    rest = without(everybody, record["devices"])
    create_scan_jobs(context, tx, task, task["run"], rest)
    _note(tx, task, "passed")
    tx.events.add(
        EventType.CANARY_PASSED,
        detection_id=task["detection_id"],
        task_id=task_id,
        actor=actor.name if actor else None,
        data=data | {"rest": sum(len(ids) for ids in rest.values())},
    )


def _note(tx: Transaction, task: Row, state: str) -> None:
    settings = task["settings"]
    tx.tasks.update(task["task_id"], settings=settings | {CANARY: settings[CANARY] | {"state": state}})
