"""The walk on Windows: what it finds and under which name, and what it leaves alone."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.openioc.plan import compile_plan

from tests.unit.scanner.support import any_ioc, objects_plan, sha256
from tests.windows.rig import Windows
from tests.windows.spools import WindowsDevice

EVIL = b"harmless stand-in " * 100
#: Names that Windows' own programs cannot make or open, and some that they can.
ODD = (
    "trailing dot.",
    "trailing space ",
    "con",
    "nul.txt",
    "ünïcodé 名前",
    "%TEMP%",
    "{{7+7}}",
    "a" * 200,
    "FILE.EXE",
)
LONG = "\\".join(["folder " + "x" * 150] * 4)

_SCAN = """
from ioc_scan_scanner.localscan import scan_here
from ioc_scan_scanner.plan import load_plan
lines = []
with open(sys.argv[1], "rb") as stream:
    plan = load_plan(stream.read())
summary = scan_here(plan, json.loads(sys.argv[2]), lines.append)
print(json.dumps([lines, summary]))
"""


def scan(
    windows: Windows, version: str, plan: bytes, **settings: Any
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    folder, name = windows.folder("plan")
    (folder / "plan.json").write_bytes(plan)
    lines, summary = windows.python(version, _SCAN, name + "\\plan.json", json.dumps(settings))
    return lines, summary


def skipped(summary: dict[str, Any]) -> dict[str, int]:
    return {entry["reason"]: entry["count"] for entry in summary["skipped"]}


def test_objects_are_found_under_every_name(windows: Windows, version: str) -> None:
    folder, name = windows.folder("names")
    expected = set()
    for odd in ODD:
        (folder / odd).write_bytes(EVIL)
        expected.add(f"{name}\\{odd}")
    deep = folder.joinpath(*LONG.split("\\"))
    deep.mkdir(parents=True)
    (deep / "evil.exe").write_bytes(EVIL)
    expected.add(f"{name}\\{LONG}\\evil.exe")
    (folder / "decoy").write_bytes(bytes(len(EVIL)))
    lines, summary = scan(windows, version, objects_plan(EVIL), roots=[name.upper()])
    assert {base64.b64decode(line["path_b64"]).decode() for line in lines} == expected
    assert summary["files"] == len(expected) + 1 and skipped(summary) == {}
    assert summary["bytes_hashed"] == len(EVIL) * (len(expected) + 1)
    assert len({line["inode"] for line in lines}) == len(lines)


def test_item_says_what_windows_knows_of_a_file(windows: Windows, version: str) -> None:
    folder, name = windows.folder("items")
    (folder / "Evil.Exe").write_bytes(EVIL)
    os.utime(folder / "Evil.Exe", (1_500_000_000, 1_600_000_000))
    plan = compile_plan(
        [(any_ioc(("FileItem/FullPath", "is", "string", name.upper() + "\\EVIL.EXE")), "hunt")]
    )
    [line], _ = scan(windows, version, plan, roots=[name])
    item = line["item"]
    created = item.pop("Created")
    assert created >= "2020-09-13T12:26:40Z"  # Wine has no time of creation: the latest it knows
    assert item == {
        "FileName": "Evil.Exe", "FullPath": name + "\\Evil.Exe", "FilePath": name, "FileExtension": "Exe",
        "SizeInBytes": len(EVIL), "Modified": "2020-09-13T12:26:40Z", "Accessed": "2017-07-14T02:40:00Z",
        "Drive": ["C", "C:"],
    }  # fmt: skip
    assert line["inode"] == (folder / "Evil.Exe").stat().st_ino and line["device"] > 0


def test_conditions_compare_paths_of_windows_without_case(windows: Windows) -> None:
    folder, name = windows.folder("conditions")
    (folder / "Temp").mkdir()
    (folder / "Temp" / "Dropper.DLL").write_bytes(EVIL)
    conditions = {
        "name": ("FileItem/FileName", "is", "string", "dropper.dll"),
        "path": ("FileItem/FullPath", "contains", "string", "\\TEMP\\drop"),
        "folder": ("FileItem/FilePath", "is", "string", name.lower() + "\\temp"),
        "extension": ("FileItem/FileExtension", "is", "string", "dll"),
        "size": ("FileItem/SizeInBytes", "is", "int", str(len(EVIL))),
        "created": ("FileItem/Created", "greater-than", "date", "2020-01-01T00:00:00Z"),
        "drive": ("FileItem/Drive", "is", "string", "c:"),
        "md5": ("FileItem/Md5sum", "is", "md5", _md5(EVIL)),
    }
    iocs = {}
    for number, (what, condition) in enumerate(conditions.items()):
        content = any_ioc(condition).replace(b"11111111", f"{number:08}".encode())
        iocs[sha256(content)] = (what, content)
    plan = compile_plan([(content, "hunt") for _, content in iocs.values()])
    lines, summary = scan(windows, "3.8", plan, roots=[name])
    assert sorted(iocs[line["ioc"]][0] for line in lines) == sorted(conditions), summary


def _md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def test_links_excludes_and_the_own_spool_are_not_entered(windows: Windows, version: str) -> None:
    device = WindowsDevice(windows, version, objects_plan(EVIL))
    for place in ("here", "Not Here", "nor here", "there", "elsewhere"):
        (device.base / place).mkdir()
        (device.base / place / "evil.exe").write_bytes(EVIL)
    (device.tree / "junction").symlink_to(device.base / "there")
    settings = {"roots": [device.name], "excludes": [device.name + "\\NOT here", "*\\NOR*"]}
    outcome = device.do(device.job("scan-1", **settings))
    assert outcome.status["state"] == "done", outcome.status
    (device.spool / "quarantine" / "evil.exe").write_bytes(EVIL)
    found = sorted(line["path"].removeprefix(device.name) for line in outcome.of("match"))
    assert found == [f"\\{place}\\evil.exe" for place in ("elsewhere", "here", "there")]
    assert outcome.status["skipped"] == {"link": 1, "excluded": 2, "own_spool": 1}


def test_scopes_mean_the_folders_of_this_windows(windows: Windows) -> None:
    planted = {
        "critical": windows.drive_c / "users" / "Public" / "evil.exe",
        "system": windows.drive_c / "Program Files" / "evil.exe",
        "all": windows.drive_c / "elsewhere" / "evil.exe",
    }
    for path in planted.values():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(EVIL)
    try:
        seen = 0
        for count, scope in enumerate(planted):
            excludes = ["C:\\windows\\system32", "C:\\windows\\syswow64", "C:\\test"]
            lines, summary = scan(windows, "3.13", objects_plan(EVIL), scope=scope, excludes=excludes)
            names = {line["path"].lower() for line in lines}
            assert len(names) == count + 1, (scope, names)
            assert summary["files"] > seen
            seen = summary["files"]
    finally:
        for path in planted.values():
            path.unlink()


_AWAY = """
import os
from ioc_scan_scanner import winapi, winfolders
REAL_SCANDIR, REAL_OPEN = os.scandir, winapi.open_name
RECORDED = {"cloud.exe": 0x401620, "tape.exe": 0x1020, "virtual.exe": 0x40020, "virtual folder": 0x40010,
            "local copy.exe": 0x420}
TAGS = {"cloud.exe": 0x9000601A, "local copy.exe": 0x9000601A}
opened = []

class Status:
    def __init__(self, real, name):
        self.real, self.st_file_attributes = real, RECORDED.get(name, real.st_file_attributes)
        self.st_reparse_tag = TAGS.get(name, 0)
    def __getattr__(self, name):
        return getattr(self.real, name)

class Entry:
    def __init__(self, real):
        self.real, self.name, self.path = real, real.name, real.path
        self.is_file, self.is_dir = real.is_file, real.is_dir
    def stat(self, follow_symlinks=True):
        return Status(self.real.stat(follow_symlinks=follow_symlinks), self.name)

class Listing:
    def __init__(self, path):
        self.real = REAL_SCANDIR(path)
    def __enter__(self):
        return map(Entry, self.real)
    def __exit__(self, *_):
        self.real.close()

def open_name(parent, name, *rest):
    opened.append(name)
    return REAL_OPEN(parent, name, *rest)

winfolders.os.scandir, winapi.open_name = Listing, open_name
"""


@pytest.mark.parametrize("asked", ["object", "name"])
def test_files_that_lie_elsewhere_are_never_opened(windows: Windows, version: str, asked: str) -> None:
    """Wine sets no such attributes: the walk is real, what the listing says of these names was recorded."""
    folder, name = windows.folder("cloud")
    away = ("cloud.exe", "tape.exe", "virtual.exe")
    for file in (*away, "local copy.exe", "plain.exe"):
        (folder / file).write_bytes(EVIL)
    (folder / "virtual folder").mkdir()
    (folder / "virtual folder" / "evil.exe").write_bytes(EVIL)
    plan = objects_plan(EVIL)
    if asked == "name":
        plan = compile_plan([(any_ioc(("FileItem/FileExtension", "is", "string", "exe")), "hunt")])
    code = _AWAY + _SCAN.replace("[lines, summary]", "[lines, summary, opened]")
    Path(folder.parent / "plan.json").write_bytes(plan)
    settings = '{"roots": [' + '"' + name.replace("\\", "\\\\") + '"]}'
    lines, summary, opened = windows.python(version, code, "C:\\test\\plan.json", settings)
    assert not set(opened) & {*away, "virtual folder"} and "plain.exe" in opened
    found = {line["path"].rpartition("\\")[2] for line in lines}
    assert found == {"local copy.exe", "plain.exe", *(away if asked == "name" else ())}
    assert skipped(summary) == {"offline": 4}
    assert summary["not_evaluated"] == [
        {
            "what": "FileItem",
            "reason": "4 files or folders lie elsewhere (cloud, archive) and were not opened",
        }
    ]


_SWAPPED = """
from ioc_scan_scanner import winapi
from ioc_scan_scanner.evaluate import Evaluator
from ioc_scan_scanner.plan import load_plan
from ioc_scan_scanner.questions import Questions
from ioc_scan_scanner.walk import walk
from ioc_scan_scanner.winfolders import WindowsFolderScanner
with open(sys.argv[1], "rb") as stream:
    questions = Questions([Evaluator(load_plan(stream.read()), "windows")])
held = winapi.open_name(0, "\\\\??\\\\" + sys.argv[2] + "\\\\alone.exe", winapi.READ_DATA, 0, 0)
answer = []
for path in sys.argv[2:]:
    scanner = WindowsFolderScanner(questions, lambda path: None)
    left = walk(scanner, [(path, [""])], 60, lambda: False)
    answer.append([[candidate.path for candidate in scanner.tally.candidates], scanner.tally.skips, left])
print(json.dumps(answer))
"""


def test_place_that_became_a_link_and_file_opened_alone(windows: Windows, version: str) -> None:
    """A stored place is a path: who puts a link into it must not send the scan elsewhere."""
    folder, name = windows.folder("swapped")
    for path in (
        "there/deep/evil.exe",
        "there/deep/alone.exe",
        "there/deep/" + "x" * 200 + "/" + "y" * 90 + "/evil.exe",
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(EVIL)
    (folder / "way").symlink_to(folder / "there")
    (folder / "plan.json").write_bytes(objects_plan(EVIL))
    long = "\\".join(("deep", "x" * 200, "y" * 90))
    paths = [f"{name}\\there\\deep", f"{name}\\way\\deep", f"{name}\\there\\{long}", f"{name}\\way\\{long}"]
    answer = windows.python(version, _SWAPPED, name + "\\plan.json", *paths)
    found = [paths[0] + "\\evil.exe", paths[2] + "\\evil.exe"]
    assert answer[0] == [found, [[paths[0] + "\\alone.exe", "busy"]], []]
    assert answer[1] == [[], [[paths[1], "link_in_path"]], []]
    assert answer[2] == [found[1:], [], []]
    assert answer[3] == [[], [[paths[3], "link_in_path"]], []]  # walked to, folder by folder
