"""A fault injector: does something at the n-th file operation of a run of the scanner, in a process of its
own.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ioc_scan.scanner.clock import system_clock
from ioc_scan.scanner.errors import ScannerError
from ioc_scan.scanner.packages import PackageOwners
from ioc_scan.scanner.runner import Runner
from ioc_scan.scanner.spool import Spool

OPERATIONS = [
    "open",
    "read",
    "readv",
    "write",
    "pwrite",
    "close",
    "lseek",
    "stat",
    "lstat",
    "fstat",
    "fsync",
    "ftruncate",
    "mkdir",
    "makedirs",
    "rmdir",
    "unlink",
    "remove",
    "rename",
    "replace",
    "link",
    "symlink",
    "fchmod",
    "fchown",
    "utime",
    "chmod",
    "listdir",
    "scandir",
    "statvfs",
    "listxattr",
    "getxattr",
    "setxattr",
]


def run_with_fault(spool: Path, at: int, fault: Callable[[], None]) -> tuple[bool, int]:
    """Run all jobs; before file operation number ``at`` call ``fault``.

    (Was it reached?, exit status or -signal).
    """
    PackageOwners().check_not_owned(b"/no/such/name", os.stat("/"))  # read once here, not in every child
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            reached = _run(spool, at, fault)
            status = 0 if reached else 10
        except (OSError, ScannerError):
            status = 2  # as __main__ answers when the spool itself cannot be used
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(status)
    _, result = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(result)
    assert code != 99, "the scanner itself broke"
    return code != 10, code


def _run(spool: Path, at: int, fault: Callable[[], None]) -> bool:
    count = 0
    inside = False

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            nonlocal count, inside
            if not inside:
                count += 1
                if count == at:
                    inside = True  # the fault's own operations do not count
                    fault()
                    inside = False
            return real(*arguments, **keywords)

        return wrapped

    with Spool(spool) as opened:
        for name in OPERATIONS:
            setattr(os, name, wrap(getattr(os, name)))
        os.supports_follow_symlinks = os.supports_dir_fd = _Everything()  # type: ignore[assignment]
        Runner(opened, system_clock, None, once=True).run()
    return count >= at


class _Everything:
    """shutil and tempfile ask whether wrapped functions are in these sets."""

    def __contains__(self, _: object) -> bool:
        return True


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
