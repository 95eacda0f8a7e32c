"""The lifetime rules: which tasks end, which are rotated out, which rows go. Pure; the clock is passed in.

As in the original, nothing of it can be adjusted per task. A moment belongs to the past when it is
reached: a task that ends 7 days after its last start has ended at exactly 7 days, not a second before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

_LIVE = frozenset({"created", "running", "completed"})


@dataclass(frozen=True)
class Profile:
    """One lifetime: of the task, of its results, and how many live tasks a device manager holds."""

    name: str
    task_lifetime: timedelta
    #: True: counted from the last start (creation if never started); False: from creation.
    from_last_start: bool
    results_kept: timedelta
    tasks_per_manager: int = 100


PROFILES = {
    # Kaspersky Endpoint Agent with Sandbox: the default.
    "endpoint_agent": Profile("endpoint_agent", timedelta(days=7), True, timedelta(days=7)),
    # Kaspersky Endpoint Security.
    "endpoint_security": Profile("endpoint_security", timedelta(days=30), False, timedelta(days=30)),
}
DEFAULT_PROFILE = "endpoint_agent"


@dataclass(frozen=True)
class TaskFacts:
    """What the rules look at in one task. ``profile`` empty: the one passed to :func:`plan_retention`."""

    task_id: str
    managers: tuple[str, ...]
    state: str
    created_at: datetime
    last_start_at: datetime | None = None
    ended_at: datetime | None = None
    unacted_matches: int = 0
    open_approval: bool = False
    profile: str = ""

    @property
    def live(self) -> bool:
        return self.state in _LIVE

    @property
    def held(self) -> bool:
        """Has matches nobody acted on yet, or an open approval."""
        return self.unacted_matches > 0 or self.open_approval


@dataclass(frozen=True)
class Ending:
    """A task to end: ``reason`` for its record, ``alert`` if a person should know."""

    task_id: str
    reason: str
    alert: bool = False


@dataclass(frozen=True)
class RetentionPlan:
    """What is to be done now, each list oldest first."""

    #: Live tasks whose lifetime is over (state ``expired``).
    expire: tuple[Ending, ...]
    #: Live tasks that make room on a device manager (state ``rotated``).
    rotate: tuple[Ending, ...]
    #: Per profile: results found at or before this moment go (``deletion.delete_results_before``).
    delete_results_before: dict[str, datetime]
    #: Ended tasks whose rows go; a summary is written first.
    delete_tasks: tuple[str, ...]


def ends_at(task: TaskFacts, profile: str = DEFAULT_PROFILE) -> datetime:
    """The moment a task's lifetime is over."""
    rules = PROFILES[task.profile or profile]
    if rules.from_last_start and task.last_start_at is not None:
        return task.last_start_at + rules.task_lifetime
    return task.created_at + rules.task_lifetime


def plan_retention(
    tasks: Sequence[TaskFacts],
    now: datetime,
    profile: str = DEFAULT_PROFILE,
    *,
    incoming: dict[str, int] | None = None,
) -> RetentionPlan:
    """Apply the rules to all tasks that have rows.

    ``incoming``: tasks about to be created, by device manager; room is made for them as well. Doing what the
    plan says and planning again at the same moment gives a plan with nothing to do.
    """
    oldest_first = sorted(tasks, key=lambda task: (task.created_at, task.task_id))
    live = [task for task in oldest_first if task.live]
    expire = [_expiry(task, profile) for task in live if ends_at(task, profile) <= now]
    expired = {ending.task_id for ending in expire}
    staying = [task for task in live if task.task_id not in expired]
    # What expires or is rotated now is kept as long as its results from now on.
    gone = [
        task
        for task in oldest_first
        if not task.live
        and not task.open_approval
        and (task.ended_at or task.created_at) + PROFILES[task.profile or profile].results_kept <= now
    ]
    return RetentionPlan(
        expire=tuple(expire),
        rotate=tuple(_rotation(staying, profile, incoming or {})),
        delete_results_before={name: now - rules.results_kept for name, rules in PROFILES.items()},
        delete_tasks=tuple(task.task_id for task in gone),
    )


def _expiry(task: TaskFacts, profile: str) -> Ending:
    rules = PROFILES[task.profile or profile]
    since = "last start" if rules.from_last_start and task.last_start_at is not None else "creation"
    return Ending(task.task_id, f"{rules.task_lifetime.days} days after {since}", alert=task.held)


def _rotation(tasks: Sequence[TaskFacts], profile: str, incoming: dict[str, int]) -> list[Ending]:
    """Make room per device manager. A task on several managers leaves all of them."""
    rotated: dict[str, Ending] = {}
    limit = PROFILES[profile].tasks_per_manager
    for manager in sorted({name for task in tasks for name in task.managers} | set(incoming)):
        held = [task for task in tasks if manager in task.managers and task.task_id not in rotated]
        surplus = len(held) + incoming.get(manager, 0) - limit
        for task in sorted(held, key=_rotation_order)[: max(surplus, 0)]:
            finished = task.state == "completed"
            reason = f"more than {limit} tasks on {manager}" + ("" if finished else "; it was not finished")
            rotated[task.task_id] = Ending(task.task_id, reason, alert=task.held or not finished)
    # Tasks come oldest first already; keep that order over all managers.
    return [rotated[task.task_id] for task in tasks if task.task_id in rotated]


def _rotation_order(task: TaskFacts) -> tuple[bool, bool, datetime, str]:
    """Nothing pending before pending, finished before running, old before new."""
    return (task.held, task.state != "completed", task.created_at, task.task_id)
