"""What the Linux kernel says of itself, held against what else is seen of it. Its memory is not read."""

from __future__ import annotations

import os
import time
from typing import Callable

from ..documents import procfs
from ..documents.processes import process_name
from .area import Area, Context

_NOT_LOOKED_AT = "live kernel memory is not looked at"
#: Bits of /proc/sys/kernel/tainted (Documentation/admin-guide/tainted-kernels): severity and meaning.
_TAINTS = {
    0: ("note", "a module that is not free software was loaded"),
    1: ("suspicious", "a module was loaded by force"),
    2: ("note", "the kernel runs on hardware it was not made for"),
    3: ("suspicious", "a module was removed by force"),
    4: ("note", "the processor reported an error"),
    5: ("note", "a damaged memory page was met"),
    6: ("note", "a program asked for the mark"),
    7: ("note", "the kernel met an error of its own"),
    8: ("suspicious", "tables of the firmware were overridden"),
    9: ("note", "the kernel warned"),
    10: ("note", "a driver under construction was loaded"),
    11: ("note", "a firmware fault is worked around"),
    12: ("note", "a module from outside the kernel's own source was loaded"),
    13: ("note", "a module without a valid signature was loaded"),
    14: ("note", "the kernel was locked up for some time"),
    15: ("note", "the kernel was patched while it ran"),
    16: ("note", "the distribution's own mark"),
    17: ("note", "the kernel was built with a random layout of structures"),
    18: ("note", "a kernel for tests runs"),
}
_PROBE_SECONDS = 2.0


def scan(area: Area, context: Context) -> None:
    if context.root is not None:
        area.unsupported("the device is a folder tree: no kernel runs on it")
        return
    if context.system != "linux":
        area.unsupported("nothing open looks at the kernel of this system")
        return
    area.say("as the kernel reports itself; " + _NOT_LOOKED_AT)
    _look_at_modules(area)
    _look_at_taint(area)
    _look_at_preload(area)
    _look_for_hidden_processes(area, context)


def _look_at_modules(area: Area) -> None:
    """The list of modules and the tree of modules are kept apart: who leaves one may forget the other."""
    try:
        with open(procfs.PROC + "/modules", "rb") as stream:
            listed = {line.split(b" ", 1)[0].decode("ascii", "replace") for line in stream}
    except FileNotFoundError:
        return  # a kernel without modules
    folder = "/sys/module"
    loaded = set()
    for name in os.listdir(folder):
        try:
            with open(os.path.join(folder, name, "initstate"), "rb") as stream:
                if stream.read(16).strip() == b"live":
                    loaded.add(name)
        except OSError:
            continue  # built in, or on its way in or out
    area.looked_at += len(listed | loaded)
    for name in sorted(loaded - listed):
        if not _listed_now(name):
            area.find("hidden_module", "suspicious", name, "loaded, but not in the kernel's list of modules")
    for name in sorted(listed - loaded):
        if _listed_now(name) and not os.path.isdir(os.path.join(folder, name)):
            area.find("hidden_module", "suspicious", name, "in the list of modules, but not in /sys/module")
    for name in sorted(loaded):
        taint = _short(os.path.join(folder, name, "taint"))
        if set(taint) & set("FE") or "O" in taint:
            detail = f"marked {taint} (F: by force, E: not signed, O: not of the kernel's own source)"
            area.find("foreign_module", "suspicious" if "F" in taint else "note", name, detail)


def _listed_now(name: str) -> bool:
    """Modules come and go while we look."""
    with open(procfs.PROC + "/modules", "rb") as stream:
        return any(line.split(b" ", 1)[0] == name.encode() for line in stream)


def _short(path: str) -> str:
    try:
        return procfs.read(path, 4096).decode("ascii", "replace").strip()
    except OSError:
        return ""


def _look_at_taint(area: Area) -> None:
    text = _short(procfs.PROC + "/sys/kernel/tainted")
    area.looked_at += 1
    for bit, (severity, meaning) in _TAINTS.items():
        if text.isdigit() and int(text) & (1 << bit):
            area.find("tainted_kernel", severity, f"taint bit {bit}", meaning)


def _look_at_preload(area: Area) -> None:
    """Hardly any machine has this file; libraries in it are loaded into every process."""
    text = _short("/etc/ld.so.preload")
    area.looked_at += 1
    if text:
        area.find("preload_everywhere", "suspicious", "/etc/ld.so.preload", " ".join(text.split()))


def _look_for_hidden_processes(area: Area, context: Context) -> None:
    """Processes that answer but are not listed in /proc."""
    if not os.access(procfs.PROC + "/1/stat", os.R_OK):  # mounted with hidepid
        area.refuse("this user is not shown all processes, so hidden ones cannot be told")
        return
    last = _last_pid()
    listed = set(procfs.pids())
    area.looked_at += len(listed)
    deadline = time.monotonic() + _PROBE_SECONDS
    exists = _prober()
    for pid in range(1, last + 1):
        if pid & 0xFFF == 0:
            context.go_on()
            if time.monotonic() > deadline:
                area.say(f"hidden processes were looked for up to number {pid} of {last}")
                break
        if pid not in listed and exists(pid) and _is_hidden(pid, exists):
            area.find("hidden_process", "suspicious", _name(pid), f"process {pid} is not listed", pid=pid)


def _last_pid() -> int:
    """The highest number that can be in use: numbers are given upwards and start again at the end."""
    last = int(procfs.read(procfs.PROC + "/loadavg").split()[-1])
    if max(procfs.pids()) > last:
        return int(procfs.read(procfs.PROC + "/sys/kernel/pid_max"))
    return last


def _prober() -> Callable[[int], bool]:
    """Whether a number belongs to a process or thread, without an exception for each that does not."""
    import ctypes

    kill = ctypes.CDLL(None, use_errno=True).kill

    def exists(pid: int) -> bool:
        return bool(kill(pid, 0) == 0 or ctypes.get_errno() == 1)  # EPERM: somebody else's

    return exists


def _is_hidden(pid: int, exists: Callable[[int], bool]) -> bool:
    """Not a thread of a listed process, and there before and after a list that leaves it out.

    Whatever lives through the making of a list is on it, so one that began or ended meanwhile is no suspect.
    """
    for _ in range(2):
        before = _life(pid)
        if before == "thread" or not exists(pid) or pid in procfs.pids():
            return False
        if not exists(pid) or _life(pid) != before:
            return False
    return True


def _life(pid: int) -> str:
    """Tells one process from a later one of the same number; "thread" if it is none of its own."""
    try:
        for line in procfs.read(f"{procfs.PROC}/{pid}/status").split(b"\n"):
            if line.startswith(b"Tgid:") and int(line.split()[1]) != pid:
                return "thread"
        return str(procfs.read_stat(pid).start)
    except OSError:
        return "its folder cannot be opened"


def _name(pid: int) -> str:
    try:
        return process_name(pid)
    except OSError:
        return str(pid)
