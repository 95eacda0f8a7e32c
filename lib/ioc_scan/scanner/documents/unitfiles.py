"""systemd's unit files read as systemd reads them: order of folders, drop-ins, what is started by itself."""

from __future__ import annotations

import os
import shlex
from typing import Iterator, NamedTuple

#: First come, first served: what an administrator writes goes before what packages bring.
SYSTEM_FOLDERS = (
    "/etc/systemd/system", "/run/systemd/system", "/run/systemd/generator", "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system", "/lib/systemd/system",
)  # fmt: skip
USER_FOLDERS = (
    "/etc/systemd/user",
    "/usr/local/lib/systemd/user",
    "/usr/lib/systemd/user",
    "/lib/systemd/user",
)
_MAX_BYTES = 256 * 1024
_PREFIXES = "-@:+!|"
#: Keys that may be given several times and then count all; the others: the last one counts.
_LISTS = frozenset(("ExecStart", "ExecStartPre", "ExecStartPost", "ExecStop", "ExecReload"))


class Unit(NamedTuple):
    """One unit. ``files``: the unit file and its drop-ins. ``mode``: as ``systemctl is-enabled`` says."""

    name: str
    files: tuple[str, ...]
    values: dict[str, list[str]]
    mode: str


def commands(unit: Unit, keys: tuple[str, ...] = ("ExecStart",)) -> list[list[str]]:
    """The command lines of a unit as words, without systemd's prefixes."""
    found = []
    for key in keys:
        for text in unit.values.get(key, ()):
            try:
                words = shlex.split(text.lstrip(_PREFIXES))
            except ValueError:
                words = text.lstrip(_PREFIXES).split()
            if words:
                found.append(words)
    return found


def units(
    folders: tuple[str, ...], root: str = "", suffixes: tuple[str, ...] = (".service",)
) -> Iterator[Unit]:
    """The units of these folders below ``root``, each once."""
    places = [root + folder for folder in folders]
    places = [place for number, place in enumerate(places) if _is_first(place, places[:number])]
    started = _started(places)
    seen = set()
    for place in places:
        for name in _names(place):
            if name.endswith(suffixes) and name not in seen:
                seen.add(name)
                yield _unit(os.path.join(place, name), name, places, started)


def _is_first(place: str, earlier: list[str]) -> bool:
    """/lib is a link to /usr/lib nearly everywhere: the same folder twice."""
    return os.path.realpath(place) not in map(os.path.realpath, earlier)


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _started(places: list[str]) -> set[str]:
    """Names that some target, socket or service wants; of ``a@b.service`` also ``a@.service``."""
    found = set()
    for place in places:
        for folder in _names(place):
            if folder.endswith((".wants", ".requires", ".upholds")):
                for name in _names(os.path.join(place, folder)):
                    found.add(name)
                    stem, at, rest = name.partition("@")
                    if at:
                        found.add(stem + "@." + rest.rpartition(".")[2])
    return found


def _unit(path: str, name: str, places: list[str], started: set[str]) -> Unit:
    if os.path.islink(path) and os.readlink(path) == "/dev/null":
        return Unit(name, (path,), {}, "masked")
    files = [path]
    for place in places:
        folder = os.path.join(place, name + ".d")
        files += [os.path.join(folder, entry) for entry in _names(folder) if entry.endswith(".conf")]
    values: dict[str, list[str]] = {}
    for file in files:
        _read(file, values)
    if os.path.islink(path) and os.path.basename(os.readlink(path)) != name:
        mode = "alias"
    elif name in started:
        mode = "enabled"
    else:
        mode = "disabled" if values.get("[Install]") else "static"
    return Unit(name, tuple(files), values, mode)


def _read(path: str, values: dict[str, list[str]]) -> None:
    try:
        # A pipe put there instead of a file must not hang the scan.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            text = os.fsdecode(stream.read(_MAX_BYTES))
    except OSError:
        return
    for line in text.replace("\\\n", " ").splitlines():
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("["):
            values.setdefault(line, [""])
            continue
        key, equals, value = line.partition("=")
        key, value = key.strip(), value.strip()
        if not equals:
            continue
        if key in _LISTS and value:
            values.setdefault(key, []).append(value)
        else:  # an empty value takes back what was said before
            values[key] = [value] if value else []
