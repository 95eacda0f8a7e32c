"""What stays of a task after its rows are gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select

from ..errors import NotFoundError, RefusedError
from .base import Namespace, Row, Rows
from .tables import matches, responses, task_summaries


class TaskSummaries(Namespace):
    """``tx.task_summaries``"""

    def write(self, task_id: str, *, actor: str | None = None, extra: dict[str, Any] | None = None) -> Row:
        """Sum up an ended task: name, object, times, end and why, coverage, matches, actions by outcome.

        ``actions`` is ``{"responses": n, "by_outcome": {state: n}}`` and what ``extra`` adds. Call it when
        the task ends, and again before its rows go: later outcomes are taken in, but once matches were pruned
        the earlier summary stands. Raises NotFoundError, and RefusedError for a live task.
        """
        known = self.get(task_id)
        task = self._tx.tasks.get(task_id)
        if task is None:
            if known is not None:
                return known
            raise NotFoundError("task_not_found", f"no task {task_id}", "it may have been pruned long ago")
        if task["ended_at"] is None:
            raise RefusedError("task_live", f"task {task_id} has not ended", "only ended tasks are summed up")
        outcomes = self._connection.execute(
            select(matches.c.response_state, func.count())
            .where(matches.c.task_id == task_id)
            .group_by(matches.c.response_state)
        )
        by_outcome: dict[str, int] = {row.response_state: row[1] for row in outcomes}
        if known is not None and sum(by_outcome.values()) < known["matches"]:
            return known
        rounds = self._connection.execute(
            select(func.count()).select_from(responses).where(responses.c.task_id == task_id)
        ).scalar_one()
        row = {
            "task_id": task_id,
            "name": task["name"],
            "object_sha256": task["object_sha256"],
            "created_at": task["created_at"],
            "ended_at": task["ended_at"],
            "state": task["state"],
            "end_reason": task["end_reason"],
            "actor": actor,
            "coverage": self._tx.task_devices.coverage(task_id),
            "matches": sum(by_outcome.values()),
            "actions": {"responses": rounds, "by_outcome": by_outcome} | (extra or {}),
        }
        if known is not None and actor is None:
            row["actor"] = known["actor"]
        statement = self._insert(task_summaries).values(**row)
        self._connection.execute(statement.on_conflict_do_update(index_elements=["task_id"], set_=row))
        return row

    def get(self, task_id: str) -> Row | None:
        return self._one(select(task_summaries).where(task_summaries.c.task_id == task_id))

    def list(self, limit: int = 100, offset: int = 0, task_ids: Sequence[str] | None = None) -> Rows:
        """Last ended first."""
        query = select(task_summaries).order_by(task_summaries.c.ended_at.desc(), task_summaries.c.task_id)
        if task_ids is not None:
            query = query.where(task_summaries.c.task_id.in_(list(task_ids)[:500]))
        return self._all(query.limit(limit).offset(offset))
