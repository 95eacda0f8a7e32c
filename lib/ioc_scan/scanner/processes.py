"""Processes that run one very object, known by device and inode, never by name."""

from __future__ import annotations

import errno
import os
import signal
import time
from typing import Any

from .errors import ScannerError
from .names import printable

_PROC = "/proc"
_WAIT_SECONDS = 3.0


def _own_line() -> set[int]:
    """This process and all above it: ending one of them would end the response half-way."""
    line = {1}
    pid = os.getpid()
    while pid > 1 and pid not in line:
        line.add(pid)
        try:
            with open(f"{_PROC}/{pid}/stat", "rb") as stream:
                pid = int(stream.read().rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
    return line


def runs(pid: int, device: int, inode: int) -> bool:
    try:
        info = os.stat(
            f"{_PROC}/{pid}/exe"
        )  # the kernel's link leads to the object, also when it was renamed
    except OSError:
        return False
    return (info.st_dev, info.st_ino) == (device, inode)


def running(device: int, inode: int) -> list[dict[str, Any]]:
    """``[{"pid", "name"}]`` of processes whose executable is this object; empty where there is no /proc."""
    found = []
    try:
        names = os.listdir(_PROC)
    except OSError:
        return []
    for entry in names:
        if entry.isdigit() and runs(int(entry), device, inode):
            try:
                with open(f"{_PROC}/{entry}/comm", "rb") as stream:
                    name = stream.read(64).decode("utf-8", "replace").strip()
            except OSError:
                name = ""
            found.append({"pid": int(entry), "name": printable(name)})
    return sorted(found, key=lambda process: int(process["pid"]))


def end(processes: list[dict[str, Any]], device: int, inode: int) -> None:
    """End these processes if they still run this object, and wait until they are gone.

    Raises ScannerError ``protected_process`` (ours, or the first process), ``process_survives``.
    """
    line = _own_line()
    for process in processes:
        if process["pid"] in line:
            raise ScannerError("protected_process", "the object is run by a process the scanner depends on")
    for process in processes:
        _kill(process["pid"], device, inode)
    deadline = time.monotonic() + _WAIT_SECONDS
    while any(runs(process["pid"], device, inode) for process in processes):
        if time.monotonic() > deadline:
            raise ScannerError("process_survives", "a process running the object does not end")
        time.sleep(0.02)


def _kill(pid: int, device: int, inode: int) -> None:
    """SIGKILL through a pidfd where there is one: looked at after it was pinned, the pid cannot be
    another's.
    """
    open_pid = getattr(os, "pidfd_open", None)  # Python 3.9, Linux 5.3
    descriptor = -1
    try:
        if open_pid is not None:
            descriptor = open_pid(pid)
        if not runs(pid, device, inode):
            return
        if descriptor >= 0:
            getattr(signal, "pidfd_send_signal")(descriptor, signal.SIGKILL)  # noqa: B009
        else:
            os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    except OSError as error:
        if descriptor >= 0 or error.errno != errno.ENOSYS:  # else: an old kernel without pidfd
            raise ScannerError("process_survives", f"cannot end process {pid}: {error.strerror}") from None
        os.kill(pid, signal.SIGKILL)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
