"""Processes and connections of Windows, asked of the system itself, in the words of its PowerShell lists."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import ctypes  # noqa: E402
import socket  # noqa: E402
from ctypes import wintypes  # noqa: E402
from typing import Any, Dict, Iterator  # noqa: E402

from .. import winapi  # noqa: E402
from ..winprocesses import entries, opened  # noqa: E402
from ..winsecurity import account_of  # noqa: E402

Entry = Dict[str, Any]

_QUERY_LIMITED = 0x1000
_COMMAND_LINE = 60  #: ProcessCommandLineInformation, since Windows 8.1
_TCP_ALL_WITH_OWNER, _UDP_WITH_OWNER = 5, 1
_TOO_SMALL = 122
#: What Wine says of a table that changes while it is read.
_OUT_OF_MEMORY = 14
_TRIES = 50
#: Seconds between 1601, where Windows' times begin, and 1970.
_EPOCH_SECONDS = 11644473600

_HANDLE, _DWORD, _BOOL, _VOID = wintypes.HANDLE, wintypes.DWORD, wintypes.BOOL, ctypes.c_void_p
_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_ntdll = ctypes.WinDLL("ntdll")
_iphlpapi = ctypes.WinDLL("iphlpapi")
_P_DWORD = ctypes.POINTER(_DWORD)
_image = winapi.declare(
    _kernel32, "QueryFullProcessImageNameW", _BOOL, _HANDLE, _DWORD, wintypes.LPWSTR, _P_DWORD
)
_times = winapi.declare(_kernel32, "GetProcessTimes", _BOOL, _HANDLE, _VOID, _VOID, _VOID, _VOID)
_query = winapi.declare(
    _ntdll, "NtQueryInformationProcess", wintypes.LONG, _HANDLE, _DWORD, _VOID, _DWORD, _P_DWORD
)
_tcp = winapi.declare(
    _iphlpapi, "GetExtendedTcpTable", _DWORD, _VOID, _P_DWORD, _BOOL, _DWORD, _DWORD, _DWORD
)
_udp = winapi.declare(
    _iphlpapi, "GetExtendedUdpTable", _DWORD, _VOID, _P_DWORD, _BOOL, _DWORD, _DWORD, _DWORD
)


class _Tcp4(ctypes.Structure):
    _fields_ = (
        ("state", _DWORD), ("local", ctypes.c_ubyte * 4), ("local_port", _DWORD),
        ("remote", ctypes.c_ubyte * 4), ("remote_port", _DWORD), ("pid", _DWORD),
    )  # fmt: skip


class _Tcp6(ctypes.Structure):
    _fields_ = (
        ("local", ctypes.c_ubyte * 16), ("local_scope", _DWORD), ("local_port", _DWORD),
        ("remote", ctypes.c_ubyte * 16), ("remote_scope", _DWORD), ("remote_port", _DWORD),
        ("state", _DWORD), ("pid", _DWORD),
    )  # fmt: skip


class _Udp4(ctypes.Structure):
    _fields_ = (("local", ctypes.c_ubyte * 4), ("local_port", _DWORD), ("pid", _DWORD))


class _Udp6(ctypes.Structure):
    _fields_ = (
        ("local", ctypes.c_ubyte * 16),
        ("local_scope", _DWORD),
        ("local_port", _DWORD),
        ("pid", _DWORD),
    )


def processes() -> Iterator[Entry]:
    """All processes. What may not be looked at by this user is None."""
    for pid, parent, name in entries():
        entry: Entry = {"ProcessId": pid, "ParentProcessId": parent, "Name": name}
        with opened(pid, _QUERY_LIMITED) as process:
            if process:
                entry["ExecutablePath"] = _path(process)
                entry["CommandLine"] = _command_line(process)
                entry["CreationDate"] = _started(process)
                entry["User"] = _user(process)
        yield entry


def _path(process: int) -> str | None:
    buffer = ctypes.create_unicode_buffer(32768)
    length = _DWORD(len(buffer))
    return buffer.value if _image(process, 0, buffer, ctypes.byref(length)) else None


def _command_line(process: int) -> str | None:
    """A UNICODE_STRING with its text behind it."""
    size = _DWORD()
    _query(process, _COMMAND_LINE, None, 0, ctypes.byref(size))
    if not 0 < size.value <= 1 << 20:
        return None
    buffer = ctypes.create_string_buffer(size.value)
    if _query(process, _COMMAND_LINE, buffer, size.value, ctypes.byref(size)) < 0:
        return None
    length = int.from_bytes(buffer.raw[:2], "little")
    text = buffer.raw[2 * ctypes.sizeof(_VOID) :][:length]
    return text.decode("utf-16-le", "surrogatepass")


def _started(process: int) -> float | None:
    """Seconds since 1970."""
    times = (ctypes.c_uint64 * 4)()
    at = ctypes.addressof(times)
    if not _times(process, at, at + 8, at + 16, at + 24):
        return None
    return times[0] / 10**7 - _EPOCH_SECONDS if times[0] else None


def _user(process: int) -> str | None:
    try:
        return account_of(process)
    except OSError:
        return None


def connections() -> Iterator[tuple[Entry, str]]:
    """(connection, ``TCP`` or ``UDP``) of all sockets. Raises OSError."""
    for family in (socket.AF_INET, socket.AF_INET6):
        six = family == socket.AF_INET6
        for row in _table(_tcp, family, _TCP_ALL_WITH_OWNER, _Tcp6 if six else _Tcp4):
            yield {**_local(row, family), **_remote(row, family), "State": row.state}, "TCP"
        for row in _table(_udp, family, _UDP_WITH_OWNER, _Udp6 if six else _Udp4):
            yield _local(row, family), "UDP"


def _local(row: Any, family: int) -> Entry:
    return {
        "LocalAddress": socket.inet_ntop(family, bytes(row.local)),
        "LocalPort": _port(row.local_port),
        "OwningProcess": row.pid,
    }


def _remote(row: Any, family: int) -> Entry:
    return {
        "RemoteAddress": socket.inet_ntop(family, bytes(row.remote)),
        "RemotePort": _port(row.remote_port),
    }


def _port(value: int) -> int:
    """In the order of the network, in the lower half."""
    return socket.ntohs(value & 0xFFFF)


def _table(function: Any, family: int, kind: int, row: Any) -> list[Any]:
    """The rows of one table; it may grow between the question for its size and the one for it."""
    size = _DWORD(0)
    buffer = None
    error = 0
    for _ in range(_TRIES):
        error = function(buffer, ctypes.byref(size), False, family, kind, 0)
        if error == _TOO_SMALL:
            size.value += 4096
            buffer = ctypes.create_string_buffer(size.value)
        elif error == 0:
            if buffer is None:
                return []
            count = _DWORD.from_buffer(buffer).value
            return list((row * count).from_buffer(buffer, ctypes.sizeof(_DWORD)))
        elif error != _OUT_OF_MEMORY:
            break
    raise ctypes.WinError(error)
