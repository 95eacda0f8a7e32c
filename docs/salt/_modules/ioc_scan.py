"""Execution module of ioc_scan: moves job folders between pillar and the device's spool, and starts the scanner.

It decides nothing. A push says only "look": what to do is fetched from this minion's own pillar each time,
so a push that comes late, twice or from nowhere does what stands now, or nothing.

With the jobs comes a key for this minion alone. Answers carry a digest made with it, because Salt's event bus
does not tell who speaks: any minion can put a return or an event there in the name of another.

Minion configuration, all of it optional::

    ioc_scan:
      spool: /var/lib/ioc_scan/spool
      root: /srv/ws01          # the device is this folder tree, not the machine
"""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import stat
import subprocess
import sys
import time
import zlib

import salt.pillar

PROTOCOL = 1
SCANNER = "salt://ioc_scan/scanner.pyz"
#: The master drops returns over its max_event_size (1 MiB); an answer is cut so that it stays below.
_ANSWER_BYTES = 700 * 1024
_LEAST_CHUNK = 300 * 1024
_VISIT_SECONDS = 300
#: A status.json up to this size travels with the news; of a larger one only that there is something new.
_NEWS_BYTES = 12 * 1024
_JOBS_AT_ONCE = 20
_STATUS_BYTES = 512 * 1024
_READ_BYTES = 8 * 1024 * 1024
_NOTHING = {"protocol": PROTOCOL, "withdrawn": [], "held": [], "failed": {}, "jobs": {}}
#: What was told last of each job.
_told = {}


def hello():
    """That this module is here, and with which Python."""
    return {"ioc_scan": PROTOCOL, "python": ".".join(map(str, sys.version_info[:3]))}


def sync():
    """Do what stands for this minion: called when it starts, and now and then. True if all went well."""
    return "error" not in _visit()


def visit(nonce):
    """What the pack asks when something new stands: ``sync``, and what came of it.

    ``nonce`` binds the answer to the question.
    """
    return _answer(nonce, _visit())


def read(nonce, jobs):
    """What the pack asks in between: results, from the offsets given for this minion."""
    wanted = jobs.get(__opts__["id"]) or {}  # noqa: F821
    found = {job: _results(job, part["offset"], part["limit"]) for job, part in wanted.items()}
    return _answer(nonce, {**_NOTHING, "jobs": found})


def news(progress_seconds=30):
    """What the beacon tells the master: jobs whose state or results are new, or whose progress is that old."""
    spool = _spool()
    jobs, now = {}, time.monotonic()
    for job_id in _listed(os.path.join(spool, "jobs")):
        path = os.path.join(spool, "jobs", job_id, "status.json")
        changed, since, last = _told.get(job_id, (None, 0, None))
        with contextlib.suppress(OSError, ValueError):
            info = os.lstat(path)
            if (info.st_mtime_ns, info.st_size) == changed or not stat.S_ISREG(info.st_mode):
                continue
            with open(path, "rb") as stream:
                raw = stream.read(_NEWS_BYTES + 1)
            status = json.loads(raw) if len(raw) <= _NEWS_BYTES else {}
            status = status if isinstance(status, dict) else {}
            matters = [status.get("state"), status.get("results_bytes")] if status else [info.st_mtime_ns]
            if (matters != last or now - since >= progress_seconds) and len(jobs) < _JOBS_AT_ONCE:
                _told[job_id] = ((info.st_mtime_ns, info.st_size), now, matters)
                jobs[job_id] = base64.b64encode(raw).decode("ascii") if status else None
    for job_id in set(_told) - set(_listed(os.path.join(spool, "jobs"))):
        del _told[job_id]
    if not jobs:
        return None
    return _signed(
        spool, "news", zlib.compress(json.dumps({"protocol": PROTOCOL, "jobs": jobs}).encode("ascii"))
    )


# ------------------------------------------------------------------------------------------------ inside


class _Refused(Exception):
    def __init__(self, code, message, hint=""):
        super().__init__(message)
        self.error = {"code": code, "message": message, "hint": hint}


def _visit():
    try:
        spool = _spool()
        stands = _standing(spool)
        return _do(spool, stands) if "scanner_digest" in stands else _NOTHING
    except _Refused as refused:
        return {"protocol": PROTOCOL, "error": refused.error}
    except OSError as error:
        why = {"code": "spool_failed", "message": error.strerror or type(error).__name__, "hint": ""}
        return {"protocol": PROTOCOL, "error": why}


def _do(spool, stands):
    digest = stands["scanner_digest"]
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    jobs = [entry["job"] for entry in stands.get("place", []) if entry["job"]["not_after"] > now]
    begin = stands.get("start_after")
    plans = {job["plan_digest"]: stands["plans"].get(job["plan_digest"] or "") for job in jobs}
    parts = [(name, text.encode("ascii")) for name, text in plans.items() if text is not None]
    request = {
        "protocol": PROTOCOL,
        "device_id": __opts__["id"],  # noqa: F821
        "root": _own().get("root"),
        "withdraw": stands.get("withdraw", []),
        "place": jobs,
        "control": stands.get("control", {}),
        "start": begin is not None and begin <= now,
        "scanner_digest": digest,
        "read": {},
        "plans": [[name, len(content)] for name, content in parts],
    }
    scanner = _scanner(spool, digest)
    done = subprocess.run(
        [sys.executable, "-I", scanner, "visit", "--spool", spool],
        input=json.dumps(request).encode("ascii") + b"\n" + b"".join(content for _, content in parts),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=_VISIT_SECONDS,
        cwd=os.path.dirname(scanner),
        check=False,
    )
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise _Refused("scanner_failed", f"the scanner gave no answer (exit {done.returncode})") from None


def _own():
    return __opts__.get("ioc_scan") or {}  # noqa: F821  # of the minion's file: pillar has no say in it


def _spool():
    if "spool" in _own():
        return _own()["spool"]
    if os.name == "nt":
        return os.path.join(os.environ.get("PROGRAMDATA", "C:\\ProgramData"), "ioc_scan", "spool")
    return "/var/lib/ioc_scan/spool"


def _standing(spool):
    """What the master has for this minion, fetched now; plans of jobs it holds already stay there."""
    held = _listed(os.path.join(spool, "jobs"))
    opts = dict(__opts__)  # noqa: F821
    passed = opts.get("pass_to_ext_pillars") or []
    opts["pass_to_ext_pillars"] = [*([passed] if isinstance(passed, str) else passed), "ioc_scan_want"]
    opts["ioc_scan_want"] = {"held": held}
    pillar = salt.pillar.get_pillar(
        opts,
        dict(__grains__),  # noqa: F821
        opts["id"],
        opts.get("saltenv"),
        pillarenv=opts.get("pillarenv"),
    ).compile_pillar()
    text = pillar.get("ioc_scan")
    if not isinstance(text, str):
        raise _Refused(
            "salt_pillar_missing",
            "the master has no pillar of ioc_scan for this minion",
            "put _pillar/ioc_scan.py in place and name it under ext_pillar; pillar_cache must be off",
        )
    stands = json.loads(text)
    if stands.get("key"):
        _keep_key(spool, stands["key"])
    return stands


def _listed(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []


# ------------------------------------------------------------------------------------------- results


def _results(job_id, offset, limit):
    """Raw bytes of one job, as the scanner's own visit reads them; they are judged where they are received.

    Status first: what came before a last word is then always seen with it.
    """
    folder = os.path.join(_spool(), "jobs", os.path.basename(job_id))
    status, _ = _part(os.path.join(folder, "status.json"), 0, _STATUS_BYTES)
    chunk, size = _part(os.path.join(folder, "results.jsonl"), offset, min(limit, _READ_BYTES))
    return {
        "status": None if status is None else base64.b64encode(status).decode("ascii"),
        "chunk": base64.b64encode(chunk or b"").decode("ascii"),
        "results_bytes": size,
    }


def _part(path, offset, limit):
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


# ------------------------------------------------------------------------------------------- who speaks


def _answer(nonce, answer):
    packed = zlib.compress(json.dumps(answer).encode("ascii"))
    while len(packed) > _ANSWER_BYTES and _cut(answer):
        packed = zlib.compress(json.dumps(answer).encode("ascii"))
    tells = "ioc_scan" in (__opts__.get("beacons") or {})  # noqa: F821
    return {**_signed(_spool(), nonce, packed), "tells": tells}


def _signed(spool, nonce, packed):
    """An answer that only this minion, the master and the pack could have made."""
    text = base64.b64encode(packed).decode("ascii")
    try:
        with open(os.path.join(spool, "salt.key"), encoding="ascii") as stream:
            key = bytes.fromhex(stream.read())
    except (OSError, ValueError):  # nothing was ever handed to this minion: nothing it says matters yet
        key = b""
    what = "\n".join((nonce, __opts__["id"], text)).encode("utf-8")  # noqa: F821
    digest = hmac.new(key, what, hashlib.sha256).hexdigest()
    return {"ioc_scan": PROTOCOL, "id": __opts__["id"], "answer": text, "proof": digest}  # noqa: F821


def _keep_key(spool, key):
    path = os.path.join(spool, "salt.key")
    with contextlib.suppress(OSError), open(path, encoding="ascii") as stream:
        if stream.read() == key:
            return
    _private(spool)
    new = f"{path}.{os.getpid()}"
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as stream:
        stream.write(key)
    os.replace(new, path)


def _private(*places):
    for place in places:
        os.makedirs(place, mode=0o700, exist_ok=True)
        info = os.lstat(place)
        own = not hasattr(os, "getuid") or (info.st_uid == os.getuid() and not info.st_mode & 0o077)
        if not stat.S_ISDIR(info.st_mode) or not own:
            raise _Refused("unsafe_spool", "the spool does not belong to its user alone", "chmod 0700")


def _cut(answer):
    """Halve what is read where it is long. False: nothing to cut is left."""
    cut = False
    for job in answer.get("jobs", {}).values():
        chunk = base64.b64decode(job["chunk"])
        if len(chunk) > _LEAST_CHUNK:
            job["chunk"] = base64.b64encode(chunk[: max(len(chunk) // 2, _LEAST_CHUNK)]).decode("ascii")
            cut = True
    return cut


# ------------------------------------------------------------------------------------------ the scanner


def _scanner(spool, digest):
    """The path of the scanner, fetched once per version."""
    folder = os.path.join(spool, "scanner")
    path = os.path.join(folder, digest + ".pyz")
    _private(spool, folder)
    if _digest(path) == digest:
        return path
    cached = __salt__["cp.cache_file"](SCANNER)  # noqa: F821
    if not cached or _digest(cached) != digest:
        raise _Refused(
            "salt_scanner_outdated",
            "the master serves no scanner of the pack's version",
            "python -m ioc_scan build-scanner scanner.pyz, and put it under salt://ioc_scan/",
        )
    new = f"{path}.{os.getpid()}"
    with open(cached, "rb") as source, open(os.open(new, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as target:
        target.write(source.read())
    os.replace(new, path)
    return path


def _digest(path):
    try:
        with open(path, "rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest()
    except OSError:
        return None
