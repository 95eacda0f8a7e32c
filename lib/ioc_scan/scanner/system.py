"""Which operating system this is, as plans and device managers name it."""

from __future__ import annotations

import sys


def system_name() -> str:
    """``linux``, ``windows`` or ``macos``; anything else counts as linux (its paths and tools are nearest)."""
    return {"win32": "windows", "darwin": "macos"}.get(sys.platform, "linux")
