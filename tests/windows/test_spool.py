"""Jobs in a spool on Windows: taken, run, paused, cancelled, withdrawn, gone on with after a kill."""

from __future__ import annotations

from tests.unit.scanner.support import objects_plan
from tests.windows.rig import Windows
from tests.windows.spools import WindowsDevice

EVIL = b"harmless stand-in " * 100


def test_job_is_run_to_its_end(windows: Windows, version: str) -> None:
    device = WindowsDevice(windows, version, objects_plan(EVIL))
    (device.tree / "evil.exe").write_bytes(EVIL)
    outcome = device.do(device.job("scan-1"))
    assert outcome.status["state"] == "done", outcome.status
    assert [line["path"] for line in outcome.of("match")] == [device.tree_name + "\\evil.exe"]
