"""The critical areas of a device: what runs, what the kernel says of itself, what is started before and by it.

Each area is reported on its own as ``scanned``, ``refused`` (this user may not look at all of it) or
``unsupported`` (it is not there, or nothing open can look at it on this system), with findings. Live kernel
memory is never looked at, and no report says so.
"""

from __future__ import annotations

import importlib
import time
from typing import Any

from ..errors import ScannerError
from .area import Area, Context, StopError

__all__ = ["AREAS", "Area", "Context", "StopError", "scan_area"]

#: area -> module with ``scan(area, context)``, in the order they are looked at
AREAS = {"processes": "processes", "kernel": "kernel", "boot_sectors": "boot", "autostart": "autostart"}


def scan_area(name: str, context: Context) -> dict[str, Any]:
    """Look at one area: its result line. Raises StopError if ``context.stop`` says so."""
    area = Area(name)
    begin = time.monotonic()
    module = importlib.import_module("." + AREAS[name], __name__)
    try:
        module.scan(area, context)
    except ScannerError as error:
        area.refuse(error.message)
    except OSError as error:
        area.refuse(f"it cannot be read completely: {error.strerror or type(error).__name__}")
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # A form of the system's lists that was not foreseen: said, and the other areas are still looked at.
        area.refuse(f"it has an unexpected form ({type(error).__name__})")
    return area.line(time.monotonic() - begin)
