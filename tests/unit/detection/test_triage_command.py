"""``python -m ioc_scan triage``: for people and for programs."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.detection.schema import schema, validate

from tests.fixtures.shared import REPOSITORY
from tests.unit.detection.samples import TARGET, behavior, dropped, normalize, report
from tests.unit.detection.test_real_reports import HARMLESS, MALICIOUS, path_of

COMMAND = [sys.executable, "-m", "ioc_scan", "triage"]


def run(*arguments: str, columns: int = 100) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": "lib", "COLUMNS": str(columns), "PATH": os.environ["PATH"]}
    return subprocess.run(
        [*COMMAND, *arguments], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60
    )


def put(tmp_path: Path, content: dict[str, Any]) -> str:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(content))
    return str(path)


@pytest.mark.parametrize("start", ["fb7ade52", "55dcd387"])
def test_json_is_one_object_of_exactly_this_shape(start: str) -> None:
    done = run(str(path_of(start)), "--json")
    assert done.returncode == 0 and not done.stderr
    found = json.loads(done.stdout)
    assert list(found) == ["detection_id", "verdict", "starts_task", "actionable", "hunt", "suppressed"]
    assert set(found["verdict"]) == {"result", "score"}
    assert found["starts_task"] is (start in MALICIOUS)
    assert [item["hashes"]["SHA-256"] for item in found["actionable"]] == (
        [MALICIOUS[start]] if start in MALICIOUS else []
    )
    assert (start in HARMLESS) is not found["starts_task"]
    known = set(schema()["definitions"]["indicator"]["properties"])
    for item in found["actionable"] + found["hunt"] + found["suppressed"]:
        assert item["reason"] and set(item) - known <= {"reason", "path_pattern", "notes"}


def test_what_json_shows_is_the_normal_form(tmp_path: Path) -> None:
    found = json.loads(run(put(tmp_path, report(mutexes=["evil"])), "--json").stdout)
    indicators = [
        {key: value for key, value in item.items() if key != "reason"}
        for item in found["actionable"] + found["hunt"]
    ]
    validate({**normalize(report()), "indicators": indicators})


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_table_fits_the_terminal_and_shows_nothing_raw(tmp_path: Path, columns: int) -> None:
    name = "{{ 7*7 }}<% 1+1 %>\x1b[31m\u202eexe.txt\n"
    content = report(
        target={"category": "file", "file": {**TARGET, "name": name}},
        dropped=[dropped(f"C:\\Users\\u\\AppData\\{name}.exe")],
        **behavior(write_files=["C:\\Users\\u\\" + "x" * 5000 + ".exe"]),
    )
    for arguments in ((), ("--all",)):
        done = run(put(tmp_path, content), *arguments, columns=columns)
        assert done.returncode == 0 and not done.stderr
        assert all(len(line) <= columns for line in done.stdout.splitlines())
        assert (
            not {"\x1b", "\u202e"} & set(done.stdout) and "{{" not in done.stdout and "<%" not in done.stdout
        )


def test_the_table_says_what_matters() -> None:
    shown = run(str(path_of("0000a657"))).stdout
    for part in (
        "QakBot",
        "would start an IOC scan",
        "ACTIONABLE  2",
        "same_as_target",
        "copy_of_system_file",
    ):
        assert part in shown
    assert "calc.exe" in run(str(path_of("0000a657")), "--all", columns=400).stdout
    assert "below the threshold" in run(str(path_of("55dcd387"))).stdout


@pytest.mark.parametrize(
    ("content", "code"), [(b"<html>", "report_html"), (b"", "report_empty"), (b"{", "report_truncated")]
)
def test_refusals_are_one_line(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    done = run(str(path), "--json")
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith(f"error: {code}: ") and len(done.stderr.splitlines()) == 1
    assert run(str(tmp_path / "absent")).returncode == 2


def test_options_change_the_judgement(tmp_path: Path) -> None:
    path = put(tmp_path, report(malscore=8))
    assert json.loads(run(path, "--json", "--threshold", "90").stdout)["starts_task"] is False
    assert json.loads(run(path, "--json", "--trust", "hunt").stdout)["actionable"] == []
    assert json.loads(run(path, "--json", "--instance", "lab").stdout)["detection_id"].startswith("cape:lab:")
    assert run(path, "--max-bytes", "10").returncode == 2


def test_a_person_at_a_terminal_sees_progress() -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {"PYTHONPATH": "lib", "PATH": os.environ["PATH"], "TERM": "xterm"}
    subprocess.run(
        [*COMMAND, str(path_of("f5c93ac7"))],
        cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL, stderr=slave, check=True, timeout=60,
    )  # fmt: skip
    readable, _, _ = select.select([master], [], [], 5)
    assert readable and b"reading" in os.read(master, 65536)
    os.close(slave)
    os.close(master)
