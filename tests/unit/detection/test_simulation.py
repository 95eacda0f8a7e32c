"""The sensor's promise, at least once, under a simulated sandbox at its worst. ``make soak`` runs it in full."""

from __future__ import annotations

import os

import pytest

from tests.unit.detection.simulation import check, make_world, run


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_lost(seed: int) -> None:
    world = make_world(seed, count=800, days=2)
    run(world, days=2, kills=25, pause_seconds=300)
    check(world, kills=25)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not os.environ.get("IOC_SCAN_SOAK"), reason="IOC_SCAN_SOAK is not set")
def test_ten_thousand_reports_and_a_hundred_deaths() -> None:
    world = make_world(seed=int(os.environ.get("IOC_SCAN_SOAK_SEED") or 7), count=10_000, days=5)
    run(world, days=5, kills=100, pause_seconds=60)
    check(world, kills=100)
