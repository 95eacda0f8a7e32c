"""The one interface to every fleet: what a device manager is, and the plain data that passes through it.

A manager moves job folders to devices and reads them back; the scanner on the device does the work.
Everything that comes back was checked by the manager against its caps and the plan of the job, and is
still the word of a device: store it, show it escaped, and let a device judge again before it acts.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

#: Ids of devices, as those of jobs, become folder names.
DEVICE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", re.ASCII)

#: Where a poll left off. Plain JSON, to be stored and handed back unread; ``None`` starts from the beginning.
Cursor = dict[str, Any]


class Capability(enum.Enum):
    """What a manager can do by itself; the service asks before it promises."""

    OFFLINE_QUEUE = "offline_queue"  # devices take a job later without `deliver` being called again
    NATIVE_IDLE = "native_idle"  # waits for an idle device by its own means
    PAUSE = "pause"  # `control` understands pause and resume
    PROGRESS = "progress"  # state events carry files_seen and progress while a scan runs
    NATIVE_RESPONSE = "native_response"  # responds with its own means instead of respond jobs
    RESPOND = "respond"  # takes respond and restore jobs
    PURGE = "purge"  # takes purge jobs: quarantine past its term
    IOC_FILES = "ioc_files"  # hands IOC files themselves to the devices, and needs them beside the plan


class Online(str, enum.Enum):
    """Whether a device can be reached now, as far as its manager knows."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class JobKind(str, enum.Enum):
    SCAN = "scan"
    RESPOND = "respond"
    RESTORE = "restore"
    PURGE = "purge"
    CRITICAL_AREAS = "critical_areas"


class ControlOp(str, enum.Enum):
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


class EventKind(str, enum.Enum):
    """What a :class:`DeviceEvent` tells. The last two are the manager's own words, the others the device's."""

    STATE = "state"  # data: as status.json; state "delivered" until the scanner wrote its first status
    MATCH = "match"
    RESPONSE = "response"
    RESTORED = "restored"
    AREA = "area"  # one critical area: its state and findings
    SKIP = "skip"
    SUMMARY = "summary"
    REJECTED = "rejected"  # lines of this device were dropped: data {"code", "message", "count"}
    HELD = "held"  # this device's results for this job are read no further: data {"code", "message"}


@dataclass(frozen=True)
class Group:
    """Devices that are named together. ``name`` is unique within its manager."""

    name: str
    description: str = ""


@dataclass(frozen=True)
class Device:
    """One managed device. ``id`` is unique within its manager; ``os`` is linux, windows, macos or unknown."""

    id: str
    group: str
    os: str = "unknown"
    online: Online = Online.UNKNOWN
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """One thing to do on a set of devices; the manager writes one job folder per device from it.

    ``plan`` are the canonical bytes of the scan plan (scan and respond), ``plan_digest`` their SHA-256.
    ``items`` names, per device, what a respond, restore or purge job is about. No device takes the job
    before ``not_before`` or after ``not_after``. Publishing the same id again changes nothing; with more
    devices it reaches those too; with any other difference it is refused (``job_id_reused``).
    """

    id: str
    kind: JobKind | str
    task_id: str
    run: int
    device_ids: Sequence[str]
    not_before: datetime
    not_after: datetime
    plan: bytes | None = None
    plan_digest: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    items: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    dry_run: bool = False
    #: SHA-256 -> content of the plan's IOC files, for managers with ``Capability.IOC_FILES`` only.
    iocs: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class DeviceEvent:
    """One thing a device said, or the manager noticed; ``device_id`` comes from the transport, not from data.

    ``seq`` counts the lines of one device's results for one job from 1 (0 for state, rejected and held).
    Events are delivered at least once: key them (device, item), never count them.
    """

    device_id: str
    kind: EventKind
    seq: int
    data: Mapping[str, Any]


@dataclass(frozen=True)
class LeftBehind:
    """An object that a withdrawn response left in quarantine, by the word of the device it is on."""

    device_id: str
    match_id: str
    quarantine_id: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Withdrawal:
    """Devices that no longer hold the job, and those that could not be asked yet: call ``withdraw`` again.

    ``left``: what the confirmed ones said they did before, as far as it was not read before; told on each call.
    """

    confirmed: tuple[str, ...]
    pending: tuple[str, ...]
    left: tuple[LeftBehind, ...] = ()

    @property
    def complete(self) -> bool:
        return not self.pending

    def __str__(self) -> str:
        return f"withdrawn on {len(self.confirmed)} of {len(self.confirmed) + len(self.pending)}"


@dataclass(frozen=True)
class Problem:
    """One finding of a health check, shaped like an error; ``fatal`` ones stop the manager from working."""

    code: str
    message: str
    hint: str = ""
    fatal: bool = True
    device_id: str | None = None


@dataclass(frozen=True)
class Health:
    """``ok`` is False when a fatal problem exists; warnings alone leave it True."""

    ok: bool
    problems: tuple[Problem, ...] = ()

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> Health:
        return cls(not any(p.fatal for p in problems), tuple(problems))


class DeviceManager(Protocol):
    """An engine that reaches devices. Every implementation passes ``tests/devices/contract.py``.

    All methods return promptly: none waits for a scan. Calls from several processes at once are safe.
    Errors about one device never stop the others; errors of the manager itself raise ``DeviceError``.
    """

    name: str
    caps: frozenset[Capability]

    def groups(self) -> list[Group]:
        """The groups of this manager."""
        ...

    def devices(self, group: str) -> list[Device]:
        """The devices of a group with their present reachability. Raises NotFoundError ``group_unknown``."""
        ...

    def publish(self, job: Job) -> None:
        """Take the job into this manager's queue. Idempotent on ``job.id``.

        Raises InputError ``job_invalid`` (ids, times, plan digest), RefusedError ``job_id_reused``,
        ``job_withdrawn`` or ``job_expired``, NotFoundError ``device_unknown``.
        """
        ...

    def deliver(self, job_id: str, device_ids: Sequence[str] | None = None) -> None:
        """Bring the job to devices that have not taken it, and restart what died. Call it again and again.

        Unreachable devices are left for the next call; nothing is delivered after ``not_after``.
        Pending withdrawals of other jobs are carried out first. Raises NotFoundError ``job_unknown``.
        """
        ...

    def poll(self, job_id: str, cursor: Cursor | None) -> tuple[list[DeviceEvent], Cursor]:
        """What is new since ``cursor``, at least once. No events means: nothing new for now.

        A withdrawn or unknown job yields no events. One call returns a bounded amount; ``more`` in the cursor
        is true where calling again at once brings more. (Looping until there are no events is right too.)
        """
        ...

    def control(self, job_id: str, op: ControlOp | str, device_ids: Sequence[str] | None = None) -> None:
        """Pause, resume or cancel on the devices that hold the job; kept for those that take it later."""
        ...

    def withdraw(self, job_id: str) -> Withdrawal:
        """Take the job from every device, and stop it where it runs. Idempotent; retries pending devices.

        From the first call on nothing of the job is delivered or polled any more.
        """
        ...

    def health(self) -> Health:
        """What would stop this manager from working, and what to do about it."""
        ...
