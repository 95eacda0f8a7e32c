"""Rounds of response actions, and the count of files they acted on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select, update

from .base import Namespace, Row, Rows
from .tables import acted_files, responses


class Responses(Namespace):
    """``tx.responses``: state running, done, failed."""

    def create(
        self,
        *,
        response_id: str,
        task_id: str,
        actor: str,
        requested_at: datetime,
        dry_run: bool,
        counts: dict[str, Any] | None = None,
    ) -> None:
        """Begin a round (state running)."""
        row = {
            "response_id": response_id,
            "task_id": task_id,
            "actor": actor,
            "requested_at": requested_at,
            "dry_run": dry_run,
            "state": "running",
            "counts": counts or {},
        }
        self._connection.execute(responses.insert(), row)

    def get(self, response_id: str) -> Row | None:
        return self._one(select(responses).where(responses.c.response_id == response_id))

    def list(
        self, task_id: str | None = None, state: str | None = None, limit: int = 100, offset: int = 0
    ) -> Rows:
        """Newest first."""
        query = select(responses).order_by(responses.c.requested_at.desc(), responses.c.response_id)
        if task_id is not None:
            query = query.where(responses.c.task_id == task_id)
        if state is not None:
            query = query.where(responses.c.state == state)
        return self._all(query.limit(limit).offset(offset))

    def note(self, response_id: str, counts: dict[str, Any]) -> None:
        """Replace the counts of a running round."""
        self._connection.execute(
            update(responses)
            .where(responses.c.response_id == response_id, responses.c.state == "running")
            .values(counts=counts)
        )

    def finish(self, response_id: str, state: str, *, counts: dict[str, Any], now: datetime) -> bool:
        """End a running round as done or failed; False if it was not running."""
        if state not in ("done", "failed"):
            raise ValueError(f"not an end of a response: {state!r}")
        result = self._connection.execute(
            update(responses)
            .where(responses.c.response_id == response_id, responses.c.state == "running")
            .values(state=state, counts=counts, finished_at=now)
        )
        return result.rowcount > 0

    def acted(
        self,
        *,
        object_sha256: str | None = None,
        task_id: str | None = None,
        source_name: str | None = None,
        manager: str | None = None,
        device_id: str | None = None,
        since: datetime | None = None,
    ) -> dict[str, int]:
        """``{"files", "devices"}`` acted on or claimed to be acted on: what the blast limits compare with.

        No condition: the whole fleet. ``since`` counts claims at or after it. Files a device refused, missed
        or found changed are not counted; the count outlives the task's own rows.
        """
        table = acted_files
        where: list[ColumnElement[bool]] = [table.c.counts.is_(True)]
        wanted = {
            "object_sha256": object_sha256,
            "task_id": task_id,
            "source_name": source_name,
            "manager": manager,
            "device_id": device_id,
        }
        where += [table.c[name] == value for name, value in wanted.items() if value is not None]
        if since is not None:
            where.append(table.c.claimed_at >= since)
        files = self._connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one()
        pairs = select(table.c.manager, table.c.device_id).where(*where).distinct().subquery()
        devices = self._connection.execute(select(func.count()).select_from(pairs)).scalar_one()
        return {"files": files, "devices": devices}
