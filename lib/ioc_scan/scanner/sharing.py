"""Files that somebody else has open. On Windows that is an error for a moment; elsewhere it is nothing.

A virus scanner, an indexer or a device manager that reads a status keeps it from being replaced or moved, and
the scanner's own files are small: a few tries within two seconds see them free.
"""

from __future__ import annotations

import os
import time
from typing import Callable, TypeVar

_Result = TypeVar("_Result")

#: Elsewhere a file that is open can be replaced, moved and removed.
NEEDED = os.name == "nt"
_PATIENCE_SECONDS = 2.0
_PAUSE_SECONDS = 0.02


def patiently(work: Callable[[], _Result]) -> _Result:
    """Do it, on Windows again for a while if somebody else is at the file. Raises what ``work`` raises."""
    if not NEEDED:
        return work()
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return work()
        except PermissionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
