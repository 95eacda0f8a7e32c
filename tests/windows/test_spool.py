"""Jobs in a spool on Windows: run, paused, gone on with after a kill, withdrawn, handed over; and who may own it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ioc_scan.openioc.plan import compile_plan

from tests.unit.scanner.support import any_ioc, objects_plan
from tests.windows.rig import SCANNER, Windows
from tests.windows.spools import WindowsDevice

EVIL = b"harmless stand-in " * 100
FOLDERS = 24
_END = """
import signal
os.kill(int(sys.argv[1]), signal.SIGTERM)
print("null")
"""


@pytest.fixture
def slow(windows: Windows) -> Iterator[WindowsDevice]:
    """A device that needs long to look at everything: every file is hashed, with little processor time."""
    plan = compile_plan([(any_ioc(("FileItem/Sha256sum", "is", "sha256", _digest(EVIL))), "hunt")])
    device = WindowsDevice(windows, "3.8", plan)
    for number in range(FOLDERS):
        folder = device.tree / f"{number:02}"
        folder.mkdir()
        (folder / "evil.exe").write_bytes(EVIL)
        (folder / "large.bin").write_bytes(bytes(8_000_000))
    yield device
    device.visit(withdraw=["scan-1", "scan-2"])


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_job_is_run_to_its_end(windows: Windows, version: str) -> None:
    device = WindowsDevice(windows, version, objects_plan(EVIL))
    (device.tree / "evil.exe").write_bytes(EVIL)
    outcome = device.do(device.job("scan-1"))
    assert outcome.status["state"] == "done", outcome.status
    assert [line["path"] for line in outcome.of("match")] == [device.tree_name + "\\evil.exe"]
    assert outcome.of("match")[0]["tier"] == "actionable"
    health = device.visit()["health"]
    assert health["free_bytes"] > 1_000_000 and health["python"].startswith(version + ".")


def test_pause_kill_and_resume_find_everything_once(slow: WindowsDevice) -> None:
    assert slow.visit(place=[slow.job("scan-1", cpu_percent=2)], start=True)["started"]
    slow.wait_for("scan-1", "running")
    assert not slow.visit(start=True)["started"], "a second runner beside the first"
    slow.visit(control={"scan-1": "pause"})
    paused = slow.wait_for("scan-1", "paused")
    assert paused["files_seen"] < 2 * FOLDERS
    slow.visit(control={"scan-1": "resume"}, start=True)
    running = slow.wait_for("scan-1", "running")
    while slow.status("scan-1")["files_seen"] <= paused["files_seen"]:
        time.sleep(0.1)
    slow.windows.python("3.8", _END, str(running["pid"]))  # at once, as TerminateProcess does it
    job_file = slow.spool / "jobs" / "scan-1" / "job.json"
    job_file.write_text(job_file.read_text("ascii").replace('"cpu_percent":2', '"cpu_percent":100'), "ascii")
    (slow.spool / "done" / "scan-1").unlink()  # the marker knows the job as it was
    slow.run()
    outcome = slow.outcome("scan-1")
    assert outcome.status["state"] == "done", outcome.status
    found = [line["path"] for line in outcome.of("match")]
    assert sorted(found) == [f"{slow.tree_name}\\{number:02}\\evil.exe" for number in range(FOLDERS)]
    assert outcome.of("summary")[0]["files"] == 2 * FOLDERS


def test_withdrawn_and_cancelled_jobs_end_at_once(slow: WindowsDevice) -> None:
    slow.visit(place=[slow.job("scan-1", cpu_percent=2), slow.job("scan-2", cpu_percent=2)], start=True)
    slow.wait_for("scan-1", "running")
    answer = slow.visit(withdraw=["scan-1"], control={"scan-2": "cancel"})
    assert answer["withdrawn"] == ["scan-1"] and answer["held"] == ["scan-2"]
    assert slow.wait_for("scan-2", "cancelled")["matches"] < FOLDERS
    assert not (slow.spool / "jobs" / "scan-1").exists()


def test_newer_scanner_takes_over_unfinished_jobs(slow: WindowsDevice) -> None:
    slow.visit(place=[slow.job("scan-1", cpu_percent=2)], start=True)
    slow.wait_for("scan-1", "running")
    answer = slow.visit(start=False, place=[], scanner_digest="f" * 64)
    assert answer["held"] == ["scan-1"], answer
    assert slow.status("scan-1")["state"] == "running"
    answer = slow.visit(place=[slow.job("scan-2")], scanner_digest="f" * 64)
    assert answer["held"] == ["scan-1", "scan-2"], answer
    assert '"scanner_digest":"' + "f" * 64 in (slow.spool / "jobs/scan-1/job.json").read_text("ascii")
    slow.run()  # the old one's lock is free: the jobs are another scanner's now
    assert slow.outcome("scan-1").status["error"]["code"] == "wrong_scanner"


def test_spool_that_others_could_change_is_refused(windows: Windows) -> None:
    device = WindowsDevice(windows, "3.8", objects_plan(EVIL))
    device.visit()
    assert device.spool.stat().st_mode & 0o007 == 0, "the spool was made open to everybody"

    def refusal(spool: str) -> str:
        return windows.run("3.8", SCANNER, "run", "--spool", spool, status=2).stderr.decode()

    device.spool.chmod(0o755)
    assert "is open to WD" in refusal(device.spool_name)
    device.spool.chmod(0o700)
    device.run()
    device.base.chmod(0o777)
    assert "can be changed by WD" in refusal(device.spool_name)
    device.base.chmod(0o755)
    link = Path(windows.folder("links")[0]) / "way"
    link.symlink_to(device.base)
    assert "leads through a link" in refusal("C:\\test\\links\\way\\spool")
