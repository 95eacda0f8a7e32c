"""Jobs handed to device managers, and those being taken back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select, update

from .base import Names, Namespace, Row, Rows, chunks
from .states import JOB_STATES
from .tables import jobs, withdrawals


class Jobs(Namespace):
    """``tx.jobs``: state open (may still answer), closed, withdrawing, withdrawn."""

    def create(self, row: Row) -> bool:
        """Note a job before it is published; False if its id is known (nothing changes).

        Wanted: job_id, kind, manager, created_at, not_before, not_after, spec; may be given: task_id, run,
        response_id.
        """
        values = {"task_id": None, "run": None, "response_id": None, "cursor": None, "state": "open"} | row
        values["updated_at"] = row["created_at"]
        return self._connection.execute(self._insert(jobs).on_conflict_do_nothing(), values).rowcount > 0

    def get(self, job_id: str) -> Row | None:
        return self._one(select(jobs).where(jobs.c.job_id == job_id))

    def open(
        self,
        kind: str | None = None,
        task_id: str | None = None,
        *,
        manager: str | None = None,
        response_id: str | None = None,
        limit: int = 1000,
    ) -> Rows:
        """Open jobs, the longest untouched first, so that a look cut short goes round all in time."""
        query = select(jobs).where(jobs.c.state == "open").order_by(jobs.c.updated_at, jobs.c.job_id)
        wanted = {"kind": kind, "task_id": task_id, "manager": manager, "response_id": response_id}
        for name, value in wanted.items():
            if value is not None:
                query = query.where(jobs.c[name] == value)
        return self._all(query.limit(limit))

    def for_task(self, task_id: str, kind: str | None = None) -> Rows:
        """All jobs of a task, oldest first."""
        query = select(jobs).where(jobs.c.task_id == task_id).order_by(jobs.c.created_at, jobs.c.job_id)
        return self._all(query if kind is None else query.where(jobs.c.kind == kind))

    def save_cursor(self, job_id: str, cursor: Any, *, now: datetime) -> None:
        """Remember how far the job's results were read; in the transaction that stores those results."""
        self._connection.execute(
            update(jobs).where(jobs.c.job_id == job_id).values(cursor=cursor, updated_at=now)
        )

    def touch(self, job_ids: Sequence[str], now: datetime) -> None:
        """It was their turn: they come last in :meth:`open` now."""
        for part in chunks(job_ids):
            self._connection.execute(update(jobs).where(jobs.c.job_id.in_(part)).values(updated_at=now))

    def set_state(self, job_id: str, state: str, *, now: datetime) -> None:
        """One of open, closed, withdrawing, withdrawn."""
        if state not in JOB_STATES:
            raise ValueError(f"unknown job state {state!r}")
        self._connection.execute(
            update(jobs).where(jobs.c.job_id == job_id).values(state=state, updated_at=now)
        )


class Withdrawals(Namespace):
    """``tx.withdrawals``: jobs being taken back; stays until no device is pending."""

    def request(self, job_id: str, pending: Sequence[str], now: datetime) -> None:
        """Begin to take a job back from the devices; the job becomes withdrawing. Idempotent."""
        row = {
            "job_id": job_id,
            "pending": sorted(pending),
            "confirmed": 0,
            "requested_at": now,
            "updated_at": now,
        }
        self._connection.execute(self._insert(withdrawals).on_conflict_do_nothing(), row)
        self._tx.jobs.set_state(job_id, "withdrawing", now=now)

    def confirm(self, job_id: str, device_ids: Sequence[str], now: datetime) -> Names:
        """Devices confirmed that the job is gone; returns those still pending. None left: withdrawn."""
        row = self._one(select(withdrawals).where(withdrawals.c.job_id == job_id))
        if row is None:
            return []
        gone = set(device_ids)
        pending = [device for device in row["pending"] if device not in gone]
        confirmed = row["confirmed"] + len(row["pending"]) - len(pending)
        self._connection.execute(
            update(withdrawals)
            .where(withdrawals.c.job_id == job_id)
            .values(pending=pending, confirmed=confirmed, updated_at=now)
        )
        if not pending:
            self._tx.jobs.set_state(job_id, "withdrawn", now=now)
        return pending

    def get(self, job_id: str) -> Row | None:
        """job_id, pending (device ids), confirmed (number), requested_at, updated_at; or None."""
        return self._one(select(withdrawals).where(withdrawals.c.job_id == job_id))

    def open(self, limit: int = 1000) -> Rows:
        """Withdrawals with devices pending, each with its job's manager and task_id; oldest try first."""
        query = (
            select(withdrawals, jobs.c.manager, jobs.c.task_id)
            .join(jobs, jobs.c.job_id == withdrawals.c.job_id)
            .where(jobs.c.state == "withdrawing")
            .order_by(withdrawals.c.updated_at, withdrawals.c.job_id)
            .limit(limit)
        )
        return self._all(query)
