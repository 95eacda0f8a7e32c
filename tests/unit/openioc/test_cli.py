"""check, convert and explain, as processes: what they print and how they end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from ioc_scan.openioc.reader import read_ioc
from ioc_scan.openioc.writer import write_ioc

from tests.fixtures.shared import REPOSITORY
from tests.unit.openioc.builders import MD5_1, SHA_1, document


def run(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "ioc_scan", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        cwd=REPOSITORY / "lib",
        timeout=60,
    )


def good(folder: Path) -> Path:
    path = folder / "good.ioc"
    tree = ["AND", ["FileItem/SizeInBytes", "is", "10"], ["FileItem/Sha256sum", "is", SHA_1]]
    path.write_bytes(write_ioc(document(tree, "1.0")))
    return path


def bad(folder: Path) -> Path:
    path = folder / "bad.ioc"
    path.write_bytes(
        write_ioc(document(["AND", ["FileItem/FileName", "is", "a"], ["FileItem/FileName", "is", "b"]]))
    )
    return path


def test_check_says_what_it_found_as_json(tmp_path: Path) -> None:
    done = run("check", "--json", good(tmp_path), bad(tmp_path), tmp_path / "absent.ioc")
    assert done.returncode == 1
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert first == {
        "file": str(tmp_path / "good.ioc"),
        "ok": True,
        "version": "1.0",
        "problems": [],
        "indicator_items": 2,
        "actionable": True,
    }
    assert not second["ok"] and second["version"] == "1.1" and not second["actionable"]
    (problem,) = [entry for entry in second["problems"] if entry["severity"] == "error"]
    assert problem["code"] == "contradiction" and problem["line"] == 9 and problem["hint"]
    assert [entry["code"] for entry in third["problems"]] == ["unreadable"]


def test_check_ends_with_0_for_good_files_and_2_for_wrong_usage(tmp_path: Path) -> None:
    done = run("check", good(tmp_path))
    assert done.returncode == 0 and b"ok" in done.stdout and b"actionable" in done.stdout
    assert run("check").returncode == 2
    assert run("check", "--profile", "other", good(tmp_path)).returncode == 2
    assert run("check", "--json", "-", stdin=good(tmp_path).read_bytes()).returncode == 0


def test_check_knows_the_rules_of_a_task(tmp_path: Path) -> None:
    again = tmp_path / "again.ioc"
    again.write_bytes(good(tmp_path).read_bytes())
    assert run("check", good(tmp_path), again).returncode == 0
    done = run("check", "--profile", "kaspersky", "--json", good(tmp_path), again)
    assert done.returncode == 1 and b"duplicate_document_id" in done.stdout


def test_convert_there_and_back(tmp_path: Path) -> None:
    modern, back = tmp_path / "modern.ioc", tmp_path / "back.ioc"
    assert run("convert", "--to", "1.1", good(tmp_path), modern).returncode == 0
    assert read_ioc(modern.read_bytes()).version == "1.1"
    assert run("convert", "--to", "1.0", modern, back).returncode == 0
    assert back.read_bytes() == good(tmp_path).read_bytes()
    assert run("convert", "--to", "2.0", modern, back).returncode == 2


def test_convert_refuses_and_writes_nothing(tmp_path: Path) -> None:
    source = tmp_path / "source.ioc"
    source.write_bytes(write_ioc(document(["FileItem/FileName", "matches", "^evil"])))
    done = run("convert", "--to", "1.0", source, tmp_path / "out.ioc")
    assert done.returncode == 1 and b"convert_condition" in done.stderr
    assert not (tmp_path / "out.ioc").exists()
    assert run("convert", "--to", "1.1", tmp_path / "absent", tmp_path / "out.ioc").returncode == 1


def test_explain_shows_the_tree(tmp_path: Path) -> None:
    path = tmp_path / "x.ioc"
    tree = [
        "OR",
        [
            "AND",
            ["FileItem/FileName", "is", "A{{1}}\u202e.exe", {"preserve-case": True}],
            ["FileItem/Md5sum", "isnot", MD5_1],
        ],
        ["HookItem/Foo", "is", "x"],
        ["FileItem/SizeInBytes", "is", "many"],
    ]
    path.write_bytes(write_ioc(document(tree)))
    done = run("explain", path)
    text = done.stdout.decode()
    assert done.returncode == 0
    assert "ANY of these holds" in text and "ALL of these hold" in text
    assert 'file name is "A{ {1}}\\u202e.exe", case matters' in text
    assert f'file MD5 is not "{MD5_1}"' in text
    assert "unknown term" in text and "never evaluated" in text
    assert run("explain", tmp_path / "absent").returncode == 1
    assert run("explain").returncode == 2
