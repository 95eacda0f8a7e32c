"""What each device of a task is doing in the newest run, and the coverage that adds it up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import case, delete, func, select, update

from . import device_updates
from .base import Names, Namespace, Row, Rows, chunks
from .states import DEVICE_OUTCOMES
from .tables import task_devices, task_runs, tasks

_COUNTED = (
    "targeted",
    "reached",
    "answered",
    "matched",
    "clean",
    "failed",
    "never_seen",
    "running",
    "waiting_idle",
)


class TaskDevices(Namespace):
    """``tx.task_devices``: one row per task, manager and device, always of the newest run."""

    def target(
        self,
        task_id: str,
        run: int,
        manager: str,
        group: str,
        devices: Iterable[str | tuple[str, Sequence[str]]],
        *,
        now: datetime,
    ) -> int:
        """Aim run ``run`` at devices (ids, or pairs of id and tags); returns how many are newly aimed at.

        Idempotent for a run. A new run sets the devices back to pending; the earlier run's coverage is
        kept first (``tx.tasks.runs``). A device that is in two groups stays with the first.
        """
        self._keep_earlier_run(task_id, run, now)
        rows = [
            {
                "task_id": task_id,
                "manager": manager,
                "device_id": device if isinstance(device, str) else device[0],
                "group": group,
                "run": run,
                "state": "pending",
                "tags": [] if isinstance(device, str) else list(device[1]),
                "updated_at": now,
                "reached": False,
                "ever_seen": False,
            }
            for device in devices
        ]
        if not rows:
            return 0
        statement = self._insert(task_devices)
        fresh: Row = {
            "outcome": None,
            "progress": None,
            "error_code": None,
            "error_message": None,
            "finished_at": None,
        }
        fresh |= {"not_evaluated": None, "skipped": None, "job_id": None}
        fresh |= {"files_seen": 0, "bytes_hashed": 0, "matches": 0}
        taken = {
            name: statement.excluded[name]
            for name in ("group", "run", "state", "tags", "updated_at", "reached")
        }
        result = self._connection.execute(
            statement.on_conflict_do_update(
                index_elements=["task_id", "manager", "device_id"],
                set_=fresh | taken,
                where=task_devices.c.run < statement.excluded.run,
            ),
            rows,
        )
        self._tx.coverage_changed.add(task_id)
        return result.rowcount

    def drop_earlier(self, task_id: str, run: int) -> int:
        """Forget devices that are not in this run any more; after ``target``, which keeps the earlier coverage."""
        result = self._connection.execute(
            delete(task_devices).where(task_devices.c.task_id == task_id, task_devices.c.run < run)
        )
        self._tx.coverage_changed.add(task_id)
        return result.rowcount

    def _keep_earlier_run(self, task_id: str, run: int, now: datetime) -> None:
        earlier = self._connection.execute(
            select(func.max(task_devices.c.run)).where(
                task_devices.c.task_id == task_id, task_devices.c.run < run
            )
        ).scalar()
        if earlier is not None:
            row = {"task_id": task_id, "run": earlier, "ended_at": now, "coverage": self.coverage(task_id)}
            self._connection.execute(self._insert(task_runs).on_conflict_do_nothing(), row)

    def apply_state(
        self,
        task_id: str,
        manager: str,
        device_id: str,
        *,
        run: int,
        state: str,
        now: datetime,
        **fields: Any,
    ) -> bool:
        """Take in one device's state; False if it is of an older run, unknown, or after the device's end.

        Fields (None or absent leaves what is there): files_seen, bytes_hashed, matches, progress (0..1),
        not_evaluated, skipped, error_code, error_message, finished_at, job_id.
        """
        row = {"task_id": task_id, "manager": manager, "device_id": device_id, "run": run, "state": state}
        return self.apply_states([row | fields], now=now) > 0

    def apply_states(self, rows: Sequence[Row], *, now: datetime) -> int:
        """Many at once: task_id, manager, device_id, run, state and the fields of apply_state each.

        ``seen`` says that the device gave an earlier sign that it took the task.
        Returns how many were taken. Ends are final within a run: done, cancelled and expired stay, failed
        can become another end. Withdrawn, which comes after any, is said by :meth:`withdraw`.
        """
        if not rows:
            return 0
        result = self._connection.execute(
            device_updates.statement(), [device_updates.parameters(row, now) for row in rows]
        )
        self._tx.coverage_changed.update(row["task_id"] for row in rows)
        return result.rowcount

    def end_unfinished(self, task_id: str, state: str, now: datetime) -> int:
        """When a task ends: every device without an end gets this one (expired or cancelled)."""
        if state not in DEVICE_OUTCOMES:
            raise ValueError(f"not an end of a device: {state!r}")
        result = self._connection.execute(
            update(task_devices)
            .where(task_devices.c.task_id == task_id, task_devices.c.outcome.is_(None))
            .values(state=state, outcome=state, updated_at=now, finished_at=now)
        )
        self._tx.coverage_changed.add(task_id)
        return result.rowcount

    def withdraw(
        self, task_id: str, manager: str, device_ids: Sequence[str], *, run: int, now: datetime
    ) -> int:
        """These devices no longer hold the run; what they were before lives on in their outcome, for the coverage."""
        taken = 0
        with self._planned_by_values():
            for part in chunks(device_ids):
                statement = update(task_devices).where(
                    task_devices.c.task_id == task_id,
                    task_devices.c.manager == manager,
                    self._among(task_devices.c.device_id, part),
                    task_devices.c.run == run,
                    task_devices.c.state != "withdrawn",
                )
                taken += self._connection.execute(
                    statement.values(state="withdrawn", updated_at=now)
                ).rowcount
        self._tx.coverage_changed.add(task_id)
        return taken

    def get(self, task_id: str, manager: str, device_id: str) -> Row | None:
        table = task_devices
        return self._one(
            select(table).where(
                table.c.task_id == task_id, table.c.manager == manager, table.c.device_id == device_id
            )
        )

    def pick(
        self, task_id: str, manager: str, device_ids: Iterable[str], fields: Sequence[str] | None = None
    ) -> dict[str, Row]:
        """The rows of these devices by device id, however many; unknown ones are left out.

        ``fields`` names the columns wanted, where not all are: those that hold JSON take their time.
        """
        table = task_devices
        columns = (
            table.c if fields is None else [table.c[name] for name in dict.fromkeys(("device_id", *fields))]
        )
        found: dict[str, Row] = {}
        with self._planned_by_values():
            for part in chunks(sorted(set(device_ids))):
                query = select(*columns).where(
                    table.c.task_id == task_id,
                    table.c.manager == manager,
                    self._among(table.c.device_id, part),
                )
                found.update((row["device_id"], row) for row in self._all(query))
        return found

    def list(
        self,
        task_id: str,
        *,
        manager: str | None = None,
        group: str | None = None,
        states: Iterable[str] | None = None,
        unfinished_first: bool = False,
        limit: int = 1000,
        offset: int = 0,
    ) -> Rows:
        """By manager and device id; or those that are not done before those that are, by device id."""
        table = task_devices
        query = select(table).where(table.c.task_id == task_id).order_by(table.c.manager, table.c.device_id)
        if manager is not None:
            query = query.where(table.c.manager == manager)
        if group is not None:
            query = query.where(table.c.group == group)
        if states is not None:
            query = query.where(table.c.state.in_(sorted(states)))
        if unfinished_first:
            done = case((table.c.state == "done", 1), else_=0)
            query = query.order_by(None).order_by(done, table.c.device_id, table.c.manager)
        return self._all(query.limit(limit).offset(offset))

    def device_ids(
        self, task_id: str, manager: str, states: Iterable[str] | None = None, run: int | None = None
    ) -> Names:
        """Ids of a manager's devices in the task (of one run), without a limit."""
        table = task_devices
        query = select(table.c.device_id).where(table.c.task_id == task_id, table.c.manager == manager)
        if states is not None:
            query = query.where(table.c.state.in_(sorted(states)))
        if run is not None:
            query = query.where(table.c.run == run)
        return list(self._connection.execute(query.order_by(table.c.device_id)).scalars())

    def coverage(
        self, task_id: str, *, manager: str | None = None, group: str | None = None
    ) -> dict[str, Any]:
        """Counted now, of the newest run; ``targeted`` is the denominator of all the others.

        reached: took the task; answered: done, or failed after taking it; matched: reported a match;
        clean: done without a match ("reported clean"); failed; never_seen: gave no sign in any run;
        running (paused too); waiting_idle; by_state: present state -> number.
        """
        table = task_devices
        # Grouped in the order of ix_task_devices_coverage, so that counting sorts nothing.
        kinds = (table.c.outcome, table.c.state, table.c.reached, table.c.ever_seen, table.c.matches)
        query = (
            select(*kinds, func.count().label("number")).where(table.c.task_id == task_id).group_by(*kinds)
        )
        if manager is not None:
            query = query.where(table.c.manager == manager)
        if group is not None:
            query = query.where(table.c.group == group)
        found: dict[str, Any] = dict.fromkeys(_COUNTED, 0)
        by_state: dict[str, int] = {}
        for row in self._connection.execute(query):
            outcome, matched = row.outcome or row.state, row.matches > 0
            counted = {
                "targeted": True,
                "reached": row.reached,
                "answered": outcome == "done" or (outcome == "failed" and row.reached),
                "matched": matched,
                "clean": outcome == "done" and not matched,
                "failed": outcome == "failed",
                "never_seen": not row.ever_seen,
                "running": row.state in ("running", "paused"),
                "waiting_idle": row.state == "waiting_idle",
            }
            by_state[row.state] = by_state.get(row.state, 0) + row.number
            for name, counts in counted.items():
                found[name] += row.number if counts else 0
        found["by_state"] = by_state
        return found

    def store_coverage(self, task_ids: Sequence[str]) -> None:
        """Write the coverage beside each task, so that lists need not count devices. Called at commit."""
        for task_id in task_ids:
            self._connection.execute(
                update(tasks).where(tasks.c.task_id == task_id).values(coverage=self.coverage(task_id))
            )

    def tasks_of(self, manager: str, device_id: str, limit: int = 100) -> Rows:
        """The tasks a device is or was in: task_id, run, state, outcome, updated_at; last touched first."""
        table = task_devices
        # Asked by task, of which there are few: an index over devices would make pruning slow.
        kept = select(tasks.c.task_id)
        return self._all(
            select(table.c.task_id, table.c.run, table.c.state, table.c.outcome, table.c.updated_at)
            .where(table.c.task_id.in_(kept), table.c.manager == manager, table.c.device_id == device_id)
            .order_by(table.c.updated_at.desc(), table.c.task_id)
            .limit(limit)
        )
