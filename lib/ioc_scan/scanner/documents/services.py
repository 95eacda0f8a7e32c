"""ServiceItem: what the system starts and keeps running. On Linux units of systemd and scripts of /etc/init.d."""

from __future__ import annotations

import os
from typing import Iterator

from . import unitfiles
from .base import IDENTITY, Fields, Item, Request, UnavailableError
from .commands import output

_COMMON = frozenset(
    ("arguments", "description", "mode", "name", "path", "pid", "startedAs", "status", "type")
)
FIELDS: Fields = {
    "linux": _COMMON,
    "windows": _COMMON | {"descriptiveName", "serviceDLL"},
    "macos": frozenset(),
}
_PROPERTIES = "Id,MainPID,ActiveState,SubState,UnitFileState,Description,ExecStart,User,Type"
#: systemd's word -> that word, and Windows' for it, which IOC files use.
_MODES = {"enabled": "SERVICE_AUTO_START", "static": "SERVICE_DEMAND_START", "disabled": "SERVICE_DISABLED"}
_MODES["masked"] = "SERVICE_DISABLED"


def collect(request: Request) -> Iterator[Item]:
    if request.system == "linux":
        return _from_units(request)
    if request.system == "windows":
        from .windows import services

        return services()
    raise UnavailableError("this scanner has no collector for it on this system")


def _from_units(request: Request) -> Iterator[Item]:
    loaded: dict[str, dict[str, str]] = {}
    if request.wants("pid", "status"):
        try:
            loaded = _loaded()
        except UnavailableError as error:
            for field in ("pid", "status"):
                request.gap(field, error.reason)
    for unit in unitfiles.units(unitfiles.SYSTEM_FOLDERS):
        yield _item(unit, loaded.pop(unit.name, None), bool(loaded))
    for name, state in sorted(loaded.items()):  # made while running, or an instance of a template
        yield _item(unitfiles.Unit(name, (), _values(state), state.get("UnitFileState", "")), state, True)
    for name in _scripts():
        yield {
            "name": name,
            "path": "/etc/init.d/" + name,
            "type": "init.d",
            "arguments": [],
            IDENTITY: "init.d " + name,
        }


def _item(unit: unitfiles.Unit, state: dict[str, str] | None, known: bool) -> Item:
    lines = unitfiles.commands(unit)
    item: Item = {
        "name": [unit.name, unit.name.rpartition(".")[0]],
        "description": (unit.values.get("Description") or [""])[-1],
        "path": [words[0] for words in lines],
        "arguments": [" ".join(words[1:]) for words in lines],
        "startedAs": (unit.values.get("User") or ["root"])[-1],
        "type": (unit.values.get("Type") or ["simple"])[-1],
        "mode": [unit.mode, *([_MODES[unit.mode]] if unit.mode in _MODES else [])],
        IDENTITY: "systemd " + unit.name,
    }
    if state is not None:
        running = state.get("ActiveState") == "active"
        windows = "SERVICE_RUNNING" if running else "SERVICE_STOPPED"
        item["status"] = [state.get("SubState", ""), state.get("ActiveState", ""), windows]
        pid = state.get("MainPID", "0")
        item["pid"] = int(pid) if pid.isdigit() and pid != "0" else []
    elif known:  # systemd has not even loaded it
        item["status"] = ["dead", "inactive", "SERVICE_STOPPED"]
        item["pid"] = []
    return item


def _loaded() -> dict[str, dict[str, str]]:
    """What systemd says of the services it has loaded. Raises UnavailableError."""
    if not os.path.isdir("/run/systemd/system"):
        raise UnavailableError("systemd does not run on this device")
    command = ["systemctl", "show", "--all", "--no-pager", "--property=" + _PROPERTIES, "*.service"]
    return parse_show(output(command))


def parse_show(content: bytes) -> dict[str, dict[str, str]]:
    """Units of ``systemctl show``: ``name=value`` lines, an empty line between units."""
    found = {}
    for block in content.decode("utf-8", "surrogateescape").split("\n\n"):
        values = dict(line.partition("=")[::2] for line in block.splitlines())
        if values.get("Id"):
            found[values["Id"]] = values
    return found


def _values(state: dict[str, str]) -> dict[str, list[str]]:
    """The values of a unit without a file, as its file would give them."""
    values = {key: [state[key]] for key in ("Description", "User", "Type") if state.get(key)}
    # { path=/usr/bin/x ; argv[]=/usr/bin/x -a ; ignore_errors=no ; ... }
    _, _, command = state.get("ExecStart", "").partition("argv[]=")
    if command:
        values["ExecStart"] = [command.partition(" ; ")[0]]
    return values


def _scripts() -> list[str]:
    try:
        names = sorted(os.listdir("/etc/init.d"))
    except OSError:
        return []
    return [name for name in names if os.access("/etc/init.d/" + name, os.X_OK)]
