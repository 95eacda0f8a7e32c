"""Lines of critical areas: what a device finds arrives, what it makes up does not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.devices.base import EventKind, JobKind
from ioc_scan.scanner.plan import load_plan

from .contract import ManagerContract
from .harness import SAMPLE, of, read_all
from .test_local import LocalFleet

CONTRACT = ManagerContract()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[LocalFleet]:
    fleet = LocalFleet(tmp_path)
    yield fleet
    fleet.close()


def test_findings_of_a_device_arrive(fleet: LocalFleet) -> None:
    script = fleet.plant("ws01", "etc/cron.d/job", b"@reboot root /opt/sample\n")
    fleet.plant("ws01", "opt/sample", SAMPLE)
    job = replace(CONTRACT.scan_job(fleet), kind=JobKind.CRITICAL_AREAS, settings={}, device_ids=["ws01"])
    events = CONTRACT.run(fleet, job)
    areas = {event.data["area"]: event.data for event in of(events, EventKind.AREA, "ws01")}
    assert set(areas) == {"processes", "kernel", "boot_sectors", "autostart"}
    assert areas["kernel"]["state"] == "unsupported" and areas["kernel"]["reason"]
    [finding] = [finding for finding in areas["autostart"]["findings"] if finding["severity"] == "match"]
    assert finding["what"] == str(script)
    assert finding["sha256"] == hashlib.sha256(SAMPLE).hexdigest()
    assert finding["ioc"] in {ioc.digest for ioc in load_plan(job.plan or b"").iocs}
    [summary] = of(events, EventKind.SUMMARY, "ws01")
    assert summary.data["areas"]["autostart"] == "scanned"


GOOD: dict[str, Any] = {
    "type": "area",
    "seq": 1,
    "area": "kernel",
    "state": "scanned",
    "reason": "",
    "looked_at": 3,
    "counts": {"match": 0, "suspicious": 1, "note": 0},
    "findings": [
        {"code": "hidden_process", "severity": "suspicious", "what": "x\0\ud800", "detail": "", "pid": 7}
    ],
}


@pytest.mark.parametrize(
    "change",
    [
        {"state": "clean"},
        {"area": "../../x"},
        {"findings": None},
        {"findings": [GOOD["findings"][0]] * 201},
        {"findings": [{"code": "x", "severity": "match", "what": "no IOC file named"}]},
        {
            "findings": [
                {"code": "x", "severity": "match", "what": "a foreign one", "ioc": "0" * 64, "proof": []}
            ]
        },
        {"findings": [{"code": "x", "severity": "note", "what": 7}]},
        {"findings": [{"code": "x", "severity": "note", "what": "", "pid": -1}]},
        {"looked_at": "many"},
    ],
)
def test_what_no_scanner_writes_is_dropped(fleet: LocalFleet, change: dict[str, Any]) -> None:
    job = CONTRACT.place_unstarted(fleet, kind=JobKind.CRITICAL_AREAS, settings={}, device_ids=["ws01"])
    CONTRACT.forge(fleet, "ws01", job, [GOOD, {**GOOD, "seq": 2, **change}])
    events, _ = read_all(fleet.manager, job.id)
    [area] = of(events, EventKind.AREA)
    assert area.data["findings"][0]["what"] == "x\\x00\\ud800"
    json.dumps(area.data, ensure_ascii=False).encode("utf-8")
    assert len(of(events, EventKind.REJECTED)) == 1
