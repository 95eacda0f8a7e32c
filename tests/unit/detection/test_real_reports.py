"""The real CAPE reports, as a sandbox wrote them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.detection.guard import classify
from ioc_scan.detection.normalize import normalize_report
from ioc_scan.detection.schema import validate

from tests.fixtures.shared import REPOSITORY, shared_data
from tests.unit.detection.samples import codes, only

MALICIOUS = {
    "0000a657": "0000a65749f5902c4d82ffa701198038f0b4870b00a27cfca109f8f933476d82",
    "5d61700f": "d55e397b4fbcaee4a21a6d92942f1f1494a930943811631064d3019fa2ed418e",
    "5effaf67": "d55e397b4fbcaee4a21a6d92942f1f1494a930943811631064d3019fa2ed418e",
    "d4690038": "72e718ba706e3cb85a41e8a55197ff28da743435048554299f57e061c19c9dcd",
    "f5c93ac7": "915a6f525afe55898c680bc0d37ca87d0f0512d11ae7c304e736fcb038220975",
    "fb7ade52": "b117a5f952a49cdef7d82a31b56d0c29efebc6cf7e7b90348d171265b454e85d",
}
HARMLESS = ["515a6269", "8b9aaf4f", "b1c4aa07", "55dcd387"]
_cache: dict[str, dict[str, Any]] = {}


def path_of(start: str) -> Path:
    return next(shared_data("cape").glob(f"{start}*"))


def detection_of(start: str) -> dict[str, Any]:
    if start not in _cache:
        _cache[start] = normalize_report(path_of(start), instance="lab")
    return _cache[start]


@pytest.mark.parametrize("start", [*MALICIOUS, *HARMLESS])
def test_normalizes_into_the_schema_with_every_indicator_in_one_tier(start: str) -> None:
    detection = detection_of(start)
    validate(detection)
    triage = classify(detection)
    entries = triage.actionable + triage.hunt + triage.suppressed
    assert len(entries) == len(detection["indicators"])
    assert all(entry["reason"].partition(": ")[2] for entry in entries)
    assert "losses" not in detection


@pytest.mark.parametrize("start", MALICIOUS)
def test_only_the_target_is_actionable(start: str) -> None:
    triage = classify(detection_of(start))
    assert triage.starts_task and triage.verdict["result"] == "malicious"
    assert {entry["hashes"]["SHA-256"] for entry in triage.actionable} == {MALICIOUS[start]}
    assert triage.actionable[0]["role"] == "target" and triage.actionable[0]["size"] > 0


@pytest.mark.parametrize("start", HARMLESS)
def test_below_the_threshold_nothing_starts(start: str) -> None:
    triage = classify(detection_of(start))
    assert not triage.starts_task and triage.reason == "below_threshold"
    assert not triage.actionable and not triage.hunt
    assert set(codes(triage.suppressed)) == {"below_threshold"}


def test_the_copy_of_calc_is_left_alone() -> None:
    triage = classify(detection_of("0000a657"))
    calc = only(triage, size=776192)
    assert (calc["tier"], codes([calc])) == ("suppressed", ["copy_of_system_file"])
    assert codes(triage.actionable) == ["target", "same_as_target"]


@pytest.mark.parametrize("start", ["5d61700f", "5effaf67", "fb7ade52"])
def test_the_edge_installer_is_left_alone(start: str) -> None:
    edge = only(classify(detection_of(start)), size=11961304)
    assert edge["tier"] == "suppressed" and edge["signed_by"] != ""


def test_the_command_server_comes_from_the_configuration() -> None:
    for start in ("5d61700f", "5effaf67"):
        triage = classify(detection_of(start))
        assert [entry["value"] for entry in triage.hunt] == ["43.138.181.153"]
        assert codes(triage.hunt) == ["config_address"]


def test_the_dropped_miner_is_hunted_by_path_without_the_user_name() -> None:
    miner = only(classify(detection_of("fb7ade52")), name="system.exe")
    assert codes([miner]) == ["written_program"]
    assert miner["path_pattern"] == r"C:\Users\*\AppData\Local\Temp\system.exe"


def test_windows_logs_and_microsoft_hosts_are_not_hunted() -> None:
    logs = classify(detection_of("f5c93ac7"))
    assert not [entry for entry in logs.hunt if entry["type"] == "file"]
    hosts = classify(detection_of("d4690038"))
    assert not hosts.hunt
    assert codes(hosts.suppressed).count("dns_server") == 2


def test_memory_for_the_largest_report() -> None:
    script = (
        "import re, sys; from ioc_scan.detection.normalize import normalize_report; "
        "from ioc_scan.detection.guard import classify; "
        "classify(normalize_report(sys.argv[1], instance='lab')); "
        # not ru_maxrss: that one counts what the parent held at the time of the fork
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read()).group(1))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path_of("f5c93ac7"))],
        cwd=REPOSITORY, env={"PYTHONPATH": "lib"}, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert int(done.stdout) < 150 * 1024
