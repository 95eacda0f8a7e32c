"""A Kaspersky fleet: the stand-in server with folders for disks, and a manager that has learned its templates."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ioc_scan.devices import build_manager
from ioc_scan.devices.base import DeviceEvent, Job
from ioc_scan.devices.ksc import KscManager

from tests.ksc_server import EVENT_IOC_FOUND, EVENT_QUARANTINED, KscServer, marker_bytes, sim_world

from .harness import DEVICES, Fleet, MovableClock, read_all
from .plans import actionable_ioc, hunt_ioc

REPORT, RESPOND = "ioc_scan template report", "ioc_scan template respond"


class KscFleet(Fleet):
    def __init__(self, folder: Path, server: KscServer, url: str) -> None:
        self.folder, self.server, self.url = folder, server, url
        self.clock = MovableClock()
        self.changes: dict[str, Any] = {}
        self.ksc = self.rebuild()
        self.manager = self.ksc

    @property
    def world(self) -> Any:
        return self.server.world

    def config(self) -> dict[str, Any]:
        password = self.folder / "password"
        password.write_text(self.server.password + "\n", encoding="utf-8")
        return {
            "name": "ksc",
            "type": "ksc",
            "spool": str(self.folder / "spool"),
            "url": self.url,
            "username": self.server.user,
            "password_file": str(password),
            "certificate_file": str(self.server.certificate),
            "native_response": True,
            "events": {"ioc_found": {"type": EVENT_IOC_FOUND}, "quarantined": {"type": EVENT_QUARANTINED}},
            **self.changes,
        }

    def learn(self, report: str = REPORT, respond: str = RESPOND) -> dict[str, Any]:
        seen = self.ksc.learn_template(report, respond, marker_bytes(), None)
        return self.ksc.learn_template(report, respond, marker_bytes(), seen["digest"])

    def root(self, device: str) -> Path:
        return self.folder / "disks" / device

    def spool(self, device: str) -> Path:
        return self.folder / "no-spool" / device

    def rebuild(self, **changes: Any) -> KscManager:
        self.changes |= changes
        manager = build_manager(self.config(), clock=self.clock)
        assert isinstance(manager, KscManager)
        self.ksc = self.manager = manager
        return manager

    def take_offline(self, device: str) -> None:
        self.world.hosts[device].alive = False

    def bring_back(self, device: str) -> None:
        self.world.hosts[device].alive = True

    def close(self) -> None:
        self.ksc.ksc.close()

    # -- what only this fleet has

    def ours(self) -> list[Any]:
        """Tasks on the server that are not the templates."""
        return [task for task in self.world.tasks.values() if task.name not in (REPORT, RESPOND)]

    def run(self, job: Job, steps: int = 3) -> list[DeviceEvent]:
        self.ksc.publish(job)
        self.ksc.deliver(job.id)
        self.world.advance(steps)
        return read_all(self.ksc, job.id)[0]


@contextmanager
def ksc_fleet(folder: Path, learned: bool = True) -> Iterator[KscFleet]:
    server = KscServer(sim_world(folder / "disks"), folder / "tls")
    with server.serving() as url:
        fleet = KscFleet(folder, server, url)
        if learned:
            fleet.learn()
        yield fleet
        fleet.close()
    assert server.refused == []
    assert server.open_iterators == []


@contextmanager
def time_passes(world: Any, step_seconds: float = 0.05) -> Iterator[None]:
    """The devices go on by themselves."""
    over = threading.Event()

    def steps() -> None:
        while not over.wait(step_seconds):
            world.advance()

    thread = threading.Thread(target=steps, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def with_iocs(job: Job, *contents: bytes, hunt_names: Sequence[str] = ()) -> Job:
    """The job with the IOC files its plan was made of, as the service hands them over."""
    files = [actionable_ioc(*contents)]
    if hunt_names:
        files.append(hunt_ioc(*hunt_names))
    return replace(job, iocs={hashlib.sha256(content).hexdigest(): content for content in files})


__all__ = ["DEVICES", "KscFleet", "ksc_fleet", "time_passes", "with_iocs"]
