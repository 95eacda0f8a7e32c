"""A person lets a run go on past its canary devices; with four eyes, two of them do."""

from __future__ import annotations

from typing import Any

from ioc_scan.service import publishing, rights, widening
from ioc_scan.service.context import Context
from ioc_scan.service.four_eyes import agreed
from ioc_scan.service.live import ended
from ioc_scan.service.people import Actor
from ioc_scan.store.states import LIVE_STATES
from ioc_scan.store.transaction import Transaction

Row = dict[str, Any]


def widen_by_hand(context: Context, task: Row, actor: Actor, places: list[tuple[str, str]]) -> Row:
    """The answer of ``start_task widen=true``.

    Raises RefusedError ``person_needed``, ``right_missing``, ``task_ended``, ``nothing_to_widen``.
    """
    task_id = task["task_id"]
    command = f"st2 run ioc_scan.start_task task_id={task_id} widen=true"
    actor.must_be_person("widen a run", command)
    rights.require(context, actor, "respond", places, task_id=task_id, command=command)
    with context.store.transaction() as tx:
        current = tx.tasks.get(task_id)
        if current is None or current["state"] not in LIVE_STATES:
            raise ended(current or task)
        widening.require_held_back(current)
        run, targeted = current["run"], tx.task_devices.coverage(task_id)["targeted"]
        waits = context.config["response"]["four_eyes"] and not _seconded(context, tx, current, actor)
        if not waits:
            widening.pass_by(context, tx, current, actor)
    if waits:
        message = f"Your word is noted for run {run} of task {task_id}; a second person has to widen it, too."
        step = f"{command}, by another account"
    else:
        publishing.push_jobs(context, task_id)
        message = f"Run {run} of task {task_id} goes on to the rest of {targeted} devices."
        step = f"st2 run ioc_scan.get_coverage task_id={task_id}"
    return {
        "task_id": task_id,
        "run": run,
        "started": False,
        "devices": targeted,
        "message": message,
        "next_step": step,
    }


def _seconded(context: Context, tx: Transaction, task: Row, actor: Actor) -> bool:
    """Whether another account has widened this run already; else this account's word is noted."""
    subject = f"widen:{task['run']}"
    if agreed(context, tx, task["task_id"], [subject], actor, {"run": task["run"]}):
        return True
    widening.ask_again(context, tx, task)
    return False
