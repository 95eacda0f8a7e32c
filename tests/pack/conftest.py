"""This pack in the standalone engine: its own YAML and Python files, as StackStorm would run them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.clock import AHEAD_VARIABLE
from ioc_scan.service.context import ALLOW_TEMPORARY_VARIABLE
from ioc_scan.store import Store

from standalone.engine import Engine
from tests.service.world import World

REPOSITORY = Path(__file__).resolve().parents[2]
MakeEngine = Callable[..., Engine]


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "ioc_scan.db"
    Store.open(f"sqlite:///{path}", allow_temporary=True).close()
    return path


@pytest.fixture
def world(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv(ALLOW_TEMPORARY_VARIABLE, "1")
    monkeypatch.setenv(AHEAD_VARIABLE, "0")
    world = World(tmp_path)
    shutil.copy2(empty_store, tmp_path / "store")
    yield world
    world.stop_scanners()


@pytest.fixture
def make_engine(world: World) -> Iterator[MakeEngine]:
    """An engine on this pack and that world; ``minutes`` moves its clock and that of its children."""
    engines: list[Engine] = []

    def make(minutes: float = 0) -> Engine:
        state = world.folder / "state"
        engine = Engine(
            REPOSITORY,
            world.config,
            state,
            clock_ahead_seconds=int(minutes * 60),
            poll_interval_seconds=1,
            log=lambda _: None,
        )
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.stop()


def of_action(engine: Engine, action: str) -> list[dict[str, Any]]:
    return [row for row in engine.executions() if row["action"] == f"ioc_scan.{action}"]


def finished(engine: Engine, seconds: float = 90) -> None:
    assert engine.wait_idle(seconds), [
        row["action"] for row in engine.executions() if row["status"] == "running"
    ]
