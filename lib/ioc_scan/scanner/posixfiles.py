"""Reaching a file by directory descriptors, component by component, so that no link is ever followed.

The parent folder is held open by its descriptor, and names are used relative to it. Whoever swaps a folder for a
link on the way gets an error, not a deletion elsewhere. What the methods mean stands in :mod:`.safefs`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Any, Callable, Iterator

from .errors import ScannerError
from .names import check_path, shown_path
from .safefs import as_scanner_error, same_object
from .xattrs import give_attributes, kept_attributes

_FOLDER = (
    os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
)
#: O_PATH needs only search permission, and never wakes a device or an automounter's listing.
_STEP = _FOLDER | getattr(os, "O_PATH", 0)
_READ = (
    os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
)  # a FIFO would hang without O_NONBLOCK
_NO_ACCESS_TIME = getattr(os, "O_NOATIME", 0)
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_NAMELESS = getattr(os, "O_TMPFILE", 0)
#: What file systems without nameless files answer.
_NO_NAMELESS = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT})


class PosixPinned:
    """A name in a parent folder that is held open."""

    def __init__(self, path: bytes, parent: int, name: bytes) -> None:
        self.path = path
        self.parent = parent
        self.name = name

    def real_path(self) -> bytes:
        return self.path

    def stat(self) -> os.stat_result:
        """The status of the name itself, links not followed."""
        return os.stat(self.name, dir_fd=self.parent, follow_symlinks=False)

    def identity(self) -> tuple[int, int]:
        info = self.stat()
        return (info.st_dev, info.st_ino)

    def size(self) -> int:
        return self.stat().st_size

    @contextlib.contextmanager
    def hold(self) -> Iterator[PosixHeld]:
        try:
            descriptor = self._open_for_reading()
        except OSError as error:
            raise as_scanner_error(error, self.path) from None
        try:
            yield PosixHeld(self, descriptor)
        finally:
            os.close(descriptor)

    def _open_for_reading(self) -> int:
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

    def work_name(self) -> str | None:
        return None  # a nameless file, or the name itself

    @contextlib.contextmanager
    def create(self, work_name: str | None) -> Iterator[PosixFresh]:
        descriptor, named = self._open_new()
        try:
            yield PosixFresh(self, descriptor, named)
        except BaseException:
            if named and self.still_is(os.fstat(descriptor)):
                os.unlink(self.name, dir_fd=self.parent)
            raise
        finally:
            os.close(descriptor)

    def _open_new(self) -> tuple[int, bool]:
        """A new file of ours, mode 0600, and whether it already bears its name."""
        if _NAMELESS and os.path.isdir("/proc/self/fd"):
            try:
                flags = os.O_RDWR | _NAMELESS | os.O_CLOEXEC
                return os.open(b".", flags, 0o600, dir_fd=self.parent), False
            except OSError as error:
                if error.errno not in _NO_NAMELESS:
                    raise
        return os.open(self.name, _CREATE, 0o600, dir_fd=self.parent), True

    def discard(self, work_name: str, device: int, inode: int) -> None:
        """Nothing: a nameless file goes with its process."""


class PosixHeld:
    """A regular file and the descriptor it is read through."""

    def __init__(self, pinned: PosixPinned, descriptor: int) -> None:
        self._pinned = pinned
        self._before = os.fstat(descriptor)
        self.descriptor = descriptor
        self.path = pinned.path
        self.size = self._before.st_size
        self.device = self._before.st_dev
        self.inode = self._before.st_ino

    def matched_as(self, item: dict[str, Any]) -> bool:
        return (self.size, self.device, self.inode) == (item["size"], item["device"], item["inode"])

    def traits(self) -> dict[str, Any]:
        return {
            "mode": self._before.st_mode & 0o7777,
            "uid": self._before.st_uid,
            "gid": self._before.st_gid,
            "accessed_ns": self._before.st_atime_ns,
            "modified_ns": self._before.st_mtime_ns,
            **kept_attributes(self.descriptor),
        }

    def check_untouched(self) -> None:
        before, now = self._before, os.fstat(self.descriptor)
        if (now.st_size, now.st_mtime_ns, now.st_ctime_ns) != (
            before.st_size,
            before.st_mtime_ns,
            before.st_ctime_ns,
        ):
            raise ScannerError("changed", "the file changed while it was copied")
        if not self._pinned.parent_in_place():
            raise ScannerError("changed", "the folder moved while the file was copied")
        if not self._pinned.still_is(now):
            raise ScannerError("changed", "the name stands for another file by now")

    def remove(self) -> str:
        try:
            os.unlink(self._pinned.name, dir_fd=self._pinned.parent)
        except OSError as error:
            # Not removed, unless the file system says "error" and does it all the same.
            if self._pinned.still_is(self._before):
                raise as_scanner_error(error, self.path) from None
        return ""

    def settle(self) -> None:
        os.fsync(self._pinned.parent)


class PosixFresh:
    """A file without a name (O_TMPFILE), linked into the folder at the end: it appears whole or not at all.

    Where the file system cannot do that, the name is created exclusively and taken back if anything fails.
    """

    def __init__(self, pinned: PosixPinned, descriptor: int, named: bool) -> None:
        self._pinned = pinned
        self._named = named
        self.descriptor = descriptor

    def identity(self) -> tuple[int, int]:
        info = os.fstat(self.descriptor)
        return (info.st_dev, info.st_ino)

    def dress(self, traits: dict[str, Any]) -> list[str]:
        """Owner, permissions, attributes, times. Set-user-id and set-group-id bits never come back."""
        if os.geteuid() == 0:
            os.fchown(self.descriptor, traits["uid"], traits["gid"])
        # After the owner, since a change of owner may clear bits; without set-id and sticky bits.
        os.fchmod(self.descriptor, stat.S_IMODE(traits["mode"]) & 0o777)
        missing = give_attributes(self.descriptor, traits)
        os.utime(self.descriptor, ns=(traits["accessed_ns"], traits["modified_ns"]))
        os.fsync(self.descriptor)
        return missing

    def publish(self, last_look: Callable[[], None]) -> None:
        pinned = self._pinned
        info = os.fstat(self.descriptor)
        last_look()
        if not pinned.parent_in_place():
            raise ScannerError("changed", "the folder moved while the file was written")
        if not self._named:
            # linkat on our own descriptor: fails if the name exists, and follows no link that bears it.
            os.link(
                f"/proc/self/fd/{self.descriptor}",
                pinned.name,
                dst_dir_fd=pinned.parent,
                follow_symlinks=True,
            )
        if not same_object(pinned.stat(), info):
            raise ScannerError("changed", "the name stands for another file by now")
        with contextlib.suppress(OSError):
            os.fsync(pinned.parent)


@contextlib.contextmanager
def pin(path: bytes) -> Iterator[PosixPinned]:
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
        yield PosixPinned(path, folder, parts[-1])
    finally:
        os.close(folder)
