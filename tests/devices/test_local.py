"""The local manager: the contract, and what only it has: folder trees, this machine, its health."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.devices import build_manager
from ioc_scan.devices.base import DeviceManager

from .contract import DEVICES, Fleet, ManagerContract, MovableClock


class LocalFleet(Fleet):
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = MovableClock()
        for device in DEVICES:
            self.plant(device, "readme.txt", b"nothing of interest")
        self.manager = self.rebuild()

    def config(self) -> dict[str, Any]:
        devices = [{"id": d, "root": str(self.root(d)), "os": "linux", "tags": []} for d in DEVICES]
        return {
            "name": "local",
            "type": "local",
            "spool": str(self.folder / "spool"),
            "groups": [{"name": "workstations", "devices": devices}],
        }

    def root(self, device: str) -> Path:
        return self.folder / "machines" / device

    def spool(self, device: str) -> Path:
        return self.folder / "spool" / device

    def rebuild(self) -> DeviceManager:
        return build_manager(self.config(), clock=self.clock)

    def take_offline(self, device: str) -> None:
        self.root(device).rename(self.folder / f"{device}.away")

    def bring_back(self, device: str) -> None:
        (self.folder / f"{device}.away").rename(self.root(device))


class TestContract(ManagerContract):
    @pytest.fixture
    def fleet(self, tmp_path: Path) -> Iterator[Fleet]:
        fleet = LocalFleet(tmp_path)
        yield fleet
        fleet.close()
