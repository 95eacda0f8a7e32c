"""What all managers share whose devices have a spool: only *how* a device is visited differs.

A subclass has an inventory and a way to carry visits out (``_carry_out``). Everything else is here: what
is delivered when, what is still owed, what is read and believed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..clock import Clock, to_iso
from ..errors import ConfigError, IocScanError, NotFoundError
from ..scanner.protocol import PROTOCOL_VERSION
from ..text import printable
from .base import (
    DEVICE_ID,
    Capability,
    ControlOp,
    Cursor,
    Device,
    DeviceEvent,
    Group,
    Health,
    Job,
    JobKind,
    LeftBehind,
    Problem,
    Withdrawal,
)
from .queue import JobQueue, check_job
from .results import DeviceAnswer, DeviceCursor, Limits, ResultReader, load_cursors, state_event
from .status import own_status

#: Devices with less free space than this cannot be counted on to quarantine anything.
LOW_SPACE_BYTES = 500 * 1024 * 1024
_MAX_SILENT_READS = 200
#: What keeps a device from taking a job for now only, or is not its own word at all.
_PASSING = ("runner_busy", "salt_answer_unproven")


@dataclass
class Visit:
    """What a device is asked in one go; ``plans`` and ``place`` belong together. See ``scanner.visit``."""

    device_id: str
    withdraw: list[str] = field(default_factory=list)
    place: list[Job] = field(default_factory=list)
    control: dict[str, str] = field(default_factory=dict)
    start: bool = False
    read: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass
class Visited:
    """What came of it. ``reached`` False: nothing was done, try again later; ``error`` says why, if known."""

    reached: bool
    withdrawn: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    failed: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    answers: Mapping[str, DeviceAnswer] = field(default_factory=dict)
    left: Mapping[str, tuple[LeftBehind, ...]] = field(default_factory=dict)
    health: Mapping[str, Any] = field(default_factory=dict)
    error: IocScanError | None = None


class SpooledManager(ABC):
    """A :class:`~ioc_scan.devices.base.DeviceManager` for devices with a spool."""

    caps = frozenset({Capability.PAUSE, Capability.PROGRESS, Capability.RESPOND, Capability.PURGE})

    def __init__(self, name: str, folder: Path, *, clock: Clock, limits: Limits | None = None) -> None:
        self.name = name
        self.folder = folder
        self._clock = clock
        self._limits = limits or Limits()
        if not DEVICE_ID.fullmatch(name):
            raise ConfigError(
                "manager_invalid",
                f"{printable(name, 100)} cannot be the name of a device manager",
                "use letters, digits, dots, dashes and underscores",
            )
        #: Several managers may share one folder: their memories stay apart.
        self.memory = folder / ".manager" / name
        self._queue = JobQueue(self.memory)

    # -- what a subclass knows

    @abstractmethod
    def groups(self) -> list[Group]: ...

    @abstractmethod
    def _devices_of(self, group: str) -> list[Device] | None:
        """The devices of a group, None if there is no such group."""

    @abstractmethod
    def _knows(self, device_id: str) -> bool: ...

    @abstractmethod
    def _carry_out(self, visits: Sequence[Visit], before: Callable[[Visit], None]) -> dict[str, Visited]:
        """Visit the devices; ``before`` is called for each one that is reached, before anything is sent.

        Never raises because of one device.
        """

    def _root_of(self, device_id: str) -> bytes | None:
        """The folder tree a device is, for managers that have such devices."""
        return None

    def _health_problems(self) -> list[Problem]:
        """Findings a subclass adds to :meth:`health`."""
        return []

    # -- the interface

    def devices(self, group: str) -> list[Device]:
        devices = self._devices_of(group)
        if devices is None:
            raise NotFoundError(
                "group_unknown",
                f"device manager {self.name} has no group {printable(group, 100)}",
                "groups: " + (", ".join(g.name for g in self.groups()) or "none configured"),
            )
        return devices

    def publish(self, job: Job) -> None:
        check_job(job, self._clock())
        if unknown := next((d for d in job.device_ids if not self._knows(d)), None):
            raise NotFoundError(
                "device_unknown",
                f"device manager {self.name} has no device {printable(unknown, 100)}",
                "list_devices",
            )
        self._queue.put(job)

    def deliver(self, job_id: str, device_ids: Sequence[str] | None = None) -> None:
        job = self._queue.get(job_id)
        now = self._clock()
        late = now > job.not_after
        placed, control, owed = self._queue.sent(job_id), self._queue.control(job_id), self._queue.owed()
        visits = []
        for device_id in _chosen(job, device_ids):
            visit = Visit(device_id, withdraw=owed.get(device_id, []))
            if not late and placed.get(device_id) != "done":
                visit.start = now >= job.not_before
                cancelled = control.get(device_id) == ControlOp.CANCEL.value
                if placed.get(device_id) != "placed" and not cancelled:
                    visit.place = [job]
                if device_id in control and (visit.place or device_id in placed):
                    visit.control = {job_id: control[device_id]}
            if visit.withdraw or visit.place or visit.start:
                visits.append(visit)
        self._visit(visits)

    def poll(self, job_id: str, cursor: Cursor | None) -> tuple[list[DeviceEvent], Cursor]:
        try:
            job = self._queue.get(job_id)
        except NotFoundError:
            return [], dict(cursor or {})
        cursors = load_cursors(cursor)
        for device_id in job.device_ids:
            cursors.setdefault(device_id, DeviceCursor())
        for _ in range(_MAX_SILENT_READS):  # a line longer than what one read brings gives no event by itself
            events, more = self._poll_once(job, cursors)
            if events or not more:
                break
        if self._queue.withdrawn(job_id):  # while we were reading: its results are no longer wanted
            return [], dict(cursor or {})
        return events, {"devices": {d: c.dump() for d, c in cursors.items()}, "more": more}

    def _poll_once(self, job: Job, cursors: dict[str, DeviceCursor]) -> tuple[list[DeviceEvent], bool]:
        """Read every device once; whether some have more to say right now."""
        sent = self._queue.sent(job.id)
        reading = [d for d in job.device_ids if d in sent and not cursors[d].closed]
        budget = max(self._limits.poll_bytes // max(len(reading), 1), 4 * self._limits.line_bytes)
        limit = min(self._limits.poll_bytes_per_device, budget)
        visited = self._visit(
            [Visit(d, read={job.id: {"offset": cursors[d].offset, "limit": limit}}) for d in reading]
        )
        roots = {d: root for d in reading if (root := self._root_of(d)) is not None}
        reader = ResultReader(job, self._limits, roots)
        failures, control = self._queue.failures(job.id), self._queue.control(job.id)
        events: list[DeviceEvent] = []
        more = False
        for device_id in job.device_ids:
            own = cursors[device_id]
            answer = visited[device_id].answers.get(job.id) if device_id in visited else None
            if answer is not None and answer.status is not None:
                more = more or answer.results_bytes > own.offset + len(answer.chunk)
                rewinds = own.rewinds
                events += reader.read(device_id, answer, own)
                more = more or (own.rewinds > rewinds and not own.held)  # it is read from its beginning again
            elif not own.closed:
                cancelled = control.get(device_id) == ControlOp.CANCEL.value
                word = self._own_word(job, device_id, failures.get(device_id), cancelled, sent.get(device_id))
                # A device that has spoken is further than that.
                stale = own.spoke and word is not None and word["state"] == "delivered"
                events += state_event(device_id, word, own) if word is not None and not stale else []
        self._queue.mark(job.id, [d for d in reading if cursors[d].final], "done")
        return events, more

    def control(self, job_id: str, op: ControlOp | str, device_ids: Sequence[str] | None = None) -> None:
        job = self._queue.get(job_id)
        word = ControlOp(op)
        chosen = _chosen(job, device_ids)
        self._queue.set_control(job_id, word, chosen)
        sent = self._queue.sent(job_id)
        start = word is ControlOp.RESUME and job.not_before <= self._clock() <= job.not_after
        self._visit([Visit(d, control={job_id: word.value}, start=start) for d in chosen if d in sent])

    def withdraw(self, job_id: str) -> Withdrawal:
        state = self._queue.start_withdrawal(job_id, self._clock())
        owed = self._queue.owed()
        self._visit([Visit(d, withdraw=owed.get(d, [job_id])) for d in state.pending])
        return self._queue.confirm_withdrawal(job_id, ())

    def health(self) -> Health:
        problems = self._health_problems()
        try:
            self._queue.check()
        except IocScanError as error:
            problems.append(Problem(error.code, error.message, error.hint))
        return Health.of(problems)

    # -- inside

    def _visit(self, visits: Sequence[Visit]) -> dict[str, Visited]:
        """Carry visits out and note what that changed."""
        visited = self._carry_out(visits, self._before_sending) if visits else {}
        gone: dict[str, list[str]] = {}
        left: dict[str, list[LeftBehind]] = {}
        placed: dict[str, list[str]] = {}
        for visit in visits:
            result = visited.setdefault(visit.device_id, Visited(False))
            for job_id in set(result.withdrawn) & set(visit.withdraw):
                gone.setdefault(job_id, []).append(visit.device_id)
                left.setdefault(job_id, []).extend(result.left.get(job_id, ()))
            for job in visit.place:
                problem = result.failed.get(job.id) or (result.error.as_dict() if result.error else None)
                if job.id in result.held and result.reached:
                    placed.setdefault(job.id, []).append(visit.device_id)
                elif problem and problem["code"] not in _PASSING:
                    self._queue.mark_failed(job.id, visit.device_id, problem)
        for job_id, device_ids in gone.items():
            self._queue.confirm_withdrawal(job_id, device_ids, left[job_id])
        for job_id, device_ids in placed.items():
            self._queue.mark(job_id, device_ids, "placed")
        return visited

    def _before_sending(self, visit: Visit) -> None:
        """Called when a device is there: what was withdrawn in the meantime is not placed any more."""
        visit.place = [job for job in visit.place if self._queue.mark_sent(job.id, visit.device_id)]

    def _own_word(
        self, job: Job, device_id: str, error: Mapping[str, str] | None, cancelled: bool, sent: str | None
    ) -> dict[str, Any] | None:
        """What the manager itself knows of a device that has not spoken yet."""
        if error is not None:
            return own_status(job, device_id, "failed", error)
        if sent in ("placed", "done"):
            return own_status(job, device_id, "delivered")
        if sent is None and cancelled:
            return own_status(job, device_id, "cancelled")
        return own_status(job, device_id, "expired") if self._clock() > job.not_after else None

    def _job_document(self, job: Job, device_id: str, scanner_digest: str) -> dict[str, Any]:
        """job.json for one device."""
        return {
            "protocol": PROTOCOL_VERSION,
            "job_id": job.id,
            "kind": JobKind(job.kind).value,
            "device_id": device_id,
            "task_id": job.task_id,
            "run": job.run,
            "plan_digest": job.plan_digest,
            "scanner_digest": scanner_digest,
            "not_before": to_iso(job.not_before),
            "not_after": to_iso(job.not_after),
            "settings": dict(job.settings),
            "items": [dict(item) for item in job.items.get(device_id, ())],
            "dry_run": job.dry_run,
        }


def _chosen(job: Job, device_ids: Iterable[str] | None) -> list[str]:
    if device_ids is None:
        return list(job.device_ids)
    wanted = set(device_ids)
    return [d for d in job.device_ids if d in wanted]
