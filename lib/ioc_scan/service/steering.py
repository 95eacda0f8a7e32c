"""Pause, resume and cancel: the hand on a task while it runs."""

from __future__ import annotations

from typing import Any

from ioc_scan.devices.base import Capability, ControlOp
from ioc_scan.errors import DeviceError, IocScanError, RefusedError
from ioc_scan.service import ending, publishing, rights
from ioc_scan.service.context import Context
from ioc_scan.service.live import ended, live_task
from ioc_scan.service.people import Actor
from ioc_scan.store.event_types import EventType
from ioc_scan.store.states import LIVE_STATES

_EVENTS = {ControlOp.PAUSE: EventType.TASK_PAUSED, ControlOp.RESUME: EventType.TASK_RESUMED}
_WORDS = {ControlOp.PAUSE: "told to pause", ControlOp.RESUME: "told to go on"}


def pause_task(
    context: Context, task_id: str, account: str | None = None, chat_user: str | None = None
) -> dict[str, Any]:
    """Pause the present run. Devices that are away find the word when they take the task.

    Its lifetime goes on. Raises NotFoundError ``task_not_found``; RefusedError ``task_ended``, ``task_not_running``,
    ``pause_unsupported``, ``right_missing``; DeviceError ``manager_unreachable`` if no manager could be asked.
    """
    return _control(context, task_id, ControlOp.PAUSE, account, chat_user)


def resume_task(
    context: Context, task_id: str, account: str | None = None, chat_user: str | None = None
) -> dict[str, Any]:
    """Let a paused run go on where it stopped. Raises as :func:`pause_task`."""
    return _control(context, task_id, ControlOp.RESUME, account, chat_user)


def _control(
    context: Context, task_id: str, op: ControlOp, account: str | None, chat_user: str | None
) -> dict[str, Any]:
    actor = Actor.of(context, account, chat_user)
    command = f"st2 run ioc_scan.{op.value}_task task_id={task_id}"
    task = live_task(context, task_id)
    groups = rights.task_groups(context, task_id)
    rights.require(context, actor, "steer", groups, task_id=task_id, command=command)
    with context.store.reading() as tx:
        jobs = tx.jobs.open("scan", task_id)
    if task["state"] != "running" or not jobs:
        raise RefusedError(
            "task_not_running",
            f"task {task_id} is {task['state']}: no run of it is under way",
            f"st2 run ioc_scan.start_task task_id={task_id} new_run=true",
        )
    publishing.push_jobs(context, task_id)  # a job its manager does not know yet cannot be told anything
    told, problems = 0, []
    for job in jobs:
        try:
            told += _tell(context, job, op)
        except IocScanError as error:
            problems.append(error)
    if problems and not told:
        raise problems[0]
    with context.store.transaction() as tx:
        tx.events.add(
            _EVENTS[op],
            detection_id=task["detection_id"],
            task_id=task_id,
            actor=actor.name,
            data={"run": task["run"], "devices": told, "chat_user": actor.chat_user},
        )
    said = "; ".join(f"{error.code}: {error.message}" for error in problems)
    return {
        "task_id": task_id,
        "run": task["run"],
        "devices": told,
        "message": f"{told} devices of task {task_id} are {_WORDS[op]}."
        + (f" Not told: {said}" if said else ""),
        "next_step": f"st2 run ioc_scan.get_coverage task_id={task_id}",
    }


def _tell(context: Context, job: dict[str, Any], op: ControlOp) -> int:
    manager = context.manager(job["manager"])
    if Capability.PAUSE not in manager.caps:
        raise RefusedError(
            "pause_unsupported",
            f"device manager {job['manager']} cannot pause a scan",
            "Cancel the task, or let it run on.",
        )
    try:
        manager.control(job["job_id"], op)
    except DeviceError as error:
        hint = error.hint or "Try again later."
        raise DeviceError("manager_unreachable", f"{job['manager']}: {error.message}", hint) from error
    return len(job["spec"]["device_ids"])


def cancel_task(
    context: Context,
    task_id: str,
    reason: str | None = None,
    account: str | None = None,
    chat_user: str | None = None,
) -> dict[str, Any]:
    """End a live task as ``cancelled`` and take it from every device. What it found stays for its time.

    Repeat to retry the withdrawals. Raises NotFoundError ``task_not_found``; RefusedError ``task_ended`` for
    another end, ``right_missing``.
    """
    actor = Actor.of(context, account, chat_user)
    command = f"st2 run ioc_scan.cancel_task task_id={task_id}"
    with context.store.reading() as tx:
        task = tx.tasks.get(task_id)
    if task is None or task["state"] != "cancelled":
        task = live_task(context, task_id)
    groups = rights.task_groups(context, task_id)
    rights.require(context, actor, "end", groups, task_id=task_id, command=command)
    ending.hear_out(context, task_id)
    with context.store.transaction() as tx:
        current = tx.tasks.get(task_id) or task
        if current["state"] in LIVE_STATES:
            why = f"cancelled by {actor.name}" + (f": {reason}" if reason else "")
            ending.end_task(context, tx, current, "cancelled", why, actor.name)
        elif current["state"] != "cancelled":
            raise ended(current)
    withdrawn, pending = ending.withdraw_ended(context, task_id)
    return {
        "task_id": task_id,
        "state": "cancelled",
        "withdrawn": withdrawn,
        "pending": pending,
        "message": f"Task {task_id} is cancelled; {ending.taken_back(withdrawn, pending)}.",
        "next_step": f"st2 run ioc_scan.get_results task_id={task_id}",
    }
