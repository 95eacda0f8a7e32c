"""A small installation for tests: a store, sources, devices, a clock that stands still, and hands on all of it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ioc_scan.clock import AHEAD_VARIABLE, to_iso
from ioc_scan.service import collection, intake, responses, tasks
from ioc_scan.service.context import Context, open_context

DEVICES = ("ws01", "ws02", "ws03")
PERSON = "alice"
RULE = "stanley"
NASTY_NAME = "{{ 7*7 }}<% 1+1 %>.exe"


class Clock:
    """Stands still until told otherwise. Real time at first: the scanner on the devices has its own."""

    def __init__(self) -> None:
        self.now = datetime.now(timezone.utc).replace(microsecond=0)
        self.start = self.now

    def __call__(self) -> datetime:
        return self.now

    def ahead(self, **parts: float) -> datetime:
        self.now += timedelta(**parts)
        return self.now


def sample(seed: object = "sample", size: int = 2048) -> bytes:
    """Harmless bytes that no system file has."""
    return hashlib.shake_128(f"ioc_scan test {seed}".encode()).digest(size)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def cape_report(content: bytes, **changes: Any) -> dict[str, Any]:
    """A malicious CAPE report about this content, and nothing else."""
    hashes = {name: hashlib.new(name, content).hexdigest() for name in ("md5", "sha1", "sha256")}
    target = {
        "name": "invoice.exe",
        "size": len(content),
        "type": "PE32 executable (GUI) Intel 80386, for MS Windows",
    }
    return {
        "info": {"version": "2.4-CAPE", "started": "2026-01-01 09:00:00", "ended": "2026-01-01 09:05:00"},
        "malscore": 10.0,
        "target": {"category": "file", "file": target | hashes},
        **changes,
    }


def detection(content: bytes, number: object = 1, **changes: Any) -> dict[str, Any]:
    """The same in normal form, as a webhook would push it."""
    hashes = {
        "MD5": hashlib.md5(content).hexdigest(),
        "SHA-1": hashlib.sha1(content).hexdigest(),
        "SHA-256": sha256(content),
    }
    file = {"name": "invoice.exe", "size": len(content), "hashes": hashes, "file_type": "PE32 executable"}
    return {
        "schema_version": "1.0",
        "detection_id": f"other:box:{number}",
        "source": {"product": "other", "instance": "box", "report_id": str(number)},
        "verdict": {"result": "malicious", "score": 95, "families": ["TestFamily"]},
        "target": {"category": "file", **file},
        "detected_at": "2026-01-01T09:05:00Z",
        "indicators": [
            {"type": "file", "role": "target", **file},
            {"type": "file", "role": "dropped", "path": "C:\\Users\\u\\AppData\\Roaming\\upd.exe"},
            {"type": "mutex", "role": "created", "value": "TestMutex-7f3a"},
        ],
        **changes,
    }


class World:
    """Everything below one private folder. ``manager`` replaces the real device manager where given."""

    def __init__(self, folder: Path, *, manager: Any = None, mode: str = "ask") -> None:
        self.folder = folder
        self.clock = Clock()
        self.manager = manager
        self.more_managers: dict[str, Any] = {}
        for name in ("store", "reports"):
            (folder / name).mkdir(mode=0o700)
        for device in DEVICES:
            self.plant(device, "etc/readme.txt", b"nothing of interest")
        self.config: dict[str, Any] = {
            "store": {"folder": str(folder / "store")},
            "sources": [
                {"name": "lab", "type": "folder", "path": str(folder / "reports"), "backfill_hours": 1},
                {"name": "webhook", "type": "webhook"},
            ],
            "threat_response_policies": [self.policy(mode)],
            "device_managers": [
                {
                    "name": "local",
                    "type": "local",
                    "spool": str(folder / "spool"),
                    "groups": [{"name": "workstations", "devices": [self._device(name) for name in DEVICES]}],
                }
            ],
        }

    def _device(self, name: str) -> dict[str, Any]:
        return {"id": name, "root": str(self.root(name)), "os": "linux"}

    @staticmethod
    def policy(mode: str = "ask", **changes: Any) -> dict[str, Any]:
        return {
            "name": "all",
            "when": {"min_score": 70},
            "run_ioc_scan_on": [{"group": "workstations", "response_mode": mode}],
            "scope": "all",
            "cpu_percent": 100,
            **changes,
        }

    @contextmanager
    def context(self) -> Iterator[Context]:
        with open_context(self.config, self.clock) as context:
            if self.manager is not None:
                context.managers = {self.manager.name: self.manager} | self.more_managers
            yield context

    def ahead(self, **parts: float) -> None:
        """Move the clock of the service and of every child process."""
        now = self.clock.ahead(**parts)
        os.environ[AHEAD_VARIABLE] = str(int((now - self.clock.start).total_seconds()))

    def catch_up(self) -> None:
        """Other processes have gone on by their own clocks meanwhile."""
        ahead = timedelta(seconds=int(os.environ[AHEAD_VARIABLE]))
        self.clock.now = max(self.clock.now, datetime.now(timezone.utc) + ahead)

    # -- devices

    def root(self, device: str) -> Path:
        return self.folder / "machines" / device

    def plant(self, device: str, name: str, content: bytes) -> Path:
        path = self.root(device) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def take_offline(self, device: str) -> None:
        self.root(device).rename(self.folder / f"{device}.away")

    def bring_back(self, device: str) -> None:
        (self.folder / f"{device}.away").rename(self.root(device))

    def jobs_on(self, device: str) -> list[str]:
        folder = self.folder / "spool" / device / "jobs"
        return sorted(path.name for path in folder.glob("[!.]*") if path.is_dir())

    def scanner_pids(self) -> list[int]:
        """Runners on this world's spools, found by their command line."""
        needle = os.fsencode(self.folder / "spool")
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and needle in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
        return [pid for pid in found if pid != os.getpid()]

    def stop_scanners(self) -> None:
        for pid in self.scanner_pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # -- the way of a detection

    def drop_report(self, report: dict[str, Any], name: str = "report.json") -> str:
        """Put a report into the watched folder, long complete; returns the id of its detection."""
        content = json.dumps(report).encode()
        path = self.folder / "reports" / name
        path.write_bytes(content)
        before = time.time() - 60
        os.utime(path, (before, before))
        return f"cape:lab:sha256-{sha256(content)[:32]}"

    def submit(self, context: Context, content: bytes, number: object = 1, **changes: Any) -> str:
        pushed = detection(content, number, **changes)
        return str(intake.submit_detection(context, json.dumps(pushed), "webhook")["detection_id"])

    def task_for(
        self, context: Context, content: bytes, number: object = 1, **changes: Any
    ) -> dict[str, Any]:
        return tasks.create_task(context, self.submit(context, content, number, **changes))

    def scan(self, context: Context, task_id: str, **options: Any) -> dict[str, Any]:
        """Start a run and wait until it has settled."""
        tasks.start_task(context, task_id, account=RULE, **options)
        return self.settle(context, task_id)

    def settle(self, context: Context, task_id: str, seconds: float = 30) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while True:
            look = collection.await_results(context, task_id)
            if look["settled"] and not look["responses_running"]:
                return look
            assert time.monotonic() < deadline, look

    def respond(self, context: Context, task_id: str, account: str = RULE, **options: Any) -> dict[str, Any]:
        return responses.respond(context, task_id, account=account, **options)


def matches(context: Context, task_id: str, **wanted: Any) -> list[dict[str, Any]]:
    with context.store.reading() as tx:
        return list(tx.matches.list(task_id, limit=10_000, **wanted))


def states(context: Context, task_id: str, tier: str = "actionable") -> list[str]:
    return sorted(row["response_state"] for row in matches(context, task_id, tier=tier))


def events(context: Context, kind: str, **wanted: Any) -> list[dict[str, Any]]:
    with context.store.reading() as tx:
        return list(tx.events.list(types=[kind], limit=1000, **wanted))


def count(context: Context, table: str) -> int:
    """Rows of a table, whatever the store offers to read it with."""
    from sqlalchemy import text

    with context.store.reading() as tx:
        return int(tx.connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def iso(moment: datetime) -> str:
    return to_iso(moment)
