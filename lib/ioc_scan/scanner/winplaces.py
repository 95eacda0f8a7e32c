"""The folders and drives of a Windows machine that the scopes mean.

Which folders: where users and services write, what starts by itself, what a download leaves. Names of
folders are asked of the environment, as Windows may be installed on any drive; nothing is taken from it that
is no folder.
"""

from __future__ import annotations

import os
import string
import sys
from collections.abc import Mapping

#: GetDriveType's numbers.
DRIVE_REMOVABLE, DRIVE_FIXED, DRIVE_REMOTE, DRIVE_CDROM, DRIVE_RAMDISK = 2, 3, 4, 5, 6
_OWN = frozenset((DRIVE_REMOVABLE, DRIVE_FIXED, DRIVE_RAMDISK))

_CRITICAL_OF_WINDOWS = (
    "Temp", "Tasks", "System32\\Tasks", "System32\\drivers", "System32\\spool", "System32\\wbem",
    "System32\\GroupPolicy", "System32\\config\\systemprofile", "SysWOW64\\config\\systemprofile",
    "SysWOW64\\Tasks", "ServiceProfiles", "Debug", "Help", "Fonts",
)  # fmt: skip
_CRITICAL_OF_DRIVE = ("Users", "PerfLogs", "$Recycle.Bin", "inetpub", "Temp")


def critical_folders(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Scope ``critical``; also names that are not there."""
    windows, drive = _windows(environment)
    found = [drive + "\\" + name for name in _CRITICAL_OF_DRIVE]
    found += [windows + "\\" + name for name in _CRITICAL_OF_WINDOWS]
    found.append(environment.get("ProgramData") or drive + "\\ProgramData")
    public = environment.get("PUBLIC")
    return [*found, public] if public else found


def system_folders(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Scope ``system``: Windows and installed programs, and all of the critical folders."""
    windows, drive = _windows(environment)
    found = [
        windows,
        drive + "\\Program Files",
        drive + "\\Program Files (x86)",
        drive + "\\Boot",
        drive + "\\EFI",
    ]
    for name in ("ProgramFiles", "ProgramFiles(x86)", "ProgramW6432"):
        if environment.get(name):
            found.append(environment[name])
    return critical_folders(environment) + found


def _windows(environment: Mapping[str, str]) -> tuple[str, str]:
    windows = (environment.get("SystemRoot") or "C:\\Windows").rstrip("\\")
    return windows, windows[:2]


def choose_drives(kinds: Mapping[str, int], network: bool) -> tuple[list[str], list[tuple[str, str]]]:
    """(``["C:\\\\"]``, those left out with the reason) of the kinds of all drives, by letter."""
    taken, left = [], []
    for letter, kind in sorted(kinds.items()):
        root = letter + ":\\"
        if kind in _OWN or (kind == DRIVE_REMOTE and network):
            taken.append(root)
        elif kind == DRIVE_REMOTE:
            left.append((root, "network_file_system"))
        elif kind == DRIVE_CDROM:
            left.append((root, "optical_disc"))
    return taken, left


def drive_kinds() -> dict[str, int]:
    """Letter -> what GetDriveType says, of all drives there are; none but on Windows."""
    if sys.platform != "win32":
        return {}
    import ctypes

    kernel = ctypes.windll.kernel32
    present = kernel.GetLogicalDrives()
    return {
        letter: int(kernel.GetDriveTypeW(ctypes.c_wchar_p(letter + ":\\")))
        for number, letter in enumerate(string.ascii_uppercase)
        if present >> number & 1
    }
