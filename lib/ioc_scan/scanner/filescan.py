"""One walk over a device's files: hands folders to workers, collects what they find."""

from __future__ import annotations

import os
from typing import Callable

from .folderscan import FolderScanner, Tally
from .pool import BATCH_SECONDS, Pool, Settings, WorkerDiedError
from .questions import Questions
from .walk import Frame, split, walk

#: Folder names one worker gets at most: small enough that the others are not left without work.
_MAX_NAMES = 512
_WAIT_SECONDS = 0.2

OnTally = Callable[[Tally], None]
#: Called several times a second with the frames that are not done; True stops the walk.
Tick = Callable[[Callable[[], "list[Frame]"]], bool]


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
    scanner = FolderScanner(questions, settings.excluded, settings.max_hash_bytes)

    def pending() -> list[Frame]:
        return left

    while left:
        scanner.tally = Tally()
        left = walk(scanner, left, BATCH_SECONDS, lambda: False)
        on_tally(scanner.tally)
        if left and tick(pending):
            break
    return left
