"""What /proc tells about processes, read with as few calls as possible: scans must not be felt."""

from __future__ import annotations

import os
from typing import NamedTuple

PROC = "/proc"
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
#: Linux allows arguments of megabytes; what tells processes apart comes first.
_MAX_BYTES = 256 * 1024
_PIECE_BYTES = 32 * 1024


class Stat(NamedTuple):
    """The parts of /proc/PID/stat that are used. ``start``: clock ticks since the machine started."""

    name: bytes
    parent: int
    kernel_thread: bool
    start: int


def pids() -> list[int]:
    """All processes that are listed. Raises OSError."""
    return sorted(int(name) for name in os.listdir(PROC) if name.isdigit())


def read(path: str, limit: int = _MAX_BYTES) -> bytes:
    """The start of a file of the kernel. Raises OSError.

    Read to its end: tables are given out by whole lines, so a short piece says nothing about what follows.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        first = part = os.read(descriptor, min(limit, _PIECE_BYTES))
        parts = [first]
        left = limit - len(first)
        while part and left > 0:
            part = os.read(descriptor, min(left, _PIECE_BYTES))
            parts.append(part)
            left -= len(part)
        return b"".join(parts) if len(parts) > 2 else first
    finally:
        os.close(descriptor)


def read_stat(pid: int) -> Stat:
    """Raises OSError (it ended)."""
    content = read(f"{PROC}/{pid}/stat")
    head, _, tail = content.rpartition(b")")
    fields = tail.split()
    kernel = bool(int(fields[6]) & 0x00200000)  # PF_KTHREAD
    return Stat(head.partition(b"(")[2], int(fields[1]), kernel, int(fields[19]))


def executable(pid: int) -> tuple[str, bool]:
    """(path, whether its name is gone) of what a process runs. Raises OSError: FileNotFoundError if none."""
    path = os.readlink(f"{PROC}/{pid}/exe")
    if path.endswith(" (deleted)") and not os.path.lexists(path):
        return path[: -len(" (deleted)")], True
    return path, False


def uid_of(pid: int) -> int:
    """The real user of a process. Raises OSError."""
    for line in read(f"{PROC}/{pid}/status").split(b"\n"):
        if line.startswith(b"Uid:"):
            return int(line.split()[1])
    raise FileNotFoundError(2, "no Uid in status")


def seconds_since_boot() -> float:
    return float(read(PROC + "/uptime").split()[0])


def boot_moment() -> int:
    """Seconds since 1970 at which this machine started. Raises OSError."""
    for line in read(PROC + "/stat").split(b"\n"):
        if line.startswith(b"btime "):
            return int(line.split()[1])
    raise FileNotFoundError(2, "no btime in /proc/stat")


def start_seconds(stat: Stat, boot: int) -> float:
    """When a process started, in seconds since 1970."""
    return boot + stat.start / _TICKS
