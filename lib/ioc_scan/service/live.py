"""What only a live task can do begins with these."""

from __future__ import annotations

from typing import Any

from ioc_scan.errors import NotFoundError, RefusedError
from ioc_scan.service.context import Context
from ioc_scan.store.states import LIVE_STATES
from ioc_scan.text import printable


def live_task(context: Context, task_id: str) -> dict[str, Any]:
    """The row of a live task. Raises NotFoundError ``task_not_found``, RefusedError ``task_ended``."""
    with context.store.reading() as tx:
        task = tx.tasks.get(task_id)
    if task is None:
        raise not_found(task_id)
    if task["state"] not in LIVE_STATES:
        raise ended(task)
    return task


def not_found(task_id: str) -> NotFoundError:
    return NotFoundError(
        "task_not_found",
        f"there is no task {printable(task_id, 80)}",
        "st2 run ioc_scan.list_tasks shows all.",
    )


def ended(task: dict[str, Any]) -> RefusedError:
    """The refusal of what only a live task can do."""
    return RefusedError(
        "task_ended",
        f"task {task['task_id']} has ended: {task['state']} ({printable(task['end_reason'])})",
        "A new detection of the object makes a new task.",
    )
