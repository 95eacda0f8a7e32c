"""The only place that reads the wall clock; everything else is handed a clock."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

Clock = Callable[[], datetime]

#: Seconds added to the wall clock. Set by standalone/ (`--clock-ahead`) to show lifetimes; never by StackStorm.
AHEAD_VARIABLE = "IOC_SCAN_CLOCK_AHEAD_SECONDS"


def system_clock() -> datetime:
    """Now, aware, in UTC."""
    ahead = int(os.environ.get(AHEAD_VARIABLE) or 0)
    return datetime.now(timezone.utc) + timedelta(seconds=ahead)


def to_iso(moment: datetime) -> str:
    """``YYYY-MM-DDTHH:MM:SSZ``; the one spelling of a time in every file and answer of the pack."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def from_iso(text: str) -> datetime:
    """Read what :func:`to_iso` wrote (offsets and fractions accepted). Raises ValueError."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
