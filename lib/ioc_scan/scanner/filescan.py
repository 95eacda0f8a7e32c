"""One walk over a device's files: hands folders to workers, collects what they find."""

from __future__ import annotations

import os
import sys
import time

from . import TYPE_CHECKING
from .folderscan import FolderScanner, StoppedError, Tally
from .settings import BATCH_SECONDS, WorkerDiedError
from .walk import split, walk

if TYPE_CHECKING:
    from typing import Callable

    from .questions import Questions
    from .settings import OnTally, Settings, Tick
    from .walk import Frame

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
    left, stopped = list(frames), False
    if settings.prunes is not None:
        left, stopped = _scan_with_find(left, questions, settings, workers, on_tally, tick)
    forks = workers > 0 and hasattr(os, "fork")
    # Two workers and what is said between them cost 15 ms of processor time: a short walk needs none. One that
    # reads every file is not short.
    seconds = 0.0 if questions.any_size_mask else settings.alone_seconds
    if left and not stopped and (seconds or not forks):
        seconds = seconds if forks else float("inf")
        left, stopped = _scan_inline(left, questions, settings, on_tally, tick, seconds)
    deaths = 0
    while left and not stopped:
        try:
            return _scan_pooled(left, questions, settings, workers, on_tally, tick, close or [])
        except _PoolBrokenError as error:
            deaths += 1
            left = error.frames
            if deaths > 3:
                raise WorkerDiedError() from None
    return left


def _scan_with_find(
    frames: list[Frame],
    questions: Questions,
    settings: Settings,
    workers: int,
    on_tally: OnTally,
    tick: Tick,
) -> tuple[list[Frame], bool]:
    """As much as the system's find can do: what is left, and whether it was stopped."""
    from .findfilter import FindWalk, suits

    scanner = FolderScanner(questions, settings.excluded, settings.max_hash_bytes)
    if not suits(scanner, settings):
        return frames, False
    walk = FindWalk(frames, scanner, settings, workers, on_tally, tick)
    return walk.run(), walk.stopped


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
    left: list[Frame],
    questions: Questions,
    settings: Settings,
    on_tally: OnTally,
    tick: Tick,
    seconds: float,
) -> tuple[list[Frame], bool]:
    """The same in this process, for so long: what is left, and whether it was stopped."""
    budget = None
    if settings.cpu_percent < 100:
        from .polite import Budget

        budget = Budget(settings.cpu_percent)
    end = time.monotonic() + seconds
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
        if stopped or time.monotonic() > end:  # a large file is better left to a worker, beside others
            raise StoppedError()

    scanner = _own_scanner(questions, settings, per_block, budget is not None)
    while left and not stopped and time.monotonic() < end:
        scanner.tally = Tally()
        rest = walk(scanner, left, BATCH_SECONDS, keep)
        on_tally(scanner.tally)
        left = rest
        stopped = stopped or (bool(left) and tick(pending))
    return left, stopped


def _own_scanner(
    questions: Questions, settings: Settings, per_block: Callable[[], None], per_file: bool
) -> FolderScanner:
    if sys.platform == "win32":
        from .winfolders import WindowsFolderScanner

        return WindowsFolderScanner(
            questions, settings.excluded, settings.max_hash_bytes, per_block, per_file
        )
    return FolderScanner(questions, settings.excluded, settings.max_hash_bytes, per_block, per_file)
