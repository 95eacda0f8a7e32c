"""Ids the service gives out: short, sortable by time, safe in paths, commands and URLs."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import datetime


def new_id(prefix: str, now: datetime) -> str:
    """``prefix-YYYYMMDD-HHMMSS-xxxxxxxx``: unique enough for one installation, readable by people."""
    return f"{prefix}-{now.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"


def named_devices(devices: Iterable[str] | None) -> frozenset[str]:
    """The devices a person named. None named, or ``*`` (no device has that id), means all: an empty set.

    Chat sends ``*``, because StackStorm cannot leave an array out of a chat command.
    """
    names = frozenset(devices or ())
    return frozenset() if "*" in names else names
