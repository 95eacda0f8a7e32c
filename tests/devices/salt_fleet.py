"""A fleet of Salt minions for the contract: a real master and salt-api, and a hand on each minion."""

from __future__ import annotations

import hashlib
import hmac
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.devices import build_manager
from ioc_scan.devices.base import Device, Job
from ioc_scan.devices.salt import SaltManager
from ioc_scan.devices.salt_presence import Presence

from standalone.salt_lab import ACCOUNT, Place, SaltLab
from standalone.salt_venv import SaltUnavailable

from .contract import ManagerContract
from .harness import DEVICES, Fleet, MovableClock


@contextmanager
def running_lab(
    names: Sequence[str] = DEVICES,
    *,
    address: str = "127.0.0.1",
    user: str | None = None,
    wrap: Callable[[str], Sequence[str]] = lambda _: (),
) -> Iterator[SaltLab]:
    """Skips where Salt cannot be installed."""
    root = Path(tempfile.mkdtemp(prefix="salt"))  # short: the paths of its sockets may have 107 characters
    places = {name: Place(root / "machines" / name, root / "spools" / name) for name in names}
    try:
        lab = SaltLab(root, places, address=address, user=user, wrap=wrap)
        try:
            lab.start()
            lab.await_minions()
            yield lab
        finally:
            lab.close()
    except SaltUnavailable as error:
        pytest.skip(str(error))
    finally:
        shutil.rmtree(root)


def entry(lab: SaltLab, folder: Path, **changes: Any) -> dict[str, Any]:
    """An entry of ``device_managers``; its group is called minions."""
    return {
        "name": "salt",
        "type": "salt",
        "spool": str(folder / "queue"),
        "url": lab.url,
        "username": ACCOUNT,
        "password_file": str(lab.password_file),
        "answer_timeout_seconds": 8,
        "groups": [{"name": "minions", "target": "ws*"}],
        **changes,
    }


class SaltFleet(Fleet):
    def __init__(self, lab: SaltLab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.clock = MovableClock()
        self.extra: dict[str, Any] = {}
        self.asleep: set[str] = set()
        self._members: dict[str, dict[str, Device]] = {}
        self._clear()
        for device in DEVICES:
            self.plant(device, "readme.txt", b"nothing of interest")

    @property
    def manager(self) -> SaltManager:  # type: ignore[override]
        """A new one each time, as each action has: what one has heard the next does not know.

        But who is in the group, which nothing here changes, is asked once.
        """
        manager = self.rebuild()
        manager._members = self._members
        return manager

    def _clear(self) -> None:
        """As new: no jobs anywhere, nothing on the machines."""
        for device in DEVICES:
            for note in (f"devices/{device}.json", f"given/{device}.json", f"seen/{device}"):
                (self.lab.jobs / note).unlink(missing_ok=True)
            place = self.lab.places[device]
            shutil.rmtree(place.machine, ignore_errors=True)
            place.machine.mkdir(parents=True)
            self.lab.give(place.machine)
            for part in ("jobs", "done", "quarantine"):
                shutil.rmtree(place.spool / part, ignore_errors=True)

    def rebuild(self) -> SaltManager:
        manager = build_manager(entry(self.lab, self.folder, **self.extra), clock=self.clock)
        assert isinstance(manager, SaltManager)
        return manager

    def root(self, device: str) -> Path:
        return self.lab.places[device].machine

    def spool(self, device: str) -> Path:
        return self.lab.places[device].spool

    def plant(self, device: str, name: str, content: bytes) -> Path:
        path = super().plant(device, name, content)
        self.lab.give(self.root(device))
        return path

    def take_offline(self, device: str) -> None:
        """Away, and known to be: it was asked before."""
        self.fall_asleep(device)
        self._members.clear()
        signs = self.manager._shelf.noted([device]).signs
        Presence(self.manager.memory, clock=self.clock).note([], signs)

    def fall_asleep(self, device: str) -> None:
        """Away, and nobody knows."""
        self.lab.pause(device)
        self.asleep.add(device)

    def bring_back(self, device: str) -> None:
        self.lab.wake(device)
        self.asleep.discard(device)
        self.lab.await_minions([device])

    def close(self) -> None:
        for device in list(self.asleep):
            self.bring_back(device)
        super().close()


CONTRACT = ManagerContract()


def deliver(fleet: SaltFleet, job_id: str = "task1.1", **changes: Any) -> Job:
    job = CONTRACT.scan_job(fleet, job_id, **changes)
    fleet.manager.publish(job)
    fleet.manager.deliver(job.id)
    return job


def push(fleet: SaltFleet, device: str) -> bool:
    """What the reactor and the schedule do; whether it went well."""
    return fleet.manager._api.minions([device], "sync", {}) == {device: True}


def signed(text: str, key: str, nonce: str, device: str) -> dict[str, Any]:
    """As the module on the device signs."""
    what = "\n".join((nonce, device, text)).encode("utf-8", "replace")
    proof = hmac.new(bytes.fromhex(key), what, hashlib.sha256).hexdigest()
    return {"ioc_scan": 1, "id": device, "answer": text, "proof": proof, "tells": True}
