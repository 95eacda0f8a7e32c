r"""Where an open file of Windows lies, and whether that is where it was looked for."""

from __future__ import annotations

import contextlib
import sys
from typing import Iterator

from . import winapi
from .errors import ScannerError
from .names import shown_path
from .winnames import bytes_of, is_same_name

assert sys.platform == "win32"

#: Reparse points of files that are kept in step with a cloud: IO_REPARSE_TAG_CLOUD to _CLOUD_F (ntifs.h).
_CLOUD_TAG, _CLOUD_MASK = 0x9000001A, 0xFFFF0FFF
#: A file whose content is elsewhere: to open it would bring it here.
_ELSEWHERE = winapi.OFFLINE | winapi.RECALL_ON_OPEN | winapi.RECALL_ON_DATA_ACCESS


def is_link(facts: winapi.Facts) -> bool:
    """Any reparse point but that of a cloud's folder or file, which stands for itself."""
    return bool(facts.attributes & winapi.REPARSE_POINT) and facts.tag & _CLOUD_MASK != _CLOUD_TAG


def same_file(one: winapi.Facts, other: winapi.Facts) -> bool:
    """Same volume and file."""
    return (one.serial, one.file_index) == (other.serial, other.file_index)


def check_plain(facts: winapi.Facts, path: bytes) -> None:
    """Raises ScannerError unless it is a regular file whose content is here."""
    shown = shown_path(path)[:300]
    if facts.attributes & winapi.DIRECTORY:
        raise ScannerError("not_a_regular_file", shown + " is not a regular file")
    if is_link(facts):
        raise ScannerError("link_in_path", shown + " is a reparse point")
    if facts.attributes & _ELSEWHERE:
        raise ScannerError("offline", shown + " is kept elsewhere: to open it would bring it here")


def real_path(handle: int, drive: str) -> str:
    r"""Where an open file lies, ``\\?\C:\folder\name``. ``drive``: a path whose first six characters name it.

    Drives that Windows' list of volumes does not know (of RAM disks, for one) can only tell the rest.
    """
    try:
        return winapi.final_path(handle)
    except OSError:
        return drive[:6] + winapi.path_on_volume(handle)


def check_child(folder: str, name: str, handle: int, path: bytes) -> None:
    """Raises ScannerError ``link_in_path`` unless the system, too, finds the handle right in that folder."""
    real_folder, _, real_name = real_path(handle, folder).rpartition("\\")
    if real_folder.lower() != folder.rstrip("\\").lower() or not is_same_name(name, real_name):
        raise ScannerError("link_in_path", shown_path(path)[:300] + " leads elsewhere")


class Entry:
    """A name in a folder that is held open, as all folders above it are."""

    def __init__(self, path: bytes, parent: int, name: str, folder: str) -> None:
        """``folder``: the system's own path of the parent."""
        self.path = path
        self.parent = parent
        self.name = name
        self._folder = folder

    def real_path(self) -> bytes:
        """The path as the system spells it: long names, and in their own case."""
        try:
            with self.looked_at() as handle:
                return bytes_of(real_path(handle, self._folder)[4:])
        except OSError:
            return bytes_of(self._folder[4:].rstrip("\\") + "\\" + self.name)

    @contextlib.contextmanager
    def looked_at(self) -> Iterator[int]:
        """A handle that can only be asked: it disturbs nobody, and brings nothing here from elsewhere."""
        handle = winapi.open_name(self.parent, self.name, winapi.READ_ATTRIBUTES, winapi.SHARE_ALL, 0)
        try:
            yield handle
        finally:
            winapi.close(handle)

    def facts(self) -> winapi.Facts:
        """Of whatever bears the name now. Raises OSError."""
        with self.looked_at() as handle:
            return winapi.facts(handle)

    def check_child(self, handle: int) -> None:
        """Raises ScannerError ``link_in_path`` unless the system finds this handle under this very name."""
        check_child(self._folder, self.name, handle, self.path)
