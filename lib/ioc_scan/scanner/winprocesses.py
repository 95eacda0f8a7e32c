"""Windows processes that run one very object, known by volume and file index, never by name.

The same doors as :mod:`.processes`. A process is held by a handle from the look at it to its end, so that its
number cannot become another's.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, Iterator

from . import winapi
from .errors import ScannerError
from .names import printable

assert sys.platform == "win32"

import ctypes  # noqa: E402
from ctypes import wintypes  # noqa: E402

_QUERY, _TERMINATE, _SYNCHRONIZE = 0x1000, 0x1, 0x100000
_SNAPSHOT_PROCESSES = 0x2
_BREAK_ON_TERMINATION = 29
_WAIT_MILLISECONDS = 3000
_EXIT_CODE = 9
_OF_DRIVES, _NATIVE = 0, 1  #: how QueryFullProcessImageNameW spells a path


class _Entry(ctypes.Structure):
    """PROCESSENTRY32W."""

    _fields_ = (
        ("dwSize", wintypes.DWORD),
        ("cntUsage", wintypes.DWORD),
        ("th32ProcessID", wintypes.DWORD),
        ("th32DefaultHeapID", ctypes.c_size_t),
        ("th32ModuleID", wintypes.DWORD),
        ("cntThreads", wintypes.DWORD),
        ("th32ParentProcessID", wintypes.DWORD),
        ("pcPriClassBase", wintypes.LONG),
        ("dwFlags", wintypes.DWORD),
        ("szExeFile", wintypes.WCHAR * 260),
    )


_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_ntdll = ctypes.WinDLL("ntdll")
_HANDLE, _DWORD, _BOOL = wintypes.HANDLE, wintypes.DWORD, wintypes.BOOL
_ENTRY = ctypes.POINTER(_Entry)


_snapshot = winapi.declare(_kernel32, "CreateToolhelp32Snapshot", _HANDLE, _DWORD, _DWORD)
_first = winapi.declare(_kernel32, "Process32FirstW", _BOOL, _HANDLE, _ENTRY)
_next = winapi.declare(_kernel32, "Process32NextW", _BOOL, _HANDLE, _ENTRY)
_open = winapi.declare(_kernel32, "OpenProcess", _HANDLE, _DWORD, _BOOL, _DWORD)
_image = winapi.declare(
    _kernel32, "QueryFullProcessImageNameW", _BOOL, _HANDLE, _DWORD, wintypes.LPWSTR, ctypes.POINTER(_DWORD)
)
_terminate = winapi.declare(_kernel32, "TerminateProcess", _BOOL, _HANDLE, wintypes.UINT)
_wait = winapi.declare(_kernel32, "WaitForSingleObject", _DWORD, _HANDLE, _DWORD)
_query = winapi.declare(
    _ntdll, "NtQueryInformationProcess", wintypes.LONG, _HANDLE, _DWORD, ctypes.c_void_p, _DWORD,
    ctypes.c_void_p,
)  # fmt: skip


def entries() -> list[tuple[int, int, str]]:
    """(process, parent, name) of all processes."""
    snapshot = _snapshot(_SNAPSHOT_PROCESSES, 0)
    if snapshot in (None, ctypes.c_void_p(-1).value):
        return []
    found = []
    try:
        entry = _Entry()
        entry.dwSize = ctypes.sizeof(entry)
        more = _first(snapshot, ctypes.byref(entry))
        while more:
            found.append((entry.th32ProcessID, entry.th32ParentProcessID, entry.szExeFile))
            more = _next(snapshot, ctypes.byref(entry))
    finally:
        winapi.close(snapshot)
    return found


@contextlib.contextmanager
def opened(pid: int, rights: int) -> Iterator[int | None]:
    """A handle of a process, None if it is gone or not for us."""
    handle = _open(rights, False, pid)
    try:
        yield handle
    finally:
        if handle:
            winapi.close(handle)


def _runs(process: int, device: int, inode: int) -> bool:
    """Whether the image of an open process is this object: its path leads there, in one of its spellings."""
    for spelling, prefix in ((_NATIVE, ""), (_OF_DRIVES, "\\??\\")):
        buffer = ctypes.create_unicode_buffer(32768)
        length = _DWORD(len(buffer))
        if not _image(process, spelling, buffer, ctypes.byref(length)):
            continue
        try:
            file = winapi.open_name(0, prefix + buffer.value, winapi.READ_ATTRIBUTES, winapi.SHARE_ALL, 0)
        except OSError:
            continue
        try:
            facts = winapi.facts(file)
        except OSError:
            continue
        finally:
            winapi.close(file)
        return (facts.serial, facts.file_index) == (device, inode)
    return False


def runs(pid: int, device: int, inode: int) -> bool:
    with opened(pid, _QUERY | _SYNCHRONIZE) as process:
        if not process or _wait(process, 0) == 0:  # an ended process is still there while somebody holds it
            return False
        return _runs(process, device, inode)


def running(device: int, inode: int) -> list[dict[str, Any]]:
    """``[{"pid", "name"}]`` of processes whose image is this object."""
    found = [{"pid": pid, "name": printable(name)} for pid, _, name in entries() if runs(pid, device, inode)]
    return sorted(found, key=lambda process: int(process["pid"]))


def _own_line() -> set[int]:
    """This process and all above it: ending one of them would end the response half-way."""
    parents = {pid: parent for pid, parent, _ in entries()}
    line = {0, 4}  # the idle process and the kernel's own
    pid = os.getpid()
    while pid and pid not in line:
        line.add(pid)
        pid = parents.get(pid, 0)
    return line


def _is_critical(process: int) -> bool:
    """Whether Windows stops as a whole when this process ends."""
    value = _DWORD()
    status = _query(process, _BREAK_ON_TERMINATION, ctypes.byref(value), ctypes.sizeof(value), None)
    return bool(status >= 0 and value.value)


def end(processes: list[dict[str, Any]], device: int, inode: int) -> None:
    """End these processes if they still run this object, and wait until they are gone.

    Raises ScannerError ``protected_process`` (ours, or one Windows cannot do without), ``process_survives``.
    """
    line = _own_line() if processes else set()
    for process in processes:
        with opened(process["pid"], _QUERY) as handle:
            if process["pid"] in line or (handle and _is_critical(handle)):
                raise ScannerError(
                    "protected_process", "the object is run by a process that Windows or the scanner needs"
                )
    for process in processes:
        _end_one(process["pid"], device, inode)


def _end_one(pid: int, device: int, inode: int) -> None:
    if not runs(pid, device, inode):
        return
    with opened(pid, _QUERY | _TERMINATE | _SYNCHRONIZE) as process:
        if not process:
            raise ScannerError("process_survives", f"cannot end process {pid}: not permitted")
        if not _runs(process, device, inode):
            return
        if not _terminate(process, _EXIT_CODE) and _wait(process, 0) != 0:
            raise ScannerError("process_survives", f"cannot end process {pid}")
        if _wait(process, _WAIT_MILLISECONDS) != 0:
            raise ScannerError("process_survives", "a process running the object does not end")
