"""Runs on the Windows of the rig: responses to what Wine does not have, put in as real systems answer it.

argv: a folder with ``plan.json``. Prints one JSON object: case -> what the response said and did.
"""

# ruff: noqa: PTH102, PTH104
import base64
import contextlib
import hashlib
import json
import os
import sys
from datetime import datetime, timedelta, timezone

from ioc_scan_scanner import machine, winacl, winapi, winfiles, winprocesses, wintrust
from ioc_scan_scanner import spool as spool_module
from ioc_scan_scanner.clock import system_clock
from ioc_scan_scanner.protocol import to_iso
from ioc_scan_scanner.runner import Runner
from ioc_scan_scanner.spool import Spool

BASE = sys.argv[1]
EVIL = b"MZ harmless stand-in\n" * 20
REPARSE, JUNCTION, SYMLINK, CLOUD, DEDUP = 0x400, 0xA0000003, 0xA000000C, 0x9000601A, 0x80000013
with open(BASE + "\\plan.json", "rb") as stream:
    PLAN = stream.read()
spool_module.check_private_folder = lambda path: None
os.fsync = lambda descriptor: None  # what takes long, and is not what is tried here


@contextlib.contextmanager
def instead(module, name, function):
    real = getattr(module, name)
    setattr(module, name, function)
    try:
        yield real
    finally:
        setattr(module, name, real)


class Case:
    """One file, ``<name>\\parent\\object``, and a job about it."""

    def __init__(self, name):
        self.base = BASE + "\\" + name
        self.spool = self.base + "\\spool"
        self.path = self.base + "\\parent\\object"
        for folder in ("parent", "spool\\jobs", "spool\\done", "spool\\quarantine"):
            os.makedirs(self.base + "\\" + folder)
        with open(self.spool + "\\device.json", "w") as stream:
            json.dump({"device_id": "pc01"}, stream)
        with open(self.path, "wb") as stream:
            stream.write(EVIL)
        self.file, self.folder = self.identity(self.path), self.identity(self.base + "\\parent")

    @staticmethod
    def identity(path):
        with winfiles.pin(os.fsencode(path)) as pinned:
            return pinned.identity()

    def run(self, kind, items):
        now = datetime.now(timezone.utc)
        job = {
            "protocol": 1, "job_id": kind, "kind": kind, "device_id": "pc01", "task_id": "t", "run": 1,
            "plan_digest": hashlib.sha256(PLAN).hexdigest(), "scanner_digest": None,
            "not_before": to_iso(now - timedelta(minutes=1)), "not_after": to_iso(now + timedelta(minutes=10)),
            "settings": {"terminate_processes": True} if kind == "respond" else {}, "items": items,
        }  # fmt: skip
        folder = self.spool + "\\jobs\\" + kind
        os.mkdir(folder)
        for name, content in (("plan.json", PLAN), ("job.json", json.dumps(job).encode())):
            with open(folder + "\\" + name, "wb") as stream:
                stream.write(content)
        with Spool(self.spool) as spool:
            Runner(spool, system_clock, None, True).run()
        with open(folder + "\\results.jsonl") as stream:
            [line] = [json.loads(line) for line in stream]
        return line

    def respond(self, **changes):
        item = {
            "match_id": "m", "path_b64": base64.b64encode(os.fsencode(self.path)).decode(), "size": len(EVIL),
            "sha256": hashlib.sha256(EVIL).hexdigest(), "device": self.file[0], "inode": self.file[1], **changes,
        }  # fmt: skip
        line = self.run("respond", [item])
        line["in_place"] = os.path.exists(self.path)
        line["stored"] = sum(len(files) for _, _, files in os.walk(self.spool + "\\quarantine"))
        return line

    def restore(self, line):
        return self.run("restore", [{"quarantine_id": line["quarantine_id"]}])

    def looks(self, identity, attributes, tag):
        """The system says this of one file or folder, besides what it says."""

        def facts(handle):
            found = real(handle)
            if (found.serial, found.file_index) == identity:
                found = found._replace(attributes=found.attributes | attributes, tag=tag)
            return found

        real = winapi.facts
        return instead(winapi, "facts", facts)


def attributes(name, attributes, tag, of_folder=False):
    """A file or folder with such attributes; whether its content was opened."""
    case = Case(name)
    opened = []

    def open_name(parent, name, access, *rest, **options):
        if name == "object" and access & winapi.READ_DATA:
            opened.append(access)
        return real(parent, name, access, *rest, **options)

    with contextlib.ExitStack() as changes:
        changes.enter_context(case.looks(case.folder if of_folder else case.file, attributes, tag))
        real = changes.enter_context(instead(winapi, "open_name", open_name))
        return {**case.respond(), "opened": bool(opened)}


def streams(name, found, unreadable=False):
    """A file with alternate data streams. Files beside it stand for them."""
    case = Case(name)
    aside = BASE + "\\" + name + "-streams"
    os.mkdir(aside)
    for number, (_, content) in enumerate(found):
        with open(f"{aside}\\old{number}", "wb") as stream:
            stream.write(content)
    names = [stream_name for stream_name, _ in found]

    def open_name(parent, name, access, share, options, disposition=winapi.OPEN_EXISTING, security=0):
        if name in names:
            if unreadable:
                raise OSError(13, "injected", None, 5)
            kind = "new" if disposition == winapi.CREATE_NEW else "old"
            path = f"\\??\\{aside}\\{kind}{names.index(name)}"
            return real(0, path, access, share, options, disposition)
        return real(parent, name, access, share, options, disposition, security)

    listed = [(stream_name, len(content)) for stream_name, content in found]
    with instead(winapi, "streams", lambda handle: listed), instead(winapi, "open_name", open_name) as real:
        line = case.respond()
        if line["outcome"] == "quarantined":
            line["restored"] = case.restore(line)
            line["given_back"] = []
            for number in range(len(found)):
                with open(f"{aside}\\new{number}", "rb") as stream:
                    line["given_back"].append(stream.read().decode())
        return line


def newer_deletion():
    """Windows 10: one call deletes, whatever the attributes, with the name gone at once."""
    case = Case("newer_deletion")
    flags = []

    def set_disposition_ex(handle, value):
        flags.append(value)
        winapi.set_disposition(handle, True)

    with instead(winapi, "set_disposition_ex", set_disposition_ex):
        return {**case.respond(), "flags": flags}


def patched(name, module, attribute, function, **changes):
    case = Case(name)
    with instead(module, attribute, function):
        return case.respond(**changes)


def held_folders():
    """Somebody tries to move the folders, and to change the file, while it is worked on."""
    case = Case("held_folders")
    done = []

    def free_bytes(folder):
        for path in (case.base, case.base + "\\parent", case.path):
            with contextlib.suppress(PermissionError):
                os.rename(path, path + "-moved")
                done.append("renamed " + path)
        with contextlib.suppress(PermissionError), open(case.path, "ab"):
            done.append("opened")
        return real(folder)

    with instead(machine, "free_bytes", free_bytes) as real:
        return {**case.respond(), "done": done}


def refuse(*_):
    raise OSError(13, "injected", None, 5)


def owner(handle):
    return winacl.TRUSTED_INSTALLER


def protected(name, pid, critical):
    case = Case(name)
    with contextlib.ExitStack() as changes:
        changes.enter_context(instead(machine, "running", lambda *_: [{"pid": pid, "name": "x"}]))
        changes.enter_context(instead(winprocesses, "_is_critical", lambda process: critical))
        return case.respond()


def service():
    return next(pid for pid, _, name in winprocesses.entries() if name == "services.exe")


def substituted(handle):
    path = real_final_path(handle)
    return path.replace("\\\\?\\C:\\", "\\\\?\\C:\\folder\\")


def other_serial():
    case = Case("other_serial")
    return case.respond(device=case.file[0] | 0xABCD << 32)


real_final_path = winapi.final_path
ZONE = (":Zone.Identifier:$DATA", b"[ZoneTransfer]\r\nZoneId=3\r\n")
print(
    json.dumps(
        {
            "offline": attributes("offline", 0x1000, 0),
            "recall_on_open": attributes("recall_on_open", 0x40000, 0),
            "recall_on_access": attributes("recall_on_access", 0x400000 | REPARSE, CLOUD),
            "link": attributes("link", REPARSE, SYMLINK),
            "deduplicated": attributes("deduplicated", REPARSE, DEDUP),
            "junction_above": attributes("junction_above", REPARSE, JUNCTION, of_folder=True),
            "cloud_folder": attributes("cloud_folder", REPARSE, CLOUD, of_folder=True),
            "cloud_file_that_is_here": attributes("cloud_file_that_is_here", REPARSE, CLOUD),
            "streams": streams("streams", [ZONE, (":notes:$DATA", b"by hand")]),
            "large_stream": streams("large_stream", [(":hidden:$DATA", b"x" * 70000)]),
            "unreadable_stream": streams("unreadable_stream", [ZONE], unreadable=True),
            "newer_deletion": newer_deletion(),
            "installed": patched("installed", winacl, "owner_of", owner),
            "owner_unknown": patched("owner_unknown", winacl, "owner_of", refuse),
            "in_a_catalog": patched(
                "in_a_catalog", wintrust, "_signed_in_catalog", lambda *_: "Microsoft Windows"
            ),
            "remote": patched("remote", winapi, "is_remote", lambda handle: True),
            "substituted": patched("substituted", winapi, "final_path", substituted),
            "no_final_path": patched("no_final_path", winapi, "final_path", refuse),
            "disk_full": patched("disk_full", machine, "free_bytes", lambda folder: 100),
            "own_process": protected("own_process", os.getpid(), False),
            "critical_process": protected("critical_process", service(), True),
            "other_serial": other_serial(),
            "held_folders": held_folders(),
        }
    )
)
