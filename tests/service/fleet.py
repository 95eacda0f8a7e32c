"""A device manager in memory that answers at once: for rules that need many objects and devices, not disks."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

from ioc_scan.devices.base import (
    Capability,
    Device,
    DeviceEvent,
    EventKind,
    Group,
    Health,
    Job,
    Online,
    Withdrawal,
)
from ioc_scan.errors import DeviceError, NotFoundError
from ioc_scan.scanner.evaluate import Evaluator
from ioc_scan.scanner.plan import load_plan

from .world import Clock


class MemoryFleet:
    """Groups of devices with files: {device: {path: content}}. ``slow`` devices take jobs and do not answer."""

    caps = frozenset({Capability.RESPOND, Capability.PURGE})

    def __init__(self, groups: dict[str, Sequence[str]], clock: Clock, name: str = "local") -> None:
        self.name = name
        self.clock = clock
        self.members = groups
        self.files: dict[str, dict[str, bytes]] = {name: {} for names in groups.values() for name in names}
        self.tags: dict[str, tuple[str, ...]] = {}
        self.online: dict[str, Online] = {}
        self.slow: set[str] = set()
        self.failing: set[str] = set()
        self.broken = False
        self.jobs: dict[str, Job] = {}
        self.withdrawn: set[str] = set()
        self.cancelled: set[str] = set()
        self.said: dict[str, dict[str, list[DeviceEvent]]] = {}
        self.acted: list[tuple[str, str]] = []

    def groups(self) -> list[Group]:
        self._check()
        return [Group(name) for name in self.members]

    def devices(self, group: str) -> list[Device]:
        self._check()
        if group not in self.members:
            raise NotFoundError("group_unknown", group)
        return [
            Device(name, group, "linux", self.online.get(name, Online.YES), self.tags.get(name, ()))
            for name in self.members[group]
        ]

    def publish(self, job: Job) -> None:
        self._check()
        if unknown := set(job.device_ids) - set(self.files):
            raise NotFoundError("device_unknown", sorted(unknown)[0])
        self.jobs.setdefault(job.id, job)

    def deliver(self, job_id: str, device_ids: Sequence[str] | None = None) -> None:
        self._check()
        if job_id not in self.jobs:
            raise NotFoundError("job_unknown", job_id)
        job = self.jobs[job_id]
        said = self.said.setdefault(job_id, {})
        if job_id in self.withdrawn or not job.not_before <= self.clock() <= job.not_after:
            return
        for device in job.device_ids:
            if self.online.get(device, Online.YES) is not Online.YES:
                continue
            said.setdefault(device, [_state(device, "delivered", job)])
            if device not in self.slow and len(said[device]) == 1:
                said[device] += self._work(job, device)

    def _work(self, job: Job, device: str) -> list[DeviceEvent]:
        found: list[DeviceEvent] = []
        plan = load_plan(job.plan) if job.plan else None
        if job.kind == "scan" and plan is not None:
            evaluator = Evaluator(plan, "linux")
            for path, content in sorted(self.files[device].items()):
                digest = hashlib.sha256(content).hexdigest()
                if evaluator.acts_on(digest):
                    ioc = next(ioc for ioc in plan.iocs if ioc.tier == "actionable")
                    found.append(_match(device, path, content, ioc.digest))
        for item in job.items.get(device, ()):
            path = base64.b64decode(item.get("path_b64") or "").decode()
            self.acted.append((device, path))
            there = self.files[device].get(path)
            same = there is not None and hashlib.sha256(there).hexdigest() == item["sha256"]
            outcome = ("would_quarantine" if job.dry_run else "quarantined") if same else "missing"
            if outcome == "quarantined":
                del self.files[device][path]
            found.append(_response(device, item, outcome, job))
        over = "failed" if device in self.failing else "done"
        state = _state(device, over, job, matches=sum(e.kind is EventKind.MATCH for e in found))
        return [*found, state]

    def poll(self, job_id: str, cursor: Any) -> tuple[list[DeviceEvent], dict[str, Any]]:
        self._check()
        seen = dict((cursor or {}).get("seen", {}))
        if job_id in self.withdrawn:
            return [], {"seen": seen}
        new: list[DeviceEvent] = []
        for device, said in self.said.get(job_id, {}).items():
            new += said[seen.get(device, 0) :]
            seen[device] = len(said)
        job = self.jobs.get(job_id)
        if job is not None and self.clock() > job.not_after:
            for device in job.device_ids:
                if device not in seen:
                    new.append(_state(device, "expired", job))
                    seen[device] = 0
        return new, {"seen": seen}

    def control(self, job_id: str, op: Any, device_ids: Sequence[str] | None = None) -> None:
        self.cancelled.add(job_id)

    def withdraw(self, job_id: str) -> Withdrawal:
        self._check()
        self.withdrawn.add(job_id)
        job = self.jobs.get(job_id)
        asked = tuple(job.device_ids) if job else ()
        away = tuple(d for d in asked if self.online.get(d, Online.YES) is not Online.YES)
        return Withdrawal(tuple(d for d in asked if d not in away), away)

    def health(self) -> Health:
        return Health(True)

    def _check(self) -> None:
        if self.broken:
            raise DeviceError("manager_down", "the manager does not answer", "start it")


def _state(device: str, state: str, job: Job, matches: int = 0) -> DeviceEvent:
    data = {
        "device_id": device,
        "run": job.run,
        "state": state,
        "finished_at": None,
        "files_seen": 1 if state == "done" else 0,
        "bytes_hashed": 0,
        "matches": matches,
        "progress": None,
        "skipped": {},
        "not_evaluated": [],
        "error": None,
    }
    return DeviceEvent(device, EventKind.STATE, 0, data)


def _match(device: str, path: str, content: bytes, ioc: str) -> DeviceEvent:
    data = {
        "item_key": hashlib.sha256(path.encode()).hexdigest(),
        "ioc": ioc,
        "tier": "actionable",
        "document": "FileItem",
        "item": {"FileName": path},
        "proof": ["item-1"],
        "path": path,
        "path_b64": base64.b64encode(path.encode()).decode(),
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "device": 1,
        "inode": 1,
    }
    return DeviceEvent(device, EventKind.MATCH, 1, data)


def _response(device: str, item: Any, outcome: str, job: Job) -> DeviceEvent:
    data = {
        "match_id": item["match_id"],
        "outcome": outcome,
        "code": "",
        "message": "",
        "quarantine_id": f"{job.id}.{item['match_id'][:8]}" if outcome == "quarantined" else None,
        "sha256": item["sha256"],
        "size": item["size"],
        "terminated": [],
    }
    return DeviceEvent(device, EventKind.RESPONSE, 1, data)
