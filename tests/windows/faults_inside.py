"""Runs on the Windows of the rig: a response or restore that dies, or is tampered with, at every file operation.

argv: a folder with ``plan.json``; what happens (``die``, ``exit``, ``swap``, ``fail``; ``after``: look at what an
``exit`` left); the kind of job; the first operation, and the step to the next. Prints one JSON object: how many
operations there are, and what went wrong.
"""

# ruff: noqa: PTH102, PTH104
import base64
import contextlib
import hashlib
import json
import os
import shutil
import sys
from datetime import datetime, timedelta, timezone

from ioc_scan_scanner import spool as spool_module
from ioc_scan_scanner import winapi, winfiles
from ioc_scan_scanner.clock import system_clock
from ioc_scan_scanner.errors import ScannerError
from ioc_scan_scanner.protocol import to_iso
from ioc_scan_scanner.quarantine import Quarantine
from ioc_scan_scanner.runner import Runner
from ioc_scan_scanner.spool import Spool

BASE, FAULT, KIND, FIRST, STEP = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
EVIL = b"harmless stand-in\n" * 20
SHA256 = hashlib.sha256(EVIL).hexdigest()
OF_WINDOWS = (
    "open_name", "close", "descriptor_of", "facts", "final_path", "is_remote", "free_bytes", "set_disposition",
    "set_disposition_ex", "rename", "set_basic", "streams",
)  # fmt: skip
OF_PYTHON = (
    "open", "read", "write", "close", "lseek", "stat", "lstat", "fstat", "fsync", "ftruncate", "mkdir", "makedirs",
    "rmdir", "unlink", "rename", "replace", "listdir",
)  # fmt: skip
REAL = {
    (module, name): getattr(module, name)
    for module, names in ((winapi, OF_WINDOWS), (os, OF_PYTHON))
    for name in names
}
with open(BASE + "\\plan.json", "rb") as stream:
    PLAN = stream.read()


# Who may reach the spool is asked dozens of times, and tried elsewhere.
spool_module.check_private_folder = lambda path: None


class Died(BaseException):
    """The process is gone: no operation has any effect from here on."""


class Machine:
    """All file operations counted; one of them is the last, or the one at which something happens."""

    def __init__(self, at, fault):
        self.at = at
        self.fault = fault
        self.count = 0
        self.dead = False
        self.inside = False
        self.handles = set()
        self.descriptors = set()

    def __enter__(self):
        for (module, name), real in REAL.items():
            setattr(module, name, self.wrap(module, name, real))
        return self

    def __exit__(self, *_):
        for (module, name), real in REAL.items():
            setattr(module, name, real)
        # What the system does with a process that ended: all it held is closed.
        for descriptor in self.descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        for handle in self.handles:
            with contextlib.suppress(OSError):
                winapi.close(handle)

    def wrap(self, module, name, real):
        def wrapped(*arguments, **options):
            if not self.inside:
                if self.dead:
                    raise Died()
                self.count += 1
                if self.count == self.at:
                    self.inside = True
                    try:
                        self.fault()
                    except Died:
                        self.dead = True
                        raise
                    finally:
                        self.inside = False
            # A power cut is not what is tried here, and to write through is what takes long.
            result = None if name == "fsync" else real(*arguments, **options)
            if (module, name) == (winapi, "open_name"):
                self.handles.add(result)
            elif (module, name) == (winapi, "close"):
                self.handles.discard(arguments[0])
            elif (module, name) == (winapi, "descriptor_of"):
                self.handles.discard(arguments[0])
                self.descriptors.add(result)
            elif (module, name) == (os, "open"):
                self.descriptors.add(result)
            elif (module, name) == (os, "close"):
                self.descriptors.discard(arguments[0])
            return result

        return wrapped


def die():
    raise Died()


def leave():
    os._exit(7)


def fail():
    raise OSError(28, "injected")


class Stage:
    def __init__(self, number):
        self.base = BASE + "\\" + str(number)
        self.spool = self.base + "\\spool"
        self.parent = self.base + "\\parent"
        self.moved = self.base + "\\moved"
        self.path = self.parent + "\\object"

    def fresh(self):
        os.makedirs(self.parent)
        for name in ("jobs", "done", "quarantine"):
            os.makedirs(self.spool + "\\" + name)
        with open(self.spool + "\\device.json", "w") as stream:
            json.dump({"device_id": "pc01"}, stream)
        with open(self.path, "wb") as stream:
            stream.write(EVIL)
        with winfiles.pin(os.fsencode(self.path)) as pinned:
            device, inode = pinned.identity()
        item = {
            "match_id": "m", "path_b64": base64.b64encode(os.fsencode(self.path)).decode(), "sha256": SHA256,
            "size": len(EVIL), "device": device, "inode": inode,
        }  # fmt: skip
        self.publish("respond", "r", [item])
        if KIND == "restore":
            self.run(0, die)
            self.publish("restore", "u", [{"quarantine_id": self.lines("r")[0]["quarantine_id"]}])

    def publish(self, kind, job_id, items):
        now = datetime.now(timezone.utc)
        job = {
            "protocol": 1, "job_id": job_id, "kind": kind, "device_id": "pc01", "task_id": "t", "run": 1,
            "plan_digest": hashlib.sha256(PLAN).hexdigest(), "scanner_digest": None,
            "not_before": to_iso(now - timedelta(minutes=1)), "not_after": to_iso(now + timedelta(minutes=10)),
            "settings": {}, "items": items, "dry_run": False,
        }  # fmt: skip
        folder = self.spool + "\\jobs\\" + job_id
        os.mkdir(folder)
        with open(folder + "\\plan.json", "wb") as stream:
            stream.write(PLAN)
        with open(folder + "\\job.json", "w") as stream:
            json.dump(job, stream)

    def run(self, at, fault):
        """All jobs, with something happening at one operation; how many there were, and whether it happened."""
        with Machine(at, fault) as machine:
            try:
                with Spool(self.spool) as spool:
                    Runner(spool, system_clock, None, True).run()
            except (Died, OSError, ScannerError):
                pass
        return machine.count

    def lines(self, job_id):
        try:
            with open(self.spool + "\\jobs\\" + job_id + "\\results.jsonl") as stream:
                return [json.loads(line) for line in stream]
        except FileNotFoundError:
            return []

    def swap(self):
        """Somebody puts another folder, with a file of the same name and content, in place of the parent."""
        try:
            os.rename(self.parent, self.moved)
        except PermissionError:  # held open: that is the point
            return
        os.mkdir(self.parent)
        with open(self.path, "wb") as stream:
            stream.write(EVIL)

    def kept(self):
        quarantine = Quarantine(self.spool + "\\quarantine")
        live = [entry for entry in quarantine.entries() if entry["state"] in ("copied", "quarantined")]
        return bool(live) and b"".join(quarantine.read(SHA256)) == EVIL


def content(path):
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def judge(stage, at, happened):
    """What is wrong after a run, as a list of words."""
    here, there = content(stage.path), content(stage.moved + "\\object")
    if FAULT == "swap" and os.path.isdir(stage.moved):
        if KIND == "respond" and here != EVIL:
            return ["the other folder's file was touched"]
        if KIND == "restore" and os.listdir(stage.parent) != ["object"]:
            return ["something was put into the other folder"]
        return [] if there == EVIL or stage.kept() else ["lost"]
    if here not in (None, EVIL):
        return ["half a file"]
    if here is None and not stage.kept():
        return ["lost"]
    if happened and at % 3 and FAULT == "die":
        return []
    stage.run(0, die)
    job_id, outcome = ("r", "quarantined") if KIND == "respond" else ("u", "restored")
    there_now = content(stage.path) == EVIL
    if FAULT == "fail" and not stage.lines(job_id):  # the job itself failed, and says so
        return [] if (there_now or stage.kept()) else ["lost"]
    [line] = stage.lines(job_id)
    if FAULT == "fail":
        if (line["outcome"] == outcome) != (there_now == (KIND == "restore")):
            return ["it is not as it says: " + json.dumps(line)]
    elif line["outcome"] != outcome or there_now != (KIND == "restore"):
        return ["not brought to its end: " + json.dumps(line)]
    if any(name.startswith(".") for name in os.listdir(stage.parent)):
        return ["left behind: " + ascii(os.listdir(stage.parent))]
    return []


def main():
    problems = []
    at = FIRST
    happened = True
    while happened:
        stage = Stage(at)
        if FAULT == "after":
            problems += judge(stage, 0, False)
            break
        stage.fresh()
        faults = {"die": die, "exit": leave, "fail": fail, "swap": stage.swap}
        happened = stage.run(at, faults[FAULT]) >= at
        problems += [f"{problem} at operation {at}" for problem in judge(stage, at, happened)]
        shutil.rmtree(stage.base, ignore_errors=True)
        at += STEP
    print(json.dumps({"operations": at, "problems": problems[:20], "number": len(problems)}))


main()
