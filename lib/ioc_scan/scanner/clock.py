"""The scanner's clock; the only place on the device side that reads the wall clock."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from typing import Callable

Clock = Callable[[], datetime]

#: Seconds added to the wall clock, as in ``ioc_scan.clock``: set when lifetimes are shown, never in service.
AHEAD_VARIABLE = "IOC_SCAN_CLOCK_AHEAD_SECONDS"


def system_clock() -> datetime:
    """Now, aware, in UTC."""
    ahead = int(os.environ.get(AHEAD_VARIABLE) or 0)
    return datetime.now(timezone.utc) + timedelta(seconds=ahead)
