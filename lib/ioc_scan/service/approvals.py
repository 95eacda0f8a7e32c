"""Questions put to people: opened by a response that may not act, answered by a person's, or expired."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from ioc_scan.service.announcing import announce
from ioc_scan.service.context import Context
from ioc_scan.service.names import new_id
from ioc_scan.service.people import Actor
from ioc_scan.store.event_types import EventType
from ioc_scan.store.transaction import Transaction

Row = dict[str, Any]


def open_approval(context: Context, tx: Transaction, task: Row, rows: Sequence[Row], reason: str) -> None:
    """Ask about matches nobody was asked about yet, and announce the question. No rows: about the run itself."""
    now = context.clock()
    approval_id = new_id("appr", now)
    expires_at = now + timedelta(hours=context.config["response"]["approval_ttl_hours"])
    ids = [row["match_id"] for row in rows]
    devices = {(row["manager"], row["device_id"]) for row in rows}
    tx.approvals.open(
        approval_id=approval_id,
        task_id=task["task_id"],
        match_ids=ids,
        requested_at=now,
        expires_at=expires_at,
        ioc_digest=rows[0]["ioc_digest"] if rows else None,
        reason=reason,
    )
    tx.matches.move(ids, ("none",), "awaiting_approval")
    tx.events.add(
        EventType.APPROVAL_OPENED,
        task_id=task["task_id"],
        data={"approval_id": approval_id, "matches": len(ids), "devices": len(devices), "reason": reason},
    )
    announce(
        tx,
        "approval_needed",
        task,
        approval_id,
        now,
        approval_id=approval_id,
        matches=len(ids),
        devices=len(devices),
        reason=reason,
        expires_at_epoch=int(expires_at.timestamp()),
    )


def record_approvals(
    context: Context, tx: Transaction, task: Row, claimed: Sequence[Row], actor: Actor
) -> None:
    """A person's response answers the open questions whose matches are all taken now."""
    if not actor.person or not claimed:
        return
    now = context.clock()
    taken = {row["match_id"] for row in claimed}
    waiting = tx.matches.list(task["task_id"], response_state="awaiting_approval", limit=1_000_000)
    unanswered = {row["match_id"] for row in waiting}
    for approval in tx.approvals.list(task["task_id"], "open", limit=10_000):
        asked = set(approval["match_ids"])
        if taken & asked and not unanswered & asked:
            tx.approvals.decide(
                approval["approval_id"],
                "approved",
                decided_by=actor.name,
                now=now,
                chat_user=actor.chat_user,
            )
    tx.events.add(
        EventType.APPROVAL_APPROVED,
        task_id=task["task_id"],
        actor=actor.name,
        data={
            "matches": len(taken),
            "chat_user": actor.chat_user,
            "digests": sorted({r["sha256"] for r in claimed}),
        },
    )


def expire_approvals(context: Context, tx: Transaction) -> int:
    """Nobody decided in time: rejected, with an alert. A person may still name the matches while the task lives."""
    rows = tx.approvals.expire_due(context.clock())
    for row in rows:
        tx.matches.move(row["match_ids"], ("awaiting_approval",), "rejected")
        data = {"approval_id": row["approval_id"], "matches": len(row["match_ids"])}
        tx.events.add(EventType.APPROVAL_EXPIRED, task_id=row["task_id"], data=data)
        tx.events.add(
            EventType.ALERT_RAISED, task_id=row["task_id"], data={"alert": "approval_expired", **data}
        )
    return len(rows)
