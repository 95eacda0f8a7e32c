"""Folders and files on this side that nobody else may touch; the rules are the scanner's own."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Alone with ``folder``, as far as all who use its lock file ``name`` go; waits for the one before.

    Raises DeviceError as :func:`ensure_private_folder` does.
    """
    ensure_private_folder(folder)
    descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
