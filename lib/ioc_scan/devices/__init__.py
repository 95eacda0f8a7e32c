"""Device managers: the engines that reach devices, one file each, behind :mod:`ioc_scan.devices.base`.

Managers are imported when they are first asked for, so that one engine's library is no burden to another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..clock import Clock, system_clock
from ..errors import ConfigError
from ..text import printable
from .base import DeviceManager

#: The values of ``type`` in config.
MANAGER_TYPES = ("local", "ssh", "salt", "ksc")


def build_manager(entry: Mapping[str, Any], *, clock: Clock = system_clock) -> DeviceManager:
    """One entry of ``device_managers`` in config becomes a manager. Raises ConfigError, reaches no device."""
    kind = entry.get("type")
    if kind == "local":
        from .local import LocalManager

        return LocalManager.from_config(entry, clock=clock)
    if kind == "ssh":
        from .ssh import SshManager

        return SshManager.from_config(entry, clock=clock)
    if kind == "salt":
        from .salt import SaltManager

        return SaltManager.from_config(entry, clock=clock)
    if kind == "ksc":
        from .ksc import KscManager

        return KscManager.from_config(entry, clock=clock)
    raise ConfigError(
        "manager_type_unknown",
        f"device manager {printable(entry.get('name'))} has the unknown type {printable(kind)}",
        f"use one of: {', '.join(MANAGER_TYPES)}",
    )


def build_managers(
    config: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, clock: Clock = system_clock
) -> dict[str, DeviceManager]:
    """All managers of a config (or of its ``device_managers`` list) by name. Raises ConfigError."""
    entries = config.get("device_managers") or [] if isinstance(config, Mapping) else config
    managers: dict[str, DeviceManager] = {}
    for entry in entries:
        manager = build_manager(entry, clock=clock)
        if manager.name in managers:
            raise ConfigError(
                "manager_name_twice",
                f"two device managers are called {printable(manager.name)}",
                "names are how policies and tasks tell managers apart: rename one",
            )
        managers[manager.name] = manager
    return managers
