"""Pause, resume, cancel, withdrawal and SIGKILL of a scan: nothing is lost and nothing is found twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.scanner.protocol import withdraw_job, write_control

from tests.unit.scanner.support import PYTHON, Device, environment, item_for, objects_plan

FILES_PER_FOLDER = 40
SIZE = 60_000


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    """A tree that takes a second or two at the processor budget used below; 12 planted objects."""
    chance = random.Random(7)
    planted = [chance.randbytes(SIZE) for _ in range(12)]
    device = Device(tmp_path, objects_plan(*planted))
    filler = bytes(SIZE)
    folders = []
    for number in range(30):
        folder = device.tree.joinpath(*(f"level{part}" for part in range(number % 5)), f"folder{number}")
        folder.mkdir(parents=True)
        folders.append(folder)
        for file in range(FILES_PER_FOLDER):
            (folder / f"f{file}").write_bytes(filler)
    for number, content in enumerate(planted):
        (folders[number * 2] / f"planted{number}").write_bytes(content)
    yield device
    for child in _started:
        child.kill()
        child.wait()
    _started.clear()


_started: list[subprocess.Popen[bytes]] = []
SLOW = {"scope": "all", "cpu_percent": 4}


def start(device: Device) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(device.command(), env=environment())
    _started.append(process)
    return process


#: The runner, with a find that takes its time, for pieces of a folder or two.
_SLOW_FIND = """
import sys
from ioc_scan.scanner import findfilter
from ioc_scan.scanner.__main__ import main
findfilter._FIND, findfilter._SHARED_FOLDERS = sys.argv[1], 8
sys.exit(main(["run", "--spool", sys.argv[2]]))
"""


def start_with_slow_find(device: Device) -> subprocess.Popen[bytes]:
    stand_in = device.base / "find"
    stand_in.write_text('#!/bin/sh\n/usr/bin/find "$@" && sleep 1\n')
    stand_in.chmod(0o700)
    command = [PYTHON, "-c", _SLOW_FIND, str(stand_in), str(device.spool)]
    process = subprocess.Popen(command, env=environment())
    _started.append(process)
    return process


def status_of(device: Device, job_id: str = "s") -> dict[str, Any]:
    path = device.spool / "jobs" / job_id / "status.json"
    return json.loads(path.read_text()) if path.exists() else {"state": "pending", "files_seen": 0}


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def found(device: Device, job_id: str = "s") -> list[str]:
    return sorted(line["path"].rpartition("/")[2] for line in device.outcome(job_id).of("match"))


ALL = sorted(f"planted{number}" for number in range(12))


def test_killed_again_and_again_it_finds_the_same_each_once(device: Device) -> None:
    device.publish(device.job("scan", "s", settings={"scope": "all", "cpu_percent": 7}))
    chance = random.Random(3)
    kills = 0
    while status_of(device)["state"] != "done" and kills < 12:
        process = start(device)
        time.sleep(chance.uniform(0.4, 0.9))
        if process.poll() is None:
            process.kill()
            kills += 1
        process.wait()
    device.run()
    outcome = device.outcome("s")
    assert outcome.status["state"] == "done"
    assert found(device) == ALL
    assert outcome.status["files_seen"] == 30 * FILES_PER_FOLDER + 12
    assert kills >= 2
    assert [line["seq"] for line in outcome.lines] == list(range(1, len(outcome.lines) + 1))


def test_pause_and_resume_by_word(device: Device) -> None:
    device.publish(device.job("scan", "s", settings=SLOW))
    process = start(device)
    wait_for(lambda: status_of(device)["files_seen"] > 0)
    write_control(device.spool, "s", "pause")
    begin = time.monotonic()
    wait_for(lambda: status_of(device)["state"] == "paused")
    assert time.monotonic() - begin < 2.5
    seen = status_of(device)["files_seen"]
    time.sleep(0.5)
    assert status_of(device)["files_seen"] == seen < 30 * FILES_PER_FOLDER
    write_control(device.spool, "s", "resume")
    process.wait(timeout=60)
    assert status_of(device)["state"] == "done"
    assert status_of(device)["files_seen"] == 30 * FILES_PER_FOLDER + 12
    assert found(device) == ALL


def test_a_walk_by_find_is_paused_at_a_piece_and_goes_on_without_it(device: Device) -> None:
    device.publish(device.job("scan", "s"))
    process = start_with_slow_find(device)
    wait_for(lambda: status_of(device)["files_seen"] > 0)
    write_control(device.spool, "s", "pause")
    wait_for(lambda: status_of(device)["state"] == "paused", 2.5)
    assert status_of(device)["files_seen"] < 30 * FILES_PER_FOLDER
    assert json.loads((device.spool / "jobs" / "s" / "checkpoint.json").read_text())["frames"]
    begin = time.monotonic()
    write_control(device.spool, "s", "resume")
    process.wait(timeout=60)
    assert time.monotonic() - begin < 4  # the same find would need longer
    outcome = device.outcome("s")
    assert outcome.status["state"] == "done"
    assert outcome.status["files_seen"] == outcome.of("summary")[0]["files"] == 30 * FILES_PER_FOLDER + 12
    assert found(device) == ALL


@pytest.mark.parametrize("seconds", [0.0, 0.3, 0.7])
def test_a_walk_by_find_that_is_killed_finds_the_same_each_once(device: Device, seconds: float) -> None:
    device.publish(device.job("scan", "s"))
    process = start_with_slow_find(device)
    wait_for(lambda: status_of(device)["state"] == "running")
    time.sleep(seconds)
    process.kill()
    process.wait()
    assert status_of(device)["state"] == "running"
    device.run()
    outcome = device.outcome("s")
    assert outcome.status["state"] == "done"
    assert outcome.status["files_seen"] == 30 * FILES_PER_FOLDER + 12
    assert found(device) == ALL


def test_a_job_that_is_paused_before_its_start_says_so(device: Device) -> None:
    device.publish(device.job("scan", "s"))
    write_control(device.spool, "s", "pause")
    device.run("--once", timeout=10)
    assert status_of(device)["state"] == "paused"
    write_control(device.spool, "s", "resume")
    device.run()
    assert status_of(device)["state"] == "done"
    assert found(device) == ALL


def test_a_job_that_waits_for_the_walk_of_another_hears_pause_and_cancel(device: Device) -> None:
    device.publish(device.job("scan", "s", settings=SLOW))
    process = start(device)
    wait_for(lambda: status_of(device)["files_seen"] > 0)
    for job_id, word in (("t", "pause"), ("u", "cancel")):
        device.publish(device.job("scan", job_id))
        write_control(device.spool, job_id, word)
    wait_for(lambda: status_of(device, "t")["state"] == "paused", 5)
    wait_for(lambda: status_of(device, "u")["state"] == "cancelled", 5)
    assert status_of(device)["state"] == "running"
    process.kill()


def test_a_signal_stores_the_place_and_the_next_runner_goes_on(device: Device) -> None:
    device.publish(device.job("scan", "s", settings=SLOW))
    process = start(device)
    wait_for(lambda: status_of(device)["files_seen"] > 0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=5) == 0
    assert status_of(device)["state"] == "running"
    assert (device.spool / "jobs" / "s" / "checkpoint.json").exists()
    device.run()
    assert found(device) == ALL
    assert status_of(device)["files_seen"] == 30 * FILES_PER_FOLDER + 12


def test_cancel_stops_and_says_so(device: Device) -> None:
    device.publish(device.job("scan", "s", settings=SLOW))
    process = start(device)
    wait_for(lambda: status_of(device)["files_seen"] > 0)
    write_control(device.spool, "s", "cancel")
    process.wait(timeout=5)
    assert status_of(device)["state"] == "cancelled"


def test_a_withdrawn_job_stops_at_once_and_leaves_nothing(device: Device) -> None:
    device.publish(device.job("scan", "s", settings=SLOW))
    process = start(device)
    wait_for(lambda: status_of(device)["files_seen"] > 0)
    assert withdraw_job(device.spool, "s")
    assert process.wait(timeout=5) == 0
    assert os.listdir(device.spool / "jobs") == []


def test_a_response_does_not_wait_for_a_scan(device: Device) -> None:
    content = random.Random(7).randbytes(SIZE)
    path = next(device.tree.rglob("planted0"))
    device.publish(device.job("scan", "s", settings=SLOW))
    process = start(device)
    wait_for(lambda: status_of(device)["files_seen"] > 0)
    device.publish(device.job("respond", "r", [item_for(path, content)]))
    wait_for(lambda: status_of(device, "r")["state"] == "done", 5)
    assert status_of(device)["state"] == "running"
    assert not path.exists()
    process.kill()


def test_a_second_runner_leaves_the_spool_to_the_first(device: Device) -> None:
    device.publish(device.job("scan", "s", settings=SLOW))
    process = start(device)
    wait_for(lambda: status_of(device)["files_seen"] > 0)
    device.run(timeout=5)  # comes back at once, exit status 0
    assert status_of(device)["pid"] == process.pid
    assert status_of(device)["state"] == "running"


@pytest.mark.parametrize("again", [False, True])
def test_a_tree_that_vanishes_while_it_is_scanned_is_an_error(device: Device, again: bool) -> None:
    device.publish(device.job("scan", "s", settings=SLOW))
    process = start(device)
    wait_for(lambda: status_of(device)["files_seen"] > 0)
    device.tree.rename(device.base / "gone")
    if again:
        device.tree.mkdir()  # a mount point without its disk looks like this
    assert process.wait(timeout=10) == 0
    status = status_of(device)
    assert status["state"] == "failed"
    assert status["error"]["code"] == "root_vanished"


def test_the_processor_budget_is_kept(device: Device) -> None:
    """Never more than asked; how much less depends on what else the machine does."""
    device.publish(device.job("scan", "s", settings={"scope": "all", "cpu_percent": 30}))
    before, begin = os.times(), time.monotonic()
    device.run()
    passed = time.monotonic() - begin
    after = os.times()
    used = after.children_user - before.children_user + after.children_system - before.children_system
    # the start of Python (imports) is not the scan's work
    assert used / passed < 0.6
    assert found(device) == ALL


def tell(device: Device, word: str) -> None:
    (device.spool / "idle").write_text(word + "\n")


def test_it_waits_until_the_device_is_idle_and_stops_when_it_is_used_again(device: Device) -> None:
    tell(device, "used")
    device.publish(device.job("scan", "s", settings={**SLOW, "idle_only": True}))
    process = start(device)
    wait_for(lambda: status_of(device)["state"] == "waiting_idle")
    assert status_of(device)["files_seen"] == 0
    tell(device, "idle")
    wait_for(lambda: status_of(device)["state"] == "running" and status_of(device)["files_seen"] > 0)
    tell(device, "used")
    begin = time.monotonic()
    wait_for(lambda: status_of(device)["state"] == "waiting_idle")
    assert time.monotonic() - begin < 2.0
    seen = status_of(device)["files_seen"]
    time.sleep(1.2)
    assert status_of(device)["files_seen"] == seen
    tell(device, "idle")
    process.wait(timeout=60)
    assert status_of(device)["state"] == "done"
    assert "never_idle" not in status_of(device)
    assert found(device) == ALL


def test_once_leaves_a_waiting_job_for_the_next_tick(device: Device) -> None:
    tell(device, "used")
    device.publish(device.job("scan", "s", settings={"scope": "all", "idle_only": True}))
    device.run("--once", timeout=5)
    assert status_of(device)["state"] == "waiting_idle"
    tell(device, "idle")
    device.run("--once")
    assert status_of(device)["state"] == "done"


def test_after_the_longest_wait_it_runs_throttled_and_says_so(device: Device) -> None:
    tell(device, "used")
    settings = {"scope": "all", "idle_only": True, "idle_max_wait_hours": 0}
    device.publish(device.job("scan", "s", settings=settings))
    device.run()
    assert status_of(device)["state"] == "done"
    assert status_of(device)["never_idle"] is True
    assert found(device) == ALL
