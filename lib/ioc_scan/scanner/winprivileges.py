"""What lets SYSTEM and administrators reach and give back files that name others, as root may on POSIX systems."""

from __future__ import annotations

import functools
import sys

from . import winapi

assert sys.platform == "win32"

import ctypes  # noqa: E402
from ctypes import wintypes  # noqa: E402

#: Reading, and deleting or giving to another owner, whatever a file's own permissions say. They count only for
#: handles opened with FILE_OPEN_FOR_BACKUP_INTENT ("Privilege Constants" of Microsoft's reference).
_WANTED = ("SeBackupPrivilege", "SeRestorePrivilege")
_ADJUST, _QUERY = 0x20, 0x8
_ENABLED = 0x2


class _Luid(ctypes.Structure):
    _fields_ = (("low", wintypes.DWORD), ("high", wintypes.LONG))


class _Privilege(ctypes.Structure):
    """TOKEN_PRIVILEGES with one entry."""

    _pack_ = 4
    _fields_ = (("count", wintypes.DWORD), ("luid", _Luid), ("attributes", wintypes.DWORD))


_advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)
_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_own_process = winapi.declare(_kernel32, "GetCurrentProcess", wintypes.HANDLE)
_open_token = winapi.declare(
    _advapi32, "OpenProcessToken", wintypes.BOOL, wintypes.HANDLE, wintypes.DWORD,
    ctypes.POINTER(wintypes.HANDLE),
)  # fmt: skip
_look_up = winapi.declare(
    _advapi32, "LookupPrivilegeValueW", wintypes.BOOL, wintypes.LPCWSTR, wintypes.LPCWSTR,
    ctypes.POINTER(_Luid),
)  # fmt: skip
_adjust = winapi.declare(
    _advapi32, "AdjustTokenPrivileges", wintypes.BOOL, wintypes.HANDLE, wintypes.BOOL,
    ctypes.POINTER(_Privilege), wintypes.DWORD, ctypes.c_void_p, ctypes.c_void_p,
)  # fmt: skip


@functools.lru_cache(maxsize=None)
def use_privileges() -> None:
    """Use what this user may, once; what he may not changes nothing: files then refuse as they do."""
    token = wintypes.HANDLE()
    if not _open_token(_own_process(), _ADJUST | _QUERY, ctypes.byref(token)):
        return
    try:
        for name in _WANTED:
            wanted = _Privilege(1, _Luid(), _ENABLED)
            if _look_up(None, name, ctypes.byref(wanted.luid)):
                _adjust(token, False, ctypes.byref(wanted), 0, None, None)
    finally:
        winapi.close(token.value or 0)
