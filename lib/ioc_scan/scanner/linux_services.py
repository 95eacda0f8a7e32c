"""Services of a Linux device: systemd's unit files and what of them runs, and scripts of /etc/init.d."""

from __future__ import annotations

import os
import shlex
from typing import Any, Iterator

from .linux_processes import read_text

#: First come, first served: what an administrator writes goes before what packages bring.
_UNIT_FOLDERS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
_MAX_UNIT_BYTES = 256 * 1024
_PREFIXES = "-@:+!"


def services() -> Iterator[dict[str, Any]]:
    """ServiceItems."""
    seen = set()
    started = _wanted()
    for folder in _UNIT_FOLDERS:
        for name in _names(folder):
            if name.endswith(".service") and name not in seen:
                seen.add(name)
                item = _unit(os.path.join(folder, name), name)
                if item is not None:
                    item["mode"] = "auto" if name in started else "manual"
                    yield item
    for name in _names("/etc/init.d"):
        if name + ".service" not in seen and os.access("/etc/init.d/" + name, os.X_OK):
            yield {"name": name, "path": "/etc/init.d/" + name, "type": "init.d"}


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _wanted() -> set[str]:
    """Units that some target starts."""
    return {
        unit
        for folder in _UNIT_FOLDERS
        for target in _names(folder)
        if target.endswith((".wants", ".requires"))
        for unit in _names(os.path.join(folder, target))
    }


def _unit(path: str, name: str) -> dict[str, Any] | None:
    text = read_text(path, _MAX_UNIT_BYTES)
    if text is None:
        return None
    values: dict[str, str] = {}
    for line in text.replace("\\\n", " ").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith(("#", ";")):
            values.setdefault(key.strip(), value.strip())
    command = values.get("ExecStart", "").lstrip(_PREFIXES)
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    pid = _main_process(name)
    return {
        "name": name[: -len(".service")],
        "description": values.get("Description"),
        "path": words[0] if words else None,
        "arguments": " ".join(words[1:]) or None,
        "startedAs": values.get("User", "root"),
        "type": values.get("Type", "simple"),
        "status": "running" if pid is not None else "stopped",
        "pid": pid,
    }


def _main_process(name: str) -> int | None:
    """The first process in the unit's control group."""
    for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd"):
        lines = (read_text(f"{root}/system.slice/{name}/cgroup.procs") or "").split()
        if lines and lines[0].isdigit():
            return int(lines[0])
    return None
