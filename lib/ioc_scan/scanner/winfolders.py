"""Looking at the files of one folder on Windows: no link is followed, nothing is fetched from elsewhere.

A folder is opened by its path, and the system's own word for where it lies must be that path, so that a
junction put in place of a folder above is an error. Its files are opened relative to it. Nothing stays open
below a folder that people may want to rename: only the one that is looked at, and everything is shared.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import contextlib  # noqa: E402
import errno  # noqa: E402
import os  # noqa: E402
from typing import TYPE_CHECKING, Any, Iterator  # noqa: E402

from . import winapi  # noqa: E402
from .fileitem import OFFLINE  # noqa: E402
from .folderscan import FolderScanner, candidate_of  # noqa: E402
from .longpaths import kernel_path, long_path, plain_path  # noqa: E402
from .winattributes import has_handler, is_elsewhere, left_out  # noqa: E402

if TYPE_CHECKING:
    from .folderscan import Entries, Named

_SHARE_ALL = winapi.SHARE_READ | winapi.SHARE_WRITE | winapi.SHARE_DELETE
_READ = os.O_RDONLY | os.O_BINARY | os.O_NOINHERIT
#: ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION: opened by somebody who does not share it.
_BUSY = frozenset((32, 33))
#: Stands for a folder of the branch that the walk is in; it is opened anew when it is needed.
_NOT_HELD = 0


class WindowsFolderScanner(FolderScanner):
    """The numbers that stand for folders are handles."""

    opens_by_name = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        #: A listing tells sizes and attributes at no cost.
        self.needs_size = True
        self._handled_by_driver: str | None = None
        self._accessed = 0.0

    # -------------------------------------------------------------------------------------------- folders

    def reopen(self, path: str) -> int:
        winapi.close(_open_folder(path))
        return _NOT_HELD

    def hold(self, folder: int) -> int:
        winapi.close(folder)
        return _NOT_HELD

    def again(self, folder: int, path: str) -> int:
        try:
            return _open_folder(path)
        except OSError as error:
            self.tally.skip(path, self._reason(error))
            return -1

    def enter(self, parent: int, path: str, name: str) -> int:
        reason = self.excluded(path)
        if reason is not None:
            self.tally.skip(path, reason)
            return -1
        return self.again(parent, path)

    def close(self, folder: int) -> None:
        if folder != _NOT_HELD:
            winapi.close(folder)

    # ---------------------------------------------------------------------------------------------- files

    @contextlib.contextmanager
    def _list(self, folder: int, path: str, prefix: str) -> Iterator[Entries]:
        with os.scandir(long_path(path)) as entries:
            yield self._own(entries, prefix)

    def _own(self, entries: Entries, prefix: str) -> Entries:
        """The entries that are files and folders of this place."""
        for entry in entries:
            info = entry.stat(follow_symlinks=False)
            folder = bool(info.st_file_attributes & winapi.DIRECTORY)
            reason = left_out(info.st_file_attributes, info.st_reparse_tag, folder)
            if reason is None:
                yield entry
            else:
                self.tally.skip(prefix + entry.name, reason)

    def look(self, folder: int, entry: Named, prefix: str, mask: int, wanted: bool) -> None:
        path = prefix + entry.name
        info = entry.stat(follow_symlinks=False)
        if is_elsewhere(info.st_file_attributes):
            self.tally.skip(path, OFFLINE)
            if wanted:  # a name or a size may be all that is asked
                self.tally.candidates.append(candidate_of(path, info, info.st_atime, info.st_size, 0, []))
            return
        self._accessed = info.st_atime
        self._handled_by_driver = long_path(path) if has_handler(info.st_file_attributes) else None
        super().look(folder, entry, prefix, mask, wanted)

    def keep(self, path: str, info: os.stat_result, size: int, mask: int, digests: list[bytes]) -> None:
        """With the moment it was last accessed before we did."""
        self.tally.candidates.append(candidate_of(path, info, self._accessed, size, mask, digests))

    def _identify(self, folder: int, name: str, info: os.stat_result) -> os.stat_result:
        """A listing knows neither volume nor number of a file."""
        descriptor = _descriptor(folder, name, winapi.READ_ATTRIBUTES)
        try:
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)

    def _open(self, folder: int, name: str) -> int:
        # A file that another driver handles holds, opened as it stands, that driver's notes.
        if self._handled_by_driver is not None:
            return os.open(self._handled_by_driver, _READ)
        return _descriptor(folder, name, winapi.READ_DATA | winapi.READ_ATTRIBUTES)

    def _reason(self, error: OSError) -> str:
        return "busy" if error.winerror in _BUSY else super()._reason(error)


def _open_folder(path: str) -> int:
    """A handle of a folder that lies where its path says. Raises OSError, with ELOOP if it does not."""
    handle = _folder(0, kernel_path(path))
    try:
        if _lies_at(handle, path):
            return handle
    except OSError:
        winapi.close(handle)
        raise
    winapi.close(handle)
    return _open_by_parts(path)


def _lies_at(handle: int, path: str) -> bool:
    """False: the system cannot say (RAM disks, some shares). Raises OSError: it says another place."""
    try:
        place = plain_path(winapi.final_path(handle))
    except OSError:
        return False
    if place.casefold() != path.casefold():
        raise OSError(errno.ELOOP, "a link leads to the folder")
    return True


def _open_by_parts(path: str) -> int:
    """The same, one folder after the other from the drive on, none of which may be a link."""
    drive, rest = os.path.splitdrive(path)
    place = drive + "\\"
    handle = _folder(0, kernel_path(place))
    try:
        for part in filter(None, rest.split("\\")):
            deeper = _folder(handle, part)
            winapi.close(handle)
            handle = deeper
            place = place.rstrip("\\") + "\\" + part
            facts = winapi.facts(handle)
            if not _lies_at(handle, place) and left_out(facts.attributes, facts.tag, True) == "link":
                raise OSError(errno.ELOOP, "a link leads to the folder")
    except OSError:
        winapi.close(handle)
        raise
    return handle


def _folder(parent: int, name: str) -> int:
    access = winapi.TRAVERSE | winapi.READ_ATTRIBUTES
    return winapi.open_name(parent, name, access, _SHARE_ALL, winapi.DIRECTORY_FILE)


def _descriptor(folder: int, name: str, access: int) -> int:
    handle = winapi.open_name(folder, name, access, _SHARE_ALL, winapi.NON_DIRECTORY_FILE)
    return winapi.descriptor_of(handle, _READ)
