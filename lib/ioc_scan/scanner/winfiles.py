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
from typing import Any, Callable, Iterator

from . import winacl, winapi, winstreams
from .errors import ScannerError
from .names import shown_path
from .safefs import as_scanner_error, code_of
from .sharing import patiently
from .winnames import bytes_of, is_same_name, parts_of, text_of

assert sys.platform == "win32"

#: TRAVERSE takes part in sharing, READ_ATTRIBUTES alone would not.
_FOLDER_ACCESS = winapi.TRAVERSE | winapi.READ_ATTRIBUTES
_FOLDER_SHARE = winapi.SHARE_READ | winapi.SHARE_WRITE
_HOLD_ACCESS = (
    winapi.READ_DATA | winapi.READ_ATTRIBUTES | winapi.WRITE_ATTRIBUTES | winapi.DELETE | winapi.READ_CONTROL
)
_FRESH_ACCESS = _HOLD_ACCESS | winapi.WRITE_DATA | winapi.WRITE_DAC
#: A file whose content is elsewhere: to open it would bring it here.
_ELSEWHERE = winapi.OFFLINE | winapi.RECALL_ON_OPEN | winapi.RECALL_ON_DATA_ACCESS
#: What is given back to a restored file; the others describe how its content is stored.
_GIVEN_BACK = (
    winapi.READONLY | winapi.HIDDEN | winapi.SYSTEM | winapi.ARCHIVE | winapi.NOT_INDEXED | winapi.TEMPORARY
)
_DELETE_NOW = 0x1 | 0x2 | 0x10  #: DELETE, POSIX_SEMANTICS, IGNORE_READONLY_ATTRIBUTE
#: Reparse points of files that are kept in step with a cloud: IO_REPARSE_TAG_CLOUD to _CLOUD_F (ntifs.h).
_CLOUD_TAG, _CLOUD_MASK = 0x9000001A, 0xFFFF0FFF


def _is_link(facts: winapi.Facts) -> bool:
    """Any reparse point but that of a cloud's folder or file, which stands for itself."""
    return bool(facts.attributes & winapi.REPARSE_POINT) and facts.tag & _CLOUD_MASK != _CLOUD_TAG


def _same(one: winapi.Facts, other: winapi.Facts) -> bool:
    return (one.serial, one.file_index) == (other.serial, other.file_index)


class WindowsPinned:
    """A name in a folder that is held open, as all folders above it are."""

    def __init__(self, path: bytes, parent: int, name: str, folder: str) -> None:
        self.path = path
        self.parent = parent
        self.name = name
        self._folder = folder  # the system's own path of the parent

    def real_path(self) -> bytes:
        try:
            with self._looked_at() as handle:
                return bytes_of(_real_path(handle, self._folder)[4:])
        except OSError:
            return bytes_of(self._folder[4:].rstrip("\\") + "\\" + self.name)

    @contextlib.contextmanager
    def _looked_at(self) -> Iterator[int]:
        """A handle that can only be asked: it disturbs nobody, and brings nothing here from elsewhere."""
        handle = winapi.open_name(self.parent, self.name, winapi.READ_ATTRIBUTES, winapi.SHARE_ALL, 0)
        try:
            yield handle
        finally:
            winapi.close(handle)

    def facts(self) -> winapi.Facts:
        with self._looked_at() as handle:
            return winapi.facts(handle)

    def identity(self) -> tuple[int, int]:
        facts = self.facts()
        return (facts.serial, facts.file_index)

    def size(self) -> int:
        return self.facts().size

    @contextlib.contextmanager
    def hold(self) -> Iterator[WindowsHeld]:
        try:
            seen = self._check_openable()
            handle = winapi.open_name(
                self.parent, self.name, _HOLD_ACCESS, winapi.SHARE_READ, winapi.NON_DIRECTORY_FILE
            )
        except OSError as error:
            raise as_scanner_error(error, self.path) from None
        descriptor = winapi.descriptor_of(handle, os.O_RDONLY | os.O_BINARY)
        try:
            held = WindowsHeld(self, handle, descriptor)
            if not _same(held.before, seen):
                raise ScannerError("changed", "the name stood for another file a moment ago")
            self._check_facts(held.before, handle)
            yield held
        finally:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _check_openable(self) -> winapi.Facts:
        """Looked at before it is opened for reading: that alone could fetch it from a cloud."""
        with self._looked_at() as handle:
            facts = winapi.facts(handle)
            self._check_facts(facts, handle)
            return facts

    def _check_facts(self, facts: winapi.Facts, handle: int) -> None:
        shown = shown_path(self.path)[:300]
        if facts.attributes & winapi.DIRECTORY:
            raise ScannerError("not_a_regular_file", shown + " is not a regular file")
        if _is_link(facts):
            raise ScannerError("link_in_path", shown + " is a reparse point")
        if facts.attributes & _ELSEWHERE:
            raise ScannerError("offline", shown + " is kept elsewhere: to open it would bring it here")
        self.check_child(handle)

    def check_child(self, handle: int) -> None:
        """Raises ScannerError ``link_in_path`` unless the system finds this handle under this very name."""
        _check_child(self._folder, self.name, handle, self.path)

    def work_name(self) -> str | None:
        return f".ioc_scan-{os.urandom(8).hex()}.part"

    @contextlib.contextmanager
    def create(self, work_name: str | None) -> Iterator[WindowsFresh]:
        assert work_name is not None
        handle = winapi.open_name(
            self.parent, work_name, _FRESH_ACCESS, 0, winapi.NON_DIRECTORY_FILE, winapi.CREATE_NEW
        )
        descriptor = winapi.descriptor_of(handle, os.O_RDWR | os.O_BINARY)
        try:
            winapi.set_disposition(handle, True)  # goes with its handle, as a killed process's do
            yield WindowsFresh(self, handle, descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                _mark_deleted(handle)
            raise
        finally:
            os.close(descriptor)

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
                _mark_deleted(handle)
        finally:
            winapi.close(handle)


def _mark_deleted(handle: int) -> None:
    """Have a file deleted when its handle closes, also if it is marked read-only. Raises OSError.

    With POSIX semantics (Windows 10) the name goes at once even if others still hold the file; older systems
    take the name when the last one closes it.
    """
    try:
        winapi.set_disposition_ex(handle, _DELETE_NOW)
        return
    except OSError as error:
        if error.winerror not in winapi.NOT_KNOWN_HERE:
            raise
    attributes = winapi.facts(handle).attributes
    if attributes & winapi.READONLY:
        winapi.set_basic(handle, 0, 0, 0, attributes & ~winapi.READONLY or winapi.NORMAL)
    try:
        winapi.set_disposition(handle, True)
    except OSError:
        if attributes & winapi.READONLY:
            with contextlib.suppress(OSError):
                winapi.set_basic(handle, 0, 0, 0, attributes)
        raise


class WindowsHeld:
    """A regular file and the one handle it is read and removed through."""

    def __init__(self, pinned: WindowsPinned, handle: int, descriptor: int) -> None:
        self._pinned = pinned
        self.handle = handle
        self.before = winapi.facts(handle)
        self.descriptor = descriptor
        self.path = pinned.path
        self.size = self.before.size
        self.device = self.before.serial
        self.inode = self.before.file_index

    def matched_as(self, item: dict[str, Any]) -> bool:
        # Newer Pythons give 64 bits of the serial number, older ones and handles the lower 32.
        device = item["device"] & 0xFFFFFFFF
        return (self.size, self.device & 0xFFFFFFFF, self.inode) == (item["size"], device, item["inode"])

    def traits(self) -> dict[str, Any]:
        before = self.before
        return {
            "attributes": before.attributes,
            "created": before.created,
            "accessed": before.accessed,
            "written": before.written,
            "security": winacl.descriptor_of(self.handle),
            "streams": winstreams.kept_streams(self.handle),
        }

    def check_untouched(self) -> None:
        now = winapi.facts(self.handle)
        if (now.size, now.written, now.changed) != (
            self.before.size,
            self.before.written,
            self.before.changed,
        ):
            raise ScannerError("changed", "the file changed while it was copied")
        try:
            self._pinned.check_child(self.handle)
            named = self._pinned.facts()
        except (ScannerError, OSError):
            raise ScannerError("changed", "the name stands for another file by now") from None
        if not _same(named, now):
            raise ScannerError("changed", "the name stands for another file by now")

    def remove(self) -> str:
        try:
            patiently(lambda: _mark_deleted(self.handle))  # the image of an ended program goes in its own time
        except OSError as error:
            code = "busy" if error.winerror == winapi.ERROR_ACCESS_DENIED else code_of(error)
            why = f"{shown_path(self.path)[:300]} cannot be deleted: {error.strerror}"
            raise ScannerError(code, why, "it may be running or mapped") from None
        os.close(self.descriptor)  # only now it goes
        try:
            still_there = self._pinned.identity() == (self.device, self.inode)
        except OSError as error:
            still_there = error.winerror == winapi.ERROR_DELETE_PENDING
        return "the name goes when the programs that hold the file close it" if still_there else ""

    def settle(self) -> None:
        """Nothing: NTFS writes changes of names to its log in their order."""


class WindowsFresh:
    """A new file under a work name, marked for deletion until its content is complete, renamed by its handle.

    Nobody else can open it meanwhile. A process that is killed takes it along, except between the last steps:
    then the entry of the quarantine names it, and the next restore of that entry removes it.
    """

    def __init__(self, pinned: WindowsPinned, handle: int, descriptor: int) -> None:
        self._pinned = pinned
        self._handle = handle
        self._traits: dict[str, Any] = {}
        self.descriptor = descriptor

    def identity(self) -> tuple[int, int]:
        facts = winapi.facts(self._handle)
        return (facts.serial, facts.file_index)

    def dress(self, traits: dict[str, Any]) -> list[str]:
        """Streams and permissions; attributes and times come last, since all the rest would change them."""
        self._traits = traits
        winapi.set_disposition(self._handle, False)  # a file that is about to go can be given no streams
        missing = winstreams.give_streams(self._handle, traits.get("streams", []))
        missing += winacl.give_descriptor(self._handle, traits.get("security"))
        lost = traits.get("attributes", 0) & (winapi.COMPRESSED | winapi.ENCRYPTED | winapi.SPARSE)
        if lost:
            missing.append("its compressed, encrypted or sparse form")
        os.fsync(self.descriptor)
        return missing

    def publish(self, last_look: Callable[[], None]) -> None:
        traits = self._traits
        last_look()
        winapi.set_basic(
            self._handle,
            traits.get("created", 0),
            traits.get("accessed", 0),
            traits.get("written", 0),
            traits.get("attributes", 0) & _GIVEN_BACK or winapi.NORMAL,
        )
        winapi.rename(self._handle, self._pinned.parent, self._pinned.name)
        self._pinned.check_child(self._handle)


def _real_path(handle: int, drive: str) -> str:
    r"""Where an open file lies, ``\\?\C:\folder\name``. ``drive``: a path whose first six characters name it.

    Drives that Windows' list of volumes does not know (of RAM disks, for one) can only tell the rest.
    """
    try:
        return winapi.final_path(handle)
    except OSError:
        return drive[:6] + winapi.path_on_volume(handle)


def _check_child(folder: str, name: str, handle: int, path: bytes) -> None:
    """Raises ScannerError ``link_in_path`` unless the system, too, finds the handle right in that folder."""
    real_folder, _, real_name = _real_path(handle, folder).rpartition("\\")
    if real_folder.lower() != folder.rstrip("\\").lower() or not is_same_name(name, real_name):
        raise ScannerError("link_in_path", shown_path(path)[:300] + " leads elsewhere")


@contextlib.contextmanager
def pin(path: bytes) -> Iterator[WindowsPinned]:
    """Walk to the parent of an absolute, normalized path without following any reparse point.

    Raises ScannerError: ``bad_path``, ``missing``, ``link_in_path``, ``network_file_system``,
    ``not_permitted``, ``busy`` (somebody is about to rename a folder).
    """
    parts = parts_of(path)
    with contextlib.ExitStack() as held:

        def enter(parent: int, name: str, shown: bytes) -> int:
            try:
                handle = winapi.open_name(parent, name, _FOLDER_ACCESS, _FOLDER_SHARE, winapi.DIRECTORY_FILE)
            except OSError as error:
                raise as_scanner_error(error, shown) from None
            held.callback(winapi.close, handle)
            return handle

        drive = parts[0].upper()
        folder = enter(0, "\\??\\" + drive, bytes_of(drive))
        real = _real_path(folder, "\\\\?\\" + drive)
        if winapi.is_remote(folder):
            raise ScannerError("network_file_system", f"drive {drive} lies on another machine")
        if real.lower() != ("\\\\?\\" + drive).lower():
            raise ScannerError("link_in_path", f"drive {drive} stands for a folder")
        for index, part in enumerate(parts[1:-1]):
            shown = bytes_of("\\".join([drive.rstrip("\\"), *parts[1 : index + 2]]))
            deeper = enter(folder, part, shown)
            if _is_link(winapi.facts(deeper)):
                raise ScannerError("link_in_path", shown_path(shown)[:300] + " is a reparse point")
            _check_child(real, part, deeper, shown)
            folder, real = deeper, _real_path(deeper, real)
        yield WindowsPinned(path, folder, parts[-1], real)


def free_bytes(folder: str) -> int:
    """What the scanner's user may still write to the volume of a folder. Raises OSError."""
    return winapi.free_bytes(text_of(os.fsencode(folder)))
