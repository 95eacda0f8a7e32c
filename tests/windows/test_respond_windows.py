"""Quarantine, restore and purge on Windows, by handle: real files and jobs under Wine."""

from __future__ import annotations

import base64
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.scanner.protocol import to_iso

from tests.unit.scanner.support import Outcome, objects_plan, sha256
from tests.windows.rig import SCANNER, VERSIONS, Windows

EVIL = b"harmless stand-in for something bad\n" * 300
DEVICE = "pc01"

_PREPARE = """
from ioc_scan_scanner.spool import prepare_spool
import ctypes
where = sys.argv[1]
prepare_spool(where + "\\\\spool", "pc01")
for name, attributes in (("plain.exe", 0x23), ("read-only.exe", 0x1)):
    path = where + "\\\\files\\\\" + name
    os.utime(path, ns=(1_600_000_000_123456700, 1_500_000_000_987654300))
    assert ctypes.windll.kernel32.SetFileAttributesW(path, attributes)
print(json.dumps(True))
"""
_LOOK = """
from ioc_scan_scanner import winapi, winfiles, winacl
found = {}
for path in sys.argv[1:]:
    with winfiles.pin(os.fsencode(path)) as pinned, pinned.hold() as held:
        facts = held.before
        found[path.rpartition("\\\\")[2]] = {"attributes": facts.attributes, "written": facts.written,
            "created": facts.created, "security": winacl.descriptor_of(held.handle)}
print(json.dumps(found))
"""


class Computer:
    """A spool and a folder of files on drive C, and the scanner run on them."""

    def __init__(self, windows: Windows, version: str, plan: bytes) -> None:
        self.windows = windows
        self.version = version
        self.plan = plan
        self.base, self.where = windows.folder("respond")
        self.spool = self.base / "spool"
        self.files = self.base / "files"
        self.files.mkdir()

    def inside(self, name: str) -> str:
        """The path of one of the files as Windows sees it."""
        return f"{self.where}\\files\\{name}"

    def publish(
        self, kind: str, job_id: str, items: list[dict[str, Any]] | None = None, **changes: Any
    ) -> None:
        """Put a job down by hand: whether its paths are paths can only be judged where it runs."""
        now = datetime.now(timezone.utc)
        job = {
            "protocol": 1,
            "job_id": job_id,
            "kind": kind,
            "device_id": DEVICE,
            "task_id": "task-1",
            "run": 1,
            "plan_digest": sha256(self.plan),
            "scanner_digest": self.windows.scanner_digest,
            "not_before": to_iso(now - timedelta(minutes=1)),
            "not_after": to_iso(now + timedelta(minutes=10)),
            "settings": {},
            "items": items or [],
            "dry_run": False,
            **changes,
        }
        folder = self.spool / "jobs" / job_id
        folder.mkdir(mode=0o700)
        (folder / "plan.json").write_bytes(self.plan)
        (folder / "job.json").write_text(json.dumps(job), "ascii")

    def run(self) -> None:
        self.windows.run(self.version, SCANNER, "run", "--spool", self.where + "\\spool")

    def outcome(self, job_id: str) -> Outcome:
        outcome = Outcome(self.spool / "jobs" / job_id)
        assert outcome.status["state"] == "done", outcome.status
        return outcome


def encoded(path: str) -> str:
    return base64.b64encode(path.encode("utf-8", "surrogatepass")).decode()


#: Names of what the response must take: all else is left alone.
TAKEN = {
    "plain.exe", "read-only.exe", "read.exe", "hard-1.exe", "hard-2.exe", "\u0416\U0001f41e .exe", "long.exe",
    "prog.exe", "temporary.exe", "on-d.exe", "occupied.exe", "homeless.exe",
}  # fmt: skip


class Story:
    """All that one Python does to many files, in a few starts; the tests say what must have become of them."""

    def __init__(self, windows: Windows, version: str, drive_d: Path) -> None:
        self.windows, self.version, self.drive_d = windows, version, drive_d
        python = (windows.drive_c / f"py{version}" / "python.exe").read_bytes()
        self.program = python + b"tail of the test"
        self.computer = Computer(windows, version, objects_plan(EVIL, python, self.program))
        self.plant(python)
        windows.python(version, _PREPARE, self.computer.where)
        self.items = self.scan()
        self.before = self.look("plain.exe", "read-only.exe")
        self.change()
        self.add_paths()
        self.respond()
        self.restore()

    def plant(self, python: bytes) -> None:
        files = self.computer.files
        for folder in ("parent", "elsewhere", "run", "home"):
            (files / folder).mkdir()
        names = TAKEN - {"hard-2.exe", "long.exe", "prog.exe", "temporary.exe", "on-d.exe", "homeless.exe"}
        names |= {"locked.exe", "written.exe", "kept.exe", "changed.exe", "replaced.exe", "missing.exe"}
        for name in [*names, "folder.exe", "parent/inner.exe", "home/homeless.exe"]:
            (files / name).write_bytes(EVIL)
        os.link(files / "hard-1.exe", files / "hard-2.exe")
        deep = files / ("d" * 100) / ("e" * 100) / ("f" * 100)
        deep.mkdir(parents=True)
        (deep / "long.exe").write_bytes(EVIL)
        (files / "signed.exe").write_bytes(python)
        for path in (self.windows.drive_c / f"py{self.version}").iterdir():
            if path.name != "python.exe":
                os.link(path, files / "run" / path.name)
        (files / "run" / "prog.exe").write_bytes(self.program)
        (self.windows.drive_c / "windows" / "temp" / "temporary.exe").write_bytes(EVIL)
        (self.drive_d / "on-d.exe").write_bytes(EVIL)

    def scan(self) -> dict[str, dict[str, Any]]:
        roots = [self.computer.where + "\\files", "C:\\windows\\temp", "D:\\"]
        self.computer.publish("scan", "s", settings={"scope": "custom", "roots": roots})
        self.computer.run()
        keys = ("path_b64", "sha256", "size", "device", "inode")
        lines = self.computer.outcome("s").of("match")
        return {line["item"]["FileName"]: {key: line[key] for key in keys} for line in lines}

    def look(self, *names: str) -> Any:
        return self.windows.python(self.version, _LOOK, *map(self.computer.inside, names))

    def change(self) -> None:
        """What happens between the scan and the response."""
        files = self.computer.files
        (files / "changed.exe").write_bytes(b"z" * len(EVIL))
        (files / "replaced.exe").rename(files / "other.bin")
        (files / "replaced.exe").write_bytes(EVIL)
        (files / "missing.exe").unlink()
        (files / "folder.exe").unlink()
        (files / "folder.exe").mkdir()
        (files / "parent").rename(files / "elsewhere" / "parent")
        (files / "parent").symlink_to("elsewhere/parent")

    def add_paths(self) -> None:
        """Paths that no scan reports, as the name of their item."""
        like = self.items["plain.exe"]
        (self.windows.drive_c / "windows" / "system32" / "system.exe").write_bytes(EVIL)
        (self.computer.spool / "quarantine" / "own.exe").write_bytes(EVIL)
        for path in [*REFUSED, self.computer.where + "\\spool\\quarantine\\own.exe"]:
            self.items[path] = {**like, "path_b64": encoded(path)}

    def respond(self) -> None:
        computer = self.computer
        code = (Path(__file__).parent / "hold_inside.py").read_text("utf-8")
        holder = self.windows.start(self.version, "-c", code, computer.where)
        deadline = time.monotonic() + 20
        while not (computer.base / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.program_id = int((computer.base / "ready").read_text())
        items = [{"match_id": f"m{number}", **item} for number, item in enumerate(self.items.values())]
        settings = {"terminate_processes": True}
        computer.publish("respond", "r0", items, settings=settings, dry_run=True)
        computer.publish("respond", "r1", items, settings=settings)
        computer.run()
        self.left = {path.name for path in computer.files.rglob("*")}
        self.program_ended = self.wait(lambda: (computer.base / "ended").exists())
        (computer.base / "stop").touch()
        holder.wait(20)
        self.left_at_last = {path.name for path in computer.files.rglob("*")}
        self.dry, self.done = self.answers("r0"), self.answers("r1")
        self.stored = [path for path in (computer.spool / "quarantine").rglob("*") if path.is_file()]
        self.stored_content = {path: path.read_bytes() for path in self.stored}

    @staticmethod
    def wait(condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + 5
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.05)
        return condition()

    def answers(self, job_id: str) -> dict[str, dict[str, Any]]:
        """The lines of a response by the names of the items."""
        lines = self.computer.outcome(job_id).of("response")
        return dict(zip(self.items, lines, strict=True))

    def restore(self) -> None:
        computer, files = self.computer, self.computer.files
        ids = {name: line["quarantine_id"] for name, line in self.done.items() if line["quarantine_id"]}
        (files / "occupied.exe").write_bytes(b"a new file")
        (files / "home").rmdir()
        (files / "home").symlink_to("elsewhere")
        there = {name: {"quarantine_id": entry} for name, entry in ids.items()}
        computer.publish("restore", "u0", [there["plain.exe"]], dry_run=True)
        computer.publish("restore", "u1", list(there.values()))
        elsewhere = {
            "occupied.exe": computer.inside("given back.exe"),
            "homeless.exe": "C:\\windows\\system32\\evil.exe",
        }
        again = [{**there[name], "target_path_b64": encoded(path)} for name, path in elsewhere.items()]
        computer.publish("restore", "u2", [*again, {**there["plain.exe"]}])
        computer.publish("purge", "x1", [there["homeless.exe"], there["plain.exe"]])
        computer.run()
        self.dry_restore = computer.outcome("u0").of("restored")
        self.restored = dict(zip(there, computer.outcome("u1").of("restored"), strict=True))
        self.restored_again = computer.outcome("u2").of("restored")
        self.purged = computer.outcome("x1").of("purged")
        self.after = self.look("plain.exe", "read-only.exe")


#: Paths by hand -> the code they are refused with.
REFUSED = {
    "C:\\windows\\system32\\system.exe": "system_folder",
    "c:\\WINDOWS\\System32\\system.exe": "system_folder",
    "\\\\?\\C:\\windows\\system32\\system.exe": "system_folder",
    "C:\\windows\\syswow64\\..\\system32\\system.exe": "bad_path",
    "C:\\windows\\temp\\temporary.exe:stream": "bad_path",
    "C:\\windows\\temp\\": "bad_path",
    "C:temporary.exe": "bad_path",
    "\\\\server\\share\\evil.exe": "bad_path",
    "\\\\?\\GLOBALROOT\\Device\\HarddiskVolume1\\evil.exe": "bad_path",
    "/windows/temp/temporary.exe": "bad_path",
    "Q:\\evil.exe": "missing",
}


@pytest.fixture(scope="module", params=VERSIONS)
def story(windows: Windows, request: pytest.FixtureRequest) -> Iterator[Story]:
    """With a second drive, on another file system where this machine has one."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    link = windows.prefix / "dosdevices" / "d:"
    with tempfile.TemporaryDirectory(dir=base) as folder:
        link.symlink_to(folder)
        yield Story(windows, request.param, Path(folder))
        link.unlink()


def test_only_what_may_be_taken_is_taken(story: Story) -> None:
    taken = {name for name, line in story.done.items() if line["outcome"] == "quarantined"}
    assert taken == TAKEN
    dry = {name for name, line in story.dry.items() if line["outcome"] == "would_quarantine"}
    assert dry == TAKEN
    assert story.left_at_last & TAKEN == set()
    assert {"signed.exe", "inner.exe", "changed.exe", "replaced.exe", "locked.exe"} <= story.left_at_last
    assert not (story.drive_d / "on-d.exe").exists() or "on-d.exe" in story.restored


@pytest.mark.parametrize(
    ("name", "outcome", "code"),
    [
        ("changed.exe", "changed", "changed"),
        ("replaced.exe", "changed", "changed"),
        ("missing.exe", "missing", "missing"),
        ("folder.exe", "changed", "not_a_regular_file"),
        ("inner.exe", "refused", "link_in_path"),
        ("signed.exe", "refused", "signed"),
        ("locked.exe", "failed", "busy"),
        ("written.exe", "failed", "busy"),
        ("kept.exe", "failed", "busy"),
        *((path, "missing" if code == "missing" else "refused", code) for path, code in REFUSED.items()),
    ],
)
def test_what_is_left_alone_and_why(story: Story, name: str, outcome: str, code: str) -> None:
    for lines in (story.dry, story.done):
        assert (lines[name]["outcome"], lines[name]["code"]) == (outcome, code), lines[name]


def test_the_scanner_never_acts_in_its_own_spool(story: Story) -> None:
    [line] = [line for name, line in story.done.items() if name.endswith("own.exe")]
    assert (line["outcome"], line["code"]) == ("refused", "own_spool")


def test_the_maker_of_a_signed_program_is_named(story: Story) -> None:
    assert "Python Software Foundation" in story.done["signed.exe"]["message"]
    assert story.done["prog.exe"]["signature"].startswith("no valid signature"), (
        "a changed program is not signed"
    )


def test_a_file_that_is_being_read_goes_with_its_reader(story: Story) -> None:
    assert "read.exe" in story.left and "read.exe" not in story.left_at_last
    assert "when the programs that hold the file close it" in story.done["read.exe"]["message"]


def test_the_program_that_ran_the_object_is_ended(story: Story) -> None:
    process = [{"pid": story.program_id, "name": "prog.exe"}]
    assert story.dry["prog.exe"]["terminated"] == process
    assert story.done["prog.exe"]["terminated"] == process
    assert story.program_ended


def test_what_is_stored_cannot_run_and_is_stored_once(story: Story) -> None:
    contents = [path for path in story.stored if path.name == "content"]
    assert len(contents) == 2, "two contents, however many files"
    for path in contents:
        assert EVIL[:36] not in story.stored_content[path] and not story.stored_content[path].startswith(
            b"MZ"
        )


def test_what_was_taken_comes_back_as_it_was(story: Story) -> None:
    assert [line["outcome"] for line in story.dry_restore] == ["would_restore"]
    refused = {"occupied.exe": "exists", "homeless.exe": "link_in_path"}
    for name, line in story.restored.items():
        expected = ("refused", refused[name]) if name in refused else ("restored", "")
        assert (line["outcome"], line["code"]) == expected, line
    files = story.computer.files
    for name in (
        "plain.exe",
        "hard-1.exe",
        "\u0416\U0001f41e .exe",
        f"{'d' * 100}/{'e' * 100}/{'f' * 100}/long.exe",
    ):
        assert (files / name).read_bytes() == EVIL
    assert (files / "run" / "prog.exe").read_bytes() == story.program
    assert (story.drive_d / "on-d.exe").read_bytes() == EVIL
    assert story.after == story.before, "attributes, times and permissions"
    assert story.before["plain.exe"]["attributes"] == 0x23
    assert not list(files.rglob(".ioc_scan-*")), "nothing of the work is left"


def test_restore_never_overwrites_and_goes_to_no_system_folder(story: Story) -> None:
    files = story.computer.files
    assert (files / "occupied.exe").read_bytes() == b"a new file"
    assert not (files / "elsewhere" / "homeless.exe").exists()
    outcomes = [(line["outcome"], line["code"]) for line in story.restored_again]
    assert outcomes == [("restored", ""), ("refused", "system_folder"), ("refused", "not_quarantined")]
    assert (files / "given back.exe").read_bytes() == EVIL


def test_purge(story: Story) -> None:
    assert [line["outcome"] for line in story.purged] == ["purged", "purged"]
    quarantine = story.computer.spool / "quarantine"
    assert not (quarantine / sha256(EVIL) / "content").exists(), "no entry needs it any more"
    assert (quarantine / sha256(story.program) / "content").exists()
