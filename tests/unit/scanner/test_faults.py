"""A response that is killed or tampered with at any moment never loses a file and never touches another
one.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ioc_scan.scanner.quarantine import Quarantine

from tests.unit.scanner.faults import kill, run_with_fault
from tests.unit.scanner.support import Device, environment, item_for, objects_plan, sha256

EVIL = b"harmless stand-in\n" * 20


def in_place(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except FileNotFoundError:
        return False


def in_quarantine(device: Device, content: bytes, count: int = 1) -> bool:
    """Whether the content can be had back: a live entry, and bytes that decode to it."""
    quarantine = Quarantine(str(device.spool / "quarantine"))
    entries = [entry for entry in quarantine.entries() if entry["sha256"] == sha256(content)]
    live = [entry for entry in entries if entry["state"] in ("copied", "quarantined")]
    return len(live) >= count and b"".join(quarantine.read(sha256(content))) == content


class Stage:
    """A device with one object, set up anew for every run."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.plan = objects_plan(EVIL)
        self.number = 0

    def fresh(self) -> Device:
        self.number += 1
        folder = self.base / f"{self.number}"
        folder.mkdir(mode=0o700)
        device = Device(folder, self.plan)
        self.folder = device.tree / "parent"
        self.folder.mkdir()
        self.path = self.folder / "object"
        self.path.write_bytes(EVIL)
        # The place an attacker would like to be acted in: same name, same content, other folder.
        self.outside = folder / "outside"
        self.outside.mkdir()
        (self.outside / "object").write_bytes(EVIL)
        return device

    def drop(self) -> None:
        shutil.rmtree(self.base / f"{self.number}")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """In memory where that is possible: thousands of fsyncs are the price of the scanner, not of its test."""
    if not os.access("/dev/shm", os.W_OK):
        yield Stage(tmp_path)
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Stage(Path(folder))


def test_killed_at_every_file_operation_of_a_quarantine(stage: Stage) -> None:
    at = 0
    reached = True
    while reached:
        at += 1
        device = stage.fresh()
        device.publish(device.job("respond", "r", [item_for(stage.path, EVIL)]))
        reached, _ = run_with_fault(device.spool, at, kill)
        assert in_place(stage.path, EVIL) or in_quarantine(device, EVIL), f"lost at operation {at}"
        if at % 3 == 0:  # and the next run brings it to its end
            run_with_fault(device.spool, 10**9, kill)
            lines = device.outcome("r").of("response")
            assert [line["outcome"] for line in lines] == ["quarantined"], f"after operation {at}"
            assert not stage.path.exists() and in_quarantine(device, EVIL)
        stage.drop()
    assert at > 40


def test_killed_at_every_file_operation_of_a_restore(stage: Stage) -> None:
    at = 0
    reached = True
    while reached:
        at += 1
        device = stage.fresh()
        device.publish(device.job("respond", "r", [item_for(stage.path, EVIL)]))
        run_with_fault(device.spool, 10**9, kill)
        [line] = device.outcome("r").of("response")
        device.publish(device.job("restore", "u", [{"quarantine_id": line["quarantine_id"]}]))
        reached, _ = run_with_fault(device.spool, at, kill)
        assert in_place(stage.path, EVIL) or in_quarantine(device, EVIL), f"lost at operation {at}"
        assert in_place(stage.path, EVIL) or not stage.path.exists(), f"half a file at operation {at}"
        if at % 3 == 0:
            run_with_fault(device.spool, 10**9, kill)
            assert [line["outcome"] for line in device.outcome("u").of("restored")] == ["restored"], at
            assert in_place(stage.path, EVIL)
        stage.drop()
    assert at > 40


@pytest.mark.parametrize("kind", ["respond", "restore"])
def test_parent_swapped_for_a_link_at_every_step(stage: Stage, kind: str) -> None:
    at = 0
    reached = True
    while reached:
        at += 1
        device = stage.fresh()
        if kind == "restore":
            device.publish(device.job("respond", "r0", [item_for(stage.path, EVIL)]))
            run_with_fault(device.spool, 10**9, kill)
            [line] = device.outcome("r0").of("response")
            (stage.outside / "object").unlink()
            items = [{"quarantine_id": line["quarantine_id"]}]
        else:
            items = [item_for(stage.path, EVIL)]
        device.publish(device.job(kind, "job", items))
        before = {path.name: path.stat().st_ino for path in stage.outside.iterdir()}

        def swap() -> None:
            stage.folder.rename(stage.folder.with_name("moved"))
            stage.folder.symlink_to(stage.outside)

        reached, _ = run_with_fault(device.spool, at, swap)
        assert {path.name: path.stat().st_ino for path in stage.outside.iterdir()} == before, at
        moved = stage.folder.with_name("moved") / "object"
        assert in_place(stage.path, EVIL) or in_place(moved, EVIL) or in_quarantine(device, EVIL), (
            f"lost at operation {at}"
        )
        stage.drop()
    assert at > 40


def test_every_operation_that_fails_leaves_the_file_or_its_copy(stage: Stage) -> None:
    """Not killed, but told "no space left" or "input/output error", once, at any operation."""
    at = 0
    reached = True
    while reached:
        at += 1
        device = stage.fresh()
        device.publish(device.job("respond", "r", [item_for(stage.path, EVIL)]))

        def fail(number: int = 28 if at % 2 else 5) -> None:
            raise OSError(number, "injected")

        reached, _ = run_with_fault(device.spool, at, fail)
        assert in_place(stage.path, EVIL) or in_quarantine(device, EVIL), f"lost at operation {at}"
        status = device.spool / "jobs" / "r" / "status.json"
        if status.exists() and json.loads(status.read_text())["state"] == "done":
            [line] = device.outcome("r").of("response")
            gone = not stage.path.exists()
            assert (line["outcome"] == "quarantined") == gone, (at, line)
        stage.drop()


def test_killed_at_twenty_random_moments_of_a_quarantine(tmp_path: Path) -> None:
    chance = random.Random(20)
    contents = [chance.randbytes(400_000 + number) for number in range(4)]
    plan = objects_plan(*contents)
    killed_inside = 0
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir(mode=0o700)
        device = Device(folder, plan)
        paths = [device.tree / f"object {index}" for index in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        items = [
            item_for(path, content, path.name.replace(" ", "-"))
            for path, content in zip(paths, contents, strict=True)
        ]
        device.publish(device.job("respond", "r", items))
        process = subprocess.Popen(device.command(), env=environment())
        status = device.spool / "jobs" / "r" / "status.json"
        while not status.exists() and process.poll() is None:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.08))
        process.kill()
        process.wait()
        killed_inside += json.loads(status.read_text())["state"] != "done"
        for path, content in zip(paths, contents, strict=True):
            assert in_place(path, content) or in_quarantine(device, content), (
                f"lost {path.name} in run {number}"
            )
        device.run()
        lines = device.outcome("r").of("response")
        assert sorted(line["match_id"] for line in lines) == sorted(item["match_id"] for item in items)
        assert {line["outcome"] for line in lines} == {"quarantined"}
        for content in contents:
            assert in_quarantine(device, content)
    assert killed_inside >= 5
