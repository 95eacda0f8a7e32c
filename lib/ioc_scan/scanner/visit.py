"""One visit to a device's spool: everything a device manager wants there, in one request and one answer.

A manager that is on the machine calls :func:`visit`; one that reaches it over a wire runs
``scanner.pyz visit`` and speaks the same through stdin and stdout (:func:`serve`). A request::

    {"protocol": 1, "device_id": "ws01", "root": null, "withdraw": [job ids], "place": [job.json, ...],
     "control": {job_id: "pause|resume|cancel"}, "start": true, "scanner_digest": "...",
     "read": {job_id: {"offset": 0, "limit": 65536}}}

Plans travel beside it, by digest. The order is fixed and is what makes a visit safe: what was withdrawn
goes first, then new jobs and control words are put down, a runner is started last, and then read.
The answer holds raw bytes of status.json and results.jsonl: they are judged where they are received.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from .errors import ScannerError
from .handover import hand_over, runner_alive, unfinished_jobs
from .mounts import private_tmp
from .protocol import (
    CONTROL_WORDS,
    JOBS_FOLDER,
    MAX_PLAN_BYTES,
    PROTOCOL_VERSION,
    RESULTS_FILE,
    STATUS_FILE,
    is_job_id,
    is_sha256,
    publish_job,
    read_control,
    withdraw_job,
    write_control,
)
from .spool import prepare_spool

if TYPE_CHECKING:
    import subprocess

MAX_REQUEST_BYTES = 64 * 1024 * 1024
MAX_STATUS_BYTES = 512 * 1024
MAX_READ_BYTES = 8 * 1024 * 1024

#: Runners started by this process: kept so that they can be reaped, and never wait for it.
_started: list[subprocess.Popen[bytes]] = []


def visit(
    spool: str, request: Mapping[str, Any], plans: Mapping[str, bytes], runner: Sequence[str]
) -> dict[str, Any]:
    """Do what ``request`` says. ``runner`` is the command line that runs due jobs, without ``--spool``.

    A job that cannot be placed is reported in ``failed`` and stops nothing else.
    Raises ScannerError (``bad_request``, ``unsafe_spool`` ...), OSError.
    """
    if request.get("protocol") != PROTOCOL_VERSION:
        raise ScannerError("bad_request", "the request is of another version of the protocol")
    prepare_spool(spool, str(request["device_id"]), request.get("root"))
    withdrawn, failed = [], {}
    for job_id in request.get("withdraw", ()):
        withdraw_job(spool, job_id)
        withdrawn.append(job_id)
    left = _left(spool, withdrawn) if withdrawn else {}
    if request.get("place") or request.get("start"):  # before there is a job an old runner would refuse
        hand_over(spool, request["scanner_digest"])
    for job in request.get("place", ()):
        try:
            publish_job(spool, job, plans.get(job.get("plan_digest") or ""))
        except (ScannerError, OSError) as error:
            failed[str(job.get("job_id"))] = _as_error(error)
    for job_id, word in request.get("control", {}).items():
        _set_control(spool, job_id, word)
    started = bool(request.get("start")) and _start_runner(spool, runner)
    return {
        "protocol": PROTOCOL_VERSION,
        "device_id": request["device_id"],
        "withdrawn": withdrawn,
        "left": left,
        "held": sorted(name for name in os.listdir(os.path.join(spool, JOBS_FOLDER)) if is_job_id(name)),
        "failed": failed,
        "started": started,
        "jobs": {
            job_id: _read(spool, job_id, wanted["offset"], wanted["limit"])
            for job_id, wanted in request.get("read", {}).items()
        },
        "health": health(spool),
    }


def health(spool: str) -> dict[str, Any]:
    """What a manager's health check asks of the device: interpreter, user, space."""
    free: int | None = None
    if sys.platform == "win32":
        from .winapi import free_bytes

        free = free_bytes(spool)
    else:
        disk = os.statvfs(spool)
        free = disk.f_bavail * disk.f_frsize
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "user": os.getuid() if hasattr(os, "getuid") else None,
        "free_bytes": free,
        "private_tmp": private_tmp(),
    }


# ------------------------------------------------------------------------------------------ over a wire


def serve(spool: str, incoming: BinaryIO, outgoing: BinaryIO, runner: Sequence[str]) -> int:
    """One visit over two streams: a line of JSON with ``plans: [[digest, length], ...]``, then their bytes.

    Answers one line of JSON; errors as {"error": {code, message, hint}}. Returns the exit status.
    """
    try:
        request = _read_request(incoming)
        plans = {digest: _read_plan(incoming, digest, length) for digest, length in request.get("plans", ())}
        answer = visit(spool, request, plans, runner)
        status = 0
    except (ScannerError, OSError) as error:
        answer, status = {"protocol": PROTOCOL_VERSION, "error": _as_error(error)}, 1
    except (KeyError, TypeError, ValueError, AttributeError):
        answer = {
            "protocol": PROTOCOL_VERSION,
            "error": _as_error(_bad_request("is not of the agreed shape")),
        }
        status = 1
    outgoing.write(json.dumps(answer, ensure_ascii=True).encode("ascii") + b"\n")
    outgoing.flush()
    return status


def encode_request(request: Mapping[str, Any], plans: Mapping[str, bytes]) -> bytes:
    """What :func:`serve` reads."""
    header = {**request, "plans": [[digest, len(content)] for digest, content in plans.items()]}
    return json.dumps(header, ensure_ascii=True).encode("ascii") + b"\n" + b"".join(plans.values())


def _bad_request(what: str) -> ScannerError:
    return ScannerError("bad_request", "the request " + what)


def _read_request(incoming: BinaryIO) -> dict[str, Any]:
    line = incoming.readline(MAX_REQUEST_BYTES)
    if not line.endswith(b"\n"):
        raise _bad_request("ended too early or is too long")
    request = json.loads(line.decode("utf-8"))
    if not isinstance(request, dict):
        raise _bad_request("is not an object")
    return request


def _read_plan(incoming: BinaryIO, digest: str, length: int) -> bytes:
    if not is_sha256(digest) or not 0 < length <= MAX_PLAN_BYTES:
        raise _bad_request("announces a plan that cannot be")
    content = incoming.read(length)
    if hashlib.sha256(content).hexdigest() != digest:
        raise ScannerError("plan_damaged", "a plan did not arrive as it was sent")
    return content


# ---------------------------------------------------------------------------------------------- inside


def _as_error(error: Exception) -> dict[str, str]:
    if isinstance(error, ScannerError):
        return error.as_dict()
    code = "disk_full" if getattr(error, "errno", None) == 28 else "spool_failed"
    return {"code": code, "message": str(getattr(error, "strerror", "") or type(error).__name__), "hint": ""}


def _left(spool: str, withdrawn: Sequence[str]) -> dict[str, Any]:
    """What these jobs left in quarantine; nothing where that cannot be read: the withdrawal goes on."""
    from .lastword import left_in_quarantine

    try:
        return left_in_quarantine(spool, withdrawn)
    except (ScannerError, OSError, KeyError):
        return {}


def _set_control(spool: str, job_id: str, word: str) -> None:
    if word not in CONTROL_WORDS or not is_job_id(job_id):
        raise _bad_request("has an unknown control word or job id")
    folder = os.path.join(spool, JOBS_FOLDER, job_id)
    if read_control(folder) == word:
        return
    try:
        write_control(spool, job_id, word)
    except FileNotFoundError:  # not placed, or withdrawn meanwhile
        return


def _read(spool: str, job_id: str, offset: int, limit: int) -> dict[str, Any]:
    """Raw bytes of one job. Status first: what came before a last word is then always seen with it."""
    if not is_job_id(job_id) or offset < 0:
        raise _bad_request("reads what is no job")
    folder = os.path.join(spool, JOBS_FOLDER, job_id)
    status, _ = _read_part(os.path.join(folder, STATUS_FILE), 0, MAX_STATUS_BYTES)
    chunk, size = _read_part(os.path.join(folder, RESULTS_FILE), offset, min(limit, MAX_READ_BYTES))
    return {
        "status": None if status is None else base64.b64encode(status).decode("ascii"),
        "chunk": base64.b64encode(chunk or b"").decode("ascii"),
        "results_bytes": size,
    }


def _read_part(path: str, offset: int, limit: int) -> tuple[bytes | None, int]:
    flags = (
        os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    try:
        with os.fdopen(os.open(path, flags), "rb") as stream:
            info = os.fstat(stream.fileno())
            if not stat.S_ISREG(info.st_mode):
                return None, 0
            stream.seek(offset)
            return stream.read(limit), info.st_size
    except OSError:  # not there yet, or not a file of ours: nothing to read either way
        return None, 0


def _start_runner(spool: str, runner: Sequence[str]) -> bool:
    """Start a detached runner if there is work and none is alive; returns at once."""
    import subprocess  # most visits only read, and need it not

    _started[:] = [process for process in _started if process.poll() is None]
    if not unfinished_jobs(spool) or runner_alive(spool):
        return False
    options: dict[str, Any] = {"start_new_session": True}
    if os.name == "nt":
        options = {"creationflags": 0x00000008 | 0x00000200 | 0x08000000}  # detached, own group, no window
    # /dev/null three times: a child that inherits stdout would hold the action that started it open.
    _started.append(
        subprocess.Popen(
            [*runner, "--spool", spool],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=spool if os.name == "nt" else "/",
            **options,
        )
    )
    return True


def runner_command(scanner: str) -> list[str]:
    """How this interpreter runs due jobs with the given zipapp."""
    return [sys.executable, "-I", scanner, "run"]
