"""Devices reached over SSH: one connection and one visit per call, scans run detached on the device.

Meant for up to 2,000 devices: there is no queue on the way, so every look is a connection.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..clock import Clock
from ..errors import ConfigError
from ..scanner_build import zipapp_bytes
from ..text import printable
from .base import Device, Group, Problem
from .inventory import Inventory, load_inventory
from .results import Limits
from .spooled import SpooledManager, Visit, Visited
from .ssh_health import PROBE_SECONDS, problems_of, sample
from .ssh_login import SshSettings
from .ssh_round import Round


class SshManager(SpooledManager):
    """``type: ssh``. Keeps its queue in ``spool`` on this side; the devices are those of the inventory file."""

    def __init__(
        self,
        name: str,
        folder: Path,
        inventory_file: Path,
        settings: SshSettings,
        *,
        clock: Clock,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(name, folder, clock=clock, limits=limits)
        self._inventory_file = inventory_file
        self._loaded: Inventory | None = None
        self._settings = settings
        self._scanner: tuple[str, bytes] | None = None

    @classmethod
    def from_config(cls, entry: Mapping[str, Any], *, clock: Clock) -> SshManager:
        """Raises ConfigError ``manager_invalid``; reads no file yet."""
        name = _required(entry, "name")
        values: dict[str, Any] = {}
        for key, kind in SshSettings.__annotations__.items():
            value = entry.get(key)
            if value is not None:
                values[key] = Path(str(value)) if "Path" in kind else value
        if "known_hosts_file" not in values:
            raise _invalid(
                name, "has no known_hosts_file", "host keys are always checked: ssh-keyscan makes one"
            )
        if not (values.get("private_key_file") or values.get("password_file") or values.get("agent")):
            raise _invalid(name, "has no way to log in", "set private_key_file, password_file or agent: true")
        folder, inventory = Path(_required(entry, "spool")), Path(_required(entry, "inventory_file"))
        return cls(name, folder, inventory, SshSettings(**values), clock=clock)

    @property
    def _inventory(self) -> Inventory:
        if self._loaded is None:
            self._loaded = load_inventory(self._inventory_file)
        return self._loaded

    def groups(self) -> list[Group]:
        return [group for group, _ in self._inventory.groups.values()]

    def _devices_of(self, group: str) -> list[Device] | None:
        return self._inventory.devices(group)

    def _knows(self, device_id: str) -> bool:
        return device_id in self._inventory.hosts

    def _root_of(self, device_id: str) -> bytes | None:
        host = self._inventory.hosts.get(device_id)
        return host.root.encode() if host is not None and host.root is not None else None

    # -- visits

    def _carry_out(self, visits: Sequence[Visit], before: Callable[[Visit], None]) -> dict[str, Visited]:
        return asyncio.run(self._round(self._settings).run(visits, before))

    def _round(self, settings: SshSettings) -> Round:
        if self._scanner is None:
            content = zipapp_bytes()
            self._scanner = (hashlib.sha256(content).hexdigest(), content)
        return Round(settings, self._inventory, self._scanner, self._job_documents)

    def _job_documents(self, one: Visit, digest: str) -> list[dict[str, Any]]:
        return [self._job_document(job, one.device_id, digest) for job in one.place]

    # -- health

    def _health_problems(self) -> list[Problem]:
        return problems_of(self._settings, lambda: self._inventory, self._probe)

    def _probe(self) -> dict[str, Visited]:
        """A few devices, asked whether a visit would begin: host key, log-in, sudo, Python, spool."""
        today = self._clock().date().isoformat()
        names = sample(self._inventory.hosts, today)
        short = replace(
            self._settings,
            connect_timeout_seconds=min(self._settings.connect_timeout_seconds, PROBE_SECONDS),
            visit_timeout_seconds=min(self._settings.visit_timeout_seconds, PROBE_SECONDS),
        )
        return asyncio.run(self._round(short).run([Visit(name) for name in names], None))


def _required(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise _invalid(str(entry.get("name") or "ssh"), f"has no {key}", "see ioc_scan.yaml.example")
    return value


def _invalid(name: str, why: str, hint: str) -> ConfigError:
    return ConfigError("manager_invalid", f"device manager {printable(name, 100)} {why}", hint)
