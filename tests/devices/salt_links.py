"""Minions behind links that can be cut: each in a network namespace of its own, silent when it is down."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from ioc_scan.devices import build_manager
from ioc_scan.devices.base import DeviceEvent, DeviceManager, Withdrawal

from standalone.salt_lab import SaltLab

from .harness import SAMPLE, ContractBase, Fleet, MovableClock, states
from .salt_fleet import entry

#: How long the link of each is down, in seconds.
DOWN = {"far20": 20.0, "far75": 75.0}
FAR = tuple(DOWN)
PATIENCE_SECONDS = 200
# The kernel takes a namespace's links down some time after its name is gone: no network uses another's names.
_NUMBERS = itertools.count()


class Network:
    """A link per name to the one address that all of them reach."""

    def __init__(self, names: Sequence[str]) -> None:
        number = next(_NUMBERS)
        net = f"198.19.{os.getpid() % 250}"
        self.address = f"{net}.{number * 16 + 1}"
        self._links = {
            name: f"iocs{os.getpid() % 100_000}-{number}{index}" for index, name in enumerate(names)
        }
        self._timers: list[threading.Timer] = []
        _ip(f"addr add {self.address}/32 dev lo")
        for index, link in enumerate(self._links.values(), 1):
            near, far = f"{net}.{number * 16 + index * 4 + 1}", f"{net}.{number * 16 + index * 4 + 2}"
            _ip(f"netns add {link}")
            _ip(f"link add {link} type veth peer name eth0 netns {link}")
            _ip(f"addr add {near}/30 dev {link}")
            _ip(f"link set {link} up")
            _ip(f"-n {link} addr add {far}/30 dev eth0")
            _ip(f"-n {link} link set lo up")
            _ip(f"-n {link} link set eth0 up")
            _ip(f"-n {link} route add default via {near}")

    def wrap(self, name: str) -> Sequence[str]:
        """Words before a command that is to run behind the link of that name."""
        return ("ip", "netns", "exec", self._links[name]) if name in self._links else ()

    def cut(self, name: str, seconds: float) -> None:
        """From now on nothing passes, as if the cable were out; connections that stand hang."""
        _ip(f"link set {self._links[name]} down")
        timer = threading.Timer(seconds, _ip, [f"link set {self._links[name]} up"])
        timer.start()
        self._timers.append(timer)

    def close(self) -> None:
        for timer in self._timers:
            timer.cancel()
        for link in self._links.values():
            for what in (f"link del {link}", f"netns del {link}"):
                with suppress(subprocess.CalledProcessError):
                    _ip(what)
        with suppress(subprocess.CalledProcessError):
            _ip(f"addr del {self.address}/32 dev lo")


def _ip(arguments: str) -> None:
    subprocess.run(["ip", *arguments.split()], check=True, capture_output=True)


@contextmanager
def running_network(names: Sequence[str]) -> Iterator[Network | None]:
    """None where links cannot be made."""
    network = None
    if os.geteuid() == 0 and shutil.which("ip") is not None:
        with suppress(subprocess.CalledProcessError):
            network = Network(names)
    try:
        yield network
    finally:
        if network is not None:
            network.close()


@dataclass
class Outage:
    """What was seen of the devices behind the links; times in seconds since the links went down."""

    down: dict[str, float]
    back: dict[str, float] = field(default_factory=dict)
    events: dict[str, list[DeviceEvent]] = field(default_factory=dict)
    withdrawals: dict[str, list[Withdrawal]] = field(default_factory=dict)
    left: dict[str, list[str]] = field(default_factory=dict)


class _Far(Fleet):
    """As much of a fleet as a job needs to be made for it."""

    def __init__(self, lab: SaltLab) -> None:
        self.lab = lab
        self.clock = MovableClock()

    def root(self, device: str) -> Path:
        return self.lab.places[device].machine

    def spool(self, device: str) -> Path:
        return self.lab.places[device].spool

    def rebuild(self) -> DeviceManager:
        raise NotImplementedError

    take_offline = bring_back = rebuild  # type: ignore[assignment]


def live_through(lab: SaltLab, network: Network, folder: Path, stop: threading.Event) -> Outage:
    """A scan is under way on each device and another job waits there when the links go down.

    ``stop``: nobody wants to know any more.
    """
    fleet, jobs = _Far(lab), ContractBase()
    config = entry(lab, folder, groups=[{"name": "far", "target": "far*"}])

    def manager() -> DeviceManager:
        return build_manager(config, clock=fleet.clock)

    for device in FAR:
        fleet.plant(device, "x.exe", SAMPLE)
        later = fleet.clock() + timedelta(days=1)
        for job in (
            jobs.scan_job(fleet, f"{device}.1", device_ids=[device]),
            jobs.scan_job(fleet, f"{device}.2", device_ids=[device], not_before=later),
        ):
            manager().publish(job)
            manager().deliver(job.id)
    for device, seconds in DOWN.items():
        network.cut(device, seconds)
    began = time.monotonic()
    seen = Outage(dict(DOWN), events={d: [] for d in FAR}, withdrawals={d: [] for d in FAR})
    cursors: dict[str, object] = dict.fromkeys(FAR)
    while not stop.is_set() and len(seen.back) < len(FAR) and time.monotonic() - began < PATIENCE_SECONDS:
        for device in FAR:
            if device not in seen.back:
                _round(manager(), device, seen, cursors)
                if (
                    states(seen.events[device], device)[-1:] == ["done"]
                    and seen.withdrawals[device][-1].complete
                ):
                    seen.back[device] = time.monotonic() - began
        fleet.clock.ahead += timedelta(
            seconds=20
        )  # rounds are minutes apart, and what is away is pushed in each
        stop.wait(1)
    seen.left = {
        d: [p.name for p in (fleet.spool(d) / "jobs").iterdir() if p.name.endswith(".2")] for d in FAR
    }
    return seen


def _round(manager: DeviceManager, device: str, seen: Outage, cursors: dict[str, object]) -> None:
    seen.withdrawals[device].append(manager.withdraw(f"{device}.2"))
    manager.deliver(f"{device}.1")
    events, cursors[device] = manager.poll(f"{device}.1", cursors[device])  # type: ignore[arg-type]
    seen.events[device] += events
