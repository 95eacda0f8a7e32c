"""Scans of critical areas: processes, kernel state, boot sectors, autostart; asked for, or part of a response.

One job per device, so that each leaves its device when it is answered. What is found goes into the audit
trail of the task: it is told, never acted on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from ioc_scan.errors import InputError
from ioc_scan.service import rights
from ioc_scan.service.context import Context
from ioc_scan.service.live import live_task
from ioc_scan.service.names import new_id
from ioc_scan.service.people import Actor
from ioc_scan.service.publishing import push_jobs
from ioc_scan.store.event_types import EventType
from ioc_scan.store.transaction import Transaction

#: A device that does not come within this time is not scanned any more.
TERM = timedelta(days=1)

Pair = tuple[str, str]


def scan_critical_areas(
    context: Context,
    task_id: str,
    devices: Sequence[str] | None = None,
    account: str | None = None,
    chat_user: str | None = None,
) -> dict[str, Any]:
    """Scan the critical areas of devices of a task: those named, else those with matches.

    Raises NotFoundError ``task_not_found``, RefusedError ``task_ended``, InputError ``no_devices``.
    """
    actor = Actor.of(context, account, chat_user)
    task = live_task(context, task_id)
    with context.store.reading() as tx:
        rows = tx.task_devices.list(task_id, limit=100_000)
        groups = [(row["manager"], row["group"]) for row in tx.task_groups.list(task_id)]
    rights.require(context, actor, "follow", groups, task_id=task_id)
    wanted = set(devices or ())
    pairs = [
        (row["manager"], row["device_id"])
        for row in rows
        if (row["device_id"] in wanted if wanted else row["matches"])
    ]
    if not pairs:
        hint = "Name devices of the task, as get_task lists them."
        raise InputError("no_devices", "no device of the task has a match, or bears a given name", hint)
    with context.store.transaction() as tx:
        request(context, tx, task, pairs, actor)
    push_jobs(context)
    return {"task_id": task_id, "devices": len(pairs)}


def request(
    context: Context, tx: Transaction, task: dict[str, Any], pairs: Iterable[Pair], actor: Actor
) -> None:
    """Note one job per device, within the transaction of what asks for it."""
    now = context.clock()
    for manager, device_id in sorted(set(pairs)):
        tx.jobs.create(
            {
                "job_id": new_id("crit", now),
                "task_id": None,
                "run": 0,
                "kind": "critical_areas",
                "manager": manager,
                "created_at": now,
                "not_before": now,
                "not_after": now + TERM,
                "spec": {
                    "device_ids": [device_id],
                    "plan_digest": task["plan_digest"],
                    "settings": {"cpu_percent": task["settings"].get("cpu_percent", 50)},
                    "of_task": task["task_id"],
                },
            }
        )
        tx.events.add(
            EventType.CRITICAL_AREAS_SCAN_REQUESTED,
            task_id=task["task_id"],
            manager=manager,
            device_id=device_id,
            actor=actor.name,
        )
