"""Devices to try managers on: a fleet with a hand on each device, real jobs, and forged answers."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.clock import system_clock
from ioc_scan.devices.base import DeviceEvent, DeviceManager, EventKind, Job, JobKind
from ioc_scan.scanner.plan import load_plan

from .plans import make_plan

SAMPLE = b"a harmless sample" + bytes(range(256)) * 40
OTHER = b"A harmless sample" + bytes(range(256)) * 40  # same size, other content
DEVICES = ("ws01", "ws02", "ws03")
PATIENCE_SECONDS = 60


class MovableClock:
    """The manager's clock: real, until a test moves it."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return system_clock() + self.ahead


class Fleet(ABC):
    """Three devices behind one manager, and a hand on each of them."""

    manager: DeviceManager
    clock: MovableClock

    @abstractmethod
    def root(self, device: str) -> Path:
        """Where the device's files are, on this machine."""

    @abstractmethod
    def spool(self, device: str) -> Path:
        """Where the device's jobs are, on this machine."""

    @abstractmethod
    def rebuild(self) -> DeviceManager:
        """A manager from the same config, as the next process would build it."""

    @abstractmethod
    def take_offline(self, device: str) -> None: ...

    @abstractmethod
    def bring_back(self, device: str) -> None: ...

    def close(self) -> None:
        """End what still runs."""
        for device in DEVICES:
            for pid in self.runner_pids(device):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def plant(self, device: str, name: str, content: bytes) -> Path:
        path = self.root(device) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def job_folder(self, device: str, job_id: str) -> Path:
        return self.spool(device) / "jobs" / job_id

    def status(self, device: str, job_id: str) -> dict[str, Any]:
        try:
            return json.loads((self.job_folder(device, job_id) / "status.json").read_bytes())
        except FileNotFoundError:
            return {}

    def runner_pids(self, device: str) -> list[int]:
        """Runners of this device's spool, found by their command line."""
        needle = os.fsencode(self.spool(device))
        pids = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and needle in (entry / "cmdline").read_bytes().split(b"\0"):
                    pids.append(int(entry.name))
            except OSError:
                continue
        return pids


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_SECONDS} s for {what}"
        time.sleep(0.05)


def read_all(manager: DeviceManager, job_id: str, cursor: Any = None) -> tuple[list[DeviceEvent], Any]:
    """Poll until nothing is new. The cursor travels as JSON, as it does in the store."""
    everything: list[DeviceEvent] = []
    while True:
        events, cursor = manager.poll(job_id, None if cursor is None else json.loads(json.dumps(cursor)))
        everything += events
        if not events:
            return everything, cursor


def of(events: Sequence[DeviceEvent], kind: EventKind, device: str | None = None) -> list[DeviceEvent]:
    return [e for e in events if e.kind is kind and device in (None, e.device_id)]


def states(events: Sequence[DeviceEvent], device: str) -> list[str]:
    return [event.data["state"] for event in of(events, EventKind.STATE, device)]


class ContractBase:
    """The jobs and the waiting that the contract is written with. Subclasses define the fixture ``fleet``."""

    @pytest.fixture
    def fleet(self) -> Fleet:
        raise NotImplementedError

    # -- helpers

    def scan_job(self, fleet: Fleet, job_id: str = "task1.1", **changes: Any) -> Job:
        plan = changes.pop("plan", None) or make_plan(SAMPLE, hunt_names=("dropper.exe",))
        now = fleet.clock()
        job = Job(
            id=job_id,
            kind=JobKind.SCAN,
            task_id="task1",
            run=1,
            device_ids=DEVICES,
            not_before=now - timedelta(seconds=5),
            not_after=now + timedelta(days=7),
            plan=plan,
            plan_digest=hashlib.sha256(plan).hexdigest(),
            settings={"scope": "all"},
        )
        return replace(job, **changes)

    def respond_job(self, fleet: Fleet, device: str, match: Mapping[str, Any], **changes: Any) -> Job:
        now = fleet.clock()
        item = {
            "match_id": "match-1",
            **{key: match[key] for key in ("path_b64", "sha256", "size", "device", "inode")},
        }
        return replace(
            self.scan_job(fleet, "task1.respond"),
            kind=JobKind.RESPOND,
            device_ids=[device],
            not_after=now + timedelta(minutes=10),
            settings={"terminate_processes": False, "max_items": 10, "quarantine_days": 30},
            items={device: [item]},
            **changes,
        )

    def slow_job(self, fleet: Fleet, device: str) -> Job:
        """A scan that hashes big files at a tenth of a core: long enough to be interrupted."""
        for number in range(3):
            with fleet.plant(device, f"big{number}.bin", b"").open("r+b") as stream:
                stream.truncate(150 * 2**20)
        fleet.plant(device, "a/early.bin", SAMPLE)
        fleet.plant(device, "z/late.bin", SAMPLE)
        return self.scan_job(
            fleet,
            device_ids=[device],
            plan=make_plan(SAMPLE, with_size=False),
            settings={"scope": "all", "cpu_percent": 10},
        )

    def run(self, fleet: Fleet, job: Job, devices: Sequence[str] | None = None) -> list[DeviceEvent]:
        fleet.manager.publish(job)
        fleet.manager.deliver(job.id)
        self.finish(fleet, job, devices)
        return read_all(fleet.manager, job.id)[0]

    def finish(self, fleet: Fleet, job: Job, devices: Sequence[str] | None = None) -> None:
        for device in devices or job.device_ids:
            wait_for(
                lambda d=device: (
                    fleet.status(d, job.id).get("state") in ("done", "failed", "refused", "cancelled")
                ),
                f"{device} to finish {job.id}: {fleet.status(device, job.id)}",
            )

    def place_unstarted(self, fleet: Fleet, **changes: Any) -> Job:
        """A job that is on its devices and that no runner touches: its results are ours to forge."""
        job = self.scan_job(fleet, not_before=fleet.clock() + timedelta(days=1), **changes)
        fleet.manager.publish(job)
        fleet.manager.deliver(job.id)
        return job

    def forge(self, fleet: Fleet, device: str, job: Job, lines: Sequence[Any], **status: Any) -> None:
        """Write what a hostile device would; lines are raw bytes or objects."""
        raw = b"".join(
            line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines
        )
        folder = fleet.job_folder(device, job.id)
        (folder / "results.jsonl").write_bytes(raw)
        said = {"protocol": 1, "job_id": job.id, "device_id": device, "run": 1, "state": "running"}
        (folder / "status.json").write_text(json.dumps({**said, "results_bytes": len(raw), **status}))

    def match_line(self, fleet: Fleet, device: str, job: Job, seq: int = 1, **changes: Any) -> dict[str, Any]:
        """A match as an honest scanner would write it."""
        plan = json.loads(job.plan or b"")
        assert plan
        path = fleet.root(device) / f"found{seq}.exe"
        sha256 = hashlib.sha256(SAMPLE).hexdigest()
        line = {
            "type": "match",
            "seq": seq,
            "ioc": self.ioc_digest(job, "actionable"),
            "tier": "actionable",
            "document": "FileItem",
            "item": {"FullPath": str(path), "SizeInBytes": len(SAMPLE), "Sha256sum": sha256},
            "item_key": hashlib.sha256(str(seq).encode()).hexdigest(),
            "path": str(path),
            "path_b64": base64.b64encode(os.fsencode(path)).decode(),
            "sha256": sha256,
            "size": len(SAMPLE),
            "device": 1,
            "inode": 1000 + seq,
            "proof": [],
        }
        return {**line, **changes}

    @staticmethod
    def ioc_digest(job: Job, tier: str) -> str:
        return next(ioc.digest for ioc in load_plan(job.plan or b"").iocs if ioc.tier == tier)
