"""Ids the service gives out: short, sortable by time, safe in paths, commands and URLs."""

from __future__ import annotations

import secrets
from datetime import datetime


def new_id(prefix: str, now: datetime) -> str:
    """``prefix-YYYYMMDD-HHMMSS-xxxxxxxx``: unique enough for one installation, readable by people."""
    return f"{prefix}-{now.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"
