"""Worlds: one with real scanners on folder trees, one with a fleet in memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from ioc_scan.clock import AHEAD_VARIABLE
from ioc_scan.service import collection, responses
from ioc_scan.service.context import ALLOW_TEMPORARY_VARIABLE, Context
from ioc_scan.store import Store

from tests.fixtures.postgres import postgres_server

from .fleet import MemoryFleet
from .world import DEVICES, World

__all__ = ["postgres_server"]


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOW_TEMPORARY_VARIABLE, "1")
    monkeypatch.setenv(AHEAD_VARIABLE, "0")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its tables in place, to be copied: quicker than migrating for each test."""
    path = tmp_path_factory.mktemp("template") / "ioc_scan.db"
    Store.open(f"sqlite:///{path}", allow_temporary=True).close()
    return path


@pytest.fixture
def world(tmp_path: Path, empty_store: Path) -> Iterator[World]:
    """Three folder trees as devices, the real local manager, the real scanner."""
    world = World(tmp_path)
    shutil.copy2(empty_store, tmp_path / "store")
    yield world
    world.stop_scanners()


@pytest.fixture
def context(world: World) -> Iterator[Context]:
    with world.context() as opened:
        yield opened


@pytest.fixture
def town(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The same with devices in memory, which answer at once or not at all: for rules about many."""
    monkeypatch.setattr(responses, "SHORT_WAIT_SECONDS", 0.2)
    monkeypatch.setattr(collection, "LOOK_SECONDS", 0.2)
    town = World(tmp_path)
    shutil.copy2(empty_store, tmp_path / "store")
    town.manager = MemoryFleet({"workstations": DEVICES, "servers": ("srv01", "srv02")}, town.clock)
    return town
