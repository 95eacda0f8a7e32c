"""Services and volumes of Windows, asked of the system itself, in the words of its PowerShell lists."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import contextlib  # noqa: E402
import ctypes  # noqa: E402
import winreg  # noqa: E402
from ctypes import wintypes  # noqa: E402
from typing import Any, Dict, Iterator  # noqa: E402

from .. import winapi  # noqa: E402

Entry = Dict[str, Any]

_ENUMERATE, _QUERY_CONFIG = 0x4, 0x1
_PROCESS_INFO, _ALL_TYPES, _ALL_STATES = 0, 0x3B, 3
_DESCRIPTION = 1
_MORE_DATA, _NO_MORE_FILES = 234, 18
_MAX_BYTES = 1 << 18  #: what the service manager gives at once
_KEY = "SYSTEM\\CurrentControlSet\\Services\\"
_TYPES = {0x1: "Kernel Driver", 0x2: "File System Driver", 0x8: "Recognizer Driver", 0x4: "Adapter"}
_TYPES.update({0x10: "Own Process", 0x20: "Share Process"})
_STARTS = ("Boot", "System", "Auto", "Manual", "Disabled")
_STATES = {1: "Stopped", 2: "Start Pending", 3: "Stop Pending", 4: "Running", 5: "Continue Pending"}
_STATES.update({6: "Pause Pending", 7: "Paused"})
#: GetVolumeInformation fails for an empty drive; a dialog must never ask for a disc.
_NO_DIALOGS = 0x1

_HANDLE, _DWORD, _BOOL, _VOID = wintypes.HANDLE, wintypes.DWORD, wintypes.BOOL, ctypes.c_void_p
_TEXT, _P_DWORD = wintypes.LPWSTR, ctypes.POINTER(wintypes.DWORD)
_advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)
_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_manager = winapi.declare(_advapi32, "OpenSCManagerW", _HANDLE, wintypes.LPCWSTR, wintypes.LPCWSTR, _DWORD)
_enumerate = winapi.declare(
    _advapi32, "EnumServicesStatusExW", _BOOL, _HANDLE, _DWORD, _DWORD, _DWORD, _VOID, _DWORD, _P_DWORD,
    _P_DWORD, _P_DWORD, wintypes.LPCWSTR,
)  # fmt: skip
_open = winapi.declare(_advapi32, "OpenServiceW", _HANDLE, _HANDLE, wintypes.LPCWSTR, _DWORD)
_close = winapi.declare(_advapi32, "CloseServiceHandle", _BOOL, _HANDLE)
_config = winapi.declare(_advapi32, "QueryServiceConfigW", _BOOL, _HANDLE, _VOID, _DWORD, _P_DWORD)
_config2 = winapi.declare(_advapi32, "QueryServiceConfig2W", _BOOL, _HANDLE, _DWORD, _VOID, _DWORD, _P_DWORD)
_first_volume = winapi.declare(_kernel32, "FindFirstVolumeW", _HANDLE, _TEXT, _DWORD)
_next_volume = winapi.declare(_kernel32, "FindNextVolumeW", _BOOL, _HANDLE, _TEXT, _DWORD)
_close_volumes = winapi.declare(_kernel32, "FindVolumeClose", _BOOL, _HANDLE)
_paths = winapi.declare(
    _kernel32, "GetVolumePathNamesForVolumeNameW", _BOOL, wintypes.LPCWSTR, _VOID, _DWORD, _P_DWORD
)
_information = winapi.declare(
    _kernel32, "GetVolumeInformationW", _BOOL, wintypes.LPCWSTR, _TEXT, _DWORD, _P_DWORD, _P_DWORD, _P_DWORD,
    _TEXT, _DWORD,
)  # fmt: skip
_drive_type = winapi.declare(_kernel32, "GetDriveTypeW", wintypes.UINT, wintypes.LPCWSTR)
_space = winapi.declare(_kernel32, "GetDiskFreeSpaceExW", _BOOL, wintypes.LPCWSTR, _VOID, _VOID, _VOID)
_error_mode = winapi.declare(_kernel32, "SetErrorMode", wintypes.UINT, wintypes.UINT)


class _Status(ctypes.Structure):
    """ENUM_SERVICE_STATUS_PROCESSW."""

    _fields_ = (
        ("name", _TEXT), ("display", _TEXT), ("type", _DWORD), ("state", _DWORD), ("accepted", _DWORD),
        ("exit", _DWORD), ("own_exit", _DWORD), ("check", _DWORD), ("hint", _DWORD), ("pid", _DWORD),
        ("flags", _DWORD),
    )  # fmt: skip


class _Config(ctypes.Structure):
    """QUERY_SERVICE_CONFIGW."""

    _fields_ = (
        ("type", _DWORD), ("start", _DWORD), ("error", _DWORD), ("path", _TEXT), ("group", _TEXT),
        ("tag", _DWORD), ("needs", _VOID), ("account", _TEXT), ("display", _TEXT),
    )  # fmt: skip


def services() -> Iterator[Entry]:
    """All services and drivers. Raises OSError."""
    manager = _manager(None, None, _ENUMERATE)
    if not manager:
        raise ctypes.WinError(ctypes.get_last_error())
    try:
        resume = _DWORD(0)
        while True:
            buffer = ctypes.create_string_buffer(_MAX_BYTES)
            needed, count = _DWORD(), _DWORD()
            done = _enumerate(
                manager, _PROCESS_INFO, _ALL_TYPES, _ALL_STATES, buffer, len(buffer), ctypes.byref(needed),
                ctypes.byref(count), ctypes.byref(resume), None,
            )  # fmt: skip
            if not done and ctypes.get_last_error() != _MORE_DATA:
                raise ctypes.WinError(ctypes.get_last_error())
            for status in (_Status * count.value).from_buffer(buffer):
                yield _service(manager, status)
            if done or not count.value:
                return
    finally:
        _close(manager)


def _service(manager: int, status: _Status) -> Entry:
    entry: Entry = {
        "Name": status.name,
        "DisplayName": status.display,
        "State": _STATES.get(status.state, str(status.state)),
        "ProcessId": status.pid,
        "ServiceType": _TYPES.get(status.type & 0x3F, str(status.type)),
        "Dll": _dll(status.name),
    }
    service = _open(manager, status.name, _QUERY_CONFIG)
    if not service:
        return {**entry, "PathName": None}
    try:
        buffer = ctypes.create_string_buffer(8192)  # as large as it can be
        if _config(service, buffer, len(buffer), ctypes.byref(_DWORD())):
            config = _Config.from_buffer(buffer)
            entry["PathName"] = _plain(config.path or "")
            entry["StartName"] = config.account
            entry["StartMode"] = _STARTS[config.start] if config.start < len(_STARTS) else str(config.start)
        if _config2(service, _DESCRIPTION, buffer, len(buffer), ctypes.byref(_DWORD())):
            entry["Description"] = wintypes.LPWSTR.from_buffer(buffer).value
    finally:
        _close(service)
    return entry


def _plain(command: str) -> str:
    """Drivers are named as the kernel does before there are drives."""
    root = winreg.ExpandEnvironmentStrings("%SystemRoot%")
    lower = command.lower()
    if lower.startswith("\\systemroot\\"):
        return root + command[len("\\systemroot") :]
    if lower.startswith(("system32\\", "syswow64\\")):
        return root + "\\" + command
    return command[4:] if command.startswith("\\??\\") else command


def _dll(name: str) -> str | None:
    """What a shared process loads for the service; other services have none."""
    for key in (_KEY + name + "\\Parameters", _KEY + name):
        with contextlib.suppress(OSError), winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as opened:
            value, kind = winreg.QueryValueEx(opened, "ServiceDll")
            return winreg.ExpandEnvironmentStrings(value) if kind == winreg.REG_EXPAND_SZ else str(value)
    return None


def volumes() -> Iterator[Entry]:
    """All volumes, also those without a letter. Raises OSError."""
    before = _error_mode(_NO_DIALOGS)
    try:
        name = ctypes.create_unicode_buffer(64)
        search = _first_volume(name, len(name))
        if search in (None, _VOID(-1).value):
            raise ctypes.WinError(ctypes.get_last_error())
        try:
            more = True
            while more:
                yield _volume(name.value)
                more = bool(_next_volume(search, name, len(name)))
            if ctypes.get_last_error() != _NO_MORE_FILES:
                raise ctypes.WinError(ctypes.get_last_error())
        finally:
            _close_volumes(search)
    finally:
        _error_mode(before)


def _volume(name: str) -> Entry:
    entry: Entry = {"DeviceID": name}
    mounted: list[str] = []
    paths = ctypes.create_unicode_buffer(4096)
    if _paths(name, paths, len(paths), ctypes.byref(_DWORD())):
        text = str(ctypes.wstring_at(ctypes.addressof(paths), len(paths)))
        mounted = [path for path in text.split("\0") if path]
        entry["Name"] = mounted[0] if mounted else name
        entry["DriveLetter"] = next((path[:2] for path in mounted if len(path) == 3), None)
    entry["DriveType"] = _drive_type(mounted[0] if mounted else name)
    label, system = ctypes.create_unicode_buffer(64), ctypes.create_unicode_buffer(64)
    serial, space = _DWORD(), (ctypes.c_uint64 * 2)()
    at = ctypes.addressof(space)
    if _information(name, label, len(label), ctypes.byref(serial), None, None, system, len(system)):
        entry.update(Label=label.value, FileSystem=system.value, SerialNumber=serial.value)
    if _space(name, None, at, at + 8):
        entry.update(Capacity=space[0], FreeSpace=space[1])
    return entry
