"""A file of Windows that is held by one handle: read, compared and removed through it. See :mod:`.safefs`."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

assert sys.platform == "win32"

from . import winacl, winapi, winstreams  # noqa: E402
from .errors import ScannerError  # noqa: E402
from .names import shown_path  # noqa: E402
from .safefs import code_of  # noqa: E402
from .sharing import patiently  # noqa: E402
from .winentry import Entry, same_file  # noqa: E402

_DELETE_NOW = 0x1 | 0x2 | 0x10  #: DELETE, POSIX_SEMANTICS, IGNORE_READONLY_ATTRIBUTE


def mark_deleted(handle: int) -> None:
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

    def __init__(self, entry: Entry, handle: int) -> None:
        """The handle belongs to this object once it is made. Raises OSError."""
        self._entry = entry
        self.path = entry.path
        self.handle = handle
        self.before = winapi.facts(handle)
        self.descriptor = winapi.descriptor_of(handle, os.O_RDONLY | os.O_BINARY)
        self.size = self.before.size
        self.device = self.before.serial
        self.inode = self.before.file_index

    def close(self) -> None:
        """Let the file go; a second time nothing."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)

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
            self._entry.check_child(self.handle)
            named = self._entry.facts()
        except (ScannerError, OSError):
            raise ScannerError("changed", "the name stands for another file by now") from None
        if not same_file(named, now):
            raise ScannerError("changed", "the name stands for another file by now")

    def remove(self) -> str:
        try:
            patiently(lambda: mark_deleted(self.handle))  # the image of an ended program goes in its own time
        except OSError as error:
            code = "busy" if error.winerror == winapi.ERROR_ACCESS_DENIED else code_of(error)
            why = f"{shown_path(self.path)[:300]} cannot be deleted: {error.strerror}"
            raise ScannerError(code, why, "it may be running or mapped") from None
        self.close()  # only now it goes
        try:
            still_there = same_file(self._entry.facts(), self.before)
        except OSError as error:
            still_there = error.winerror == winapi.ERROR_DELETE_PENDING
        return "the name goes when the programs that hold the file close it" if still_there else ""

    def settle(self) -> None:
        """Nothing: NTFS writes changes of names to its log in their order."""
