"""Runner of ioc_scan: the only way the pack writes to the master, and it writes to one folder only.

It takes data, never code: the scanner that minions run is put in place by the operator. Everything it is
given is checked here again, because the account that calls it is the one a thief would have.
"""

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import time
import zlib

import salt.cache
import salt.utils.minions
import salt.version

PROTOCOL = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MAX_BYTES = 300 * 1024 * 1024
_MAX_PARTS = 2000
_DAY = 86400
_FORGET = 60 * _DAY
_SYSTEMS = {"linux": "linux", "windows": "windows", "darwin": "macos"}
_TARGETS = ("list", "glob", "grain", "nodegroup", "compound", "pcre")


def write(upload, part, parts, data):
    """Take one part of a bundle; with the last one put it in place.

    The bundle is base64 of zlib of JSON: ``plans`` by digest, and ``devices``: what stands for each, whole.
    Returns which jobs those devices were ever handed, when they last asked, and plans that are named and missing.
    """
    folder = _folder()
    if not _NAME.fullmatch(upload) or not 0 <= part < parts <= _MAX_PARTS:
        raise ValueError("not an upload")
    place = os.path.join(folder, "uploads", upload)
    if parts > 1:
        os.makedirs(place, mode=0o700, exist_ok=True)
        _write(os.path.join(place, str(part)), data)
        if part < parts - 1:
            return {"protocol": PROTOCOL}
        pieces = []
        for number in range(parts):
            with open(os.path.join(place, str(number)), encoding="ascii") as stream:
                pieces.append(stream.read())
        data = "".join(pieces)
        shutil.rmtree(place)
    inflate = zlib.decompressobj()
    content = inflate.decompress(base64.b64decode(data, validate=True), _MAX_BYTES)
    if not inflate.eof:
        raise ValueError("the bundle is larger than allowed, or cut off")
    return _put(folder, json.loads(content))


def given(devices):
    """The jobs each of these devices was ever handed, and when it last asked for any."""
    folder = _folder()
    with _locked(folder):
        return {"protocol": PROTOCOL, **_known(folder, _names(devices))}


def devices(target, target_type="glob"):
    """The accepted minions of a target, on or off, with their operating system and when they last asked for jobs."""
    if target_type not in _TARGETS:
        raise ValueError("not a target type")
    folder = _folder()
    found = salt.utils.minions.CkMinions(__opts__).check_minions(target, target_type)  # noqa: F821
    cache = salt.cache.factory(__opts__)  # noqa: F821
    result = []
    for name in sorted(found["minions"]):
        grains = cache.fetch("grains", name) or cache.fetch("minions/" + name, "data").get("grains") or {}
        result.append([name, _SYSTEMS.get(str(grains.get("kernel")).lower(), "unknown"), _seen(folder, name)])
    return {"protocol": PROTOCOL, "devices": result}


def setup():
    """What the pack's health check asks about this master."""
    found = {"protocol": PROTOCOL, "salt": salt.version.__version__, "folder": None, "scanner": None}
    try:
        found["folder"] = _folder() and "good"
    except (OSError, ValueError) as error:
        found["folder"] = str(error)
    for root in __opts__["file_roots"].get("base", []):  # noqa: F821
        with (
            contextlib.suppress(OSError),
            open(os.path.join(root, "ioc_scan", "scanner.pyz"), "rb") as stream,
        ):
            found["scanner"] = found["scanner"] or hashlib.sha256(stream.read()).hexdigest()
    found["pillar_cache"] = bool(__opts__.get("pillar_cache"))  # noqa: F821
    reactions = [tag for entry in __opts__.get("reactor") or [] for tag in entry]  # noqa: F821
    found["reactor"] = any(tag.startswith("salt/minion/") for tag in reactions)
    found["clients"] = list(__opts__.get("netapi_enable_clients") or [])  # noqa: F821
    found["minimum_auth_version"] = __opts__.get("minimum_auth_version")  # noqa: F821
    found["auto_accept"] = bool(__opts__.get("auto_accept") or __opts__.get("open_mode"))  # noqa: F821
    return found


# ------------------------------------------------------------------------------------------------ inside


def _folder():
    """The folder that ext_pillar names. Raises ValueError: not set up, or others may touch it."""
    entries = __opts__.get("ext_pillar") or []  # noqa: F821
    folder = next((entry["ioc_scan"] for entry in entries if "ioc_scan" in entry), None)
    if not isinstance(folder, str) or not folder.startswith("/"):
        raise ValueError("ext_pillar names no folder for ioc_scan")
    info = os.lstat(folder)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o077:
        raise ValueError(folder + " is not a folder of the master's user with mode 0700")
    for name in ("devices", "plans", "given", "seen", "uploads"):
        os.makedirs(os.path.join(folder, name), mode=0o700, exist_ok=True)
    return folder


def _put(folder, bundle):
    plans, standing = bundle.get("plans", {}), bundle.get("devices", {})
    for digest, text in plans.items():
        if not _DIGEST.fullmatch(digest) or hashlib.sha256(text.encode("ascii")).hexdigest() != digest:
            raise ValueError("a plan did not arrive as it was sent")
    with _locked(folder):
        for digest, text in plans.items():
            _write(os.path.join(folder, "plans", digest), text)
        missing = set()
        for name in _names(standing):
            path = os.path.join(folder, "devices", name + ".json")
            if standing[name] is None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                continue
            for entry in standing[name]["place"]:
                digest = entry["job"].get("plan_digest")
                if digest is None:
                    continue
                if not _DIGEST.fullmatch(digest):
                    raise ValueError("not a digest")
                kept = os.path.join(folder, "plans", digest)
                if os.path.exists(kept):
                    os.utime(kept)
                else:
                    missing.add(digest)
            _write(path, json.dumps(standing[name]))
        known = _known(folder, _names(standing))
        if plans:
            _tidy(folder)
    return {"protocol": PROTOCOL, **known, "missing": sorted(missing)}


def _tidy(folder):
    """Plans that nothing named for a day, parts of broken uploads, and notes about jobs long gone."""
    now = time.time()
    used = set()
    for name in os.listdir(os.path.join(folder, "devices")):
        with open(os.path.join(folder, "devices", name), encoding="ascii") as stream:
            used.update(entry["job"].get("plan_digest") for entry in json.load(stream)["place"])
    for place, age in (("plans", _DAY), ("uploads", _DAY), ("given", _FORGET), ("seen", _FORGET)):
        for name in os.listdir(os.path.join(folder, place)):
            path = os.path.join(folder, place, name)
            if os.lstat(path).st_mtime + age < now and name not in used:
                shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def _known(folder, names):
    return {
        "given": {name: _given(folder, name) for name in names},
        "seen": {name: _seen(folder, name) for name in names},
    }


def _seen(folder, name):
    """A number that grows with each sign of life; None: none yet."""
    try:
        return os.stat(os.path.join(folder, "seen", name)).st_mtime_ns if _NAME.fullmatch(name) else None
    except FileNotFoundError:
        return None


def _given(folder, name):
    try:
        with open(os.path.join(folder, "given", name + ".json"), encoding="ascii") as stream:
            return sorted(json.load(stream))
    except FileNotFoundError:
        return []


def _names(names):
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError("not the name of a device")
    return list(names)


def _write(path, text):
    new = os.path.join(os.path.dirname(path), ".new-" + os.path.basename(path))
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(new, path)


@contextlib.contextmanager
def _locked(folder):
    descriptor = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
