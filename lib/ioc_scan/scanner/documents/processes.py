"""ProcessItem: running processes. Linux tells them in /proc; elsewhere psutil, or the system's own list."""

from __future__ import annotations

import os
import subprocess
from datetime import datetime, timezone
from typing import Any, Iterator

from ..accounts import user_name
from . import procfs
from .base import IDENTITY, Fields, Item, Request, UnavailableError, decode

_ALL = frozenset(("arguments", "name", "parentpid", "path", "pid", "startTime", "Username"))
FIELDS: Fields = {"linux": _ALL, "windows": _ALL, "macos": _ALL}

#: The kernel keeps this much of a name; the rest is in the first argument.
_NAME_BYTES = 15


def collect(request: Request) -> Iterator[Item]:
    """All processes but this one: a scanner that is told what to look for would find itself."""
    if request.system == "linux":
        return _from_proc(request)
    return _from_psutil(request)


def path_and_folder(path: str) -> list[str]:
    """IOC files mean by ``path`` the executable or, after Mandiant's tools, the folder it lies in."""
    folder = os.path.dirname(path)
    return [path, folder] if folder and folder != path else [path]


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _from_proc(request: Request) -> Iterator[Item]:
    own = os.getpid()
    boot = procfs.boot_moment()
    refused = 0
    for pid in procfs.pids():
        if pid == own:
            continue
        try:
            stat = procfs.read_stat(pid)
            words = procfs.read(f"{procfs.PROC}/{pid}/cmdline")
            # All of it, also what was not asked for: 40 microseconds, and it is what a person wants to see.
            item: Item = {
                "pid": pid,
                "parentpid": stat.parent,
                "name": decode(_whole_name(stat.name, words)),
                "arguments": decode(words.rstrip(b"\0").replace(b"\0", b" ")),
                "startTime": moment(procfs.start_seconds(stat, boot)),
                "Username": user_name(procfs.uid_of(pid)),
                IDENTITY: f"{pid} {stat.start}",
            }
            refused += not _add_path(item, pid)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        yield item
    if refused:
        request.gap("path", f"the executables of {refused} processes may not be looked at by this user")


def _add_path(item: Item, pid: int) -> bool:
    try:
        item["path"] = path_and_folder(procfs.executable(pid)[0])
    except FileNotFoundError:
        item["path"] = []  # a thread of the kernel, or ended: there is none
    except PermissionError:
        return False
    return True


def process_name(pid: int) -> str:
    """The name of a process in full. Raises OSError (it ended)."""
    return decode(_whole_name(procfs.read_stat(pid).name, procfs.read(f"{procfs.PROC}/{pid}/cmdline")))


def _whole_name(name: bytes, words: bytes) -> bytes:
    """The name that the kernel cut, if the program or the script in the arguments goes on where it stops."""
    if len(name) < _NAME_BYTES:
        return name
    for word in words.split(b"\0", 3)[:3]:
        last = word.rpartition(b"/")[2]
        if last.startswith(name):
            return last
    return name


def _from_psutil(request: Request) -> Iterator[Item]:
    try:
        import psutil
    except ImportError:
        if request.system == "windows":
            from .windows import processes

            yield from processes(request)
            return
        raise UnavailableError("psutil is not on this device") from None
    own = os.getpid()
    refused: dict[str, int] = {}
    for process in psutil.process_iter():
        if process.pid == own:
            continue
        try:
            yield _psutil_item(process, psutil, request, refused)
        except psutil.NoSuchProcess:
            continue
    for field, count in refused.items():
        request.gap(field, f"{count} processes may not be looked at by this user")


def _psutil_item(process: Any, psutil: Any, request: Request, refused: dict[str, int]) -> Item:
    started = process.create_time()
    item: Item = {"pid": process.pid, IDENTITY: f"{process.pid} {started:.2f}", "startTime": moment(started)}
    readers = {
        "name": process.name,
        "parentpid": process.ppid,
        "arguments": lambda: subprocess.list2cmdline(process.cmdline()),
        "path": lambda: path_and_folder(process.exe()) if process.exe() else [],
        "Username": process.username,
    }
    for field, reader in readers.items():
        if field == "name" or request.wants(field):
            try:
                item[field] = reader()
            except (psutil.AccessDenied, OSError):  # OSError: not all of Windows answers under Wine
                refused[field] = refused.get(field, 0) + 1
    return item
