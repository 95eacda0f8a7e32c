"""Leaving the first question, "which files have one of these sizes?", to the system's find.

The usual scan asks for one object: its size rules out nearly every file, and find, which is C, says so at
half the cost of our own walk. It is for scans from the command line: find has no place to store, so a job,
which may be paused or killed at any time, walks by itself. Everything after that (opening without following
links, hashing, judging) is ours, and so is the walk wherever find is not GNU's, fails, or the questions are
others; a test holds both to one result.
"""

from __future__ import annotations

import os
import select

from . import TYPE_CHECKING
from .folders import open_folder
from .folderscan import StoppedError
from .oserrors import code_of

if TYPE_CHECKING:
    from typing import Callable

    from .folderscan import FolderScanner
    from .walk import Frame

_FIND = "/usr/bin/find"
#: Above this many sizes find's own tests cost more than our look into a table.
MAX_SIZES = 128
_WAIT_SECONDS = 0.2
#: find's letter for a kind of file -> the reason our own walk gives
_KINDS = {b"l": "link", b"p": "fifo", b"s": "socket", b"b": "device", b"c": "device"}


class Unsuitable(Exception):
    """find cannot be asked here."""


class _Named:
    """A file that find named, as the folder scanner takes it."""

    def __init__(self, folder: int, name: str) -> None:
        self._folder = folder
        self.name = name

    def stat(self, follow_symlinks: bool = False) -> os.stat_result:
        return os.stat(self.name, dir_fd=self._folder, follow_symlinks=follow_symlinks)


def suits(frames: list[Frame], scanner: FolderScanner, prunes: list[str] | None) -> bool:
    """Whether find can answer: a fresh walk, a few exact sizes, and plain folders to leave out."""
    sizes = scanner.only_sizes
    fresh = all(names == [""] for _, names in frames)
    return bool(
        os.name == "posix"
        and prunes is not None
        and fresh
        and sizes
        and len(sizes) <= MAX_SIZES
        and os.access(_FIND, os.X_OK)
    )


def scan_with_find(
    frames: list[Frame],
    scanner: FolderScanner,
    prunes: list[str],
    excluded: Callable[[str], str | None],
    niced: bool,
    stop: Callable[[], bool],
) -> bool:
    """Do the whole walk; everything lands in the scanner's tally. False if ``stop`` ended it half-way.

    Raises Unsuitable when find gives no answer at all.
    """
    roots = [path for path, _ in frames]
    matches = _run(_arguments(roots, scanner.only_sizes or {}, prunes), scanner, niced, stop)
    if matches is None:
        return False
    for path in prunes:
        if os.path.lexists(path):
            scanner.tally.skip(path, excluded(path) or "excluded")
    for path in sorted(matches):
        if stop():
            return False
        folder_path, _, name = path.rpartition("/")
        try:
            folder = open_folder(folder_path or "/")
        except OSError as error:
            scanner.tally.skip(path, "vanished" if code_of(error) == "missing" else code_of(error))
            continue
        try:
            scanner.look_at(folder, _Named(folder, name), folder_path + "/")
        except StoppedError:
            return False
        finally:
            os.close(folder)
    return True


def _arguments(roots: list[str], sizes: dict[int, int], prunes: list[str]) -> list[bytes]:
    """Every file prints a dot; one of the right size ``F<path>NUL``; what is no file ``S<kind><path>NUL``."""
    words: list[bytes] = [b"find", b"-P", *(os.fsencode(root) for root in roots)]
    if prunes:
        words += [b"-type", b"d", b"("]
        for number, path in enumerate(prunes):
            words += [b"-o"] * bool(number) + [b"-path", _literally(path)]
        words += [b")", b"-prune", b"-o"]
    words += [b"-type", b"f", b"-printf", b".", b"("]
    for number, size in enumerate(sizes):
        words += [b"-o"] * bool(number) + [b"-size", b"%dc" % size]
    words += [
        b")",
        b"-printf",
        b"F%p\\0",
        b"-o",
        b"!",
        b"-type",
        b"f",
        b"!",
        b"-type",
        b"d",
        b"-printf",
        b"S%y%p\\0",
    ]
    return words


def _literally(path: str) -> bytes:
    """A path as a pattern that only it fits."""
    pattern = os.fsencode(path)
    for character in (b"\\", b"*", b"?", b"["):
        pattern = pattern.replace(character, b"\\" + character)
    return pattern


def _run(
    words: list[bytes], scanner: FolderScanner, niced: bool, stop: Callable[[], bool]
) -> list[str] | None:
    """The paths find names, or None if stopped. Counts and skips go to the tally."""
    out, out_end = os.pipe()
    errors, errors_end = os.pipe()
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, out_end, 1),
        (os.POSIX_SPAWN_DUP2, errors_end, 2),
    ]
    pid = os.posix_spawn(_FIND, words, {"LC_ALL": "C"}, file_actions=actions)
    os.close(out_end)
    os.close(errors_end)
    if niced:
        os.setpriority(os.PRIO_PROCESS, pid, 19)
    matches: list[str] = []
    rest, told = b"", b""
    try:
        waiting = [out, errors]
        while waiting:
            ready, _, _ = select.select(waiting, [], [], _WAIT_SECONDS)
            for descriptor in ready:
                block = os.read(descriptor, 1 << 16)
                if not block:
                    waiting.remove(descriptor)
                elif descriptor == errors:
                    told = (told + block)[-1_000_000:]
                else:
                    *complete, rest = (rest + block).split(b"\0")
                    for record in complete:
                        _take(record, scanner, matches)
            if stop():
                from signal import SIGKILL  # which imports enum

                os.kill(pid, SIGKILL)
                os.waitpid(pid, 0)
                return None
    finally:
        os.close(out)
        os.close(errors)
    _, status = os.waitpid(pid, 0)
    scanner.tally.files += len(rest)
    if status != 0 and not scanner.tally.files and not scanner.tally.skipped:
        raise Unsuitable()
    for line in told.splitlines():
        reason = "not_permitted" if line.endswith(b"Permission denied") else "vanished"
        scanner.tally.skip(os.fsdecode(line.partition(b": ")[2].rpartition(b": ")[0]), reason)
    return matches


def _take(record: bytes, scanner: FolderScanner, matches: list[str]) -> None:
    """One record: the dots of the files before it, its letter, and a path."""
    text = record.lstrip(b".")
    scanner.tally.files += len(record) - len(text)
    if text[:1] == b"F":
        matches.append(os.fsdecode(text[1:]))
    else:
        scanner.tally.skip(os.fsdecode(text[2:]), _KINDS.get(text[1:2], "special_file"))
