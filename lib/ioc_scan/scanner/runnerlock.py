"""The lock of a spool's runner: the system drops it with its owner, so a dead runner never blocks the next."""

from __future__ import annotations

import errno
import os
import sys
import time

from .errors import ScannerError
from .protocol import LOCK_FILE

_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
#: Wine gives no number.
_HELD = frozenset((errno.EAGAIN, errno.EACCES, errno.EDEADLK, 0))
_TRIES, _PAUSE_SECONDS = 5, 0.05


def take_lock(spool: str) -> int:
    """A descriptor that holds the lock until it is closed. Raises ScannerError ``already_running``."""
    # Who looks whether a runner is alive holds the lock for a moment, so one "no" is not the last word.
    for _ in range(_TRIES):
        descriptor = os.open(os.path.join(spool, LOCK_FILE), _FLAGS | os.O_CREAT, 0o600)
        taken = False
        try:
            taken = _try_lock(descriptor, shared=False)
        finally:
            if not taken:
                os.close(descriptor)
        if taken:
            return descriptor
        time.sleep(_PAUSE_SECONDS)
    raise ScannerError("already_running", "another runner works in this spool")


def is_locked(spool: str) -> bool:
    """Whether a runner is alive; a lock taken to find out is let go at once."""
    try:
        descriptor = os.open(os.path.join(spool, LOCK_FILE), _FLAGS)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(descriptor, shared=True)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, shared: bool) -> bool:
    """False: somebody else holds it. Raises OSError for anything else."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(
                descriptor, msvcrt.LK_NBLCK, 1
            )  # the only kind there is; it goes with the descriptor
        else:
            import fcntl

            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        return True
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
