"""One walk for one or more scan jobs, with everything that can interrupt it."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any, Callable

from .clock import Clock
from .collect import collect_documents
from .errors import ScannerError
from .filescan import scan_files
from .jobfolder import WithdrawnError
from .names import shown_path
from .oserrors import code_of
from .progress import Progress
from .questions import Questions
from .scanjob import ScanJob
from .scope import Scope
from .settings import Settings, WorkerDiedError
from .spool import Spool

if TYPE_CHECKING:
    from .folderscan import Tally
    from .runner import Runner
    from .walk import Frame

#: Looking for words of the manager and for jobs that act.
_LOOK_SECONDS = 0.5
#: A place is stored at least this far apart, and never costs more than one part in two hundred.
_STORE_SECONDS = 0.2
_STORE_SHARE = 200
#: Of a walk by find, for each worker: one that is broken off is done again, and each costs a millisecond.
_PIECES = 8
#: Processor budget of a scan that waited for an idle device in vain.
NEVER_IDLE_PERCENT = 20


class ScanRun:
    """Scans for jobs of equal settings until all are done or have left (paused, cancelled, withdrawn,
    expired).
    """

    def __init__(self, runner: Runner, spool: Spool, clock: Clock, jobs: list[ScanJob]) -> None:
        self._runner = runner
        self._spool = spool
        self._clock = clock
        self._jobs = jobs
        self._settings: dict[str, Any] = jobs[0].folder.job.get("settings", {})
        self._never_idle = bool(jobs[0].folder.status.get("never_idle"))
        self._only_when_idle = bool(self._settings.get("idle_only", False)) and not self._never_idle
        self._started = time.monotonic()
        self._looked = self._started
        self._stored = self._started
        self._store_cost = 0.0
        self._scope: Scope | None = None
        self._identities: dict[str, tuple[int, int] | None] = {}
        self._progress: Progress | None = None
        self._taken_up = False

    def run(self) -> None:
        """The whole of it; every job ends in a state that says what happened."""
        try:
            self._scope = Scope(self._settings, self._spool.root, [self._spool.path])
            for root in self._scope.roots:
                self._identities[root] = _identity(root)
                if self._identities[root] is None:
                    raise ScannerError(
                        "root_missing", "a folder to be scanned is not there: " + shown_path(root)
                    )
            frames = self._begin()
            if self._jobs:
                self._walk(frames)
        except PermissionError as error:
            self._fail(ScannerError("outside_root", str(error.strerror)))
        except WorkerDiedError:
            self._fail(
                ScannerError("worker_died", "the scan's processes were ended from outside, several times")
            )
        except ScannerError as error:
            self._fail(error)
        except OSError as error:
            self._fail(ScannerError(code_of(error), f"the scan cannot go on: {error.strerror}"))

    def _begin(self) -> list[Frame]:
        assert self._scope is not None
        frames = self._scope.frames()
        for job in list(self._jobs):
            try:
                place = job.restore()
                self._runner.start(job.folder)
                for folder, reason in self._scope.not_evaluated:
                    job.evaluator.unavailable(folder, reason)
                if place is not None:
                    frames = place  # jobs with a place of their own come alone
                    self._taken_up = True
            except WithdrawnError:
                self._leave(job)
        return frames

    def _walk(self, frames: list[Frame]) -> None:
        assert self._scope is not None
        self._progress = Progress(self._scope.roots)
        questions = Questions([job.evaluator for job in self._jobs])
        cpu_percent = self._settings.get("cpu_percent", 100)
        if self._never_idle:
            cpu_percent = min(cpu_percent, NEVER_IDLE_PERCENT)
        threads = self._settings.get("threads", min(2, os.cpu_count() or 1))
        settings = Settings(
            self._scope.excluded,
            self._settings.get("max_hash_bytes"),
            cpu_percent,
            # find knows no place to store: a scan that was broken off goes on by itself, so that it comes to
            # an end however often that happens.
            prunes=None if self._taken_up else self._scope.prunes(),
            pieces=_PIECES,
        )
        workers = 1 if cpu_percent < 100 else threads
        folder_tree = self._spool.root not in (None, os.sep)
        stopped = collect_documents(
            self._jobs, folder_tree, self._guarded, lambda: self._tick(lambda: frames)
        )
        left: list[Frame] = frames if stopped else []
        if questions.about_files and not stopped:
            left = scan_files(
                frames, questions, settings, workers, self._take, self._tick, [self._spool.lock_descriptor]
            )
        if left or self._runner.stopping:
            for job in list(self._jobs):  # told to stop: the next runner goes on from here
                self._guarded(job, lambda job: job.store(left))
            for job in self._jobs:
                job.folder.close()
            return
        self._check_roots()
        for job in list(self._jobs):
            self._guarded(job, self._finish)

    def _check_roots(self) -> None:
        """A root that went away took its files with it: that scan did not see everything.

        Raises ScannerError.
        """
        assert self._scope is not None
        for root in self._scope.roots:
            if _identity(root) != self._identities[root]:
                raise ScannerError(
                    "root_vanished",
                    "a folder went away while it was scanned: " + shown_path(root),
                    "start the task again when the device is back",
                )

    @staticmethod
    def _finish(job: ScanJob) -> None:
        job.finish()
        job.folder.end("done")

    # ----------------------------------------------------------------------------------- while walking

    def _take(self, tally: Tally) -> None:
        for job in list(self._jobs):
            self._guarded(job, lambda job: job.take(tally))

    def _tick(self, pending: Callable[[], list[Frame]]) -> bool:
        now = time.monotonic()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            self._runner.run_acting()
            self._runner.hear_waiting([job.folder.job_id for job in self._jobs])
            self._look(pending, now)
        if now - self._stored >= max(_STORE_SECONDS, self._store_cost * _STORE_SHARE):
            self._store(pending())
        return not self._jobs or self._runner.stopping

    def _look(self, pending: Callable[[], list[Frame]], now: float) -> None:
        """The manager's word, times, and the numbers that people watch."""
        deadline = self._settings.get("deadline_seconds")
        assert self._progress is not None
        share = self._progress.share(pending())
        used = self._only_when_idle and self._runner.idle.in_use(scanning=True) is not None
        for job in list(self._jobs):
            try:
                word = job.folder.control()
                if word == "cancel":
                    job.folder.end("cancelled")
                    self._leave(job)
                elif word == "pause":
                    job.store(pending())
                    job.folder.write_status("paused")
                    self._leave(job)
                elif used:
                    job.store(pending())
                    job.folder.write_status("waiting_idle")
                    self._leave(job)
                elif self._runner.expired(job.folder):
                    job.folder.end("expired", ScannerError("expired", "the scan's time is over"))
                    self._leave(job)
                elif deadline is not None and now - self._started > deadline:
                    job.folder.end("failed", ScannerError("deadline", "the scan took longer than it may"))
                    self._leave(job)
                else:
                    job.folder.status["progress"] = share
                    job.folder.write_status()
            except WithdrawnError:
                self._leave(job)

    def _store(self, frames: list[Frame]) -> None:
        begin = time.monotonic()
        for job in list(self._jobs):
            self._guarded(job, lambda job: job.store(frames))
        self._stored = time.monotonic()
        self._store_cost = self._stored - begin

    def _guarded(self, job: ScanJob, work: Callable[[ScanJob], None]) -> None:
        """Do something for one job; what fails there ends that job and no other."""
        try:
            work(job)
        except WithdrawnError:
            self._leave(job)
        except (OSError, ScannerError) as error:
            if isinstance(error, OSError):
                error = ScannerError(code_of(error), f"the spool cannot be written: {error.strerror}")
            self._fail_one(job, error)

    def _leave(self, job: ScanJob) -> None:
        job.folder.close()
        if job in self._jobs:
            self._jobs.remove(job)

    def _fail_one(self, job: ScanJob, error: ScannerError) -> None:
        with contextlib.suppress(WithdrawnError, OSError):
            job.folder.end("failed", error)
        self._leave(job)

    def _fail(self, error: ScannerError) -> None:
        for job in list(self._jobs):
            self._fail_one(job, error)


def _identity(root: str) -> tuple[int, int] | None:
    """Device and inode of a folder, or None: an unmounted disk leaves an empty folder of the same name."""
    try:
        info = os.stat(root)
    except OSError:
        return None
    return (info.st_dev, info.st_ino) if os.path.isdir(root) else None
