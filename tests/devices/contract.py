"""What every device manager must do, whatever engine it drives: subclass, and give it a ``fleet``.

Real scanners run on real files. Where a device has to lie, its job folder is written by hand.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.clock import system_clock
from ioc_scan.devices.base import DeviceEvent, DeviceManager, EventKind, Job, JobKind, Online
from ioc_scan.errors import InputError, IocScanError, NotFoundError, RefusedError

from .plans import make_plan

SAMPLE = b"a harmless sample" + bytes(range(256)) * 40
OTHER = b"A harmless sample" + bytes(range(256)) * 40  # same size, other content
DEVICES = ("ws01", "ws02", "ws03")
PATIENCE_SECONDS = 60


class MovableClock:
    """The manager's clock: real, until a test moves it."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return system_clock() + self.ahead


class Fleet(ABC):
    """Three devices behind one manager, and a hand on each of them."""

    manager: DeviceManager
    clock: MovableClock

    @abstractmethod
    def root(self, device: str) -> Path:
        """Where the device's files are, on this machine."""

    @abstractmethod
    def spool(self, device: str) -> Path:
        """Where the device's jobs are, on this machine."""

    @abstractmethod
    def rebuild(self) -> DeviceManager:
        """A manager from the same config, as the next process would build it."""

    @abstractmethod
    def take_offline(self, device: str) -> None: ...

    @abstractmethod
    def bring_back(self, device: str) -> None: ...

    def close(self) -> None:
        """End what still runs."""
        for device in DEVICES:
            for pid in self.runner_pids(device):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def plant(self, device: str, name: str, content: bytes) -> Path:
        path = self.root(device) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def job_folder(self, device: str, job_id: str) -> Path:
        return self.spool(device) / "jobs" / job_id

    def status(self, device: str, job_id: str) -> dict[str, Any]:
        try:
            return json.loads((self.job_folder(device, job_id) / "status.json").read_bytes())
        except FileNotFoundError:
            return {}

    def runner_pids(self, device: str) -> list[int]:
        """Runners of this device's spool, found by their command line."""
        needle = os.fsencode(self.spool(device))
        pids = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and needle in (entry / "cmdline").read_bytes().split(b"\0"):
                    pids.append(int(entry.name))
            except OSError:
                continue
        return pids


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_SECONDS} s for {what}"
        time.sleep(0.05)


def read_all(manager: DeviceManager, job_id: str, cursor: Any = None) -> tuple[list[DeviceEvent], Any]:
    """Poll until nothing is new. The cursor travels as JSON, as it does in the store."""
    everything: list[DeviceEvent] = []
    while True:
        events, cursor = manager.poll(job_id, None if cursor is None else json.loads(json.dumps(cursor)))
        everything += events
        if not events:
            return everything, cursor


def of(events: Sequence[DeviceEvent], kind: EventKind, device: str | None = None) -> list[DeviceEvent]:
    return [e for e in events if e.kind is kind and device in (None, e.device_id)]


def states(events: Sequence[DeviceEvent], device: str) -> list[str]:
    return [event.data["state"] for event in of(events, EventKind.STATE, device)]


class ManagerContract:
    """Subclasses define the fixture ``fleet``."""

    @pytest.fixture
    def fleet(self) -> Fleet:
        raise NotImplementedError

    # -- helpers

    def scan_job(self, fleet: Fleet, job_id: str = "task1.1", **changes: Any) -> Job:
        plan = changes.pop("plan", None) or make_plan(SAMPLE, hunt_names=("dropper.exe",))
        now = fleet.clock()
        job = Job(
            id=job_id,
            kind=JobKind.SCAN,
            task_id="task1",
            run=1,
            device_ids=DEVICES,
            not_before=now - timedelta(seconds=5),
            not_after=now + timedelta(days=7),
            plan=plan,
            plan_digest=hashlib.sha256(plan).hexdigest(),
            settings={"scope": "all"},
        )
        return replace(job, **changes)

    def respond_job(self, fleet: Fleet, device: str, match: Mapping[str, Any], **changes: Any) -> Job:
        now = fleet.clock()
        item = {
            "match_id": "match-1",
            **{key: match[key] for key in ("path_b64", "sha256", "size", "device", "inode")},
        }
        return replace(
            self.scan_job(fleet, "task1.respond"),
            kind=JobKind.RESPOND,
            device_ids=[device],
            not_after=now + timedelta(minutes=10),
            settings={"terminate_processes": False, "max_items": 10, "quarantine_days": 30},
            items={device: [item]},
            **changes,
        )

    def slow_job(self, fleet: Fleet, device: str) -> Job:
        """A scan that hashes big files at a tenth of a core: long enough to be interrupted."""
        for number in range(3):
            with fleet.plant(device, f"big{number}.bin", b"").open("r+b") as stream:
                stream.truncate(150 * 2**20)
        fleet.plant(device, "a/early.bin", SAMPLE)
        fleet.plant(device, "z/late.bin", SAMPLE)
        return self.scan_job(
            fleet,
            device_ids=[device],
            plan=make_plan(SAMPLE, with_size=False),
            settings={"scope": "all", "cpu_percent": 10},
        )

    def run(self, fleet: Fleet, job: Job, devices: Sequence[str] | None = None) -> list[DeviceEvent]:
        fleet.manager.publish(job)
        fleet.manager.deliver(job.id)
        self.finish(fleet, job, devices)
        return read_all(fleet.manager, job.id)[0]

    def finish(self, fleet: Fleet, job: Job, devices: Sequence[str] | None = None) -> None:
        for device in devices or job.device_ids:
            wait_for(
                lambda d=device: (
                    fleet.status(d, job.id).get("state") in ("done", "failed", "refused", "cancelled")
                ),
                f"{device} to finish {job.id}: {fleet.status(device, job.id)}",
            )

    def place_unstarted(self, fleet: Fleet, **changes: Any) -> Job:
        """A job that is on its devices and that no runner touches: its results are ours to forge."""
        job = self.scan_job(fleet, not_before=fleet.clock() + timedelta(days=1), **changes)
        fleet.manager.publish(job)
        fleet.manager.deliver(job.id)
        return job

    def forge(self, fleet: Fleet, device: str, job: Job, lines: Sequence[Any], **status: Any) -> None:
        """Write what a hostile device would; lines are raw bytes or objects."""
        raw = b"".join(
            line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines
        )
        folder = fleet.job_folder(device, job.id)
        (folder / "results.jsonl").write_bytes(raw)
        said = {"protocol": 1, "job_id": job.id, "device_id": device, "run": 1, "state": "running"}
        (folder / "status.json").write_text(json.dumps({**said, "results_bytes": len(raw), **status}))

    def match_line(self, fleet: Fleet, device: str, job: Job, seq: int = 1, **changes: Any) -> dict[str, Any]:
        """A match as an honest scanner would write it."""
        plan = json.loads(job.plan or b"")
        assert plan
        path = fleet.root(device) / f"found{seq}.exe"
        sha256 = hashlib.sha256(SAMPLE).hexdigest()
        line = {
            "type": "match",
            "seq": seq,
            "ioc": self.ioc_digest(job, "actionable"),
            "tier": "actionable",
            "document": "FileItem",
            "item": {"FullPath": str(path), "SizeInBytes": len(SAMPLE), "Sha256sum": sha256},
            "item_key": hashlib.sha256(str(seq).encode()).hexdigest(),
            "path": str(path),
            "path_b64": base64.b64encode(os.fsencode(path)).decode(),
            "sha256": sha256,
            "size": len(SAMPLE),
            "device": 1,
            "inode": 1000 + seq,
            "proof": [],
        }
        return {**line, **changes}

    @staticmethod
    def ioc_digest(job: Job, tier: str) -> str:
        from ioc_scan.scanner.plan import load_plan

        return next(ioc.digest for ioc in load_plan(job.plan or b"").iocs if ioc.tier == tier)

    # -- who is there

    def test_groups_and_devices(self, fleet: Fleet) -> None:
        group = fleet.manager.groups()[0].name
        devices = fleet.manager.devices(group)
        assert [device.id for device in devices] == list(DEVICES)
        assert all(device.group == group for device in devices)
        with pytest.raises(NotFoundError) as caught:
            fleet.manager.devices("no such group")
        assert caught.value.code == "group_unknown"

    def test_an_absent_device_is_not_called_online(self, fleet: Fleet) -> None:
        fleet.take_offline("ws02")
        online = {d.id: d.online for d in fleet.manager.devices(fleet.manager.groups()[0].name)}
        assert online["ws02"] is not Online.YES
        assert online["ws01"] is not Online.NO

    def test_health_is_good_where_all_is_well(self, fleet: Fleet) -> None:
        health = fleet.manager.health()
        assert health.ok, health.problems

    # -- publish and deliver

    def test_a_scan_finds_what_is_there_and_says_where(self, fleet: Fleet) -> None:
        planted = fleet.plant("ws01", "home/anna/invoice.exe", SAMPLE)
        fleet.plant("ws02", "deep/er/and/deeper/dropper.exe", b"known by name only")
        fleet.plant("ws03", "decoy.exe", OTHER)
        events = self.run(fleet, self.scan_job(fleet))
        (match,) = of(events, EventKind.MATCH, "ws01")
        assert base64.b64decode(match.data["path_b64"]) == os.fsencode(planted.resolve())
        assert match.data["tier"] == "actionable"
        assert match.data["sha256"] == hashlib.sha256(SAMPLE).hexdigest()
        assert match.data["size"] == len(SAMPLE)
        assert match.data["proof"]
        (hunted,) = of(events, EventKind.MATCH, "ws02")
        assert hunted.data["tier"] == "hunt"
        assert of(events, EventKind.MATCH, "ws03") == []
        assert {e.device_id for e in events} == set(DEVICES)
        assert {states(events, device)[-1] for device in DEVICES} == {"done"}
        assert all(of(events, EventKind.SUMMARY, device) for device in DEVICES)

    def test_publishing_twice_is_publishing_once(self, fleet: Fleet) -> None:
        fleet.plant("ws01", "x.exe", SAMPLE)
        job = self.scan_job(fleet)
        fleet.manager.publish(job)
        fleet.rebuild().publish(job)
        fleet.manager.deliver(job.id)
        fleet.rebuild().deliver(job.id)
        self.finish(fleet, job)
        fleet.manager.publish(job)
        fleet.manager.deliver(job.id)
        events, _ = read_all(fleet.manager, job.id)
        assert len(of(events, EventKind.MATCH)) == 1

    def test_a_job_id_is_not_reused_for_something_else(self, fleet: Fleet) -> None:
        job = self.scan_job(fleet)
        fleet.manager.publish(job)
        with pytest.raises(RefusedError) as caught:
            fleet.manager.publish(replace(job, run=2))
        assert caught.value.code == "job_id_reused"

    def test_more_devices_can_join_a_published_job(self, fleet: Fleet) -> None:
        fleet.plant("ws02", "x.exe", SAMPLE)
        job = self.scan_job(fleet, device_ids=["ws01"])
        self.run(fleet, job)
        events = self.run(fleet, replace(job, device_ids=["ws01", "ws02"]))
        assert [e.device_id for e in of(events, EventKind.MATCH)] == ["ws02"]

    @pytest.mark.parametrize("bad", ["", ".", "..", "../escape", "a/b", "a b", "a\nb", "ä", "x" * 81, "a\0"])
    def test_job_ids_that_are_no_folder_names_are_refused(self, fleet: Fleet, bad: str) -> None:
        with pytest.raises(InputError) as caught:
            fleet.manager.publish(self.scan_job(fleet, bad))
        assert caught.value.code == "job_invalid"
        for call in (fleet.manager.deliver, fleet.manager.withdraw):
            with pytest.raises(IocScanError):
                call(bad)

    def test_a_job_must_carry_the_plan_it_names(self, fleet: Fleet) -> None:
        for wrong in ({"plan_digest": "0" * 64}, {"plan": None}):
            job = replace(self.scan_job(fleet), **wrong)
            with pytest.raises(InputError):
                fleet.manager.publish(job)

    def test_devices_must_be_known(self, fleet: Fleet) -> None:
        with pytest.raises(NotFoundError) as caught:
            fleet.manager.publish(self.scan_job(fleet, device_ids=["ws01", "stranger"]))
        assert caught.value.code == "device_unknown"

    def test_an_unknown_job_is_not_delivered(self, fleet: Fleet) -> None:
        with pytest.raises(NotFoundError) as caught:
            fleet.manager.deliver("never.published")
        assert caught.value.code == "job_unknown"
        assert fleet.manager.poll("never.published", None)[0] == []

    def test_only_the_devices_named_are_asked(self, fleet: Fleet) -> None:
        job = self.scan_job(fleet)
        fleet.manager.publish(job)
        fleet.manager.deliver(job.id, ["ws02"])
        self.finish(fleet, job, ["ws02"])
        assert not fleet.job_folder("ws01", job.id).exists()
        assert not fleet.job_folder("ws03", job.id).exists()

    def test_nothing_runs_before_its_time(self, fleet: Fleet) -> None:
        job = self.place_unstarted(fleet)
        time.sleep(0.5)
        events, _ = read_all(fleet.manager, job.id)
        assert {tuple(states(events, d)) for d in DEVICES} <= {("delivered",), ("delivered", "pending")}

    # -- offline and late

    def test_a_device_that_was_off_gets_it_later(self, fleet: Fleet) -> None:
        fleet.plant("ws02", "x.exe", SAMPLE)
        fleet.take_offline("ws02")
        job = self.scan_job(fleet)
        fleet.manager.publish(job)
        fleet.manager.deliver(job.id)
        self.finish(fleet, job, ["ws01", "ws03"])
        events, cursor = read_all(fleet.manager, job.id)
        assert states(events, "ws02") == []
        assert states(events, "ws01")[-1] == "done"
        fleet.bring_back("ws02")
        fleet.rebuild().deliver(job.id)
        self.finish(fleet, job, ["ws02"])
        events, _ = read_all(fleet.manager, job.id, cursor)
        assert {e.device_id for e in events} == {"ws02"}
        assert len(of(events, EventKind.MATCH, "ws02")) == 1

    def test_a_late_device_gets_nothing_after_the_end(self, fleet: Fleet) -> None:
        fleet.take_offline("ws02")
        job = self.scan_job(fleet, device_ids=["ws02"])
        fleet.manager.publish(job)
        fleet.manager.deliver(job.id)
        fleet.bring_back("ws02")
        fleet.clock.ahead = timedelta(days=7, seconds=10)
        fleet.manager.deliver(job.id)
        assert not fleet.job_folder("ws02", job.id).exists()
        events, cursor = read_all(fleet.manager, job.id)
        assert states(events, "ws02") == ["expired"]
        assert read_all(fleet.manager, job.id, cursor)[0] == []

    def test_an_ended_job_cannot_be_published(self, fleet: Fleet) -> None:
        job = self.scan_job(fleet)
        fleet.clock.ahead = timedelta(days=8)
        with pytest.raises(RefusedError) as caught:
            fleet.manager.publish(job)
        assert caught.value.code == "job_expired"

    # -- polling

    def test_a_poll_can_be_repeated_and_goes_on_where_it_was(self, fleet: Fleet) -> None:
        for number in range(5):
            fleet.plant("ws01", f"copy{number}.exe", SAMPLE)
        job = self.scan_job(fleet)
        first = self.run(fleet, job)
        again, cursor = read_all(fleet.rebuild(), job.id)
        assert [(e.device_id, e.kind, e.seq) for e in again] == [(e.device_id, e.kind, e.seq) for e in first]
        assert read_all(fleet.manager, job.id, cursor)[0] == []
        sequence = [e.seq for e in first if e.device_id == "ws01" and e.seq]
        assert sequence == sorted(set(sequence))

    def test_a_half_written_line_is_left_for_the_next_poll(self, fleet: Fleet) -> None:
        job = self.place_unstarted(fleet, device_ids=["ws01"])
        whole = json.dumps(self.match_line(fleet, "ws01", job, 1)).encode() + b"\n"
        second = json.dumps(self.match_line(fleet, "ws01", job, 2)).encode() + b"\n"
        self.forge(fleet, "ws01", job, [whole, second[:50]])
        events, cursor = read_all(fleet.manager, job.id)
        assert [e.seq for e in of(events, EventKind.MATCH)] == [1]
        self.forge(fleet, "ws01", job, [whole, second])
        events, _ = read_all(fleet.manager, job.id, cursor)
        assert [e.seq for e in of(events, EventKind.MATCH)] == [2]
        assert of(events, EventKind.REJECTED) == []

    def test_a_damaged_cursor_starts_over(self, fleet: Fleet) -> None:
        fleet.plant("ws01", "x.exe", SAMPLE)
        job = self.scan_job(fleet)
        self.run(fleet, job)
        for damaged in ({}, {"devices": 7}, {"devices": {"ws01": {"offset": -5, "seq": "x", "held": None}}}):
            events, _ = read_all(fleet.manager, job.id, damaged)
            assert len(of(events, EventKind.MATCH, "ws01")) == 1

    # -- control

    def test_pause_resume_cancel(self, fleet: Fleet) -> None:
        job = self.slow_job(fleet, "ws01")
        fleet.manager.publish(job)
        fleet.manager.deliver(job.id)
        wait_for(lambda: fleet.status("ws01", job.id).get("state") == "running", "the scan to run")
        fleet.manager.control(job.id, "pause")
        wait_for(lambda: fleet.status("ws01", job.id).get("state") == "paused", "the scan to pause")
        fleet.manager.control(job.id, "resume", ["ws01"])
        wait_for(lambda: fleet.status("ws01", job.id).get("state") == "running", "the scan to go on")
        fleet.manager.control(job.id, "cancel")
        wait_for(lambda: fleet.status("ws01", job.id).get("state") == "cancelled", "the scan to end")
        events, _ = read_all(fleet.manager, job.id)
        assert states(events, "ws01")[-1] == "cancelled"

    def test_cancel_holds_for_devices_that_come_later(self, fleet: Fleet) -> None:
        fleet.take_offline("ws02")
        job = self.scan_job(fleet, device_ids=["ws02"])
        fleet.manager.publish(job)
        fleet.manager.deliver(job.id)
        fleet.manager.control(job.id, "cancel")
        fleet.bring_back("ws02")
        fleet.manager.deliver(job.id)
        assert not fleet.job_folder("ws02", job.id).exists()
        events, _ = read_all(fleet.manager, job.id)
        assert states(events, "ws02") == ["cancelled"]

    def test_unknown_control_words_are_refused(self, fleet: Fleet) -> None:
        job = self.place_unstarted(fleet)
        with pytest.raises(ValueError, match="explode"):
            fleet.manager.control(job.id, "explode")

    # -- death

    def test_a_device_that_dies_mid_scan_goes_on_where_it_was(self, fleet: Fleet) -> None:
        job = self.slow_job(fleet, "ws01")
        fleet.manager.publish(job)
        fleet.manager.deliver(job.id)
        wait_for(lambda: fleet.status("ws01", job.id).get("state") == "running", "the scan to run")
        time.sleep(0.5)
        for pid in fleet.runner_pids("ws01"):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not fleet.runner_pids("ws01"), "the runner to be gone")
        _, cursor = read_all(fleet.manager, job.id)
        fleet.rebuild().deliver(job.id)
        self.finish(fleet, job)
        events, _ = read_all(fleet.manager, job.id)
        assert states(events, "ws01")[-1] == "done"
        names = sorted(Path(e.data["path"]).name for e in of(events, EventKind.MATCH))
        assert names == ["early.bin", "late.bin"]
        assert read_all(fleet.manager, job.id, cursor)[0][-1].data["state"] == "done"

    # -- respond and restore

    def found(self, fleet: Fleet, device: str) -> Mapping[str, Any]:
        events = self.run(fleet, self.scan_job(fleet))
        (match,) = of(events, EventKind.MATCH, device)
        return match.data

    def test_a_dry_run_says_what_it_would_do_and_does_nothing(self, fleet: Fleet) -> None:
        planted = fleet.plant("ws01", "x.exe", SAMPLE)
        match = self.found(fleet, "ws01")
        events = self.run(fleet, self.respond_job(fleet, "ws01", match, dry_run=True))
        (response,) = of(events, EventKind.RESPONSE)
        assert (response.data["match_id"], response.data["outcome"]) == ("match-1", "would_quarantine")
        assert planted.read_bytes() == SAMPLE

    def test_quarantine_and_back(self, fleet: Fleet) -> None:
        planted = fleet.plant("ws01", "x.exe", SAMPLE)
        decoy = fleet.plant("ws01", "y.exe", OTHER)
        match = self.found(fleet, "ws01")
        job = self.respond_job(fleet, "ws01", match)
        events = self.run(fleet, job)
        (response,) = of(events, EventKind.RESPONSE, "ws01")
        assert response.data["outcome"] == "quarantined", response.data
        assert response.data["sha256"] == hashlib.sha256(SAMPLE).hexdigest()
        assert not planted.exists()
        assert decoy.read_bytes() == OTHER
        restore = replace(
            job,
            id="task1.restore",
            kind=JobKind.RESTORE,
            plan=None,
            plan_digest=None,
            settings={},
            items={"ws01": [{"quarantine_id": response.data["quarantine_id"], "target_path_b64": None}]},
        )
        events = self.run(fleet, restore)
        (restored,) = of(events, EventKind.RESTORED, "ws01")
        assert restored.data["outcome"] == "restored", restored.data
        assert planted.read_bytes() == SAMPLE

    def test_a_file_that_changed_is_left_alone(self, fleet: Fleet) -> None:
        planted = fleet.plant("ws01", "x.exe", SAMPLE)
        match = self.found(fleet, "ws01")
        planted.write_bytes(OTHER)
        events = self.run(fleet, self.respond_job(fleet, "ws01", match))
        (response,) = of(events, EventKind.RESPONSE)
        assert response.data["outcome"] in ("changed", "refused")
        assert planted.read_bytes() == OTHER

    def test_a_response_withdrawn_before_it_starts_never_acts(self, fleet: Fleet) -> None:
        planted = fleet.plant("ws01", "x.exe", SAMPLE)
        match = self.found(fleet, "ws01")
        job = self.respond_job(fleet, "ws01", match)
        fleet.manager.publish(replace(job, not_before=fleet.clock() + timedelta(seconds=300)))
        fleet.manager.deliver(job.id)
        assert fleet.manager.withdraw(job.id).complete
        other = self.scan_job(fleet, "task2.1", device_ids=["ws01"])
        self.run(fleet, other)  # a runner was there afterwards
        assert planted.read_bytes() == SAMPLE

    # -- withdrawal

    def test_withdrawal_takes_the_job_from_every_device(self, fleet: Fleet) -> None:
        job = self.slow_job(fleet, "ws01")
        fleet.manager.publish(job)
        fleet.manager.deliver(job.id)
        wait_for(lambda: fleet.status("ws01", job.id).get("state") == "running", "the scan to run")
        withdrawal = fleet.manager.withdraw(job.id)
        assert withdrawal.confirmed == ("ws01",)
        assert withdrawal.complete
        assert not fleet.job_folder("ws01", job.id).exists()
        wait_for(lambda: not fleet.runner_pids("ws01"), "the runner to stop")
        assert not fleet.job_folder("ws01", job.id).exists()
        assert fleet.manager.withdraw(job.id) == withdrawal

    def test_unreachable_devices_stay_pending_until_they_return(self, fleet: Fleet) -> None:
        job = self.place_unstarted(fleet)
        fleet.take_offline("ws02")
        withdrawal = fleet.manager.withdraw(job.id)
        assert (withdrawal.confirmed, withdrawal.pending) == (("ws01", "ws03"), ("ws02",))
        assert str(withdrawal) == "withdrawn on 2 of 3"
        assert fleet.rebuild().withdraw(job.id).pending == ("ws02",)
        fleet.bring_back("ws02")
        assert fleet.rebuild().withdraw(job.id).complete
        assert not fleet.job_folder("ws02", job.id).exists()

    def test_a_device_that_never_had_it_has_nothing_to_confirm(self, fleet: Fleet) -> None:
        fleet.take_offline("ws02")
        job = self.scan_job(fleet, device_ids=["ws02"])
        fleet.manager.publish(job)
        fleet.manager.deliver(job.id)
        assert fleet.manager.withdraw(job.id).complete

    def test_what_is_owed_goes_before_anything_new_runs(self, fleet: Fleet) -> None:
        job = self.place_unstarted(fleet, device_ids=["ws02"])
        fleet.take_offline("ws02")
        assert fleet.manager.withdraw(job.id).pending == ("ws02",)
        fleet.bring_back("ws02")
        other = self.scan_job(fleet, "task2.1", device_ids=["ws02"])
        self.run(fleet, other)
        assert not fleet.job_folder("ws02", job.id).exists()
        assert fleet.manager.withdraw(job.id).complete

    def test_a_withdrawn_job_is_gone_for_good(self, fleet: Fleet) -> None:
        fleet.plant("ws01", "x.exe", SAMPLE)
        job = self.scan_job(fleet)
        self.run(fleet, job)
        _, cursor = fleet.manager.poll(job.id, None)
        fleet.take_offline("ws01")
        fleet.manager.withdraw(job.id)
        assert read_all(fleet.manager, job.id)[0] == []
        assert read_all(fleet.manager, job.id, cursor)[0] == []
        with pytest.raises(RefusedError) as caught:
            fleet.manager.publish(job)
        assert caught.value.code == "job_withdrawn"
        with pytest.raises(NotFoundError):
            fleet.manager.deliver(job.id)

    # -- lies

    def test_honest_results_pass(self, fleet: Fleet) -> None:
        job = self.place_unstarted(fleet)
        self.forge(fleet, "ws01", job, [self.match_line(fleet, "ws01", job)])
        events, _ = read_all(fleet.manager, job.id)
        assert len(of(events, EventKind.MATCH)) == 1
        assert of(events, EventKind.REJECTED) == []

    @pytest.mark.parametrize("where", ["line", "status"])
    def test_a_device_that_names_another_is_held_alone(self, fleet: Fleet, where: str) -> None:
        job = self.place_unstarted(fleet)
        for device in ("ws01", "ws02"):
            self.forge(fleet, device, job, [self.match_line(fleet, device, job)])
        if where == "line":
            lie = self.match_line(fleet, "ws01", job, device_id="ws02")
            self.forge(fleet, "ws01", job, [lie, self.match_line(fleet, "ws01", job, 2)])
        else:
            self.forge(fleet, "ws01", job, [], device_id="ws02")
        events, cursor = read_all(fleet.manager, job.id)
        assert [e.device_id for e in of(events, EventKind.MATCH)] == ["ws02"]
        assert [e.data["code"] for e in of(events, EventKind.HELD, "ws01")] == ["wrong_device"]
        assert of(events, EventKind.HELD, "ws02") == []
        self.forge(fleet, "ws01", job, [self.match_line(fleet, "ws01", job, 3)])
        assert read_all(fleet.manager, job.id, cursor)[0] == []

    def test_matches_that_the_plan_does_not_know_are_dropped(self, fleet: Fleet) -> None:
        job = self.place_unstarted(fleet, device_ids=["ws01"])
        foreign = hashlib.sha256(OTHER).hexdigest()
        good = self.match_line(fleet, "ws01", job, 9)
        item = good["item"]
        lies = [
            self.match_line(fleet, "ws01", job, 1, sha256=foreign),
            self.match_line(fleet, "ws01", job, 2, sha256=foreign, item={**item, "Sha256sum": foreign}),
            self.match_line(fleet, "ws01", job, 3, sha256=None),
            self.match_line(fleet, "ws01", job, 4, ioc="0" * 64),
            self.match_line(fleet, "ws01", job, 5, size=1),
            self.match_line(fleet, "ws01", job, 6, path_b64=base64.b64encode(b"relative").decode()),
            self.match_line(fleet, "ws01", job, 7, tier="hunt"),
            good,
        ]
        self.forge(fleet, "ws01", job, lies)
        events, _ = read_all(fleet.manager, job.id)
        passed = of(events, EventKind.MATCH)
        # the tier is the plan's word, whatever the device says
        assert [(e.seq, e.data["tier"]) for e in passed] == [(7, "actionable"), (9, "actionable")]
        assert sum(e.data["count"] for e in of(events, EventKind.REJECTED)) == 6

    def test_garbage_is_counted_and_survived(self, fleet: Fleet) -> None:
        job = self.place_unstarted(fleet, device_ids=["ws01"])
        good = self.match_line(fleet, "ws01", job, 50)
        garbage = [
            b"\xff\xfe\x00\n",
            b"[" * 100_000 + b"\n",
            b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"\n",
            b"null\n",
            b'"text"\n',
            b'{"seq": 1}\n',
            b'{"type": "match", "seq": NaN}\n',
            b'{"type": "skip", "seq": 1e999, "path": "x", "reason": "y"}\n',
            b'{"type": "skip", "seq": 99999999999999999999999999, "path": "x", "reason": "y"}\n',
            b'{"type": "skip", "seq": true, "path": "x", "reason": "y"}\n',
            b'{"type": "format_disk", "seq": 1}\n',
            b'{"type": "response", "seq": 1, "match_id": "match-1", "outcome": "quarantined"}\n',
            {**good, "seq": 2, "item": {"x" * 100: "y"}},
            {**good, "seq": 3, "item": {f"Field{n}": n for n in range(1000)}},
            {**good, "seq": 4, "item": {"FullPath": {"deep": {"deeper": []}}}},
            {**good, "seq": 5, "proof": "everything"},
            b"x" * 3_000_000 + b"\n",
            good,
        ]
        self.forge(fleet, "ws01", job, garbage)
        events, _ = read_all(fleet.manager, job.id)
        assert [e.seq for e in of(events, EventKind.MATCH)] == [50]
        assert sum(e.data["count"] for e in of(events, EventKind.REJECTED)) == len(garbage) - 1

    @pytest.mark.parametrize(
        "status",
        [
            b"",
            b"[]",
            b"\x00" * 100,
            b"[" * 100_000,
            json.dumps({"protocol": 1, "job_id": "task1.1", "device_id": "ws01", "run": 1, "state": "owned"}),
            json.dumps({"protocol": 1, "job_id": "other", "device_id": "ws01", "run": 1, "state": "done"}),
            json.dumps(
                {
                    "protocol": 1,
                    "job_id": "task1.1",
                    "device_id": "ws01",
                    "run": 1,
                    "state": "running",
                    "files_seen": -1,
                    "not_evaluated": 7,
                }
            ),
            json.dumps(
                {
                    "protocol": 1,
                    "job_id": "task1.1",
                    "device_id": "ws01",
                    "run": 1,
                    "state": "done",
                    "not_evaluated": 7,
                }
            ),
        ],
    )
    def test_a_status_that_is_none_harms_nobody(self, fleet: Fleet, status: str | bytes) -> None:
        job = self.place_unstarted(fleet, device_ids=["ws01"])
        self.forge(fleet, "ws01", job, [self.match_line(fleet, "ws01", job)])
        path = fleet.job_folder("ws01", job.id) / "status.json"
        path.write_bytes(status if isinstance(status, bytes) else status.encode())
        events, cursor = read_all(fleet.manager, job.id)
        assert len(of(events, EventKind.MATCH)) == 1
        assert read_all(fleet.manager, job.id, cursor)[0] == []

    def test_text_arrives_as_data_that_a_database_takes(self, fleet: Fleet) -> None:
        job = self.place_unstarted(fleet, device_ids=["ws01"])
        nasty = "{{ 7*7 }}<% 1+1 %>\u202e\x00\ud800<script>alert(1)</script>\n.exe"
        line = self.match_line(fleet, "ws01", job, path=nasty)
        line["item"]["FileName"] = nasty
        self.forge(fleet, "ws01", job, [line])
        (match,) = of(read_all(fleet.manager, job.id)[0], EventKind.MATCH)
        for text in (match.data["path"], match.data["item"]["FileName"]):
            text.encode("utf-8")
            assert "\0" not in text
            assert "{{ 7*7 }}<% 1+1 %>" in text

    def test_a_flood_is_held_alone(self, fleet: Fleet) -> None:
        job = self.place_unstarted(fleet)
        self.forge(fleet, "ws01", job, [b"garbage\n" * 100_000])
        self.forge(fleet, "ws02", job, [self.match_line(fleet, "ws02", job)])
        events, cursor = read_all(fleet.manager, job.id)
        assert [e.data["code"] for e in of(events, EventKind.HELD)] == ["too_many_rejected"]
        assert len(events) < 50
        assert [e.device_id for e in of(events, EventKind.MATCH)] == ["ws02"]
        assert read_all(fleet.manager, job.id, cursor)[0] == []

    def test_a_replay_is_held_and_loses_nothing(self, fleet: Fleet) -> None:
        job = self.place_unstarted(fleet, device_ids=["ws01"])
        lines = [self.match_line(fleet, "ws01", job, n) for n in (1, 2, 1, 2, 3)]
        self.forge(fleet, "ws01", job, lines)
        events, cursor = read_all(fleet.manager, job.id)
        assert {e.seq for e in of(events, EventKind.MATCH)} == {1, 2}
        assert [e.data["code"] for e in of(events, EventKind.HELD)] == ["replayed"]
        assert len(of(events, EventKind.MATCH)) <= 20
        assert read_all(fleet.manager, job.id, cursor)[0] == []

    def test_results_written_anew_after_a_power_loss_are_read_anew(self, fleet: Fleet) -> None:
        job = self.place_unstarted(fleet, device_ids=["ws01"])
        self.forge(fleet, "ws01", job, [self.match_line(fleet, "ws01", job, n) for n in (1, 2, 3)])
        _, cursor = read_all(fleet.manager, job.id)
        rewritten = [self.match_line(fleet, "ws01", job, 1), self.match_line(fleet, "ws01", job, 2)]
        rewritten[1]["item_key"] = "e" * 64
        self.forge(fleet, "ws01", job, rewritten)
        events, _ = read_all(fleet.manager, job.id, cursor)
        assert "e" * 64 in {e.data["item_key"] for e in of(events, EventKind.MATCH)}
        assert of(events, EventKind.HELD) == []

    def test_a_pipe_or_link_in_the_job_folder_is_not_followed(self, fleet: Fleet) -> None:
        job = self.place_unstarted(fleet, device_ids=["ws01", "ws02"])
        line = json.dumps(self.match_line(fleet, "ws01", job)).encode() + b"\n"
        secret = fleet.plant("ws03", "secret.jsonl", line)
        self.forge(fleet, "ws01", job, [])
        results = fleet.job_folder("ws01", job.id) / "results.jsonl"
        results.unlink()
        results.symlink_to(secret)
        self.forge(fleet, "ws02", job, [self.match_line(fleet, "ws02", job)])
        pipe = fleet.job_folder("ws02", job.id) / "status.json"
        pipe.unlink()
        os.mkfifo(pipe)
        events, _ = fleet.manager.poll(job.id, None)
        assert of(events, EventKind.MATCH, "ws01") == []
