"""Group IOC scan tasks: at most one live task per object, held by a unique key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update

from ..errors import NotFoundError
from ..retention import TaskFacts
from .base import Namespace, Row, Rows
from .states import END_STATES, LIVE_STATES, UNACTED_RESPONSE_STATES
from .tables import approvals, task_detections, task_groups, task_iocs, task_runs, tasks

_FIXED = frozenset(
    {"task_id", "object_sha256", "live_object", "created_at", "detections_count", "coverage", "match_counts"}
)


class Tasks(Namespace):
    """``tx.tasks``. Live states: created, running, completed; ends: expired, rotated, cancelled, deleted."""

    def create_or_get(self, row: Row) -> tuple[Row, bool]:
        """Create a task, or get the live one of the same object; returns the task and whether it is new.

        Wanted: task_id, name, live_object (the object's key, usually ``object_sha256``), object_sha256,
        detection_id, profile, created_at; may be given: policy_name, settings. The rest starts as: state
        created, run 0, detections_count 0 (add_detection counts, the first one too).
        """
        values: Row = {
            "policy_name": None,
            "settings": {},
            "state": "created",
            "run": 0,
            "detections_count": 0,
        } | row
        if not values.get("live_object"):
            raise ValueError("a task needs live_object, the key of its object")
        result = self._connection.execute(
            self._insert(tasks).on_conflict_do_nothing(index_elements=["live_object"]), values
        )
        found = self._one(select(tasks).where(tasks.c.live_object == values["live_object"]))
        assert found is not None  # inserted now or there before: one writer at a time
        return found, result.rowcount > 0

    def get(self, task_id: str) -> Row | None:
        """The task (``coverage`` and ``match_counts`` as of the last commit), or None once pruned."""
        return self._one(select(tasks).where(tasks.c.task_id == task_id))

    def live_for(self, live_object: str) -> Row | None:
        """The live task of an object, or None."""
        return self._one(select(tasks).where(tasks.c.live_object == live_object))

    def list(
        self,
        states: Iterable[str] | None = None,
        limit: int = 100,
        offset: int = 0,
        object_sha256: str | None = None,
    ) -> Rows:
        """Newest first, with ``coverage`` and ``match_counts`` (see task_devices.coverage, matches.tally)."""
        query = select(tasks).order_by(tasks.c.created_at.desc(), tasks.c.task_id)
        if states is not None:
            query = query.where(tasks.c.state.in_(sorted(states)))
        if object_sha256 is not None:
            query = query.where(tasks.c.object_sha256 == object_sha256)
        return self._all(query.limit(limit).offset(offset))

    def counts(self) -> dict[str, int]:
        """Number of tasks by state."""
        query = select(tasks.c.state, func.count()).group_by(tasks.c.state)
        return {row.state: row[1] for row in self._connection.execute(query)}

    def update(self, task_id: str, **columns: Any) -> None:
        """Set columns (name, state, run, first_start_at, last_start_at, plan_digest, settings, policy_name).

        Ends go through :meth:`end`. Raises NotFoundError for an unknown task.
        """
        wrong = set(columns) & _FIXED
        if wrong or columns.get("state") in END_STATES:
            raise ValueError(f"not to be set by update: {sorted(wrong) or columns.get('state')}")
        result = self._connection.execute(update(tasks).where(tasks.c.task_id == task_id).values(**columns))
        if result.rowcount == 0:
            raise NotFoundError(
                "task_not_found", f"no task {task_id}", "it may have been pruned; see the summaries"
            )

    def end(self, task_id: str, state: str, reason: str, now: datetime) -> bool:
        """End a live task; its object is free for a new one. False if it had ended (or is gone)."""
        if state not in END_STATES:
            raise ValueError(f"not an end: {state!r}")
        result = self._connection.execute(
            update(tasks)
            .where(tasks.c.task_id == task_id, tasks.c.state.in_(sorted(LIVE_STATES)))
            .values(state=state, end_reason=reason, ended_at=now, live_object=None)
        )
        return result.rowcount > 0

    def add_detection(self, task_id: str, detection_id: str, now: datetime) -> bool:
        """Count a detection for the task; True the first time, False for an id it has counted."""
        row = {"task_id": task_id, "detection_id": detection_id, "added_at": now}
        if (
            self._connection.execute(self._insert(task_detections).on_conflict_do_nothing(), row).rowcount
            == 0
        ):
            return False
        self._connection.execute(
            update(tasks)
            .where(tasks.c.task_id == task_id)
            .values(detections_count=tasks.c.detections_count + 1)
        )
        return True

    def detections(self, task_id: str) -> Rows:
        """detection_id and added_at, oldest first."""
        table = task_detections
        return self._all(
            select(table.c.detection_id, table.c.added_at)
            .where(table.c.task_id == task_id)
            .order_by(table.c.added_at, table.c.detection_id)
        )

    def set_iocs(self, task_id: str, iocs: Sequence[tuple[str, str]]) -> None:
        """The IOC files the task carries, as (tier, digest); replaces what was set."""
        self._connection.execute(task_iocs.delete().where(task_iocs.c.task_id == task_id))
        rows = [{"task_id": task_id, "tier": tier, "digest": digest} for tier, digest in iocs]
        if rows:
            self._connection.execute(task_iocs.insert(), rows)

    def iocs(self, task_id: str) -> Sequence[tuple[str, str]]:
        """(tier, digest), actionable before hunt."""
        query = select(task_iocs.c.tier, task_iocs.c.digest).where(task_iocs.c.task_id == task_id)
        return [(tier, digest) for tier, digest in self._connection.execute(query.order_by(task_iocs.c.tier))]

    def runs(self, task_id: str) -> Rows:
        """Earlier runs: run, ended_at, coverage; oldest first."""
        table = task_runs
        return self._all(
            select(table.c.run, table.c.ended_at, table.c.coverage)
            .where(table.c.task_id == task_id)
            .order_by(table.c.run)
        )

    def retention_facts(self) -> Sequence[TaskFacts]:
        """What ``retention.plan_retention`` asks for, of every task that still has rows, oldest first.

        Matches are those of the last commit, as ``match_counts`` is.
        """
        managers: dict[str, set[str]] = {}
        for task_id, manager in self._connection.execute(
            select(task_groups.c.task_id, task_groups.c.manager)
        ):
            managers.setdefault(task_id, set()).add(manager)
        asking = set(
            self._connection.execute(
                select(approvals.c.task_id).where(approvals.c.state == "open").distinct()
            ).scalars()
        )
        facts = select(
            tasks.c.task_id,
            tasks.c.state,
            tasks.c.profile,
            tasks.c.created_at,
            tasks.c.last_start_at,
            tasks.c.ended_at,
            tasks.c.match_counts,
        ).order_by(tasks.c.created_at, tasks.c.task_id)
        return [
            TaskFacts(
                task_id=row["task_id"],
                managers=tuple(sorted(managers.get(row["task_id"], ()))),
                state=row["state"],
                profile=row["profile"],
                created_at=row["created_at"],
                last_start_at=row["last_start_at"],
                ended_at=row["ended_at"],
                unacted_matches=_unacted(row["match_counts"] or {}),
                open_approval=row["task_id"] in asking,
            )
            for row in self._all(facts)
        ]


def _unacted(counts: dict[str, dict[str, int]]) -> int:
    """Matches that somebody may still act on. Of the hunt tier only those asked about: they keep no task."""
    return sum(
        number
        for tier, states in counts.items()
        for state, number in states.items()
        if state in UNACTED_RESPONSE_STATES and (state != "none" or tier == "actionable")
    )


class TaskGroups(Namespace):
    """``tx.task_groups``: which groups a task aims at, each with its response mode."""

    def set(self, task_id: str, groups: Sequence[tuple[str, str, str]]) -> None:
        """(manager, group, response_mode) each; replaces what was set."""
        self._connection.execute(task_groups.delete().where(task_groups.c.task_id == task_id))
        rows = [
            {"task_id": task_id, "manager": manager, "group": group, "response_mode": mode}
            for manager, group, mode in groups
        ]
        if rows:
            self._connection.execute(task_groups.insert(), rows)

    def list(self, task_id: str) -> Rows:
        """task_id, manager, group, response_mode."""
        table = task_groups
        return self._all(
            select(table).where(table.c.task_id == task_id).order_by(table.c.manager, table.c.group)
        )
