"""Deleting what is past its time, in bounded batches: each call is one short transaction's worth.

Call each method in a transaction of its own until it returns fewer rows than its limit.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Table, delete, exists, literal_column, or_, select

from ..errors import RefusedError
from .base import Namespace, chunks
from .states import LIVE_STATES
from .tables import (
    acted_files,
    approvals,
    detection_revisions,
    detections,
    fetches,
    ioc_files,
    jobs,
    matches,
    outbox,
    plans,
    quarantine,
    responses,
    task_detections,
    task_devices,
    task_groups,
    task_iocs,
    task_runs,
    task_summaries,
    tasks,
    withdrawals,
)

#: Rows per batch: well under a second on a slow disk, so that nobody waits long for the writer's place.
BATCH = 5_000

# Held back from pruning: something may still act on them, or people were asked about them.
_HELD = ("awaiting_approval", "claimed")


class Deletion(Namespace):
    """``tx.deletion``"""

    def delete_results_before(self, cutoff: datetime, limit: int = BATCH, profile: str | None = None) -> int:
        """Delete matches found at or before ``cutoff``, oldest first; returns how many.

        Kept: those claimed or awaiting an approval. ``profile``: only of tasks with that lifetime profile.
        """
        condition: list[ColumnElement[bool]] = [
            matches.c.found_at <= cutoff,
            matches.c.response_state.not_in(_HELD),
        ]
        if profile is not None:
            condition.append(
                exists()
                .where(tasks.c.task_id == matches.c.task_id, tasks.c.profile == profile)
                .correlate(matches)
            )
        oldest = select(matches.c.match_id, matches.c.task_id).where(*condition)
        picked = self._all(oldest.order_by(matches.c.found_at).limit(limit))
        for part in chunks([row["match_id"] for row in picked]):
            self._connection.execute(delete(matches).where(matches.c.match_id.in_(part)))
        self._tx.counts_changed.update(row["task_id"] for row in picked)
        return len(picked)

    def delete_task_rows(self, task_id: str, limit: int = BATCH) -> int:
        """Delete at most ``limit`` rows of an ended task; 0 when none are left, its own row included.

        Its summary must be written first (RefusedError ``task_without_summary``); a live task is refused
        (``task_live``). Jobs still being taken back, events, quarantine and the summary stay.
        """
        task = self._tx.tasks.get(task_id)
        if task is None:
            return 0
        if task["state"] in LIVE_STATES:
            raise RefusedError("task_live", f"task {task_id} has not ended", "end it first")
        if self._tx.task_summaries.get(task_id) is None:
            raise RefusedError("task_without_summary", f"task {task_id} has no summary", "write it first")
        deleted = 0
        done_jobs = jobs.c.state.not_in(("open", "withdrawing"))
        job_ids = select(jobs.c.job_id).where(jobs.c.task_id == task_id, done_jobs)
        for table, condition in (
            (matches, [matches.c.task_id == task_id]),
            (task_devices, [task_devices.c.task_id == task_id]),
            (withdrawals, [withdrawals.c.job_id.in_(job_ids)]),
            (jobs, [jobs.c.task_id == task_id, done_jobs]),
            (approvals, [approvals.c.task_id == task_id]),
            (responses, [responses.c.task_id == task_id]),
            (task_groups, [task_groups.c.task_id == task_id]),
            (task_iocs, [task_iocs.c.task_id == task_id]),
            (task_detections, [task_detections.c.task_id == task_id]),
            (task_runs, [task_runs.c.task_id == task_id]),
            (tasks, [tasks.c.task_id == task_id]),
        ):
            if deleted >= limit:
                return deleted
            gone = self._delete(table, condition, limit - deleted)
            if gone and table is matches:
                self._tx.counts_changed.add(task_id)
            deleted += gone
        return deleted

    def delete_leftovers_before(self, cutoff: datetime, limit: int = BATCH) -> int:
        """Delete housekeeping rows that nothing refers to any more and that ended at or before ``cutoff``.

        Injected triggers, settled fetches, plans and IOC files of no kept task or detection, jobs without
        a task, objects gone from quarantine, old counts for blast limits. Returns how many.
        """
        task_gone = ~exists().where(tasks.c.task_id == jobs.c.task_id).correlate(jobs)
        old_job = [jobs.c.state.in_(("closed", "withdrawn")), jobs.c.updated_at <= cutoff]
        old_job += [or_(jobs.c.task_id.is_(None), task_gone)]
        in_task = exists().where(task_iocs.c.digest == ioc_files.c.digest).correlate(ioc_files)
        of_detection = (
            exists().where(detections.c.detection_id == ioc_files.c.detection_id).correlate(ioc_files)
        )
        planned = exists().where(tasks.c.plan_digest == plans.c.digest).correlate(plans)
        not_in_quarantine = quarantine.c.state != "quarantined"
        deleted = 0
        for table, condition in (
            (outbox, [outbox.c.injected_at <= cutoff]),
            (fetches, [fetches.c.state != "pending", fetches.c.updated_at <= cutoff]),
            (withdrawals, [withdrawals.c.job_id.in_(select(jobs.c.job_id).where(*old_job))]),
            (jobs, old_job),
            (plans, [plans.c.created_at <= cutoff, ~planned]),
            (ioc_files, [ioc_files.c.created_at <= cutoff, ~in_task, ~of_detection]),
            (quarantine, [not_in_quarantine, quarantine.c.expires_at <= cutoff]),
            (acted_files, [acted_files.c.claimed_at <= cutoff]),
        ):
            if deleted >= limit:
                break
            deleted += self._delete(table, condition, limit - deleted)
        return deleted

    def delete_detections_before(self, cutoff: datetime, limit: int = BATCH) -> int:
        """Delete decided detections received at or before ``cutoff`` that no kept task counts; how many.

        Choose a cutoff past the sources' look-back window: a deleted detection would be taken up as new.
        """
        used = (
            exists().where(task_detections.c.detection_id == detections.c.detection_id).correlate(detections)
        )
        condition = [detections.c.received_at <= cutoff, detections.c.decision.is_not(None), ~used]
        going = select(detections.c.detection_id).where(*condition)
        revisions = [detection_revisions.c.detection_id.in_(going)]
        deleted = self._delete(detection_revisions, revisions, limit)
        if deleted < limit:
            deleted += self._delete(detections, condition, limit - deleted, detections.c.received_at)
        return deleted

    def delete_summaries(self, keep: int, limit: int = BATCH) -> int:
        """Delete the oldest summaries past ``keep``; returns how many."""
        kept = (
            select(task_summaries.c.task_id)
            .order_by(task_summaries.c.ended_at.desc(), task_summaries.c.task_id)
            .limit(keep)
        )
        return self._delete(
            task_summaries, [task_summaries.c.task_id.not_in(kept)], limit, task_summaries.c.ended_at
        )

    def _delete(self, table: Table, condition: list[Any], limit: int, order: Any = None) -> int:
        # Both databases have a physical row address, which is quicker than any key and works for all tables.
        address: ColumnElement[Any] = literal_column(
            "ctid" if self._connection.dialect.name == "postgresql" else "rowid"
        )
        picked = select(address).select_from(table).where(*condition).limit(limit)
        if order is not None:
            picked = picked.order_by(order)
        return self._connection.execute(delete(table).where(address.in_(picked))).rowcount
