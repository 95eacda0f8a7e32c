"""Reaching a file by directory descriptors, component by component, so that no link is ever followed.

Everything that changes files goes through :class:`Pinned`: the parent folder is held open by its
descriptor, and names are used relative to it. Whoever swaps a folder for a link on the way gets an error,
not a deletion elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Iterator

from .errors import ScannerError
from .names import check_path, shown_path

_FOLDER = (
    os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
)
#: O_PATH needs only search permission, and never wakes a device or an automounter's listing.
_STEP = _FOLDER | getattr(os, "O_PATH", 0)
_READ = (
    os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
)  # a FIFO would hang without O_NONBLOCK
_NO_ACCESS_TIME = getattr(os, "O_NOATIME", 0)

_CODES = {
    errno.ENOENT: "missing",
    errno.ELOOP: "link_in_path",
    errno.ENOTDIR: "link_in_path",
    errno.EACCES: "not_permitted",
    errno.EPERM: "not_permitted",
    errno.EROFS: "read_only",
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EFBIG: "disk_full",
    errno.EIO: "io_error",
    errno.EBUSY: "busy",
    errno.ETXTBSY: "busy",
    errno.EEXIST: "exists",
    errno.ENXIO: "not_a_regular_file",
}


def code_of(error: OSError) -> str:
    """The stable code of an operating system error."""
    return _CODES.get(error.errno or 0, "os_error")


def describe(error: ScannerError | OSError) -> tuple[str, str]:
    """Code and message of either kind of error."""
    if isinstance(error, ScannerError):
        return error.code, error.message
    return code_of(error), str(error.strerror or error)


def as_scanner_error(error: OSError, path: bytes) -> ScannerError:
    """An OSError with its code, and the path as it may be shown."""
    return ScannerError(code_of(error), f"{shown_path(path)[:300]}: {error.strerror or error}")


class Pinned:
    """A name in a parent folder that is held open."""

    def __init__(self, path: bytes, parent: int, name: bytes) -> None:
        self.path = path
        self.parent = parent
        self.name = name

    def stat(self) -> os.stat_result:
        """The status of the name itself, links not followed."""
        return os.stat(self.name, dir_fd=self.parent, follow_symlinks=False)

    def open_for_reading(self) -> int:
        """A descriptor of the name if it is a regular file. Raises ScannerError, OSError."""
        try:
            descriptor = os.open(self.name, _READ | _NO_ACCESS_TIME, dir_fd=self.parent)
        except PermissionError:  # O_NOATIME is for owners
            descriptor = os.open(self.name, _READ, dir_fd=self.parent)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ScannerError("not_a_regular_file", shown_path(self.path)[:300] + " is not a regular file")
        return descriptor

    def still_is(self, info: os.stat_result) -> bool:
        """Whether the name, as it stands now, is this very object."""
        try:
            return same_object(self.stat(), info)
        except OSError:
            return False

    def parent_in_place(self) -> bool:
        """Whether walking the path again, from ``/``, arrives at this same parent."""
        try:
            with pin(self.path) as again:
                return same_object(os.fstat(again.parent), os.fstat(self.parent))
        except (ScannerError, OSError):
            return False


def same_object(one: os.stat_result, other: os.stat_result) -> bool:
    """Same file system and inode."""
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


@contextlib.contextmanager
def pin(path: bytes) -> Iterator[Pinned]:
    """Walk to the parent of an absolute, normalized path without following any link.

    Raises ScannerError: ``bad_path``, ``missing``, ``link_in_path`` (a component is no folder),
    ``not_permitted``.
    """
    check_path(path)
    parts = path[1:].split(b"/")
    if not parts[-1]:
        raise ScannerError("bad_path", "the root folder is no file")
    folder = os.open(b"/", _STEP if len(parts) > 1 else _FOLDER)
    try:
        for index, part in enumerate(parts[:-1]):
            # The last one is opened for real: O_PATH descriptors can be neither listed nor synced.
            flags = _FOLDER if index == len(parts) - 2 else _STEP
            try:
                deeper = os.open(part, flags, dir_fd=folder)
            except OSError as error:
                raise as_scanner_error(error, b"/" + b"/".join(parts[: index + 1])) from None
            os.close(folder)
            folder = deeper
        yield Pinned(path, folder, parts[-1])
    finally:
        os.close(folder)
