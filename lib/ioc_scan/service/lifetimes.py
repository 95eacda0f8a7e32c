"""Pruning: tasks end when retention.py says so, leave every device, and are reduced to a summary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ioc_scan.retention import PROFILES, RetentionPlan, plan_retention
from ioc_scan.service.approvals import expire_approvals
from ioc_scan.service.context import Context
from ioc_scan.service.ending import end_task, hear_out, withdraw_ended
from ioc_scan.service.guarding import ANSWER_KEPT, LOOKED_UP
from ioc_scan.service.names import new_id
from ioc_scan.service.publishing import end_of_life, push_jobs
from ioc_scan.service.sealing import seal, send
from ioc_scan.store.event_types import EventType
from ioc_scan.store.transaction import Transaction

#: Summaries kept after their tasks are gone, oldest removed first.
SUMMARIES_KEPT = 10_000


def prune(context: Context, dry_run: bool | None = None) -> dict[str, Any]:
    """Apply the lifetimes. A dry run plans the same and touches nothing."""
    now = context.clock()
    with context.store.reading() as tx:
        plan = plan_retention(tx.tasks.retention_facts(), now, context.config["lifetime_profile"])
        answer = {
            "dry_run": bool(dry_run),
            "expired": [ending.task_id for ending in plan.expire],
            "rotated": [ending.task_id for ending in plan.rotate],
            "withdrawn": 0,
            "withdrawing": len(tx.withdrawals.open()),
            "results_deleted": 0,
            "tasks_removed": len(plan.delete_tasks),
            "quarantine_expired": len(tx.quarantine.expired(now)),
            "approvals_expired": 0,
        }
    if dry_run:
        return answer
    _end(context, plan)
    with context.store.transaction() as tx:
        answer["approvals_expired"] = expire_approvals(context, tx)
    answer["withdrawn"], answer["withdrawing"] = withdraw_ended(context)
    answer["results_deleted"] = _delete_results(context, plan)
    answer["tasks_removed"] = sum(_remove(context, task_id) for task_id in plan.delete_tasks)
    answer["quarantine_expired"] = _expire_quarantine(context)
    _tidy(context)
    with context.store.transaction() as tx:
        numbers = {key: len(value) if isinstance(value, list) else value for key, value in answer.items()}
        if any(value for key, value in numbers.items() if key not in ("dry_run", "withdrawing")):
            tx.events.add(EventType.PRUNE_DONE, data=numbers)
    context.store.optimize()
    return answer


def _end(context: Context, plan: RetentionPlan) -> None:
    for state, endings in (("expired", plan.expire), ("rotated", plan.rotate)):
        for ending in endings:
            hear_out(context, ending.task_id)
            with context.store.transaction() as tx:
                task = tx.tasks.get(ending.task_id)
                if task is None:
                    continue
                if state == "expired" and end_of_life(task) > context.clock():
                    continue  # started again since the plan was made
                if not end_task(context, tx, task, state, ending.reason):
                    continue
                if ending.alert:
                    data = {"alert": f"task_{state}_unfinished", "reason": ending.reason}
                    tx.events.add(EventType.ALERT_RAISED, task_id=ending.task_id, data=data)


def _delete_results(context: Context, plan: RetentionPlan) -> int:
    deleted = 0
    for profile, cutoff in sorted(plan.delete_results_before.items()):

        def batch(tx: Transaction, cutoff: Any = cutoff, profile: str = profile) -> int:
            return tx.deletion.delete_results_before(cutoff, profile=profile)

        deleted += _in_batches(context, batch)
    if deleted:
        with context.store.transaction() as tx:
            tx.events.add(EventType.RESULTS_PRUNED, data={"matches": deleted})
    return deleted


def _remove(context: Context, task_id: str) -> int:
    """Reduce an ended task to its summary. Withdrawals still owed by devices that are away outlive it."""
    with context.store.transaction() as tx:
        tx.task_summaries.write(task_id)
        tx.events.add(EventType.TASK_PRUNED, task_id=task_id)
        head = seal(tx, "prune", task_id=task_id)
    send(context, head)
    _in_batches(context, lambda tx: tx.deletion.delete_task_rows(task_id))
    return 1


def _expire_quarantine(context: Context) -> int:
    """Ask devices to delete objects past their term. One job per device, which leaves it when it is answered."""
    now = context.clock()
    with context.store.transaction() as tx:
        pending = {
            item["quarantine_id"]
            for job in tx.jobs.open("purge")
            for items in job["spec"]["items"].values()
            for item in items
        }
        by_device: dict[tuple[str, str], list[dict[str, Any]]] = {}
        due = [row for row in tx.quarantine.expired(now) if row["quarantine_id"] not in pending]
        for row in due:
            items = by_device.setdefault((row["manager"], row["device_id"]), [])
            items.append({"quarantine_id": row["quarantine_id"]})
        for (manager, device_id), items in by_device.items():
            tx.jobs.create(
                {
                    "job_id": new_id("purge", now),
                    "task_id": None,
                    "run": 0,
                    "kind": "purge",
                    "manager": manager,
                    "created_at": now,
                    "not_before": now,
                    "not_after": now + PROFILES["endpoint_agent"].task_lifetime,
                    "spec": {"device_ids": [device_id], "settings": {}, "items": {device_id: items}},
                }
            )
        head = seal(tx, "purge") if due else None
    if head is not None:
        send(context, head)
        push_jobs(context)
    return len(due)


def _tidy(context: Context) -> None:
    now = context.clock()
    longest = max(profile.results_kept for profile in PROFILES.values())
    _in_batches(context, lambda tx: tx.deletion.delete_leftovers_before(now - longest))
    _in_batches(context, lambda tx: tx.deletion.delete_detections_before(now - longest - longest))
    _in_batches(context, lambda tx: tx.deletion.delete_summaries(SUMMARIES_KEPT))
    _in_batches(context, lambda tx: tx.flags.forget(LOOKED_UP, now - ANSWER_KEPT))


def _in_batches(context: Context, delete: Callable[[Transaction], int]) -> int:
    """Short transactions until nothing is left, so that readers and writers get in between."""
    total = 0
    while True:
        with context.store.transaction() as tx:
            deleted = delete(tx)
        total += deleted
        if deleted == 0:
            return total
