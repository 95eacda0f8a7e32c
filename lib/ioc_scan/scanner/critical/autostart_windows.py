"""Where Windows keeps what starts by itself: Run keys, Winlogon, start folders, tasks, services."""

from __future__ import annotations

import glob
import importlib
import os
import re
from typing import Any, Iterator

from .area import Area
from .autostart_linux import Found

_RUN = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Run"
_KEYS = (
    _RUN, _RUN + "Once", r"SOFTWARE\WOW6432Node\Microsoft\Windows\CurrentVersion\Run",
    r"SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\Explorer\Run",
    r"SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon",
)  # fmt: skip
_SERVICES = r"SYSTEM\CurrentControlSet\Services"
_PROGRAM = re.compile(
    r"[A-Za-z]:\\[^\"|<>*?:]*?\.(?:exe|dll|sys|bat|cmd|com|scr|ps1|vbs|js)(?=[\"\s,]|$)", re.IGNORECASE
)
_READ_64 = 0x20019 | 0x0100


def objects(root: str, area: Area) -> Iterator[Found]:
    """All objects that are there; of an entry in the registry the program it names is the object."""
    winreg: Any = importlib.import_module("winreg")
    for hive, prefix in _hives(winreg):
        for key in _KEYS:
            for value in _values(winreg, hive, prefix + key):
                for program in programs_of(value):
                    yield Found(program, None, [])
    for name in _names(winreg, winreg.HKEY_LOCAL_MACHINE, _SERVICES):
        for value in _values(winreg, winreg.HKEY_LOCAL_MACHINE, _SERVICES + "\\" + name, ("ImagePath",)):
            for program in programs_of(value):
                yield Found(program, None, [])
    for folder in (os.environ.get("PROGRAMDATA", ""), r"C:\Users\*\AppData\Roaming"):
        start = os.path.join(folder, r"Microsoft\Windows\Start Menu\Programs\Startup\*")
        for path in sorted(glob.glob(start)):
            yield Found(path, None, [])
    tasks = os.path.join(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "Tasks")
    for folder, _, names in os.walk(tasks, onerror=lambda error: area.refuse(f"tasks: {error.strerror}")):
        for name in sorted(names):
            yield Found(os.path.join(folder, name), None, [])


def programs_of(command: str) -> list[str]:
    """The files that a command line names in full: the program, and what it is told to load."""
    root = os.environ.get("SYSTEMROOT", r"C:\Windows")
    text = os.path.expandvars(command.strip())
    text = re.sub(r"^\\SystemRoot\\|^(?=system32\\)", lambda _: root + "\\", text, flags=re.IGNORECASE)
    return list(dict.fromkeys(_PROGRAM.findall(text)))


def _hives(winreg: Any) -> Iterator[tuple[Any, str]]:
    yield winreg.HKEY_LOCAL_MACHINE, ""
    for name in _names(winreg, winreg.HKEY_USERS, ""):
        yield winreg.HKEY_USERS, name + "\\"


def _names(winreg: Any, hive: Any, path: str) -> list[str]:
    try:
        with winreg.OpenKey(hive, path, 0, _READ_64) as key:
            return [winreg.EnumKey(key, number) for number in range(winreg.QueryInfoKey(key)[0])]
    except OSError:
        return []


def _values(winreg: Any, hive: Any, path: str, only: tuple[str, ...] = ()) -> list[str]:
    try:
        with winreg.OpenKey(hive, path, 0, _READ_64) as key:
            found = [winreg.EnumValue(key, number) for number in range(winreg.QueryInfoKey(key)[1])]
    except OSError:
        return []
    return [value for name, value, _ in found if isinstance(value, str) and (not only or name in only)]
