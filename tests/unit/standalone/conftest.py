"""A fresh engine on the small pack; everything it writes goes to the test's own folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from standalone.engine import Engine

PACK = Path(__file__).resolve().parents[2] / "fixtures" / "standalone_pack"


@pytest.fixture
def logged():
    return []


@pytest.fixture
def make_engine(tmp_path, logged):
    engines = []

    def make(config=None, pack=PACK, **options):
        options.setdefault("log", logged.append)
        engines.append(Engine(pack, config, tmp_path / "state", **options))
        return engines[-1]

    yield make
    for engine in engines:
        engine.stop()


@pytest.fixture
def engine(make_engine):
    return make_engine()
