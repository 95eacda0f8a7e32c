"""Worker processes that look at folders. The parent gives frames, a worker gives back what is left and found.

Forked, so the compiled plan is shared and nothing is sent but paths and numbers. A worker that is told to
stop, or whose parent died, ends within one block of a file.
"""

from __future__ import annotations

import marshal
import mmap
import os
import select

from . import TYPE_CHECKING
from .fileitem import Candidate
from .folderscan import FolderScanner, StoppedError, Tally
from .settings import BATCH_SECONDS, WorkerDiedError
from .walk import walk

if TYPE_CHECKING:
    from typing import Any

    from .polite import Budget
    from .questions import Questions
    from .settings import Settings
    from .walk import Frame

_STOP = b"\x01"


class Batch:
    """What a worker gave back: its tally, and the frames it did not get to."""

    def __init__(self, tally: Tally, left: list[Frame]) -> None:
        self.tally = tally
        self.left = left


class _Worker:
    def __init__(self, pid: int, requests: int, answers: int) -> None:
        self.pid = pid
        self.requests = requests
        self.answers = answers
        self.frames: list[Frame] = []


class Pool:
    """A number of workers; use as a context manager."""

    def __init__(self, count: int, questions: Questions, settings: Settings, close: list[int]) -> None:
        """``close``: descriptors (locks) that workers must not keep open."""
        self._flag = mmap.mmap(-1, mmap.PAGESIZE)
        self._workers: list[_Worker] = []
        self._questions = questions
        self._settings = settings
        self._close = close
        self._count = count

    def __enter__(self) -> Pool:
        for _ in range(self._count):
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for worker in self._workers:
            os.close(worker.requests)
            os.close(worker.answers)
        for worker in self._workers:
            try:  # noqa: SIM105  (contextlib takes a start 2 ms)
                os.waitpid(worker.pid, 0)
            except ChildProcessError:
                pass
        self._workers = []
        self._flag.close()

    def stop(self) -> None:
        """Tell all workers to give back what they hold."""
        self._flag[0:1] = _STOP

    @property
    def idle(self) -> int:
        return sum(1 for worker in self._workers if not worker.frames)

    def in_flight(self) -> list[Frame]:
        """What workers hold; for a checkpoint."""
        return [frame for worker in self._workers for frame in worker.frames]

    def give(self, frames: list[Frame]) -> None:
        """Hand frames to an idle worker."""
        worker = next(worker for worker in self._workers if not worker.frames)
        worker.frames = frames
        try:
            _send(worker.requests, frames)
        except OSError:
            raise WorkerDiedError() from None

    def wait(self, seconds: float) -> list[Batch]:
        """The batches that are ready, after at most this time. Raises WorkerDiedError."""
        busy = {worker.answers: worker for worker in self._workers if worker.frames}
        ready, _, _ = select.select(list(busy), [], [], seconds) if busy else ([], [], [])
        batches = []
        died = False
        for descriptor in ready:
            answer = _receive(descriptor)
            if answer is None:
                died = True
                continue
            busy[descriptor].frames = []
            batches.append(_unpack(answer))
        if died and not batches:  # else: what the others found first; a dead end stays ready
            raise WorkerDiedError()
        return batches

    def _start(self) -> None:
        requests_in, requests_out = os.pipe()
        answers_in, answers_out = os.pipe()
        # Workers never exec; every descriptor of the parent that must not live on is closed by hand.
        foreign = [requests_out, answers_in, *self._close]
        foreign += [end for worker in self._workers for end in (worker.requests, worker.answers)]
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for descriptor in foreign:
                    os.close(descriptor)
                _serve(requests_in, answers_out, parent, self._flag, self._questions, self._settings)
                status = 0
            finally:
                os._exit(status)
        os.close(requests_in)
        os.close(answers_out)
        self._workers.append(_Worker(pid, requests_out, answers_in))


def _serve(
    requests: int, answers: int, parent: int, flag: mmap.mmap, questions: Questions, settings: Settings
) -> None:
    """The life of a worker."""
    budget: Budget | None = None
    if settings.cpu_percent < 100:
        from .polite import Budget

        budget = Budget(settings.cpu_percent)

    def stop() -> bool:
        if budget is not None:
            budget.keep()
        return flag[0:1] == _STOP

    def per_block() -> None:
        if stop() or os.getppid() != parent:
            raise StoppedError()

    scanner = FolderScanner(
        questions, settings.excluded, settings.max_hash_bytes, per_block, budget is not None
    )
    while True:
        frames = _receive(requests)
        if frames is None:
            return
        scanner.tally = Tally()
        left = walk(scanner, frames, BATCH_SECONDS, stop)
        _send(answers, _pack(scanner.tally, left))


def _pack(tally: Tally, left: list[Frame]) -> Any:
    candidates = [tuple(candidate) for candidate in tally.candidates]
    counts = (tally.files, tally.hashed_files, tally.hashed_bytes)
    return (counts, candidates, tally.skipped, tally.skips, left)


def _unpack(answer: Any) -> Batch:
    tally = Tally()
    counts, candidates, tally.skipped, tally.skips, left = answer
    tally.files, tally.hashed_files, tally.hashed_bytes = counts
    tally.candidates = [Candidate(*values) for values in candidates]
    return Batch(tally, left)


def _send(descriptor: int, value: Any) -> None:
    content = marshal.dumps(value)
    view = memoryview(len(content).to_bytes(8, "little") + content)
    while view:
        view = view[os.write(descriptor, view) :]


def _receive(descriptor: int) -> Any:
    """One value, or None at the end of the stream."""
    head = _read(descriptor, 8)
    if head is None:
        return None
    content = _read(descriptor, int.from_bytes(head, "little"))
    return None if content is None else marshal.loads(content)  # noqa: S302  (our own worker's bytes)


def _read(descriptor: int, count: int) -> bytes | None:
    parts = []
    while count:
        part = os.read(descriptor, min(count, 1 << 20))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
