"""One job as the scanner works on it: its status, its results, and the manager's word."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any, Iterator

from .clock import Clock
from .errors import ScannerError
from .protocol import (
    CHECKPOINT_FILE,
    FINAL_STATES,
    JOB_FILE,
    MAX_PLAN_BYTES,
    PLAN_FILE,
    PROTOCOL_VERSION,
    RESULTS_FILE,
    STATUS_FILE,
    read_bytes,
    read_control,
    read_json,
    to_iso,
    validate_job,
    write_json_atomic,
)
from .sharing import patiently

_RESULTS_FLAGS = (
    os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)
#: status.json is rewritten at most this often while nothing but numbers change.
STATUS_SECONDS = 1.0
#: Lines of type "skip" in results.jsonl for each reason; further ones are only counted in status.json.
MAX_SKIP_LINES = 100


class WithdrawnError(Exception):
    """The job's folder is gone: stop at once, report nothing."""


class CancelledError(Exception):
    """The manager said ``cancel``."""


def identity_of(path: str) -> tuple[int, int]:
    """Device and inode of a job's folder. Raises WithdrawnError if it is gone."""
    try:
        info = os.lstat(path)
    except OSError:
        raise WithdrawnError(os.path.basename(path)) from None
    return (info.st_dev, info.st_ino)


class ResultsLog:
    """results.jsonl: appended line by line; a broken-off last line of an earlier run is cut away."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = os.open(path, _RESULTS_FLAGS | os.O_CREAT, 0o600)
        self.lines = 0
        self.bytes = 0
        self.matches = 0
        #: What earlier runs of this job already reported: item keys, match ids, quarantine ids.
        self.known: set[str] = set()
        with os.fdopen(os.dup(self._descriptor), "rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                self.lines += 1
                self.bytes += len(line)
                self._remember(json.loads(line.decode("ascii")))
        os.ftruncate(self._descriptor, self.bytes)
        os.lseek(self._descriptor, self.bytes, os.SEEK_SET)
        if os.name == "nt":  # an open file would keep its folder from being withdrawn
            self.close()

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        """The descriptor of the file, at its end; where it is not held, for as long as it is needed."""
        if self._descriptor >= 0:
            yield self._descriptor
            return
        descriptor = patiently(lambda: os.open(self._path, _RESULTS_FLAGS))
        try:
            os.lseek(descriptor, self.bytes, os.SEEK_SET)
            yield descriptor
        finally:
            os.close(descriptor)

    def _remember(self, line: dict[str, Any]) -> None:
        if line["type"] == "match":
            self.known.add(f"{line['ioc']} {line['item_key']}")
            self.matches += 1
        elif line["type"] == "skip":
            self.known.add(f"skip {line['reason']} {line['path']}")
        elif line["type"] == "area":
            self.known.add("area " + line["area"])
        elif line["type"] == "response":
            self.known.add(line["match_id"])
        elif line["type"] in ("restored", "purged"):
            self.known.add(line["quarantine_id"])

    def append(self, line: dict[str, Any], durable: bool = False) -> None:
        """Add one line, numbered. Raises OSError (disk full): what was half written is cut away."""
        line["seq"] = self.lines + 1
        content = json.dumps(line, ensure_ascii=True, sort_keys=True).encode("ascii") + b"\n"
        with self._opened() as descriptor:
            try:
                view = memoryview(content)
                while view:
                    view = view[os.write(descriptor, view) :]
            except OSError:
                os.ftruncate(descriptor, self.bytes)
                os.lseek(descriptor, self.bytes, os.SEEK_SET)
                raise
        self.lines += 1
        self.bytes += len(content)
        self._remember(line)
        if durable:
            self.sync()

    def sync(self) -> None:
        with self._opened() as descriptor:
            os.fsync(descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class JobFolder:
    """A published job. ``job`` is validated; ``status`` is what status.json says."""

    def __init__(self, path: str, clock: Clock) -> None:
        self.path = path
        self.clock = clock
        self.job_id = os.path.basename(path)
        #: Device and inode: a folder of the same name may be another job.
        self.identity = identity_of(path)
        self._written_at = 0.0
        self._written_state = ""
        self._results: ResultsLog | None = None
        self._named: dict[str, int] = {}
        self.status: dict[str, Any] = self._read_status()
        self.job: dict[str, Any] = {}

    def _read_status(self) -> dict[str, Any]:
        try:
            status = read_json(os.path.join(self.path, STATUS_FILE))
            if isinstance(status, dict) and isinstance(status.get("state"), str):
                return status
        except FileNotFoundError:
            pass
        except (OSError, ScannerError):
            return {"state": "failed"}  # our own file is damaged: never act twice on a guess
        return {"state": "pending"}

    def load(self) -> None:
        """Read and check job.json. Raises ScannerError ``bad_job``, WithdrawnError."""
        try:
            job = read_json(os.path.join(self.path, JOB_FILE))
        except FileNotFoundError:
            self.check_present()
            raise ScannerError("bad_job", "there is no job.json") from None
        except ScannerError as error:
            raise ScannerError("bad_job", "job.json: " + error.message) from None
        validate_job(job)
        if job["job_id"] != self.job_id:
            raise ScannerError("bad_job", "job.json names another job than its folder")
        self.job = job

    def read_plan(self) -> bytes:
        """The bytes of plan.json. Raises ScannerError, OSError."""
        return read_bytes(os.path.join(self.path, PLAN_FILE), MAX_PLAN_BYTES)

    @property
    def state(self) -> str:
        return str(self.status["state"])

    @property
    def settled(self) -> bool:
        return self.state in FINAL_STATES

    def check_present(self) -> None:
        """Raises WithdrawnError if the folder of this job is gone or another one."""
        if identity_of(self.path) != self.identity:
            raise WithdrawnError(self.job_id)

    def control(self) -> str | None:
        """The manager's word. Raises WithdrawnError."""
        self.check_present()
        return read_control(self.path)

    # -------------------------------------------------------------------------------------------- status

    def begin(self, device_id: str) -> None:
        """Fill the fixed part of the status, before the first state is written."""
        for name, value in (
            ("protocol", PROTOCOL_VERSION),
            ("job_id", self.job_id),
            ("device_id", device_id),
            ("run", self.job.get("run", 0)),
            ("started_at", None),
            ("finished_at", None),
            ("files_seen", 0),
            ("bytes_hashed", 0),
            ("matches", 0),
            ("progress", None),
            ("skipped", {}),
            ("not_evaluated", []),
            ("error", None),
            ("results_bytes", 0),
        ):
            self.status.setdefault(name, value)

    def write_status(self, state: str | None = None, durable: bool = True) -> None:
        """Write status.json; without a new state only if the last one is older than a second."""
        if state is None or state == self._written_state:
            if time.monotonic() - self._written_at < STATUS_SECONDS:
                return
            durable = False
        now = to_iso(self.clock())
        if state is not None:
            self.status["state"] = state
            if state in FINAL_STATES:
                self.status["finished_at"] = now
            elif state == "running" and not self.status.get("started_at"):
                self.status["started_at"] = now
        self.status["pid"] = os.getpid()
        self.status["updated_at"] = now
        if self._results is not None:
            self.status["results_bytes"] = self._results.bytes
            self.status["results_lines"] = self._results.lines
        self.check_present()
        try:
            write_json_atomic(os.path.join(self.path, STATUS_FILE), self.status, durable)
        except FileNotFoundError:
            raise WithdrawnError(self.job_id) from None
        self._written_at = time.monotonic()
        self._written_state = self.state

    def end(self, state: str, error: ScannerError | None = None) -> None:
        """The last status of this job, with the results on disk before it."""
        if error is not None:
            self.status["error"] = error.as_dict()
        if self._results is not None:
            self._results.sync()
        self._written_state = ""
        self.write_status(state)
        self.close()

    def name_skip(self, path: str, reason: str) -> None:
        """Name something that was not looked at in the results, each once, a bounded number per reason."""
        named = self._named.setdefault(reason, 0)
        key = f"skip {reason} {path}"
        if named < MAX_SKIP_LINES and key not in self.results.known:
            self._named[reason] = named + 1
            self.results.append({"type": "skip", "path": path, "reason": reason})

    # ------------------------------------------------------------------------------------------- results

    @property
    def results(self) -> ResultsLog:
        if self._results is None:
            try:
                self._results = ResultsLog(os.path.join(self.path, RESULTS_FILE))
            except FileNotFoundError:
                raise WithdrawnError(self.job_id) from None
        return self._results

    def close(self) -> None:
        if self._results is not None:
            self._results.close()
            self._results = None

    def read_checkpoint(self) -> dict[str, Any] | None:
        """Where an earlier run stood, or None."""
        try:
            checkpoint = read_json(os.path.join(self.path, CHECKPOINT_FILE), MAX_PLAN_BYTES)
        except (OSError, ScannerError):
            return None
        return checkpoint if isinstance(checkpoint, dict) else None

    def write_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Results first, then the place: a resumed scan may look twice, and never misses."""
        if self._results is not None:
            self._results.sync()
        self.check_present()
        try:
            write_json_atomic(os.path.join(self.path, CHECKPOINT_FILE), checkpoint, durable=False)
        except FileNotFoundError:
            raise WithdrawnError(self.job_id) from None
