"""Processes of a Linux device, from /proc."""

from __future__ import annotations

import functools
import os
from typing import Any, Iterator

_DELETED = " (deleted)"


def read_text(path: str, limit: int = 1 << 20) -> str | None:
    """A file of the kernel as text, or None if it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return os.fsdecode(stream.read(limit))
    except OSError:
        return None


@functools.lru_cache(maxsize=1024)
def user_name(uid: int) -> str | None:
    """The account of a user id."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


@functools.lru_cache(maxsize=1024)
def group_name(gid: int) -> str | None:
    """The group of a group id."""
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return None


def process_ids() -> list[int]:
    """All processes but this one, whose own command line would match what it looks for. Raises OSError."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid())


def executable(pid: int) -> str | None:
    """The path of a process's executable as the kernel names it; None for kernel threads and foreign ones."""
    try:
        path = os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return None
    return path[: -len(_DELETED)] if path.endswith(_DELETED) else path


def name_of(pid: int, path: str | None) -> str | None:
    """The name of a process: in full where its executable tells it, else the kernel's 15 characters."""
    comm = (read_text(f"/proc/{pid}/comm") or "").rstrip("\n")
    if path is not None and comm and os.path.basename(path).startswith(comm):
        return os.path.basename(path)
    return comm or None


def processes() -> Iterator[dict[str, Any]]:
    """ProcessItems. Raises OSError where there is no /proc."""
    boot = _boot_time()
    ticks = os.sysconf("SC_CLK_TCK")
    for pid in process_ids():
        stat = read_text(f"/proc/{pid}/stat")
        if stat is None:  # ended meanwhile
            continue
        fields = stat.rpartition(")")[2].split()
        path = executable(pid)
        words = (read_text(f"/proc/{pid}/cmdline") or "").rstrip("\0").split("\0")
        try:
            owner = user_name(os.stat(f"/proc/{pid}").st_uid)
        except OSError:
            owner = None
        yield {
            "pid": pid,
            "parentpid": int(fields[1]),
            "name": name_of(pid, path),
            "path": path,
            "arguments": " ".join(words) or None,
            "startTime": None if boot is None else boot + int(int(fields[19]) / ticks),
            "Username": owner,
        }


def _boot_time() -> int | None:
    for line in (read_text("/proc/stat") or "").splitlines():
        if line.startswith("btime "):
            return int(line.split()[1])
    return None
