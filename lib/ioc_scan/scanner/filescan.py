"""One walk over a device's files: hands folders to workers, collects what they find."""

from __future__ import annotations

import os
import sys

from . import TYPE_CHECKING
from .findfilter import Unsuitable, scan_with_find, suits
from .folderscan import FolderScanner, StoppedError, Tally
from .settings import BATCH_SECONDS, WorkerDiedError
from .walk import split, walk

if TYPE_CHECKING:
    from typing import Callable

    from .questions import Questions
    from .settings import Settings
    from .walk import Frame

    OnTally = Callable[[Tally], None]
    #: Called several times a second with the frames that are not done; True stops the walk.
    Tick = Callable[[Callable[[], list[Frame]]], bool]

#: Folder names one worker gets at most: small enough that the others are not left without work.
_MAX_NAMES = 512
_WAIT_SECONDS = 0.2


def scan_files(
    frames: list[Frame],
    questions: Questions,
    settings: Settings,
    workers: int,
    on_tally: OnTally,
    tick: Tick,
    close: list[int] | None = None,
) -> list[Frame]:
    """Walk ``frames`` to the end, or until ``tick`` says stop; the frames that are left.

    Everything of a batch is handed to ``on_tally`` before its folders leave the list of open frames, so a
    place stored from ``tick`` never misses a file.
    """
    if settings.prunes is not None:
        try:
            return _scan_with_find(frames, questions, settings, on_tally, tick)
        except Unsuitable:
            pass
    if workers < 1 or not hasattr(os, "fork"):
        return _scan_inline(frames, questions, settings, on_tally, tick)
    left = list(frames)
    deaths = 0
    while left:
        try:
            return _scan_pooled(left, questions, settings, workers, on_tally, tick, close or [])
        except _PoolBrokenError as error:
            deaths += 1
            left = error.frames
            if deaths > 3:
                raise WorkerDiedError() from None
    return left


def _scan_with_find(
    frames: list[Frame], questions: Questions, settings: Settings, on_tally: OnTally, tick: Tick
) -> list[Frame]:
    """The walk by the system's find. It has no place to store: stopped half-way, it starts anew."""
    stopped = False

    def stop() -> bool:
        nonlocal stopped
        stopped = stopped or tick(lambda: frames)
        return stopped

    def per_block() -> None:
        if stop():
            raise StoppedError()

    scanner = FolderScanner(questions, settings.excluded, settings.max_hash_bytes, per_block)
    if not suits(frames, scanner, settings.prunes):
        raise Unsuitable()
    if not scan_with_find(frames, scanner, settings.prunes or [], settings.excluded, settings.polite, stop):
        return frames
    on_tally(scanner.tally)
    return []


class _PoolBrokenError(Exception):
    def __init__(self, frames: list[Frame]) -> None:
        super().__init__()
        self.frames = frames


def _scan_pooled(
    left: list[Frame],
    questions: Questions,
    settings: Settings,
    workers: int,
    on_tally: OnTally,
    tick: Tick,
    close: list[int],
) -> list[Frame]:
    from .pool import Pool  # not wanted by walks that need no workers

    with Pool(workers, questions, settings, close) as pool:

        def pending() -> list[Frame]:
            return left + pool.in_flight()

        stopping = False
        try:
            while True:
                while left and pool.idle and not stopping:
                    names = sum(len(frame[1]) for frame in left)
                    left, batch = split(left, max(2 * workers, names // _MAX_NAMES))
                    pool.give(batch)
                if pool.idle == workers and (stopping or not left):
                    return left
                for answer in pool.wait(_WAIT_SECONDS):
                    on_tally(answer.tally)
                    left += answer.left
                if not stopping and tick(pending):
                    stopping = True
                    pool.stop()
        except WorkerDiedError:
            raise _PoolBrokenError(pending()) from None


def _scan_inline(
    left: list[Frame], questions: Questions, settings: Settings, on_tally: OnTally, tick: Tick
) -> list[Frame]:
    """The same in this process: where there is no fork, and the reference for tests."""
    from .polite import Budget, lower_priority

    if settings.polite and not hasattr(os, "fork"):
        lower_priority()
    budget = Budget(settings.cpu_percent) if settings.cpu_percent < 100 else None
    stopped = False

    def pending() -> list[Frame]:
        return left

    def keep() -> bool:
        if budget is not None:
            budget.keep()
        return stopped

    def per_block() -> None:
        nonlocal stopped
        keep()
        stopped = stopped or tick(pending)
        if stopped:
            raise StoppedError()

    scanner = _own_scanner(questions, settings, per_block, budget is not None)
    while left and not stopped:
        scanner.tally = Tally()
        rest = walk(scanner, left, BATCH_SECONDS, keep)
        on_tally(scanner.tally)
        left = rest
        stopped = stopped or (bool(left) and tick(pending))
    return left


def _own_scanner(
    questions: Questions, settings: Settings, per_block: Callable[[], None], per_file: bool
) -> FolderScanner:
    if sys.platform == "win32":
        from .winfolders import WindowsFolderScanner

        return WindowsFolderScanner(
            questions, settings.excluded, settings.max_hash_bytes, per_block, per_file
        )
    return FolderScanner(questions, settings.excluded, settings.max_hash_bytes, per_block, per_file)
