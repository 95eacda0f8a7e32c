"""What no test may leave behind for the next."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from ioc_scan.clock import AHEAD_VARIABLE


@pytest.fixture(autouse=True)
def _clock_as_found() -> Iterator[None]:
    """A clock that one test moved ahead would let the jobs of every later one expire."""
    yield
    os.environ.pop(AHEAD_VARIABLE, None)
