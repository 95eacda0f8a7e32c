"""Folders and files on this side that nobody else may touch; the rules are the scanner's own."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import DeviceError
from ..scanner.errors import ScannerError
from ..scanner.spool import check_private_folder
from ..text import printable


def ensure_private_folder(folder: Path) -> Path:
    """Make ``folder`` and what is missing above it, 0700, and check it.

    Raises DeviceError ``spool_not_writable`` or ``unsafe_spool``.
    """
    for missing in reversed([p for p in (folder, *folder.parents) if not os.path.lexists(p)]):
        try:
            missing.mkdir(mode=0o700)
        except FileExistsError:  # another process was first
            continue
        except OSError as error:
            raise DeviceError(
                "spool_not_writable",
                f"{printable(missing)} cannot be made: {error.strerror}",
                "give the user that runs the actions a folder of its own, such as /var/lib/ioc_scan/spool",
            ) from error
    try:
        check_private_folder(folder)
    except ScannerError as error:
        raise DeviceError(error.code, error.message, error.hint) from error
    return folder


def read_regular(path: Path, limit: int, offset: int = 0) -> tuple[bytes, int] | None:
    """Up to ``limit`` bytes from ``offset`` and the file's size; None when absent. Raises OSError.

    Links and pipes are refused: whoever may write the folder must not choose what is read instead.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise OSError(f"{path.name} is not a regular file")
        return os.pread(descriptor, limit, offset), info.st_size
    finally:
        os.close(descriptor)
