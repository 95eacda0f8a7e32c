"""How a task ends: its state says which end, its jobs are taken from every device, its questions are closed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

from ioc_scan.devices.base import ControlOp, LeftBehind
from ioc_scan.errors import IocScanError
from ioc_scan.service.announcing import announce
from ioc_scan.service.collecting import collect
from ioc_scan.service.context import Context
from ioc_scan.service.last_words import store_last_words
from ioc_scan.store.event_types import EventType
from ioc_scan.store.transaction import Transaction

_EVENTS = {
    "expired": EventType.TASK_EXPIRED,
    "rotated": EventType.TASK_ROTATED,
    "cancelled": EventType.TASK_CANCELLED,
    "deleted": EventType.TASK_DELETED,
}
#: Devices noted as withdrawn in one transaction, so that no other writer waits long.
CONFIRMED_AT_ONCE = 2_000
_DEVICE_ENDS = {"expired": "expired", "rotated": "expired", "cancelled": "cancelled", "deleted": "cancelled"}


def hear_out(context: Context, task_id: str | None = None, seconds: float = 3.0) -> None:
    """Stop the response jobs (of a task, or all), and take in what they did so far.

    Before they are withdrawn: a device that gives up its job folder can no longer tell what it quarantined.
    """
    deadline = time.monotonic() + seconds
    with context.store.reading() as tx:
        noted = tx.jobs.open("respond", task_id)
    jobs = [job for job in noted if (job["cursor"] or {}).get("published")]  # of the others no device knows
    tasks = {job["task_id"] for job in jobs}
    for job in jobs:
        with contextlib.suppress(IocScanError):  # who cannot be asked now is withdrawn from later
            context.manager(job["manager"]).control(job["job_id"], ControlOp.CANCEL)
    while tasks and time.monotonic() < deadline:
        for task in sorted(tasks):
            collect(context, task, budget_seconds=max(deadline - time.monotonic(), 0.1))
            with context.store.reading() as tx:
                if not tx.matches.list(task, response_state="claimed", limit=1):
                    tasks.discard(task)
        time.sleep(0.1)


def end_task(
    context: Context, tx: Transaction, task: dict[str, Any], state: str, reason: str, actor: str | None = None
) -> bool:
    """End a live task within a transaction. From then on no response of it is published or delivered.

    Jobs become ``withdrawing``; :func:`withdraw_ended` carries that out. False if it had ended before.
    """
    now = context.clock()
    task_id = task["task_id"]
    if not tx.tasks.end(task_id, state, reason, now):
        return False
    tx.task_devices.end_unfinished(task_id, _DEVICE_ENDS[state], now)
    for job in tx.jobs.for_task(task_id):
        if job["state"] in ("open", "closed"):
            tx.withdrawals.request(job["job_id"], job["spec"]["device_ids"], now)
    for approval in tx.approvals.expire_for_task(task_id, now):
        tx.matches.move(approval["match_ids"], ("awaiting_approval",), "none")
        tx.events.add(
            EventType.APPROVAL_EXPIRED,
            task_id=task_id,
            data={"approval_id": approval["approval_id"], "reason": state},
        )
    tx.events.add(
        _EVENTS[state],
        detection_id=task["detection_id"],
        task_id=task_id,
        actor=actor,
        data={"reason": reason},
    )
    tx.task_summaries.write(task_id, actor=actor)  # now: its results may be pruned before its rows are
    coverage = tx.task_devices.coverage(task_id)
    counts = tx.matches.counts(task_id)
    announce(
        tx,
        "task_ended",
        task,
        state,
        now,
        state=state,
        reason=state,
        matches=counts["matches"],
        devices=coverage["targeted"],
        answered=coverage["answered"],
    )
    return True


def withdraw_ended(
    context: Context, task_id: str | None = None, budget_seconds: float | None = None
) -> tuple[int, int]:
    """Carry out open withdrawals. Returns how many devices confirmed now, and how many are still pending.

    Within a budget those tried longest ago come first; none is begun when it is used up.
    """
    deadline = None if budget_seconds is None else time.monotonic() + budget_seconds
    with context.store.reading() as tx:
        waiting = [row for row in tx.withdrawals.open() if task_id is None or row["task_id"] == task_id]
    confirmed = pending = 0
    for row in waiting:
        if deadline is not None and time.monotonic() > deadline:
            pending += len(row["pending"])
            continue
        try:
            result = context.manager(row["manager"]).withdraw(row["job_id"])
        except IocScanError:
            pending += len(row["pending"])  # tried again in the next round
            continue
        # Devices the manager never gave the job to have nothing to confirm.
        away = set(result.pending)
        gone = [device for device in row["pending"] if device not in away]
        confirmed += len(gone)
        pending += _confirm(context, row, gone, result.left)
    return confirmed, pending


def _confirm(context: Context, row: dict[str, Any], gone: Sequence[str], left: Sequence[LeftBehind]) -> int:
    """Note that devices gave a job back, in short transactions; returns how many still have to."""
    now = context.clock()
    about = {"task_id": row["task_id"], "manager": row["manager"]}
    pending: Sequence[str] = row["pending"]
    if left:  # before anything is confirmed: until then it is told again
        with context.store.transaction() as tx:
            job = tx.jobs.get(row["job_id"])
            if job is not None:
                store_last_words(tx, job, left, now)
    for start in range(0, max(len(gone), 1), CONFIRMED_AT_ONCE):
        part = gone[start : start + CONFIRMED_AT_ONCE]
        with context.store.transaction() as tx:
            pending = tx.withdrawals.confirm(row["job_id"], part, now)
            job, task = tx.jobs.get(row["job_id"]), tx.tasks.get(row["task_id"])
            if job and job["kind"] == "scan" and task and task["ended_at"] is not None:
                tx.task_devices.withdraw(row["task_id"], row["manager"], part, run=job["run"], now=now)
            data = {"job_id": row["job_id"], "confirmed": len(part), "of": len(row["pending"])}
            if part:
                tx.events.add(EventType.JOB_WITHDRAWN, **about, data=data)
            if not pending:
                tx.events.add(EventType.WITHDRAWAL_COMPLETED, **about, data={"job_id": row["job_id"]})
    return len(pending)


def taken_back(withdrawn: int, pending: int) -> str:
    """What :func:`withdraw_ended` did, in words."""
    return f"{withdrawn} jobs were taken back from devices, {pending} wait for devices that are away"
