"""What people decide about matches besides approving them: rejecting, putting the question again, looking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ioc_scan.errors import NotFoundError
from ioc_scan.reports.tables import Column
from ioc_scan.service import rights
from ioc_scan.service.approvals import expire_approvals, open_approval
from ioc_scan.service.chat import chat_table
from ioc_scan.service.context import Context
from ioc_scan.service.four_eyes import forget
from ioc_scan.service.live import ended, live_task
from ioc_scan.service.names import named_devices
from ioc_scan.service.people import Actor
from ioc_scan.service.views import page, plain
from ioc_scan.store.event_types import EventType
from ioc_scan.store.states import LIVE_STATES
from ioc_scan.store.transaction import Transaction
from ioc_scan.text import printable

#: Nothing was done about these yet, so that a person may say that nothing shall be.
REJECTABLE = ("none", "awaiting_approval", "reported")
Row = dict[str, Any]


def reject_matches(
    context: Context,
    task_id: str,
    match_ids: Sequence[str] | None = None,
    devices: Sequence[str] | None = None,
    reason: str | None = None,
    account: str | None = None,
    chat_user: str | None = None,
) -> Row:
    """A person's no: the matches are left alone, and questions whose matches are all answered are closed.

    Without ``match_ids`` and ``devices``: everything of the task that waits. Rules never act on a rejected
    match; a person may still name it in a response. Raises RefusedError ``person_needed``, ``right_missing``,
    ``task_ended``; NotFoundError ``nothing_to_reject``, ``task_not_found``.
    """
    actor = Actor.of(context, account, chat_user)
    actor.must_be_person("reject", f"st2 run ioc_scan.reject_matches task_id={task_id}")
    live_task(context, task_id)
    rights.require(context, actor, "respond", task_id=task_id)
    with context.store.transaction() as tx:
        _live(tx, task_id)
        expire_approvals(context, tx)
        rows = _chosen(context, tx, task_id, REJECTABLE, match_ids, devices, actor)
        ids = [row["match_id"] for row in rows]
        tx.matches.move(ids, REJECTABLE, "rejected")
        forget(context, tx, task_id, ids)
        closed = _close(context, tx, task_id, set(ids), actor)
        if ids:
            data = {
                "matches": len(ids),
                "devices": len({(row["manager"], row["device_id"]) for row in rows}),
                "digests": sorted({row["sha256"] for row in rows if row["sha256"]}),
                "approvals": closed,
                "reason": printable(reason or "", 200),
                "chat_user": actor.chat_user,
            }
            tx.events.add(EventType.APPROVAL_REJECTED, task_id=task_id, actor=actor.name, data=data)
    if not ids:
        raise NotFoundError(
            "nothing_to_reject",
            f"no match of task {task_id} waits that you may reject",
            f"st2 run ioc_scan.get_results task_id={task_id}",
        )
    return {
        "task_id": task_id,
        "rejected": len(ids),
        "approvals_closed": closed,
        "message": f"{len(ids)} matches of task {task_id} are rejected: nothing is done about them.",
        "next_step": f"st2 run ioc_scan.reopen_approvals task_id={task_id}",
    }


def _close(context: Context, tx: Transaction, task_id: str, rejected: set[str], actor: Actor) -> int:
    waiting = {
        row["match_id"]
        for row in tx.matches.list(task_id, response_state="awaiting_approval", limit=1_000_000)
    }
    closed = 0
    for approval in tx.approvals.list(task_id, "open", limit=10_000):
        asked = set(approval["match_ids"])
        if asked & rejected and not asked & waiting:
            closed += tx.approvals.decide(
                approval["approval_id"],
                "rejected",
                decided_by=actor.name,
                now=context.clock(),
                chat_user=actor.chat_user,
            )
    return closed


def reopen_approvals(
    context: Context,
    task_id: str,
    match_ids: Sequence[str] | None = None,
    devices: Sequence[str] | None = None,
    account: str | None = None,
    chat_user: str | None = None,
) -> Row:
    """Put rejected questions, and those nobody decided in time, once more. For people, while the task lives.

    Raises RefusedError ``person_needed``, ``right_missing``, ``task_ended``; NotFoundError ``nothing_to_reopen``,
    ``task_not_found``.
    """
    actor = Actor.of(context, account, chat_user)
    actor.must_be_person("reopen an approval", f"st2 run ioc_scan.reopen_approvals task_id={task_id}")
    live_task(context, task_id)
    rights.require(context, actor, "respond", task_id=task_id)
    with context.store.transaction() as tx:
        task = _live(tx, task_id)
        expire_approvals(context, tx)
        rows = _chosen(context, tx, task_id, ("rejected",), match_ids, devices, actor)
        if rows:
            tx.matches.move([row["match_id"] for row in rows], ("rejected",), "none")
            data = {"matches": len(rows), "chat_user": actor.chat_user}
            tx.events.add(EventType.APPROVAL_REOPENED, task_id=task_id, actor=actor.name, data=data)
            open_approval(context, tx, task, rows, "reopened")
    if not rows:
        raise NotFoundError(
            "nothing_to_reopen",
            f"task {task_id} has no rejected match that you may ask about again",
            f"st2 run ioc_scan.get_results task_id={task_id}",
        )
    return {
        "task_id": task_id,
        "reopened": len(rows),
        "message": f"{len(rows)} matches of task {task_id} wait for approval again.",
        "next_step": f"st2 run ioc_scan.respond task_id={task_id} dry_run=true",
    }


def list_approvals(
    context: Context,
    task_id: str | None = None,
    state: str | None = None,
    limit: int | None = None,
    offset: int | None = None,
) -> Row:
    """Questions put to people, newest first: about what exactly, until when, and who decided."""
    with context.store.reading() as tx:
        wanted = None if state in (None, "any") else state
        found = tx.approvals.list(task_id, wanted, limit=limit or 50, offset=offset or 0)
        rows = [plain(row | _about(tx, row)) for row in found]
    columns = [
        Column("approval_id", "approval", fixed=True),
        Column("task_id", "task", fixed=True),
        Column("matches", "matches", fixed=True),
        Column("devices", "devices"),
        Column("state", "state", fixed=True),
        "reason",
        Column("expires_at", "until", fixed=True),
        "decided_by",
    ]
    step = "st2 run ioc_scan.respond task_id=TASK dry_run=true shows what an approval would touch"
    answer = page(rows, columns, len(rows), step, "no approvals")
    return answer | {"chat": chat_table(rows, columns[1:], len(rows), "no approvals")}


def _about(tx: Transaction, approval: Row) -> Row:
    matches = tx.matches.list(match_ids=approval["match_ids"][:500], limit=500)
    return {
        "matches": len(approval["match_ids"]),
        "devices": ", ".join(sorted({row["device_id"] for row in matches})),
        "sha256": sorted({row["sha256"] for row in matches if row["sha256"]}),
    }


def _live(tx: Transaction, task_id: str) -> Row:
    task = tx.tasks.get(task_id)
    if task is None or task["state"] not in LIVE_STATES:
        raise ended(task or {"task_id": task_id, "state": "deleted", "end_reason": "pruned"})
    return task


def _chosen(
    context: Context,
    tx: Transaction,
    task_id: str,
    states: Sequence[str],
    match_ids: Sequence[str] | None,
    devices: Sequence[str] | None,
    actor: Actor,
) -> list[Row]:
    """The actionable matches meant, on devices the person answers for."""
    rows = tx.matches.list(task_id, tier="actionable", response_state=states, limit=1_000_000)
    wanted = named_devices(devices)
    return [
        row
        for row in rows
        if (not match_ids or row["match_id"] in match_ids)
        and (not wanted or row["device_id"] in wanted)
        and rights.may_touch(context, actor, row["manager"], row["group"])
    ]
