"""The walk over folders, in pieces that can be handed to workers, stopped, stored and taken up again.

A frame ``(path, names)`` says: of this folder, these sub-folders are still to be looked at. A list of
frames is the whole state of a walk; what a worker gets, gives back, and what a checkpoint holds.
"""

from __future__ import annotations

import os
import time

from . import TYPE_CHECKING
from .folderscan import StoppedError
from .names import shown_path
from .oserrors import code_of

if TYPE_CHECKING:
    from typing import Callable, List, Tuple

    from .folderscan import FolderScanner

    Frame = Tuple[str, List[str]]

#: Folders held open along one branch; a deeper branch opens its upper folders again when it comes back to
#: them.
MAX_OPEN_FOLDERS = 200
#: Folders between two looks at the clock and at the parent's word.
LOOK_EVERY = 8


class _Level:
    """One open folder of the branch the walk is in; ``prefix`` is its path with a separator at the end."""

    __slots__ = ("folder", "names", "path", "prefix")

    def __init__(self, path: str, names: list[str], folder: int = -1) -> None:
        self.path = path
        self.prefix = path if path.endswith(os.sep) else path + os.sep
        self.names = names
        self.folder = folder

    def close(self, scanner: FolderScanner) -> None:
        if self.folder >= 0:
            scanner.close(self.folder)
            self.folder = -1


def walk(
    scanner: FolderScanner, frames: list[Frame], seconds: float, stop: Callable[[], bool]
) -> list[Frame]:
    """Look at folders until none is left or the time is over; the frames that are left.

    A name of ``""`` stands for the frame's folder itself (the start of a walk). When ``stop`` says so, or a
    :class:`StoppedError` comes out of a large file, the folder at hand counts as not yet looked at.
    """
    end = time.monotonic() + seconds
    levels = [_Level(path, list(names)) for path, names in frames]
    enter, scan, close = scanner.enter, scanner.scan, scanner.close
    tally = scanner.tally
    looks = 0
    try:
        while levels:
            level = levels[-1]
            names = level.names
            if not names:
                levels.pop().close(scanner)
                continue
            looks += 1
            if (looks % LOOK_EVERY == 0 or scanner.always_look) and (stop() or time.monotonic() > end):
                break
            if level.folder < 0 and not _reopen(level, scanner):
                levels.pop()
                continue
            name = names[-1]
            if name:
                path = level.prefix + name
                folder = enter(level.folder, path, name)
            else:
                path = level.path
                folder = scanner.again(level.folder, path)
            if folder < 0:
                names.pop()
                continue
            mark = tally.mark()
            try:
                subfolders = scan(folder, path)
            except StoppedError:
                tally.rewind(mark)  # the name stays in its frame: the folder is looked at again
                close(folder)
                break
            except OSError as error:
                tally.skip(path, code_of(error))
                subfolders = []
            names.pop()
            if not subfolders:
                close(folder)
                continue
            levels.append(_Level(path, subfolders, scanner.hold(folder)))
            if len(levels) > MAX_OPEN_FOLDERS:
                levels[-MAX_OPEN_FOLDERS - 1].close(scanner)
        return [(level.path, level.names) for level in levels if level.names]
    finally:
        for level in levels:
            level.close(scanner)


def _reopen(level: _Level, scanner: FolderScanner) -> bool:
    try:
        level.folder = scanner.reopen(level.path)
        return True
    except OSError as error:
        reason = code_of(error)
        scanner.tally.skip(level.path, "vanished" if reason == "missing" else reason)
        return False


def split(frames: list[Frame], parts: int) -> tuple[list[Frame], list[Frame]]:
    """Cut about one ``parts``-th of the names off the end of ``frames``: (what is left, what was cut off)."""
    total = sum(len(names) for _, names in frames)
    wanted = max(1, total // parts)
    left = list(frames)
    cut: list[Frame] = []
    while left and wanted > 0:
        path, names = left.pop()
        take = min(wanted, len(names))
        if take < len(names):
            left.append((path, names[:-take]))
        if take:
            cut.append((path, names[-take:]))
        wanted -= take
    cut.reverse()
    return left, cut


def frames_to_json(frames: list[Frame]) -> list[list[object]]:
    """For a checkpoint: JSON with ASCII escapes keeps undecodable bytes (lone surrogates) as they are."""
    return [[path, names] for path, names in frames]


def frames_from_json(value: object) -> list[Frame]:
    """Read a checkpoint's frames. Raises ValueError for anything of another shape."""
    if not isinstance(value, list):
        raise ValueError("frames are not a list")
    frames: list[Frame] = []
    for entry in value:
        path, names = entry
        if (
            not isinstance(path, str)
            or not os.path.isabs(path)
            or not all(isinstance(name, str) for name in names)
        ):
            raise ValueError("a frame is not a path and names: " + shown_path(str(path))[:80])
        if any(os.sep in name or name in (".", "..") for name in names):
            raise ValueError("a frame's name is no name")
        frames.append((path, list(names)))
    return frames
