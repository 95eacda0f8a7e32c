"""Runs the jobs of a spool: what may run, in which order, until nothing is left to do.

Jobs that act (respond, restore, purge) go first and do not wait for a scan to end. Scans of the same
folders share one walk. A job that may not run is refused with a code, never run in part.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from typing import Collection

from .clock import Clock
from .errors import ScannerError
from .handover import announce, asked_to_stop
from .idle import IdleGate
from .jobfolder import CancelledError, JobFolder, WithdrawnError, identity_of
from .plan import Plan, load_plan
from .polite import lower_priority
from .protocol import (
    DONE_FOLDER,
    JOBS_FOLDER,
    dump_json,
    from_iso,
    is_job_id,
    read_json,
    remove_withdrawn,
    to_iso,
    write_json_atomic,
)
from .quarantine import Quarantine
from .safefs import as_scanner_error
from .scanjob import ScanJob
from .scanrun import ScanRun
from .spool import Spool
from .system import system_name

_LOOK_SECONDS = 1.0
DEFAULT_IDLE_WAIT_HOURS = 24
#: Markers of jobs are kept this long after the job's own end, where its times refuse it anyway.
_MARKER_DAYS = 30


class Runner:
    """All jobs of one spool. ``digest``: SHA-256 of this scanner's own file, None when run from source.

    ``polite``: this process and all its own get the lowest priority once there is something to scan.
    """

    def __init__(
        self, spool: Spool, clock: Clock, digest: str | None, once: bool, polite: bool = False
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._digest = digest
        self._once = once
        self._polite = polite
        self._stopping = False
        self.idle = IdleGate(spool.path)
        #: Folders of jobs that need not be looked at again: they are many, and this is asked twice a second.
        self._settled: dict[str, tuple[int, int]] = {}

    def run(self) -> None:
        """Work until every job is settled; with ``once`` until nothing can be done right now."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        announce(self._spool.path, self._digest)
        remove_withdrawn(self._spool.path)
        self._forget_old_markers()
        Quarantine(self._spool.folder("quarantine")).sweep()
        while not self._stopping:
            self.run_acting()
            scans, waiting = self._due_scans()
            if scans:
                self._step_back()
                ScanRun(self, self._spool, self._clock, scans).run()
                if not self._once:
                    continue
            if self._once or not (scans or waiting):
                return
            time.sleep(_LOOK_SECONDS)

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _step_back(self) -> None:
        """Before work that takes long. What acts on files meanwhile is slower too: it has 15 minutes."""
        if self._polite:
            self._polite = False
            lower_priority()

    @property
    def stopping(self) -> bool:
        """A signal asked to end: store places, leave the jobs as they are."""
        return self._stopping

    # --------------------------------------------------------------------------------------- looking

    def _open_jobs(self, acting: bool, but: Collection[str] = ()) -> list[JobFolder]:
        """Jobs that are not settled and may run at all; those that may not are refused here."""
        found = []
        for name in self._spool.jobs():
            if not is_job_id(name) or name in but:
                continue
            try:
                path = os.path.join(self._spool.folder(JOBS_FOLDER), name)
                if name in self._settled and self._settled[name] == identity_of(path):
                    continue
                folder = JobFolder(path, self._clock)
                if folder.settled:
                    self._settled[name] = folder.identity
                    continue
                try:
                    folder.load()
                    folder.begin(self._spool.device_id)
                    if (folder.job["kind"] != "scan") != acting:
                        continue
                    self._check_ours(folder)
                except (ScannerError, OSError) as error:
                    folder.begin(self._spool.device_id)
                    folder.end("refused", _as_scanner_error(error))
                    continue
                found.append(folder)
            except WithdrawnError:
                continue
        return found

    def _check_ours(self, folder: JobFolder) -> None:
        """Raises ScannerError: foreign, replayed, or for another scanner."""
        job = folder.job
        if job["device_id"] != self._spool.device_id:
            raise ScannerError("foreign_device", "the job is for another device")
        if self._digest is not None and job["scanner_digest"] != self._digest:
            raise ScannerError(
                "wrong_scanner", "the job was made for another scanner", "deliver the job's scanner"
            )
        try:
            marker = read_json(self._marker(folder.job_id))
        except FileNotFoundError:
            return
        if folder.state == "pending" or marker.get("job_digest") != self._job_digest(folder):
            raise ScannerError("replayed", "a job of this id was already started on this device")

    def _marker(self, job_id: str) -> str:
        return os.path.join(self._spool.folder(DONE_FOLDER), job_id)

    @staticmethod
    def _job_digest(folder: JobFolder) -> str:
        """Of what the job says; a newer scanner may take it over (handover.py), nothing else may change."""
        job = {name: value for name, value in folder.job.items() if name != "scanner_digest"}
        return hashlib.sha256(dump_json(job)).hexdigest()

    def start(self, folder: JobFolder, state: str = "running") -> None:
        """Status first, then the marker: a job broken off between the two goes on, it is not taken for a
        replay.
        """
        folder.write_status(state)
        marker = {"not_after": folder.job["not_after"], "job_digest": self._job_digest(folder)}
        write_json_atomic(self._marker(folder.job_id), marker)

    def _forget_old_markers(self) -> None:
        now = self._clock()
        for name in os.listdir(self._spool.folder(DONE_FOLDER)):
            try:
                marker = read_json(self._marker(name))
                if (now - from_iso(marker["not_after"])).days > _MARKER_DAYS:
                    os.unlink(self._marker(name))
            except (ScannerError, OSError, KeyError, TypeError):
                continue  # what cannot be read stays: it refuses its job, which is the safe side

    def expired(self, folder: JobFolder) -> bool:
        return self._clock() > from_iso(folder.job["not_after"])

    def _due(self, folder: JobFolder) -> bool:
        return self._clock() >= from_iso(folder.job["not_before"])

    def load_plan(self, folder: JobFolder) -> Plan:
        """The job's plan. Raises ScannerError ``plan_mismatch`` and what ``load_plan`` raises."""
        try:
            content = folder.read_plan()
        except OSError as error:
            raise ScannerError("plan_missing", f"plan.json cannot be read: {error.strerror}") from None
        if hashlib.sha256(content).hexdigest() != folder.job["plan_digest"]:
            raise ScannerError("plan_mismatch", "plan.json is not the plan that the job names")
        return load_plan(content)

    # ---------------------------------------------------------------------------------------- acting

    def run_acting(self) -> None:
        """Respond, restore and purge jobs that are due. Cheap when there are none."""
        if asked_to_stop(self._spool.path, self._digest):
            self._stopping = True
            return
        for folder in self._open_jobs(acting=True):
            try:
                self._run_one(folder)
            except WithdrawnError:
                folder.close()
            except CancelledError:
                _end_quietly(folder, None, "cancelled")
            except (ScannerError, OSError) as error:
                _end_quietly(folder, _as_scanner_error(error))

    def _run_one(self, folder: JobFolder) -> None:
        # Loaded here: a runner with nothing but scans does without, and a zipapp is compiled at each start.
        from .critical.job import CriticalAreas
        from .respond import Responder
        from .restore import Restorer

        word = folder.control()
        if self.expired(folder):
            if folder.job["kind"] == "respond" and folder.state != "pending":
                Responder(folder, self._spool, self.load_plan(folder), system_name()).reconcile()
            folder.end("expired", ScannerError("expired", "the job's time is over"))
        elif word == "cancel" and folder.state == "pending":
            folder.end("cancelled")
        elif self._due(folder) and word != "pause":
            kind = folder.job["kind"]
            if kind == "critical_areas":
                self._step_back()
            needs_plan = kind == "respond" or (kind == "critical_areas" and folder.job.get("plan_digest"))
            plan = self.load_plan(folder) if needs_plan else None
            self.start(folder)
            if kind == "critical_areas":
                if not CriticalAreas(folder, self._spool, plan, lambda: self._stopping).run():
                    folder.close()  # the next runner goes on
                    return
            elif plan is not None:
                Responder(folder, self._spool, plan, system_name()).run()
            elif folder.job["kind"] == "restore":
                Restorer(folder, self._spool).restore()
            elif folder.job["kind"] == "purge":
                Restorer(folder, self._spool).purge()
            else:
                raise ScannerError("unsupported", "this scanner does not do such jobs")
            folder.end("cancelled" if folder.control() == "cancel" else "done")

    # --------------------------------------------------------------------------------------- scanning

    def _waits_for_idle(self, folder: JobFolder) -> bool:
        """Whether a job has to wait because the device is used; after its longest wait it no longer does."""
        settings = folder.job.get("settings", {})
        if not settings.get("idle_only", False) or folder.status.get("never_idle"):
            return False
        if self.idle.in_use() is None:
            return False
        now = self._clock()
        since = from_iso(folder.status.setdefault("waiting_since", to_iso(now)))
        hours = settings.get("idle_max_wait_hours", DEFAULT_IDLE_WAIT_HOURS)
        if (now - since).total_seconds() >= hours * 3600:
            folder.status["never_idle"] = True
            return False
        folder.write_status("waiting_idle")
        return True

    def hear_waiting(self, walking: Collection[str]) -> None:
        """The manager's words on scans that wait for the walk of others to end. Cheap when there are none."""
        for folder in self._open_jobs(acting=False, but=walking):
            try:
                word = folder.control()
                if word == "cancel":
                    folder.end("cancelled")
                elif word == "pause" and folder.state != "paused":
                    folder.write_status("paused")
            except WithdrawnError:
                continue
            except (ScannerError, OSError):
                folder.close()  # it is looked at again when its turn comes

    def _due_scans(self) -> tuple[list[ScanJob], bool]:
        """Scan jobs that share the next walk, and whether others wait for their time or for ``resume``."""
        waiting = False
        groups: dict[str, list[ScanJob]] = {}
        for folder in self._open_jobs(acting=False):
            try:
                word = folder.control()
                if self.expired(folder):
                    folder.end("expired", ScannerError("expired", "the scan's time is over"))
                elif word == "cancel":
                    folder.end("cancelled")
                elif word == "pause":
                    waiting = True
                    if folder.state != "paused":
                        folder.write_status("paused")
                elif not self._due(folder) or self._waits_for_idle(folder):
                    waiting = True
                else:
                    job = ScanJob(folder, self.load_plan(folder), system_name())
                    # A job with a place of its own walks alone: the others do not stand where it stands.
                    fresh = folder.read_checkpoint() is None
                    never_idle = bool(folder.status.get("never_idle"))
                    shared = json.dumps([folder.job.get("settings", {}), never_idle], sort_keys=True)
                    key = shared if fresh else folder.job_id
                    groups.setdefault(key, []).append(job)
            except WithdrawnError:
                continue
            except (ScannerError, OSError) as error:
                _end_quietly(folder, _as_scanner_error(error), "refused")
        if not groups:
            return [], waiting
        return next(iter(groups.values())), waiting or len(groups) > 1


def _as_scanner_error(error: ScannerError | OSError) -> ScannerError:
    return error if isinstance(error, ScannerError) else as_scanner_error(error, os.fsencode("the spool"))


def _end_quietly(folder: JobFolder, error: ScannerError | None, state: str = "failed") -> None:
    """End a job with an error; if even that cannot be written, the manager sees a status stand still."""
    try:
        folder.end(state, error)
    except (WithdrawnError, OSError):
        folder.close()
