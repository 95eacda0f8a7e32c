"""Staying out of the way: lowest priorities, and a budget of processor time."""

from __future__ import annotations

import contextlib
import os
import sys
import time

#: Linux ioprio_set(IOPRIO_WHO_PROCESS, 0, class idle); the number of the call by machine.
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "armv7l": 314, "i686": 289, "ppc64le": 273, "s390x": 282}
_IOPRIO_CLASS_IDLE = 3 << 13
_IDLE_PRIORITY_CLASS = 0x40
_THREAD_MODE_BACKGROUND_BEGIN = 0x10000
#: How long the budget remembers: time not used longer ago than this is not made up for.
_WINDOW_SECONDS = 2.0


def lower_priority() -> None:
    """Lowest processor and disk priority for this process and all it starts from now on.

    What the system refuses is left as it is.
    """
    if sys.platform == "win32":
        _lower_windows()
        return
    with contextlib.suppress(OSError):
        os.nice(19)
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    number = _IOPRIO_SET.get(os.uname().machine)
    if sys.platform == "linux" and number is not None:
        with contextlib.suppress(OSError, ImportError, AttributeError):
            import ctypes

            ctypes.CDLL(None).syscall(number, 1, 0, _IOPRIO_CLASS_IDLE)


def _lower_windows() -> None:
    """Of the process the processor, of this thread the disk and the memory.

    The background mode of a whole process would hold it to 32 MB of memory, less than a large plan needs.
    """
    if sys.platform == "win32":
        import ctypes
        from ctypes import wintypes

        kernel = ctypes.WinDLL("kernel32")
        for name, setter in (("Process", "SetPriorityClass"), ("Thread", "SetThreadPriority")):
            current = getattr(kernel, "GetCurrent" + name)
            current.restype = wintypes.HANDLE
            getattr(kernel, setter).argtypes = (wintypes.HANDLE, wintypes.DWORD)
        kernel.SetPriorityClass(kernel.GetCurrentProcess(), _IDLE_PRIORITY_CLASS)
        kernel.SetThreadPriority(kernel.GetCurrentThread(), _THREAD_MODE_BACKGROUND_BEGIN)


class Budget:
    """Sleeps as needed so that this process uses ``percent`` of one processor.

    Asked often (every file, every block): it looks at the clocks only, and sleeps off what was used too much.
    """

    def __init__(self, percent: float) -> None:
        self._share = percent / 100.0
        self._wall = time.monotonic()
        self._used = time.process_time()

    def keep(self) -> None:
        """Wait until what was used fits the budget again."""
        now = time.monotonic()
        used = time.process_time() - self._used
        passed = now - self._wall
        ahead = used / self._share - passed
        if ahead > 0.002:
            time.sleep(ahead)
        if passed > _WINDOW_SECONDS:
            # A new window; what is still owed after an inexact sleep is carried over.
            self._wall = time.monotonic()
            self._used = time.process_time()
            owed = (self._wall - now) + passed - used / self._share
            self._wall -= min(max(owed, 0.0), 0.05)
