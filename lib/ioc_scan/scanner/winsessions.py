"""Whether somebody uses a Windows machine: its sessions, locked or not, and the last input.

The scanner as a service has no desktop: what Windows calls the last input is then not a person's. So each
session is asked for; one that is active and not locked counts as used, unless its last input is known.
"""

from __future__ import annotations

import sys
import time
from typing import NamedTuple, Sequence

#: WTS_CONNECTSTATE_CLASS: somebody is logged on and connected.
ACTIVE = 0
#: Windows 7 says "locked" the other way round (documented with WTSINFOEX_LEVEL1).
_WINDOWS_7 = (6, 1)
_SECONDS_PER_TICK = 1e-7


class Session(NamedTuple):
    """A session as Windows describes it."""

    state: int
    locked: bool
    input_seconds: float | None  #: since the last input; None: not known


def session_in_use(sessions: Sequence[Session], input_seconds: float) -> bool:
    """Whether one of the sessions is active, not locked, and had input lately (or may have)."""
    return any(
        session.state == ACTIVE
        and not session.locked
        and (session.input_seconds is None or session.input_seconds < input_seconds)
        for session in sessions
    )


def is_locked(flags: int, version: tuple[int, int]) -> bool:
    """What WTSINFOEX's flags mean; -1: Windows does not know."""
    return flags == (1 if version == _WINDOWS_7 else 0)


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _SESSION_INFO_EX = 25
    _THIS_SERVER = None

    class _LastInput(ctypes.Structure):
        _fields_ = (("size", wintypes.UINT), ("ticks", wintypes.DWORD))

    class _SessionName(ctypes.Structure):
        _fields_ = (("number", wintypes.DWORD), ("station", wintypes.LPWSTR), ("state", ctypes.c_int))

    class _SessionInfo(ctypes.Structure):
        """WTSINFOEXW, level 1."""

        _fields_ = (
            ("level", wintypes.DWORD),
            ("_", wintypes.DWORD),
            ("number", wintypes.ULONG),
            ("state", ctypes.c_int),
            ("flags", wintypes.LONG),
            ("station", wintypes.WCHAR * 33),
            ("user", wintypes.WCHAR * 21),
            ("domain", wintypes.WCHAR * 18),
            ("logon", ctypes.c_int64),
            ("connect", ctypes.c_int64),
            ("disconnect", ctypes.c_int64),
            ("last_input", ctypes.c_int64),
            ("now", ctypes.c_int64),
        )

    _kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel32.GetTickCount.restype = wintypes.DWORD
    _user32 = ctypes.WinDLL("user32", use_last_error=True)
    _wtsapi32 = ctypes.WinDLL("wtsapi32", use_last_error=True)
    _wtsapi32.WTSFreeMemory.argtypes = (ctypes.c_void_p,)
    _wtsapi32.WTSEnumerateSessionsW.argtypes = (
        wintypes.HANDLE, wintypes.DWORD, wintypes.DWORD, ctypes.POINTER(ctypes.POINTER(_SessionName)),
        ctypes.POINTER(wintypes.DWORD),
    )  # fmt: skip
    _wtsapi32.WTSQuerySessionInformationW.argtypes = (
        wintypes.HANDLE, wintypes.DWORD, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p),
        ctypes.POINTER(wintypes.DWORD),
    )  # fmt: skip

    def sessions() -> list[Session] | None:
        """All sessions; None where Windows does not list them."""
        names = ctypes.POINTER(_SessionName)()
        count = wintypes.DWORD()
        if not _wtsapi32.WTSEnumerateSessionsW(_THIS_SERVER, 0, 1, ctypes.byref(names), ctypes.byref(count)):
            return None
        try:
            return [_session(names[number].number, names[number].state) for number in range(count.value)]
        finally:
            _wtsapi32.WTSFreeMemory(names)

    def _session(number: int, state: int) -> Session:
        if number == _own_session():
            return Session(state, _locked(number)[0], own_input_seconds())
        locked, seconds = _locked(number)
        return Session(state, locked, seconds)

    def _locked(number: int) -> tuple[bool, float | None]:
        """(locked, seconds since the last input if Windows says so)."""
        buffer, size = ctypes.c_void_p(), wintypes.DWORD()
        if not _wtsapi32.WTSQuerySessionInformationW(
            _THIS_SERVER, number, _SESSION_INFO_EX, ctypes.byref(buffer), ctypes.byref(size)
        ):
            return False, None
        try:
            if size.value < ctypes.sizeof(_SessionInfo):
                return False, None
            info = ctypes.cast(buffer, ctypes.POINTER(_SessionInfo)).contents
            if info.level != 1:
                return False, None
            seconds = (info.now - info.last_input) * _SECONDS_PER_TICK if info.last_input > 0 else None
            return is_locked(info.flags, sys.getwindowsversion()[:2]), seconds
        finally:
            _wtsapi32.WTSFreeMemory(buffer)

    def _own_session() -> int:
        number = wintypes.DWORD()
        own = _kernel32.GetCurrentProcessId()
        return number.value if _kernel32.ProcessIdToSessionId(own, ctypes.byref(number)) else -1

    def own_input_seconds() -> float:
        """Seconds since the last input in the session of this process."""
        last = _LastInput(ctypes.sizeof(_LastInput), 0)
        if not _user32.GetLastInputInfo(ctypes.byref(last)):
            return float("inf")
        return ((_kernel32.GetTickCount() - last.ticks) & 0xFFFFFFFF) / 1000.0

    def cpu_times() -> tuple[float, float]:
        """(seconds that others than this process used, all seconds of all processors) since the start."""
        idle, kernel, user = ctypes.c_uint64(), ctypes.c_uint64(), ctypes.c_uint64()
        if not _kernel32.GetSystemTimes(ctypes.byref(idle), ctypes.byref(kernel), ctypes.byref(user)):
            return 0.0, 0.0
        total = kernel.value + user.value  # the kernel's time holds the idle one
        return (total - idle.value) * _SECONDS_PER_TICK - time.process_time(), total * _SECONDS_PER_TICK
