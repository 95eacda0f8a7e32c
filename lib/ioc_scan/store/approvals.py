"""Questions put to people. Nothing runs after a question has expired."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select, update

from .base import Namespace, Row, Rows
from .tables import approvals


class Approvals(Namespace):
    """``tx.approvals``: state open, approved, rejected, expired."""

    def open(
        self,
        *,
        approval_id: str,
        task_id: str,
        match_ids: Sequence[str],
        requested_at: datetime,
        expires_at: datetime,
        ioc_digest: str | None = None,
        reason: str = "",
    ) -> bool:
        """Put a question; False if its id is known (nothing changes)."""
        row = {
            "approval_id": approval_id,
            "task_id": task_id,
            "match_ids": sorted(match_ids),
            "state": "open",
            "requested_at": requested_at,
            "expires_at": expires_at,
            "ioc_digest": ioc_digest,
            "reason": reason,
        }
        return self._connection.execute(self._insert(approvals).on_conflict_do_nothing(), row).rowcount > 0

    def get(self, approval_id: str) -> Row | None:
        return self._one(select(approvals).where(approvals.c.approval_id == approval_id))

    def list(
        self, task_id: str | None = None, state: str | None = None, limit: int = 100, offset: int = 0
    ) -> Rows:
        """Newest first."""
        query = select(approvals).order_by(approvals.c.requested_at.desc(), approvals.c.approval_id)
        if task_id is not None:
            query = query.where(approvals.c.task_id == task_id)
        if state is not None:
            query = query.where(approvals.c.state == state)
        return self._all(query.limit(limit).offset(offset))

    def decide(
        self, approval_id: str, state: str, *, decided_by: str, now: datetime, chat_user: str | None = None
    ) -> bool:
        """Approve or reject. False if it is not open, or its time is over (at ``expires_at`` it is)."""
        if state not in ("approved", "rejected"):
            raise ValueError(f"not a decision: {state!r}")
        result = self._connection.execute(
            update(approvals)
            .where(
                approvals.c.approval_id == approval_id,
                approvals.c.state == "open",
                approvals.c.expires_at > now,
            )
            .values(state=state, decided_at=now, decided_by=decided_by, chat_user=chat_user)
        )
        return result.rowcount > 0

    def expire_due(self, now: datetime) -> Rows:
        """Close what nobody decided in time; returns those rows as they are now."""
        return self._close(approvals.c.expires_at <= now, now)

    def expire_for_task(self, task_id: str, now: datetime) -> Rows:
        """Close the open questions of a task that ends; returns those rows as they are now."""
        return self._close(approvals.c.task_id == task_id, now)

    def _close(self, condition: object, now: datetime) -> Rows:
        due = self._all(select(approvals).where(approvals.c.state == "open", condition))  # type: ignore[arg-type]
        closed = {"state": "expired", "decided_at": now}
        for row in due:
            self._connection.execute(
                update(approvals).where(approvals.c.approval_id == row["approval_id"]).values(**closed)
            )
        return [row | closed for row in due]
