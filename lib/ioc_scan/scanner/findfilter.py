"""Leaving the first question, "which files have one of these sizes?", to the system's find.

The usual scan asks for one object: its size rules out nearly every file, and find, which is C, says so at two
thirds of the cost of our own walk. It is asked for pieces of the tree, by as many processes as there are
workers; a piece is done when its find has ended well. A piece that is not done is walked by ourselves, be it
that the scan was stopped, or that find failed, is none, or is not GNU's. Everything after the first question
(opening without following links, hashing, judging) is ours in any case. Tests hold both to one result.
"""

from __future__ import annotations

import os
import select
import stat

from . import TYPE_CHECKING
from .findwords import find_words
from .folders import open_folder
from .folderscan import StoppedError, Tally
from .oserrors import code_of

if TYPE_CHECKING:
    from .folderscan import FolderScanner
    from .settings import OnTally, Settings, Tick
    from .walk import Frame

_FIND = "/usr/bin/find"
#: With more sizes find takes longer to read its command line than we save.
MAX_SIZES = 128
#: Folders that are shared out between the finds: the highest ones, listed by ourselves.
_SHARED_FOLDERS = 32
_WAIT_SECONDS = 0.2
#: Python ignores it, and what it starts would too: a find whose scanner was killed has to end.
_SIGPIPE = 13
#: find's letter for a kind of file -> the reason our own walk gives
_KINDS = {b"l": "link", b"p": "fifo", b"s": "socket", b"b": "device", b"c": "device"}
_ERRORS = {
    b"Permission denied": "not_permitted",
    b"Operation not permitted": "not_permitted",
    b"No such file or directory": "vanished",
    b"Input/output error": "io_error",
}


class _Named:
    """A file that find named, as the folder scanner takes it."""

    def __init__(self, folder: int, name: str) -> None:
        self._folder = folder
        self.name = name

    def stat(self, follow_symlinks: bool = False) -> os.stat_result:
        return os.stat(self.name, dir_fd=self._folder, follow_symlinks=follow_symlinks)


def suits(scanner: FolderScanner, settings: Settings) -> bool:
    """Whether find can answer: a few exact sizes, no processor budget, and plain folders to leave out."""
    return bool(
        settings.prunes is not None
        and settings.cpu_percent == 100
        and 0 < len(scanner.only_sizes) <= MAX_SIZES
        and os.name == "posix"
        and os.access(_FIND, os.X_OK)
    )


class FindWalk:
    """A walk that has not begun, done by find. ``stopped``: it ended because ``tick`` said so."""

    def __init__(
        self,
        frames: list[Frame],
        scanner: FolderScanner,
        settings: Settings,
        workers: int,
        on_tally: OnTally,
        tick: Tick,
    ) -> None:
        self.stopped = False
        self._scanner = scanner
        self._prunes = settings.prunes or []
        self._workers = max(1, workers)
        self._pieces = self._workers * settings.pieces
        self._on_tally = on_tally
        self._tick = tick
        self._frames = frames
        self._waiting: list[_Find] = []
        self._running: list[_Find] = []
        scanner.per_block = self._go_on

    def run(self) -> list[Frame]:
        """The frames that are left: all is done, it was stopped, or find gave no answer about them."""
        try:
            folders = _spread([path for path, _ in self._frames], self._scanner)
            self._share_out(folders)
            while self._waiting or self._running:
                while self._waiting and len(self._running) < self._workers:
                    self._start(self._waiting.pop(0))
                self._go_on()
                self._read()
        except StoppedError:
            self.stopped = True
        finally:
            for find in self._running:
                find.kill()
        return self._left()

    def _left(self) -> list[Frame]:
        own = [(folder, [""]) for find in self._waiting + self._running for folder in find.folders]
        return self._frames + own

    def _go_on(self) -> None:
        """Raises StoppedError."""
        if self._tick(self._left):
            raise StoppedError()

    def _share_out(self, folders: list[str]) -> None:
        self._on_tally(self._scanner.tally)
        count = min(len(folders), self._pieces)
        self._frames = []
        self._waiting = [
            _Find(folders[number::count], self._scanner, self._prunes) for number in range(count)
        ]

    def _start(self, find: _Find) -> None:
        try:
            find.start()
            self._running.append(find)
        except OSError:
            self._refuse(find)

    def _refuse(self, find: _Find) -> None:
        """What find did not do is left for our own walk."""
        self._frames += [(folder, [""]) for folder in find.folders]

    def _read(self) -> None:
        """Hear what the finds have to say, after waiting a moment. Raises StoppedError."""
        owners = {descriptor: find for find in self._running for descriptor in find.outputs}
        ready, _, _ = select.select(list(owners), [], [], _WAIT_SECONDS)
        for descriptor in ready:
            find = owners[descriptor]
            find.read(descriptor)
            find.look(self._scanner)
            if find.outputs:
                continue
            if find.answered():
                self._on_tally(find.tally)
            else:
                self._refuse(find)
            self._running.remove(find)


def _spread(folders: list[str], scanner: FolderScanner) -> list[str]:
    """Look at the highest folders ourselves, until enough others are known. Raises StoppedError."""
    looked = 0
    while folders and len(folders) + looked < _SHARED_FOLDERS:
        path = folders.pop(0)
        looked += 1
        try:
            folder = open_folder(path)
        except OSError as error:
            scanner.skip(path, error)
            continue
        try:
            names = scanner.scan(folder, path)
        except OSError as error:
            scanner.tally.skip(path, code_of(error))
            continue
        finally:
            os.close(folder)
        for name in names:
            deeper = path.rstrip(os.sep) + os.sep + name
            reason = scanner.excluded(deeper)
            if reason is None:
                folders.append(deeper)
            else:
                scanner.tally.skip(deeper, reason)
    return folders


class _Find:
    """One run of find over some folders, and what it said."""

    def __init__(self, folders: list[str], scanner: FolderScanner, prunes: list[str]) -> None:
        self.folders = folders
        self.tally = Tally()
        self._sizes = sorted(scanner.only_sizes)
        self._prunes: list[str] = []
        within = tuple(folder.rstrip(os.sep) + os.sep for folder in folders)
        for path in prunes:  # sorted: what holds others comes first
            if path.startswith(within) and not path.startswith(tuple(one + os.sep for one in self._prunes)):
                self._prunes.append(path)
                if _is_folder(path):
                    self.tally.skip(path, scanner.excluded(path) or "excluded")
        self._matches: list[str] = []
        self._rest = self._errors = b""
        self._spoke = False
        self._process = -1
        #: Descriptors of what it prints, and of what it complains about, while they are open.
        self.outputs: list[int] = []
        self._complaints = -1

    def start(self) -> None:
        """Raises OSError."""
        out, out_end = os.pipe()
        self._complaints, errors_end = os.pipe()
        self.outputs = [out, self._complaints]
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, out_end, 1),
            (os.POSIX_SPAWN_DUP2, errors_end, 2),
        ]
        words = find_words(self.folders, self._sizes, self._prunes)
        try:
            self._process = os.posix_spawn(
                _FIND, words, {"LC_ALL": "C"}, file_actions=actions, setsigdef=[_SIGPIPE]
            )
        except OSError:
            os.close(out)
            os.close(self._complaints)
            raise
        finally:
            os.close(out_end)
            os.close(errors_end)

    def read(self, descriptor: int) -> None:
        """Take what is there; at the end of both outputs it has ended."""
        block = os.read(descriptor, 1 << 16)
        if not block:
            self.outputs.remove(descriptor)
            os.close(descriptor)
        elif descriptor == self._complaints:
            self._errors = (self._errors + block)[-1_000_000:]
        else:
            *complete, self._rest = (self._rest + block).split(b"\0")
            for record in complete:
                self._take(record)
            self._spoke = True
            if not self._rest.strip(b"."):  # no piece of a path: it need not be kept
                self.tally.files += len(self._rest)
                self._rest = b""

    def _take(self, record: bytes) -> None:
        """One record: the dots of the files before it, its letter, and a path."""
        text = record.lstrip(b".")
        self.tally.files += len(record) - len(text)
        if text[:1] == b"F":
            self._matches.append(os.fsdecode(text[1:]))
        else:
            self.tally.skip(os.fsdecode(text[2:]), _KINDS.get(text[1:2], "special_file"))

    def answered(self) -> bool:
        """Reap it. True if it did its work: it may complain of what it could not read, but not of its words."""
        _, status = os.waitpid(self._process, 0)
        self._process = -1
        for line in self._errors.splitlines():
            path, _, reason = line.partition(b": ")[2].rpartition(b": ")
            self.tally.skip(os.fsdecode(path.strip(b"'")), _ERRORS.get(reason, "os_error"))
        return status == 0 or (bool(self._errors) and os.WIFEXITED(status) and self._spoke)

    def look(self, scanner: FolderScanner) -> None:
        """Look at the files it named since the last look. Raises StoppedError."""
        scanner.tally = self.tally
        matches, self._matches = self._matches, []
        for path in matches:
            folder_path, _, name = path.rpartition(os.sep)
            try:
                folder = open_folder(folder_path or os.sep)
            except OSError as error:
                scanner.skip(path, error)
                continue
            try:
                scanner.look_at(folder, _Named(folder, name), folder_path + os.sep)
            finally:
                os.close(folder)

    def kill(self) -> None:
        """End it, and forget it."""
        from signal import SIGKILL  # imports enum: seldom wanted, and slow

        for descriptor in self.outputs:
            os.close(descriptor)
        if self._process > 0:
            os.kill(self._process, SIGKILL)
            os.waitpid(self._process, 0)


def _is_folder(path: str) -> bool:
    """Whether our own walk would come to this folder: no link on the way."""
    folder_path, _, name = path.rpartition(os.sep)
    try:
        folder = open_folder(folder_path or os.sep)
    except OSError:
        return False
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False
    finally:
        os.close(folder)
