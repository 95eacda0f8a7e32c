"""The inventory of an SSH fleet: a YAML or JSON file named in config, never values in it.

::

    defaults: {username: ioc_scan, port: 22, spool: /var/lib/ioc_scan/spool}
    groups:
      - name: servers
        description: what people call them
        devices:
          - {id: web01, host: 192.0.2.10, os: linux, tags: [dmz]}

A device may set username, port, spool, python, jump (the id of another device of this inventory) and root
(scans and responses stay inside this folder tree). It may be in several groups under the same id: it is then
written out once and named by ``{id: web01}`` elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from ..errors import ConfigError
from ..text import printable
from .base import DEVICE_ID, Device, Group, Online

DEFAULT_SPOOL = "/var/lib/ioc_scan/spool"
MAX_BYTES = 32 * 1024 * 1024
_KEYS = frozenset({"id", "host", "port", "username", "spool", "python", "jump", "root", "os", "tags"})
_SYSTEMS = ("linux", "windows", "macos", "unknown")


@dataclass(frozen=True)
class Host:
    """How one device is reached."""

    device_id: str
    address: str
    port: int
    username: str | None
    spool: str
    python: str | None
    jump: str | None
    root: str | None
    os: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Inventory:
    """Groups in file order, hosts by device id."""

    groups: dict[str, tuple[Group, tuple[str, ...]]]
    hosts: dict[str, Host]

    def devices(self, group: str) -> list[Device] | None:
        if group not in self.groups:
            return None
        hosts = [self.hosts[device_id] for device_id in self.groups[group][1]]
        return [Device(host.device_id, group, host.os, Online.UNKNOWN, host.tags) for host in hosts]


def load_inventory(path: Path) -> Inventory:
    """Raises ConfigError ``inventory_unreadable`` or ``inventory_invalid``, naming the place in the file."""
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            "inventory_unreadable",
            f"the inventory {printable(path)} cannot be read: {error.strerror}",
            "inventory_file is a path on every host that runs actions, readable by their user",
        ) from error
    if len(content) > MAX_BYTES:
        raise _invalid(path, f"it is larger than {MAX_BYTES // 2**20} MiB")
    try:
        # The C parser reads ten thousand devices in a second, the other takes ten times as long.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        raw = json.loads(content) if path.suffix == ".json" else yaml.load(content, Loader=loader)  # noqa: S506
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise _invalid(path, f"it is not {'JSON' if path.suffix == '.json' else 'YAML'}: {error}") from None
    if not isinstance(raw, dict):
        raise _invalid(path, "it is not an object with groups")
    return _read(path, raw)


def _read(path: Path, raw: Mapping[str, Any]) -> Inventory:
    if unknown := set(raw) - {"defaults", "groups"}:
        raise _invalid(path, f"unknown key {printable(min(map(str, unknown)), 60)}")
    defaults = raw.get("defaults") or {}
    groups: dict[str, tuple[Group, tuple[str, ...]]] = {}
    hosts: dict[str, Host] = {}
    named: list[tuple[str, str]] = []
    for number, entry in enumerate(raw.get("groups") or []):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name or name in groups:
            raise _invalid(path, f"group {number + 1} has no name of its own")
        ids = []
        for device in entry.get("devices") or []:
            where = f"a device of group {printable(name, 60)}"
            device_id = device.get("id") if isinstance(device, dict) else None
            if not isinstance(device_id, str) or not DEVICE_ID.fullmatch(device_id):
                raise _invalid(path, f"{where} has no usable id")
            ids.append(device_id)
            named.append((device_id, where))
            if set(device) != {"id"}:
                if device_id in hosts:
                    raise _invalid(path, f"device {device_id} is described twice")
                hosts[device_id] = _host(path, device_id, {**defaults, **device})
        groups[name] = (Group(name, str(entry.get("description") or "")), tuple(dict.fromkeys(ids)))
    for device_id, where in named:
        if device_id not in hosts:
            raise _invalid(path, f"{where}, {device_id}, is described nowhere")
    for host in hosts.values():
        if host.jump is not None and (host.jump not in hosts or hosts[host.jump].jump is not None):
            raise _invalid(
                path, f"the jump host of {host.device_id} is no directly reached device of this file"
            )
    return Inventory(groups, hosts)


def _host(path: Path, device_id: str, raw: Mapping[str, Any]) -> Host:
    if unknown := set(raw) - _KEYS:
        raise _invalid(
            path, f"device {device_id} has the unknown key {printable(min(map(str, unknown)), 60)}"
        )
    port = raw.get("port", 22)
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
        raise _invalid(path, f"the port of device {device_id} is not one")
    address = raw.get("host") or device_id
    spool = raw.get("spool") or DEFAULT_SPOOL
    system = raw.get("os") or "linux"
    for key, value in (("spool", spool), ("root", raw.get("root"))):
        if value is not None and not PurePosixPath(str(value)).is_absolute():
            raise _invalid(path, f"the {key} of device {device_id} is not an absolute path")
    if system not in _SYSTEMS:
        raise _invalid(path, f"the os of device {device_id} is none of {', '.join(_SYSTEMS)}")
    return Host(
        device_id=device_id,
        address=str(address),
        port=port,
        username=_text(raw.get("username")),
        spool=str(spool),
        python=_text(raw.get("python")),
        jump=_text(raw.get("jump")),
        root=_text(raw.get("root")),
        os=system,
        tags=tuple(str(tag) for tag in raw.get("tags") or ()),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _invalid(path: Path, why: str) -> ConfigError:
    return ConfigError(
        "inventory_invalid",
        f"the inventory {printable(path)} cannot be used: {printable(why)}",
        "docs/devices.md shows its form",
    )
