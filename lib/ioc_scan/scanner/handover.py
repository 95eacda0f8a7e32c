"""From one version of the scanner to the next: unfinished jobs go on, and none is run by the wrong one.

A job names the scanner it was made for. After an upgrade the manager brings a newer one: the old runner is
asked to stop (it stores its places), its unfinished jobs are addressed anew, and the newer runner goes on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from .errors import ScannerError
from .protocol import (
    FINAL_STATES,
    JOB_FILE,
    JOBS_FOLDER,
    STATUS_FILE,
    is_job_id,
    read_json,
    write_json_atomic,
)
from .runnerlock import is_locked

RUNNER_FILE = "runner.json"
#: Where there are no signals that a process may answer: asks the runner of the digest in it to stop.
STOP_FILE = "runner.stop"
_PATIENCE_SECONDS = 10.0


def announce(spool: str, digest: str | None) -> None:
    """Written by a runner that holds the lock: who it is."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(spool, STOP_FILE))
    write_json_atomic(os.path.join(spool, RUNNER_FILE), {"pid": os.getpid(), "digest": digest}, durable=False)


def asked_to_stop(spool: str, digest: str | None) -> bool:
    """Whether a newer scanner waits for the runner with this digest. Always False where it sends a signal."""
    if os.name != "nt":
        return False
    try:
        return read_json(os.path.join(spool, STOP_FILE)) == {"digest": digest}
    except (OSError, ScannerError):
        return False


def hand_over(spool: str, digest: str) -> None:
    """Make the spool ready for the scanner with this digest.

    Raises ScannerError ``runner_busy`` while the old runner has not stopped: try again later.
    """
    if runner_alive(spool):
        if not _ask_to_stop(spool, digest):
            return
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while runner_alive(spool):
            if time.monotonic() > deadline:
                raise ScannerError("runner_busy", "an older scanner has not stopped yet", "it is asked again")
            time.sleep(0.05)
    for job_id in unfinished_jobs(spool):
        path = os.path.join(spool, JOBS_FOLDER, job_id, JOB_FILE)
        try:
            job = read_json(path)
            if isinstance(job, dict) and job.get("scanner_digest") != digest:
                write_json_atomic(path, {**job, "scanner_digest": digest})
        except (OSError, ScannerError):
            continue  # withdrawn meanwhile, or damaged: the runner will say so


def _ask_to_stop(spool: str, digest: str) -> bool:
    """SIGTERM to a runner of another version; False if it is of this one, or not known to be one."""
    try:
        runner = read_json(os.path.join(spool, RUNNER_FILE))
        pid, running = int(runner["pid"]), str(runner["digest"])
        if running == digest or pid <= 1:
            return False
        if (
            os.name == "nt"
        ):  # there, a signal would end it at once; who holds the lock is the one who is named
            write_json_atomic(os.path.join(spool, STOP_FILE), {"digest": running}, durable=False)
            return True
        if os.path.exists("/proc/self/cmdline"):  # a process id may have been given to another process
            with open(f"/proc/{pid}/cmdline", "rb") as stream:
                if os.fsencode(spool) not in stream.read().split(b"\0"):
                    return False
        os.kill(pid, signal.SIGTERM)
    except (OSError, ScannerError, KeyError, TypeError, ValueError):
        return False
    return True


def unfinished_jobs(spool: str) -> list[str]:
    """Published jobs that have no last word yet."""
    jobs = os.path.join(spool, JOBS_FOLDER)
    found = []
    for name in sorted(os.listdir(jobs)):
        if not is_job_id(name):
            continue
        try:
            state = read_json(os.path.join(jobs, name, STATUS_FILE)).get("state")
        except (OSError, ScannerError, AttributeError):
            state = None
        if state not in FINAL_STATES:
            found.append(name)
    return found


def runner_alive(spool: str) -> bool:
    """Whether someone holds the runner's lock."""
    return is_locked(spool)
