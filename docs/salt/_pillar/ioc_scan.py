"""ext_pillar of ioc_scan: hands a minion its own jobs, and only when its ioc_scan module asks for them.

Master configuration::

    ext_pillar:
      - ioc_scan: /var/lib/ioc_scan-salt

The folder belongs to the user of the master, mode 0700; the runner ``ioc_scan`` writes it. An ordinary
compilation of pillar (states, ``pillar.items``) gets nothing from here, so plans are not carried around.
What is handed out is noted first: a job that a minion may hold can be taken back from it later. That it
asked is noted too (``seen``): a sign of life, by which the pack knows whom it is worth asking.
"""

import contextlib
import fcntl
import json
import os
import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def ext_pillar(minion_id, pillar, folder, extra_minion_data=None):
    """The pillar ``ioc_scan``: one text of JSON, so that nothing in it is merged or rendered."""
    want = (extra_minion_data or {}).get("ioc_scan_want")
    if not isinstance(want, dict) or not _NAME.fullmatch(minion_id):
        return {}
    held = want.get("held")
    held = {job for job in held if isinstance(job, str)} if isinstance(held, list) else set()
    with _locked(folder):
        _touch(os.path.join(folder, "seen"), minion_id)
        standing = _read(os.path.join(folder, "devices", minion_id + ".json"))
        plans, place = {}, []
        for entry in standing.get("place", []):
            digest, job_id = entry["job"].get("plan_digest"), entry["job"]["job_id"]
            if digest is not None and job_id not in held and digest not in plans:
                try:
                    with open(os.path.join(folder, "plans", digest), encoding="ascii") as stream:
                        plans[digest] = stream.read()
                except FileNotFoundError:  # still on its way to the master: not yet to be placed
                    continue
            place.append(entry)
        if place:
            _note(folder, minion_id, [entry["job"]["job_id"] for entry in place])
    return {"ioc_scan": json.dumps({**standing, "place": place, "plans": plans})}


def _touch(folder, name):
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path = os.path.join(folder, name)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb"):
        os.utime(path)


def _note(folder, minion_id, job_ids):
    path = os.path.join(folder, "given", minion_id + ".json")
    known = _read(path)
    if set(job_ids) <= set(known):
        return
    known.update(dict.fromkeys(job_ids, 1))
    new = path + ".new"
    with open(new, "w", encoding="ascii") as stream:
        json.dump(known, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(new, path)


def _read(path):
    try:
        with open(path, encoding="ascii") as stream:
            return json.load(stream)
    except FileNotFoundError:
        return {}


@contextlib.contextmanager
def _locked(folder):
    descriptor = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
