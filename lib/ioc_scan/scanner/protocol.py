"""The job folder: the one language between device managers and the scanner.

A device has a spool that belongs to the scanner's own user (root, SYSTEM), mode 0700::

    <spool>/device.json              {"device_id": "...", "root": "/srv/ws01" | absent}
    <spool>/jobs/<job_id>/job.json   what to do; written once, by the manager, before the folder gets its name
                          plan.json        the compiled IOC files (scan, respond)
                          control          one word: pause | resume | cancel (manager, atomic)
                          status.json      the scanner's word on it (scanner, atomic)
                          results.jsonl    one JSON object a line, appended; only complete lines count
                          checkpoint.json  where a scan goes on after a stop
    <spool>/done/<job_id>            marker of a job that was started: a replay is refused
    <spool>/quarantine/              see quarantine.py
    <spool>/runner.lock              one runner per spool
    <spool>/runner.json              which one: see handover.py

A manager publishes by writing ``jobs/.new-...`` and renaming it (:func:`publish_job` does); it withdraws by
renaming the folder out of the way and removing it (:func:`withdraw_job`): a scanner that no longer finds its
job folder stops. All JSON is ASCII and is written through a temporary file, fsync and rename.
Times are ``YYYY-MM-DDTHH:MM:SSZ``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from datetime import datetime, timezone
from typing import Any, Union

from .errors import ScannerError
from .sharing import patiently

PROTOCOL_VERSION = 1

JOB_FILE = "job.json"
PLAN_FILE = "plan.json"
STATUS_FILE = "status.json"
RESULTS_FILE = "results.jsonl"
CHECKPOINT_FILE = "checkpoint.json"
CONTROL_FILE = "control"
DEVICE_FILE = "device.json"
JOBS_FOLDER = "jobs"
DONE_FOLDER = "done"
QUARANTINE_FOLDER = "quarantine"
LOCK_FILE = "runner.lock"

KINDS = ("scan", "respond", "restore", "purge", "critical_areas")
SCOPES = ("critical", "system", "all", "custom")
CONTROL_WORDS = ("pause", "resume", "cancel")
STATES = (
    "pending",
    "waiting_idle",
    "running",
    "paused",
    "done",
    "failed",
    "cancelled",
    "expired",
    "refused",
)
#: A job in one of these states is never run again.
FINAL_STATES = frozenset({"done", "failed", "cancelled", "expired", "refused"})

#: Jobs that change files live at most this long (design: response safety).
ACTING_JOB_SECONDS = 15 * 60
ACTING_KINDS = frozenset({"respond", "restore"})

MAX_JOB_BYTES = 4 * 1024 * 1024
MAX_PLAN_BYTES = 256 * 1024 * 1024
_READ_BYTES = 1024 * 1024
MAX_ITEMS = 10000
MAX_ROOTS = 1000

#: Names of withdrawn jobs while they are removed: no job's, and none that a publisher stages under.
_WITHDRAWN = ".gone-"
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}\Z")
_SHORT_ID = re.compile(r"[A-Za-z0-9._:@-]{1,200}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_ABSOLUTE = re.compile(r"/|[A-Za-z]:\\|\\\\[^\\]")
_TIME = "%Y-%m-%dT%H:%M:%SZ"

PathLike = Union[str, "os.PathLike[str]"]


def to_iso(moment: datetime) -> str:
    """The spelling of a time in every file of the protocol."""
    return moment.astimezone(timezone.utc).strftime(_TIME)


def from_iso(text: object) -> datetime:
    """Read a time of the protocol. Raises ScannerError ``bad_job``."""
    try:
        return datetime.strptime(str(text), _TIME).replace(tzinfo=timezone.utc)
    except ValueError:
        raise ScannerError("bad_job", "a time is not YYYY-MM-DDTHH:MM:SSZ") from None


def is_job_id(text: object) -> bool:
    return isinstance(text, str) and _JOB_ID.match(text) is not None


def is_sha256(text: object) -> bool:
    return isinstance(text, str) and _SHA256.match(text) is not None


def is_absolute(root: str) -> bool:
    """Whether a text is an absolute folder on any system: a manager speaks of the folders of its devices."""
    return _ABSOLUTE.match(root) is not None


def dump_json(value: Any) -> bytes:
    """Canonical ASCII JSON: sorted keys, no spaces, a newline at the end."""
    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode("ascii") + b"\n"


def fsync_folder(path: PathLike) -> None:
    """Make renames and new names in a folder durable (Windows cannot open folders)."""
    if os.name == "nt":
        return
    descriptor = os.open(str(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes_atomic(path: PathLike, content: bytes, durable: bool = True) -> None:
    """Replace a file as a whole, mode 0600: a reader sees the old or the new content, also after a crash."""
    folder, name = os.path.split(str(path))
    temporary = os.path.join(folder, _temporary_name(name))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        patiently(lambda: os.replace(temporary, str(path)))
    except BaseException:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise
    if durable:
        fsync_folder(folder)


def _temporary_name(name: str) -> str:
    """A name nobody else uses; hidden, so that no listing of jobs takes it for one."""
    return f".new-{name}-{os.urandom(6).hex()}"


def write_json_atomic(path: PathLike, value: Any, durable: bool = True) -> None:
    """:func:`write_bytes_atomic` of :func:`dump_json`."""
    write_bytes_atomic(path, dump_json(value), durable)


def read_bytes(path: PathLike, max_bytes: int) -> bytes:
    """A regular file, not followed if it is a link, at most ``max_bytes``. Raises ScannerError, OSError."""
    flags = (
        os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    with os.fdopen(patiently(lambda: os.open(str(path), flags)), "rb") as stream:
        content = bytearray()
        while len(content) <= max_bytes:  # in pieces: to ask for all that is allowed would take that memory
            block = stream.read(_READ_BYTES)
            if not block:
                return bytes(content)
            content += block
    raise ScannerError("file_too_large", os.path.basename(str(path)) + " is larger than allowed")


def read_json(path: PathLike, max_bytes: int = MAX_JOB_BYTES) -> Any:
    """A JSON file of the protocol. Raises ScannerError ``bad_json`` or ``file_too_large``, OSError."""
    content = read_bytes(path, max_bytes)
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ScannerError("bad_json", os.path.basename(str(path)) + " is not JSON") from None


def read_control(job_folder: PathLike) -> str | None:
    """The manager's last word on a job, or None. Anything but the three words counts as none."""
    try:
        word = read_bytes(os.path.join(str(job_folder), CONTROL_FILE), 64).decode("ascii", "replace").strip()
    except (OSError, ScannerError):
        return None
    return word if word in CONTROL_WORDS else None


def publish_job(spool: PathLike, job: dict[str, Any], plan: bytes | None) -> str:
    """Place a job so that the scanner sees all of it or nothing; a job already there is left alone.

    The folder of the job. The spool must exist (:func:`.spool.prepare_spool`).
    Raises ScannerError ``bad_job``, OSError.
    """
    validate_job(job)
    jobs = os.path.join(str(spool), JOBS_FOLDER)
    target = os.path.join(jobs, job["job_id"])
    if os.path.exists(target):
        return target
    staging = os.path.join(jobs, _temporary_name(job["job_id"]))
    os.mkdir(staging, 0o700)
    try:
        if plan is not None:
            write_bytes_atomic(os.path.join(staging, PLAN_FILE), plan)
        write_json_atomic(os.path.join(staging, JOB_FILE), job)
        patiently(lambda: os.rename(staging, target))
    except OSError:
        _remove_tree(staging)
        if not os.path.exists(target):  # else: another publisher of the same job was first
            raise
    fsync_folder(jobs)
    return target


def withdraw_job(spool: PathLike, job_id: str) -> bool:
    """Take a job away in one step, so that the scanner stops at its next look. True if there was one."""
    if not is_job_id(job_id):
        raise ScannerError("bad_job", "not a job id")
    jobs = os.path.join(str(spool), JOBS_FOLDER)
    gone = os.path.join(jobs, _WITHDRAWN + os.urandom(6).hex())
    try:
        patiently(lambda: os.rename(os.path.join(jobs, job_id), gone))
    except FileNotFoundError:
        return False
    _remove_tree(gone)
    fsync_folder(jobs)
    return True


def remove_withdrawn(spool: PathLike) -> None:
    """Remove what a withdrawal left behind that was killed before its end; what cannot go yet stays."""
    jobs = os.path.join(str(spool), JOBS_FOLDER)
    for name in os.listdir(jobs):
        if name.startswith(_WITHDRAWN):
            with contextlib.suppress(OSError):
                _remove_tree(os.path.join(jobs, name))


def _remove_tree(path: str) -> None:
    """A job's folder: files only, never deeper. Another one may be at it too."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(path, name))
        os.rmdir(path)


def write_control(spool: PathLike, job_id: str, word: str) -> None:
    """Tell the scanner ``pause``, ``resume`` or ``cancel``. Raises FileNotFoundError for no such job."""
    if word not in CONTROL_WORDS or not is_job_id(job_id):
        raise ScannerError("bad_control", "control is one of pause, resume, cancel, for a job id")
    write_bytes_atomic(
        os.path.join(str(spool), JOBS_FOLDER, job_id, CONTROL_FILE), word.encode("ascii") + b"\n"
    )


# ---------------------------------------------------------------------------------------------- validation


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise ScannerError("bad_job", "job.json: " + what)


def _is_int(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_text_list(value: object, limit: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= limit
        and all(isinstance(entry, str) and 0 < len(entry) <= 4096 and "\0" not in entry for entry in value)
    )


#: setting -> lowest and highest value. One table for all kinds: a job carries only what it needs.
_INT_SETTINGS: dict[str, tuple[int, int]] = {
    "idle_max_wait_hours": (0, 24 * 366),
    "cpu_percent": (1, 100),
    "threads": (1, 64),
    "max_items": (0, MAX_ITEMS),
    "quarantine_days": (1, 3650),
    "quota_bytes": (0, 2**62),
}
_OPTIONAL_INT_SETTINGS: dict[str, tuple[int, int]] = {
    "max_hash_bytes": (0, 2**62),
    "deadline_seconds": (1, 366 * 86400),
}
_BOOL_SETTINGS = ("idle_only", "terminate_processes", "network_file_systems", "accept_boot_sectors")
_LIST_SETTINGS = ("roots", "excludes", "may_delete_signers")


def _validate_settings(settings: object) -> None:
    _need(isinstance(settings, dict), "settings is not an object")
    assert isinstance(settings, dict)
    for name, value in settings.items():
        if name in _INT_SETTINGS:
            low, high = _INT_SETTINGS[name]
            _need(_is_int(value, low, high), f"{name} must be a whole number {low} to {high}")
        elif name in _OPTIONAL_INT_SETTINGS:
            low, high = _OPTIONAL_INT_SETTINGS[name]
            _need(value is None or _is_int(value, low, high), f"{name} must be null or a whole number")
        elif name in _BOOL_SETTINGS:
            _need(isinstance(value, bool), name + " must be true or false")
        elif name in _LIST_SETTINGS:
            _need(_is_text_list(value, MAX_ROOTS), name + " must be a list of texts")
        elif name == "scope":
            _need(value in SCOPES, "scope must be one of " + ", ".join(SCOPES))
        else:
            _need(False, "unknown setting " + ascii(name)[:80])
    for root in settings.get("roots", ()):
        _need(is_absolute(root), "roots must be absolute")
    _need(settings.get("scope") != "custom" or bool(settings.get("roots")), "scope custom needs roots")


def _validate_items(kind: str, items: object) -> None:
    _need(isinstance(items, list) and len(items) <= MAX_ITEMS, "items is not a list of an acceptable length")
    assert isinstance(items, list)
    names = set()
    for item in items:
        _need(isinstance(item, dict), "an item is not an object")
        key = "match_id" if kind == "respond" else "quarantine_id"
        name = item.get(key)
        _need(isinstance(name, str) and _SHORT_ID.match(name) is not None, "an item has no usable " + key)
        _need(name not in names, "an item is named twice")
        names.add(name)
        if kind == "respond":
            _need(isinstance(item.get("path_b64"), str), "an item has no path_b64")
            _need(is_sha256(item.get("sha256")), "an item has no sha256")
            for number in ("size", "device", "inode"):
                _need(_is_int(item.get(number), 0, 2**64 - 1), "an item has no " + number)
        elif kind == "restore":
            target = item.get("target_path_b64")
            _need(target is None or isinstance(target, str), "target_path_b64 is not a text")


def validate_job(job: object) -> dict[str, Any]:
    """The shape and bounds of a job, not whether it may run. Raises ScannerError ``bad_job``."""
    _need(isinstance(job, dict), "not an object")
    assert isinstance(job, dict)
    _need(job.get("protocol") == PROTOCOL_VERSION, f"protocol is not {PROTOCOL_VERSION}")
    _need(is_job_id(job.get("job_id")), "job_id is not usable")
    kind = job.get("kind")
    _need(kind in KINDS, "kind is not one of " + ", ".join(KINDS))
    for name in ("device_id", "task_id"):
        value = job.get(name)
        _need(isinstance(value, str) and _SHORT_ID.match(value) is not None, name + " is not usable")
    _need(_is_int(job.get("run"), 0, 10**9), "run is not a number")
    for name in ("plan_digest", "scanner_digest"):
        value = job.get(name)
        _need(value is None or is_sha256(value), name + " is not a SHA-256")
    if kind in ("scan", "respond"):
        _need(job.get("plan_digest") is not None, "plan_digest is missing")
    begin, end = from_iso(job.get("not_before")), from_iso(job.get("not_after"))
    _need(begin <= end, "not_after lies before not_before")
    if kind in ACTING_KINDS:
        _need(
            (end - begin).total_seconds() <= ACTING_JOB_SECONDS,
            f"a {kind} job lives at most {ACTING_JOB_SECONDS // 60} minutes",
        )
    _need(isinstance(job.get("dry_run", False), bool), "dry_run is not true or false")
    _validate_settings(job.get("settings", {}))
    _validate_items(str(kind), job.get("items", []))
    return job


def split_lines(content: bytes) -> list[bytes]:
    """The complete lines of results.jsonl; what follows the last newline is still being written."""
    return content.split(b"\n")[:-1]
