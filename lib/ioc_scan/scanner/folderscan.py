"""Looking at the files of one folder, as cheaply as the plan allows; :mod:`.loops` has the loops over them.

Stage 0 costs one lstat at most (none if only names are asked), stage 1 reads the few files whose hash can
matter, once, with all algorithms wanted. Links are never followed; folders are opened relative to their
parent.
"""

from __future__ import annotations

import hashlib
import os
import stat

from . import TYPE_CHECKING
from .fileitem import Candidate, file_item
from .folders import OPEN_FOLDER, open_folder
from .hashing import BUFFER_BYTES, MD5, SHA1, SHA256, read_into
from .loops import scan_any, scan_digests, scan_names, scan_sizes
from .oserrors import code_of

if TYPE_CHECKING:
    from typing import Any, Callable, ContextManager, Iterable, Protocol

    from .questions import Questions

    class Named(Protocol):
        """What of a directory entry is needed to look at its file."""

        @property
        def name(self) -> str: ...

        def stat(self, *, follow_symlinks: bool) -> os.stat_result: ...

    Entries = Iterable["os.DirEntry[str]"]

#: O_NONBLOCK: a FIFO that takes a file's place must not hang the scan.
_OPEN = (
    os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
)
_NO_ACCESS_TIME = getattr(os, "O_NOATIME", 0)
_ALGORITHMS = ((SHA256, hashlib.sha256), (SHA1, hashlib.sha1), (MD5, hashlib.md5))
_CONSTRUCTORS = dict(_ALGORITHMS)
#: What jobs and handles know a file by: newer Pythons give more of it on Windows (ReFS has 128 bits).
_DEVICE_BITS = 0xFFFFFFFF if os.name == "nt" else 0xFFFFFFFFFFFFFFFF
_INODE_BITS = 0xFFFFFFFFFFFFFFFF
#: Named skips a batch carries; all are counted.
_MAX_SKIPS = 200


class StoppedError(Exception):
    """The scan was told to stop in the middle of a folder; the folder is looked at again later."""


class Tally:
    """What one batch of folders gave."""

    def __init__(self) -> None:
        self.files = 0
        self.hashed_files = 0
        self.hashed_bytes = 0
        self.candidates: list[Candidate] = []
        self.skipped: dict[str, int] = {}
        self.skips: list[tuple[str, str]] = []

    def skip(self, path: str, reason: str) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + 1
        if len(self.skips) < _MAX_SKIPS:
            self.skips.append((path, reason))

    def mark(self) -> tuple[int, int, int, int, dict[str, int]]:
        """What :meth:`rewind` takes to forget a folder that was not looked at to its end."""
        skipped = dict(self.skipped) if self.skipped else {}
        return len(self.candidates), self.hashed_files, self.hashed_bytes, len(self.skips), skipped

    def rewind(self, mark: tuple[int, int, int, int, dict[str, int]]) -> None:
        """Be again as it was at a mark."""
        candidates, self.hashed_files, self.hashed_bytes, skips, self.skipped = mark
        del self.candidates[candidates:]
        del self.skips[skips:]


class FolderScanner:
    """Looks at folders for one set of questions. Not for use by two threads at once."""

    #: A file can be opened by its name alone, relative to its folder.
    opens_by_name = hasattr(os, "readv")

    def __init__(
        self,
        questions: Questions,
        excluded: Callable[[str], str | None],
        max_hash_bytes: int | None = None,
        per_block: Callable[[], None] | None = None,
        per_file: bool = False,
    ) -> None:
        """``excluded(path)`` gives the reason why a folder is not entered, or None. ``per_block`` is called
        between blocks of large files (with ``per_file``, after small ones too); it may wait (processor
        budget) or raise :class:`StoppedError`."""
        self.tally = Tally()
        self.questions = questions
        self.excluded = excluded
        self._max_hash_bytes = max_hash_bytes
        self.per_block = per_block
        self.per_file = per_block if per_file else None
        #: With a processor budget the clock is looked at for every folder.
        self.always_look = per_file
        self.buffer = memoryview(bytearray(BUFFER_BYTES))
        self.vector = [self.buffer]
        self.open_flags = _OPEN | _NO_ACCESS_TIME
        self.needs_size = bool(
            questions.size_masks
            or questions.ranged_masks
            or (max_hash_bytes is not None and questions.any_size_mask)
        )
        self._scan = self._choose_loop()

    def _choose_loop(self) -> Callable[[FolderScanner, int, Entries, str, list[str]], int]:
        asked = self.questions
        if not (asked.ranged_masks or asked.asks_more):
            kinds = [bool(kind) for kind in (asked.size_masks, asked.exact_names, asked.any_size_mask)]
            if kinds == [True, False, False]:
                return scan_sizes
            if kinds == [False, True, False]:
                return scan_names
            one = asked.any_size_mask in _CONSTRUCTORS and len(asked.digests) == 1
            if kinds == [False, False, True] and one and self.opens_by_name and not self.needs_size:
                return scan_digests
        return scan_any

    @property
    def only_algorithm(self) -> tuple[Callable[..., Any], int]:
        """The one hash that is asked of every file: its constructor and its bit."""
        mask = self.questions.any_size_mask
        return _CONSTRUCTORS[mask], mask

    def scan(self, folder: int, path: str) -> list[str]:
        """Look at all files of an open folder; the names of its sub-folders. Raises OSError, StoppedError."""
        prefix = path if path.endswith(os.sep) else path + os.sep
        subfolders: list[str] = []
        with self._list(folder, path, prefix) as entries:
            files = self._scan(self, folder, entries, prefix, subfolders)
        self.tally.files += files
        return subfolders

    def _list(self, folder: int, path: str, prefix: str) -> ContextManager[Entries]:
        """The entries of a folder that lie in it. Raises OSError."""
        return os.scandir(folder)

    # What the walk needs of folders: it never looks into the numbers it is given for them.

    def reopen(self, path: str) -> int:
        """Open a folder by its path, no part of which may be a link. Raises OSError."""
        return open_folder(path)

    def hold(self, folder: int) -> int:
        """What is kept of a folder while its sub-folders are looked at."""
        return folder

    def again(self, folder: int, path: str) -> int:
        """Another descriptor of a folder that is held; -1 and a recorded skip if it cannot be had."""
        return os.dup(folder)

    def close(self, folder: int) -> None:
        os.close(folder)

    def enter(self, parent: int, path: str, name: str) -> int:
        """Open a sub-folder relative to its open parent; -1 and a recorded skip if it is not entered."""
        reason = self.excluded(path)
        if reason is not None:
            self.tally.skip(path, reason)
            return -1
        try:
            return os.open(name, OPEN_FOLDER, dir_fd=parent)
        except OSError as error:
            self.skip(path, error)
            return -1

    # ------------------------------------------------------------------------------------------ one file

    @property
    def only_sizes(self) -> dict[int, int]:
        """The sizes, if nothing else is asked of a file; else none."""
        return self.questions.size_masks if self._scan is scan_sizes else {}

    def look_at(self, folder: int, entry: Named, prefix: str) -> None:
        """Look at one file, of a folder that is open, whose size was found to be a wanted one."""
        try:
            size = entry.stat(follow_symlinks=False).st_size
        except OSError as error:
            self.skip(prefix + entry.name, error)
            return
        if size in self.questions.size_masks:
            self.look(folder, entry, prefix, self.questions.size_masks[size], False)

    def skip(self, path: str, error: OSError) -> None:
        """Record what could not be looked at, and why."""
        self.tally.skip(path, self._reason(error))

    def _reason(self, error: OSError) -> str:
        code = code_of(error)
        return "vanished" if code == "missing" else "link" if code == "link_in_path" else code

    def skip_special(self, entry: os.DirEntry[str], prefix: str) -> None:
        """Record what is neither a file nor a folder."""
        try:
            mode = entry.stat(follow_symlinks=False).st_mode
        except OSError as error:
            self.skip(prefix + entry.name, error)
            return
        self.tally.skip(prefix + entry.name, _KINDS.get(stat.S_IFMT(mode), "special_file"))

    def look(self, folder: int, entry: Named, prefix: str, mask: int, wanted: bool) -> None:
        """Hash a file if that can matter, and keep it as a candidate if it may be part of a match.

        ``wanted``: it is a candidate whatever its hashes are.
        """
        name = entry.name
        try:
            info = entry.stat(follow_symlinks=False) if wanted or self.needs_size else None
            if wanted:
                assert info is not None
                mask |= self.questions.hash_mask(file_item(prefix + name, info.st_size, info.st_mtime))
            limit = self._max_hash_bytes
            if mask and limit is not None and info is not None and info.st_size > limit:
                self.tally.skip(prefix + name, "too_large_to_hash")
                mask = 0
                if not wanted:
                    return
            digests: list[bytes] = []
            if mask:
                digests, info, size = self._hash(folder, name, mask, wanted)
            else:
                assert info is not None
                info = self._identify(folder, name, info)
                size = info.st_size
        except OSError as error:
            self.skip(prefix + name, error)
            return
        if self.per_file is not None:
            self.per_file()
        if info is not None:
            self.keep(prefix + name, info, size, mask, digests)

    def keep(self, path: str, info: os.stat_result, size: int, mask: int, digests: list[bytes]) -> None:
        """Keep a candidate."""
        self.tally.candidates.append(candidate_of(path, info, info.st_atime, size, mask, digests))

    def _hash(
        self, folder: int, name: str, mask: int, wanted: bool
    ) -> tuple[list[bytes], os.stat_result | None, int]:
        """Digests, status (None: no candidate) and size as read of one file."""
        descriptor = self._open(folder, name)
        try:
            size = read_into(descriptor, self.vector)
            block = self.buffer[:size]
            hashes = [algorithm(block) for bit, algorithm in _ALGORITHMS if mask & bit]
            while True:  # a read may give less than it was asked for: only nothing at all is the end
                count = read_into(descriptor, self.vector)
                if not count:
                    break
                size += count
                block = self.buffer[:count]
                for value in hashes:
                    value.update(block)
                if self.per_block is not None:
                    self.per_block()
            digests = [value.digest() for value in hashes]
            self.tally.hashed_files += 1
            self.tally.hashed_bytes += size
            if not wanted and not self.questions.names_digest(digests):
                return digests, None, size
            # What is reported is the object that was read, not what stood there a moment before.
            info = os.fstat(descriptor)
            if not stat.S_ISREG(info.st_mode):
                return digests, None, size
            return digests, info, size
        finally:
            os.close(descriptor)

    def _identify(self, folder: int, name: str, info: os.stat_result) -> os.stat_result:
        """The status of a file that is not read, with its device and inode. Raises OSError."""
        return info

    def _open(self, folder: int, name: str) -> int:
        try:
            return os.open(name, self.open_flags, dir_fd=folder)
        except PermissionError:
            if self.open_flags == _OPEN:
                raise
        # Only a file's owner may leave its access time alone; the others keep trying per file.
        return os.open(name, _OPEN, dir_fd=folder)


_KINDS = {
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFBLK: "device",
    stat.S_IFCHR: "device",
}


def candidate_of(
    path: str, info: os.stat_result, accessed: float, size: int, mask: int, digests: list[bytes]
) -> Candidate:
    values: Any = iter(digests)
    return Candidate(
        path,
        size,
        info.st_dev & _DEVICE_BITS,
        info.st_ino & _INODE_BITS,
        info.st_mtime,
        accessed,
        info.st_ctime if os.name != "nt" else getattr(info, "st_birthtime", info.st_ctime),
        info.st_uid,
        info.st_gid,
        info.st_mode,
        {bit: next(values).hex() for bit, _ in _ALGORITHMS if mask & bit},
    )
