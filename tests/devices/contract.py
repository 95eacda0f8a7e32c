"""What every device manager must do, whatever engine it drives: subclass, and give it a ``fleet``.

Real scanners run on real files. Where a device has to lie, its job folder is written by hand.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.clock import to_iso
from ioc_scan.devices.base import EventKind, JobKind, Online
from ioc_scan.devices.queue import JobQueue
from ioc_scan.errors import InputError, IocScanError, NotFoundError, RefusedError

from .contract_lies import LiesContract
from .harness import DEVICES, OTHER, SAMPLE, Fleet, of, read_all, states, wait_for


class ManagerContract(LiesContract):
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

    def test_a_job_that_came_early_runs_when_its_time_has_come(self, fleet: Fleet) -> None:
        begin = fleet.clock() + timedelta(seconds=2)
        job = self.scan_job(fleet, device_ids=["ws01"], not_before=begin)
        fleet.manager.publish(job)
        fleet.manager.deliver(job.id)
        wait_for(lambda: fleet.clock() > begin, "its time")
        fleet.manager.deliver(job.id)
        self.finish(fleet, job)
        assert fleet.status("ws01", job.id)["started_at"] >= to_iso(begin)

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

    def test_what_a_device_quarantined_is_told_when_its_response_is_taken_back(self, fleet: Fleet) -> None:
        planted = fleet.plant("ws01", "x.exe", SAMPLE)
        match = self.found(fleet, "ws01")
        job = self.respond_job(fleet, "ws01", match)
        fleet.manager.publish(job)
        fleet.manager.deliver(job.id)
        self.finish(fleet, job)
        assert not planted.exists()
        fleet.take_offline("ws01")  # before anybody read its results
        assert fleet.manager.withdraw(job.id).pending == ("ws01",)
        fleet.bring_back("ws01")
        withdrawal = fleet.rebuild().withdraw(job.id)
        assert withdrawal.complete and not fleet.job_folder("ws01", job.id).exists()
        (left,) = withdrawal.left
        digest = hashlib.sha256(SAMPLE).hexdigest()
        assert (left.device_id, left.match_id, left.sha256) == ("ws01", "match-1", digest)
        assert fleet.rebuild().withdraw(job.id) == withdrawal, "told again to who could not note it"
        restore = replace(
            self.scan_job(fleet, "task1.restore"),
            kind=JobKind.RESTORE,
            device_ids=["ws01"],
            plan=None,
            plan_digest=None,
            not_after=fleet.clock() + timedelta(minutes=10),
            settings={},
            items={"ws01": [{"quarantine_id": left.quarantine_id, "target_path_b64": None}]},
        )
        self.run(fleet, restore)
        assert planted.read_bytes() == SAMPLE

    def test_what_is_owed_goes_before_anything_new_runs(self, fleet: Fleet) -> None:
        job = self.place_unstarted(fleet, device_ids=["ws02"])
        fleet.take_offline("ws02")
        assert fleet.manager.withdraw(job.id).pending == ("ws02",)
        fleet.bring_back("ws02")
        other = self.scan_job(fleet, "task2.1", device_ids=["ws02"])
        self.run(fleet, other)
        assert not fleet.job_folder("ws02", job.id).exists()
        assert fleet.manager.withdraw(job.id).complete

    def test_a_job_withdrawn_while_it_is_being_delivered_does_not_arrive(
        self, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = self.scan_job(fleet, device_ids=["ws01"])
        fleet.manager.publish(job)
        other = fleet.rebuild()
        mark_sent = JobQueue.mark_sent

        def withdraw_first(queue: JobQueue, job_id: str, device_id: str) -> bool:
            monkeypatch.undo()
            other.withdraw(job_id)
            return mark_sent(queue, job_id, device_id)

        monkeypatch.setattr(JobQueue, "mark_sent", withdraw_first)
        fleet.manager.deliver(job.id)
        assert not fleet.job_folder("ws01", job.id).exists()
        assert other.withdraw(job.id).complete

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
