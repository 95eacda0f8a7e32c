r"""Reaching a file on Windows by handles, component by component, so that no reparse point is ever followed.

Every folder from the drive on is opened relative to the one before and stays open without FILE_SHARE_DELETE:
none of them can be renamed or removed meanwhile. A component that is a reparse point (junction, symbolic
link, mount point), or that the system calls by another path than that of its folder, is an error. The file is
opened once, with the right to delete it and while nobody else writes or deletes it; it is read, compared and
removed through that very handle. What the methods mean stands in :mod:`.safefs`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Iterator

assert sys.platform == "win32"

from . import winapi  # noqa: E402
from .errors import ScannerError  # noqa: E402
from .names import shown_path  # noqa: E402
from .safefs import as_scanner_error  # noqa: E402
from .winentry import Entry, check_child, check_plain, is_link, real_path, same_file  # noqa: E402
from .winfresh import WindowsFresh  # noqa: E402
from .winheld import WindowsHeld, mark_deleted  # noqa: E402
from .winnames import bytes_of, parts_of, text_of  # noqa: E402
from .winprivileges import use_privileges  # noqa: E402

#: TRAVERSE takes part in sharing, READ_ATTRIBUTES alone would not.
_FOLDER_ACCESS = winapi.TRAVERSE | winapi.READ_ATTRIBUTES
_FOLDER_SHARE = winapi.SHARE_READ | winapi.SHARE_WRITE
_HOLD_ACCESS = (
    winapi.READ_DATA | winapi.READ_ATTRIBUTES | winapi.WRITE_ATTRIBUTES | winapi.DELETE | winapi.READ_CONTROL
)
_FRESH_ACCESS = _HOLD_ACCESS | winapi.WRITE_DATA | winapi.WRITE_DAC | winapi.WRITE_OWNER


class WindowsPinned(Entry):
    """A name that files are taken from, and given back under."""

    def identity(self) -> tuple[int, int]:
        facts = self.facts()
        return (facts.serial, facts.file_index)

    def size(self) -> int:
        return self.facts().size

    @contextlib.contextmanager
    def hold(self) -> Iterator[WindowsHeld]:
        try:
            with self.looked_at() as handle:  # to open it for reading could already fetch it from a cloud
                seen = winapi.facts(handle)
                self._check(seen, handle)
            handle = winapi.open_name(
                self.parent, self.name, _HOLD_ACCESS, winapi.SHARE_READ, winapi.NON_DIRECTORY_FILE
            )
            with _closed_on_error(handle):
                held = WindowsHeld(self, handle)
        except OSError as error:
            raise as_scanner_error(error, self.path) from None
        try:
            if not same_file(held.before, seen):
                raise ScannerError("changed", "the name stood for another file a moment ago")
            self._check(held.before, handle)
            yield held
        finally:
            held.close()

    def _check(self, facts: winapi.Facts, handle: int) -> None:
        check_plain(facts, self.path)
        self.check_child(handle)

    def work_name(self) -> str | None:
        return f".ioc_scan-{os.urandom(8).hex()}.part"

    @contextlib.contextmanager
    def create(self, work_name: str | None) -> Iterator[WindowsFresh]:
        assert work_name is not None
        handle = winapi.open_name(
            self.parent, work_name, _FRESH_ACCESS, 0, winapi.NON_DIRECTORY_FILE, winapi.CREATE_NEW
        )
        with _closed_on_error(handle, delete=True):
            fresh = WindowsFresh(self, handle)
        try:
            yield fresh
        except BaseException:
            fresh.take_back()
            raise
        finally:
            fresh.close()

    def discard(self, work_name: str, device: int, inode: int) -> None:
        handle = winapi.open_name(
            self.parent,
            work_name,
            winapi.READ_ATTRIBUTES | winapi.WRITE_ATTRIBUTES | winapi.DELETE,
            0,
            winapi.NON_DIRECTORY_FILE,
        )
        try:
            facts = winapi.facts(handle)
            empty = (device, inode) == (0, 0) and facts.size == 0
            if empty or (facts.serial, facts.file_index) == (device, inode):
                mark_deleted(handle)
        finally:
            winapi.close(handle)


def _let_go(handle: int) -> None:
    """Close a folder; what was done in it is done, whatever the system says to that."""
    with contextlib.suppress(OSError):
        winapi.close(handle)


@contextlib.contextmanager
def _closed_on_error(handle: int, delete: bool = False) -> Iterator[None]:
    """While a handle is given to an object that will own it."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            if delete:
                mark_deleted(handle)
        winapi.close(handle)
        raise


@contextlib.contextmanager
def pin(path: bytes) -> Iterator[WindowsPinned]:
    """Walk to the parent of an absolute, normalized path without following any reparse point.

    Raises ScannerError: ``bad_path``, ``missing``, ``link_in_path``, ``network_file_system``,
    ``not_permitted``, ``busy`` (somebody is about to rename a folder).
    """
    parts = parts_of(path)
    use_privileges()
    with contextlib.ExitStack() as held:

        def enter(parent: int, name: str, shown: bytes) -> int:
            try:
                handle = winapi.open_name(parent, name, _FOLDER_ACCESS, _FOLDER_SHARE, winapi.DIRECTORY_FILE)
            except OSError as error:
                raise as_scanner_error(error, shown) from None
            held.callback(_let_go, handle)
            return handle

        drive = parts[0].upper()
        folder = enter(0, "\\??\\" + drive, bytes_of(drive))
        real = real_path(folder, "\\\\?\\" + drive)
        if winapi.is_remote(folder):
            raise ScannerError("network_file_system", f"drive {drive} lies on another machine")
        if real.lower() != ("\\\\?\\" + drive).lower():
            raise ScannerError("link_in_path", f"drive {drive} stands for a folder")
        for index, part in enumerate(parts[1:-1]):
            shown = bytes_of("\\".join([drive.rstrip("\\"), *parts[1 : index + 2]]))
            deeper = enter(folder, part, shown)
            if is_link(winapi.facts(deeper)):
                raise ScannerError("link_in_path", shown_path(shown)[:300] + " is a reparse point")
            check_child(real, part, deeper, shown)
            folder, real = deeper, real_path(deeper, real)
        yield WindowsPinned(path, folder, parts[-1], real)


def free_bytes(folder: str) -> int:
    """What the scanner's user may still write to the volume of a folder. Raises OSError."""
    return winapi.free_bytes(text_of(os.fsencode(folder)))
