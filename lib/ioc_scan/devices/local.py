"""Devices of this machine: the machine itself, and folder trees that each stand for one.

A folder-tree device is offline while its folder is absent. Its spool is on this side either way, so what it
said before stays readable. Runners are detached processes of this user.
"""

from __future__ import annotations

import base64
import os
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..clock import Clock
from ..errors import ConfigError, DeviceError, IocScanError
from ..scanner.errors import ScannerError
from ..scanner.protocol import PROTOCOL_VERSION, withdraw_job
from ..scanner.visit import health as spool_health
from ..scanner.visit import runner_command, visit
from ..scanner_build import build_zipapp
from ..text import printable
from .base import DEVICE_ID, Capability, Device, Group, Online, Problem
from .private import ensure_private_folder
from .results import DeviceAnswer, Limits
from .size import beyond
from .spooled import LOW_SPACE_BYTES, SpooledManager, Visit, Visited
from .wire import left_of

COMFORTABLE_DEVICES = 50
_SYSTEMS = {"linux": "linux", "darwin": "macos", "win32": "windows"}


@dataclass(frozen=True)
class _Entry:
    device: Device
    root: Path | None  # None: this machine


class LocalManager(SpooledManager):
    """``type: local``. One spool per device under ``folder``; the manager's own memory in ``.manager/<name>``."""

    caps = SpooledManager.caps | {Capability.PAUSE}

    def __init__(
        self,
        name: str,
        folder: Path,
        groups: Mapping[str, tuple[Group, Sequence[_Entry]]],
        *,
        clock: Clock,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(name, folder, clock=clock, limits=limits)
        self._groups = groups
        self._entries = {entry.device.id: entry for _, entries in groups.values() for entry in entries}
        self._built: tuple[str, Path] | None = None

    @classmethod
    def from_config(cls, entry: Mapping[str, Any], *, clock: Clock) -> LocalManager:
        """Raises ConfigError: ``manager_invalid``, ``device_invalid`` or ``device_twice``."""
        name = _required(entry, "name", "manager_invalid")
        folder = Path(_required(entry, "spool", "manager_invalid"))
        groups: dict[str, tuple[Group, Sequence[_Entry]]] = {}
        seen: dict[str, Path | None] = {}
        for raw in entry.get("groups") or []:
            group = Group(_required(raw, "name", "group_invalid"), str(raw.get("description") or ""))
            entries = [_entry(group.name, device) for device in raw.get("devices") or []]
            for device in entries:
                if seen.setdefault(device.device.id, device.root) != device.root:
                    raise ConfigError(
                        "device_twice",
                        f"device {device.device.id} of {name} has two different roots",
                        "a device may be in several groups, always with the same root",
                    )
            groups[group.name] = (group, entries)
        return cls(name, folder, groups, clock=clock)

    def groups(self) -> list[Group]:
        return [group for group, _ in self._groups.values()]

    def _devices_of(self, group: str) -> list[Device] | None:
        if group not in self._groups:
            return None
        _, entries = self._groups[group]
        return [
            Device(
                e.device.id, group, e.device.os, Online.YES if self._there(e) else Online.NO, e.device.tags
            )
            for e in entries
        ]

    def _knows(self, device_id: str) -> bool:
        return device_id in self._entries

    def _root_of(self, device_id: str) -> bytes | None:
        root = self._entries[device_id].root
        return None if root is None else os.fsencode(os.path.realpath(root))

    @staticmethod
    def _there(entry: _Entry) -> bool:
        if entry.root is None:
            return True
        try:
            return stat.S_ISDIR(os.stat(entry.root).st_mode)
        except OSError:
            return False

    # -- visits

    def _carry_out(self, visits: Sequence[Visit], before: Callable[[Visit], None]) -> dict[str, Visited]:
        visited = {}
        for one in visits:
            try:
                visited[one.device_id] = self._visit_one(one, before)
            except (ScannerError, OSError, IocScanError) as error:
                visited[one.device_id] = Visited(False, error=_device_error(one.device_id, error))
        return visited

    def _visit_one(self, one: Visit, before: Callable[[Visit], None]) -> Visited:
        entry = self._entries.get(one.device_id)
        if entry is None:  # taken out of config: nothing new goes there, what is there still stops
            return self._visit_stranger(one)
        there = self._there(entry)
        request: dict[str, Any] = {
            "protocol": PROTOCOL_VERSION,
            "device_id": one.device_id,
            "root": None if entry.root is None else str(entry.root),
            "read": one.read,
        }
        if there:
            before(one)
            digest, scanner = self._scanner()
            request["withdraw"] = one.withdraw
            request["place"] = [self._job_document(job, one.device_id, digest) for job in one.place]
            request["control"] = one.control
            request["start"] = one.start
            request["scanner_digest"] = digest
            runner = runner_command(str(scanner))
        else:
            # An absent device keeps its jobs until it is back, but a runner that outlived it stops now.
            request["control"] = dict.fromkeys(one.withdraw, "cancel")
            runner = []
        plans = {job.plan_digest or "": job.plan for job in one.place if job.plan is not None}
        ensure_private_folder(self.folder)
        answer = visit(str(self.folder / one.device_id), request, plans, runner)
        return Visited(
            reached=there,
            withdrawn=tuple(answer["withdrawn"]),
            held=tuple(answer["held"]),
            failed=answer["failed"],
            answers={job_id: _decode(raw) for job_id, raw in answer["jobs"].items()},
            left=left_of(answer, one),
            health=answer["health"],
        )

    def _visit_stranger(self, one: Visit) -> Visited:
        spool = self.folder / one.device_id
        if spool.exists():
            ensure_private_folder(spool)
            for job_id in one.withdraw:
                withdraw_job(spool, job_id)
        return Visited(True, withdrawn=tuple(one.withdraw))

    def _scanner(self) -> tuple[str, Path]:
        """The zipapp of this version, built once per digest. Raises DeviceError."""
        if self._built is None or not self._built[1].exists():
            folder = ensure_private_folder(self.memory / "scanner")
            new = folder / f".new-{os.getpid()}.pyz"
            digest = build_zipapp(new)
            final = folder / f"{digest}.pyz"
            os.replace(new, final)
            self._built = (digest, final)
        return self._built

    # -- health

    def _health_problems(self) -> list[Problem]:
        problems: list[Problem] = []
        try:
            ensure_private_folder(self.folder)
            found = spool_health(str(self.folder))
        except (DeviceError, OSError) as error:
            if isinstance(error, DeviceError):
                return [*problems, Problem(error.code, error.message, error.hint)]
            return [*problems, Problem("spool_failed", str(error.strerror))]
        if (free := found["free_bytes"]) is not None and free < LOW_SPACE_BYTES:
            problems.append(
                Problem(
                    "low_space",
                    f"the spool {printable(self.folder)} has {free // 2**20} MiB left",
                    "quarantine copies need room: free some space, or move the spool",
                    fatal=False,
                )
            )
        hint = "use ssh or salt for machines, and fewer folder trees"
        problems += beyond(
            len(self._entries), COMFORTABLE_DEVICES, "all of their scans run on this machine", hint
        )
        machine = next((e.device.id for e in self._entries.values() if e.root is None), None)
        if machine is not None and found["private_tmp"]:
            problems.append(
                Problem(
                    "private_tmp",
                    "this process has a /tmp and /var/tmp of its own: those of the machine are not evaluated",
                    "set PrivateTmp=false for the unit of the action runner to have them scanned",
                    fatal=False,
                    device_id=machine,
                )
            )
        if machine is not None and hasattr(os, "geteuid") and os.geteuid() != 0:
            problems.append(
                Problem(
                    "not_root",
                    "scans run as an ordinary user: what that user cannot read is skipped",
                    "run the action runner as root, as packaged nodes do",
                    fatal=False,
                    device_id=machine,
                )
            )
        for entry in self._entries.values():
            if entry.root is not None and not self._there(entry):
                problems.append(
                    Problem(
                        "device_offline",
                        f"the folder of device {entry.device.id} is absent",
                        "its jobs wait until it is back",
                        fatal=False,
                        device_id=entry.device.id,
                    )
                )
        return problems


def _decode(raw: Mapping[str, Any]) -> DeviceAnswer:
    status = None if raw["status"] is None else base64.b64decode(raw["status"])
    return DeviceAnswer(status, base64.b64decode(raw["chunk"]), raw["results_bytes"])


def _device_error(device_id: str, error: ScannerError | OSError | IocScanError) -> DeviceError:
    if isinstance(error, OSError):
        return DeviceError(
            "spool_failed", f"the spool of {device_id}: {error.strerror or type(error).__name__}"
        )
    return DeviceError(error.code, error.message, error.hint)


def _required(entry: Mapping[str, Any], key: str, code: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigError(
            code, f"a device manager entry of type local has no {key}", "see ioc_scan.yaml.example"
        )
    return value


def _entry(group: str, raw: Mapping[str, Any]) -> _Entry:
    device_id = raw.get("id")
    if not isinstance(device_id, str) or not DEVICE_ID.fullmatch(device_id):
        raise ConfigError(
            "device_invalid",
            f"group {printable(group, 100)} has a device with the id {printable(device_id, 100)}",
            "a device id is a letter or digit and up to 79 letters, digits, dots, dashes or underscores",
        )
    root = raw.get("root")
    if root is not None and not Path(str(root)).is_absolute():
        raise ConfigError(
            "device_invalid",
            f"the root of device {device_id} is not an absolute path",
            "give the folder that stands for the device, or leave root out for this machine",
        )
    system = raw.get("os") or ("linux" if root is not None else _SYSTEMS.get(sys.platform, "unknown"))
    tags = tuple(str(tag) for tag in raw.get("tags") or ())
    return _Entry(
        Device(device_id, group, str(system), Online.UNKNOWN, tags), Path(root) if root is not None else None
    )
