"""Kaspersky Security Center as a device manager: the contract where its abilities apply, and what is its own."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.devices import ksc_health
from ioc_scan.devices.base import Capability, EventKind, Job, JobKind, Online
from ioc_scan.errors import DeviceError, NotFoundError, RefusedError
from ioc_scan.ksc_client import KscError

from tests.ksc_server import EVENT_IOC_FOUND, Host
from tests.ksc_server.http import DROP, FORGET_SESSION
from tests.ksc_server.signatures import SIGNATURES
from tests.ksc_server.world import FAILED, WARNING, template

from .contract import ManagerContract
from .harness import DEVICES, OTHER, SAMPLE, ContractBase, Fleet, of, read_all, states
from .ksc_fleet import KscFleet, ksc_fleet, with_iocs

#: What a scan and its withdrawal call.
CALLS = sorted(
    name
    for name in SIGNATURES
    if name.startswith(("HostGroup.Gr", "HostGroup.Find", "ChunkAccessor", "SrvView"))
    or name.split(".")[1] in ("AddTask", "RunTask", "CancelTask", "DeleteTask", "GetTask", "GetTaskData")
    or (name.startswith("Tasks.") and ("Iterator" in name or "HostStatus" in name or "NextTask" in name))
)


class KscJobs(ContractBase):
    """Jobs as the service builds them: with their IOC files; the waiting is the stand-in's time."""

    @pytest.fixture
    def fleet(self, tmp_path: Path) -> Iterator[Fleet]:
        with ksc_fleet(tmp_path) as fleet:
            yield fleet

    def scan_job(self, fleet: Fleet, job_id: str = "task1.1", **changes: Any) -> Job:
        return with_iocs(super().scan_job(fleet, job_id, **changes), SAMPLE, hunt_names=("dropper.exe",))

    def finish(self, fleet: Fleet, job: Job, devices: Any = None) -> None:
        assert isinstance(fleet, KscFleet)
        fleet.world.advance(3)


class TestContract(KscJobs):
    """Not here: job folders on devices, forged result files, restore, and delivery to some devices of a group."""

    test_health_is_good_where_all_is_well = ManagerContract.test_health_is_good_where_all_is_well
    test_job_ids_that_are_no_folder_names_are_refused = (
        ManagerContract.test_job_ids_that_are_no_folder_names_are_refused
    )
    test_a_job_id_is_not_reused = ManagerContract.test_a_job_id_is_not_reused_for_something_else
    test_a_job_must_carry_the_plan_it_names = ManagerContract.test_a_job_must_carry_the_plan_it_names
    test_devices_must_be_known = ManagerContract.test_devices_must_be_known
    test_an_unknown_job_is_not_delivered = ManagerContract.test_an_unknown_job_is_not_delivered
    test_an_ended_job_cannot_be_published = ManagerContract.test_an_ended_job_cannot_be_published
    test_publishing_twice_is_publishing_once = ManagerContract.test_publishing_twice_is_publishing_once
    test_a_poll_can_be_repeated = ManagerContract.test_a_poll_can_be_repeated_and_goes_on_where_it_was
    test_a_damaged_cursor_starts_over = ManagerContract.test_a_damaged_cursor_starts_over
    test_unknown_control_words_are_refused = ManagerContract.test_unknown_control_words_are_refused
    test_a_device_that_never_had_it = ManagerContract.test_a_device_that_never_had_it_has_nothing_to_confirm
    test_a_dry_run_does_nothing = ManagerContract.test_a_dry_run_says_what_it_would_do_and_does_nothing
    found = ManagerContract.found

    def test_groups_and_devices(self, fleet: KscFleet) -> None:
        assert [g.name for g in fleet.ksc.groups()] == [
            "Managed devices",
            "workstations",
            "servers",
            "templates",
        ]
        devices = fleet.ksc.devices("workstations")
        assert [(d.id, d.group, d.os, d.online) for d in devices] == [
            (name, "workstations", "windows", Online.YES) for name in DEVICES
        ]
        with pytest.raises(NotFoundError) as caught:
            fleet.ksc.devices("no such group")
        assert caught.value.code == "group_unknown"

    def test_an_absent_device_is_not_called_online(self, fleet: KscFleet) -> None:
        fleet.take_offline("ws02")
        assert [d.online for d in fleet.ksc.devices("workstations")] == [Online.YES, Online.NO, Online.YES]

    def test_a_scan_finds_what_is_there_and_says_where(self, fleet: KscFleet) -> None:
        planted = fleet.plant("ws01", "home/anna/invoice.exe", SAMPLE)
        fleet.plant("ws02", "deep/dropper.exe", b"known by name only")
        fleet.plant("ws03", "decoy.exe", OTHER)
        events = fleet.run(self.scan_job(fleet))
        (match,) = of(events, EventKind.MATCH, "ws01")
        assert base64.b64decode(match.data["path_b64"]) == os.fsencode(planted.resolve())
        assert match.data["tier"] == "actionable" and match.data["proof"]
        assert match.data["sha256"] == hashlib.sha256(SAMPLE).hexdigest()
        assert match.data["size"] == len(SAMPLE), "from the IOC file: the event does not name it"
        (hunted,) = of(events, EventKind.MATCH, "ws02")
        assert hunted.data["tier"] == "hunt"
        assert of(events, EventKind.MATCH, "ws03") == []
        assert {states(events, device)[-1] for device in DEVICES} == {"done"}
        assert planted.exists(), "a scan never deletes"

    def test_a_device_that_was_off_gets_it_later(self, fleet: KscFleet) -> None:
        fleet.plant("ws02", "x.exe", SAMPLE)
        fleet.take_offline("ws02")
        job = self.scan_job(fleet)
        events = fleet.run(job)
        assert states(events, "ws02") == ["delivered"] and states(events, "ws01")[-1] == "done"
        _, cursor = read_all(fleet.ksc, job.id)
        fleet.bring_back("ws02")
        fleet.world.advance(3)
        later, _ = read_all(fleet.rebuild(), job.id, cursor)
        assert {e.device_id for e in later} == {"ws02"} and len(of(later, EventKind.MATCH, "ws02")) == 1

    def test_pause_resume_cancel(self, fleet: KscFleet) -> None:
        job = self.scan_job(fleet)
        fleet.run(job, steps=1)
        fleet.ksc.control(job.id, "pause")
        fleet.world.advance(3)
        assert states(read_all(fleet.ksc, job.id)[0], "ws01") == ["paused"]
        fleet.ksc.control(job.id, "resume")
        assert states(read_all(fleet.ksc, job.id)[0], "ws01") == ["running"]
        fleet.ksc.control(job.id, "cancel")
        assert states(read_all(fleet.ksc, job.id)[0], "ws01") == ["cancelled"]

    def test_what_is_paused_before_it_began_begins_when_it_is_resumed(self, fleet: KscFleet) -> None:
        job = self.scan_job(fleet)
        fleet.ksc.publish(job)
        fleet.ksc.control(job.id, "pause")
        fleet.ksc.deliver(job.id)
        assert fleet.ours() == []
        fleet.ksc.control(job.id, "resume")
        assert len(fleet.ours()) == 2

    def test_withdrawal_is_deletion_confirmed(self, fleet: KscFleet) -> None:
        job = self.scan_job(fleet)
        fleet.run(job, steps=1)
        withdrawal = fleet.ksc.withdraw(job.id)
        assert withdrawal.complete and sorted(withdrawal.confirmed) == sorted(DEVICES) and fleet.ours() == []
        assert fleet.rebuild().withdraw(job.id).complete
        with pytest.raises(RefusedError):
            fleet.ksc.publish(job)
        assert fleet.ksc.poll(job.id, None)[0] == []

    @pytest.mark.parametrize(
        "method", ["Tasks.DeleteTask", "Tasks.GetTask", "Tasks.CancelTask", "Tasks.ResetTasksIterator"]
    )
    @pytest.mark.parametrize("fault", [1184, 1195, DROP])
    def test_a_deletion_that_is_not_confirmed_stays_pending(
        self, fleet: KscFleet, method: str, fault: int | str
    ) -> None:
        fleet.ksc.ksc._call.__self__._sleep = lambda seconds: None  # type: ignore[attr-defined]
        job = self.scan_job(fleet)
        fleet.run(job, steps=1)
        fleet.server.fail(method, fault, fault, fault)
        assert fleet.ksc.withdraw(job.id).pending
        assert fleet.ksc.poll(job.id, None)[0] == []
        assert "ksc_withdrawal_pending" in {p.code for p in fleet.ksc.health().problems}
        fleet.server.faults.clear()
        assert fleet.rebuild().withdraw(job.id).complete and fleet.ours() == []

    def test_what_is_owed_goes_with_the_next_delivery(self, fleet: KscFleet) -> None:
        job = self.scan_job(fleet)
        fleet.run(job, steps=1)
        fleet.server.fail("Tasks.DeleteTask", 1184)
        assert not fleet.ksc.withdraw(job.id).complete
        other = self.scan_job(fleet, "task2.1")
        fleet.run(other)
        assert {task.name for task in fleet.ours()} == {"ioc_scan task2.1 a1", "ioc_scan task2.1 h2"}
        assert fleet.ksc.withdraw(job.id).complete

    def test_nothing_arrives_before_or_after_its_time(self, fleet: KscFleet) -> None:
        early = self.scan_job(fleet, not_before=fleet.clock() + timedelta(hours=1))
        fleet.ksc.publish(early)
        fleet.ksc.deliver(early.id)
        late = self.scan_job(fleet, "task2.1")
        fleet.ksc.publish(late)
        fleet.clock.ahead = timedelta(days=8)
        fleet.ksc.deliver(late.id)
        assert fleet.ours() == []
        events, cursor = read_all(fleet.ksc, late.id)
        assert states(events, "ws01") == ["expired"] and read_all(fleet.ksc, late.id, cursor)[0] == []

    def test_what_came_early_arrives_when_its_time_has_come(self, fleet: KscFleet) -> None:
        early = self.scan_job(fleet, not_before=fleet.clock() + timedelta(hours=1))
        fleet.ksc.publish(early)
        fleet.ksc.deliver(early.id)
        assert fleet.ours() == []
        fleet.clock.ahead = timedelta(hours=1, seconds=1)
        fleet.ksc.deliver(early.id)
        assert len(fleet.ours()) == 2


class TestTasks(KscJobs):
    def test_one_task_per_ioc_file_with_a_name_of_ours(self, fleet: KscFleet) -> None:
        job = self.scan_job(fleet, "t" * 80)
        fleet.run(job, steps=0)
        names = sorted(task.name for task in fleet.ours())
        assert names == [f"ioc_scan {'t' * 80} a1", f"ioc_scan {'t' * 80} h2"] and len(names[0]) <= 100
        for task in fleet.ours():
            settings = task.data["TASK_ADDITIONAL_PARAMS"]
            (ioc,) = settings["SIM_IOC_FILES"]
            assert ioc["SIM_IOC_CONTENT"] in job.iocs.values()
            assert settings["SIM_ON_MATCH"]["SIM_QUARANTINE_AND_DELETE"] is False
            assert settings["SIM_ONLY_WHEN_IDLE"] is True, "all else is as in the template"
            assert task.data["TASK_INFO_PARAMS"]["PRTS_TASK_GROUPID"] == 5 and task.running

    def test_an_excluded_device_s_group_is_not_scanned(self, fleet: KscFleet) -> None:
        fleet.world.add_group(8, "office", 5)
        fleet.world.add_host(Host("ws04", "WS04", 8, fleet.root("ws04")))
        events = fleet.run(self.scan_job(fleet, device_ids=["ws01", "ws02", "ws04"]))
        assert {task.data["TASK_INFO_PARAMS"]["PRTS_TASK_GROUPID"] for task in fleet.ours()} == {8}
        assert states(events, "ws04")[-1] == "done"
        (failed,) = of(events, EventKind.STATE, "ws01")
        assert failed.data["state"] == "failed" and failed.data["error"]["code"] == "ksc_cannot_aim"

    def test_a_report_template_that_names_devices_reaches_exactly_them(self, fleet: KscFleet) -> None:
        fleet.world.add_task(template("by device", responds=False, host="marker-device"))
        fleet.learn("by device")
        events = fleet.run(self.scan_job(fleet, device_ids=["ws01", "ws03"]))
        assert states(events, "ws01")[-1] == states(events, "ws03")[-1] == "done"
        listed = [
            t.data["TASK_INFO_PARAMS"].get("SIM_HOST_LIST") for t in fleet.ours() if t.name != "by device"
        ]
        assert listed == [[{"SIM_HOST_NAME": "ws01"}, {"SIM_HOST_NAME": "ws03"}]] * 2

    @pytest.mark.parametrize("step", ["Tasks.AddTask", "Tasks.RunTask"])
    @pytest.mark.parametrize("lost", [False, True])
    def test_a_crash_in_between_makes_no_second_task(
        self, fleet: KscFleet, monkeypatch: pytest.MonkeyPatch, step: str, lost: bool
    ) -> None:
        """``lost``: the server did it, and its answer did not arrive."""
        job = self.scan_job(fleet)
        fleet.ksc.publish(job)
        if lost:
            real = fleet.ksc.ksc._call

            def call(method: str, **arguments: Any) -> Any:
                answer = real(method, **arguments)
                if method == step:
                    raise KscError("ksc_unreachable", "the line broke")
                return answer

            monkeypatch.setattr(fleet.ksc.ksc, "_call", call)
        else:
            fleet.server.fail(step, DROP)
        with pytest.raises(DeviceError):
            fleet.ksc.deliver(job.id)
        fleet.rebuild().deliver(job.id)
        assert sorted(task.name for task in fleet.ours()) == ["ioc_scan task1.1 a1", "ioc_scan task1.1 h2"]
        assert all(task.running for task in fleet.ours())

    def test_a_task_made_while_it_was_withdrawn_is_taken_away_again(
        self, fleet: KscFleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = self.scan_job(fleet)
        fleet.ksc.publish(job)
        manager, other = fleet.ksc, fleet.rebuild()
        real = manager.ksc.add_task

        def add(raw: Any) -> str:
            other.withdraw(job.id)
            return real(raw)

        monkeypatch.setattr(manager.ksc, "add_task", add)
        manager.deliver(job.id)
        assert fleet.ours() == []

    def test_a_full_task_group_is_said_and_tried_again(self, fleet: KscFleet) -> None:
        for number in range(97):
            fleet.world.add_task(template(f"somebody's {number}", responds=False, group=7))
        job = self.scan_job(fleet)
        fleet.ksc.publish(job)
        with pytest.raises(DeviceError) as caught:
            fleet.ksc.deliver(job.id)
        assert caught.value.code == "ksc_group_full", "99 there, 2 needed: not one of them is made"
        assert not [task for task in fleet.ours() if task.name.startswith("ioc_scan task1")]
        assert "ksc_group_nearly_full" in {p.code for p in fleet.ksc.health().problems}
        del fleet.world.tasks["50"]
        fleet.ksc.deliver(job.id)
        assert len([task for task in fleet.ours() if task.name.startswith("ioc_scan task1")]) == 2

    def test_a_changed_template_stops_scans(self, fleet: KscFleet) -> None:
        fleet.world.tasks["41"].data["TASK_ADDITIONAL_PARAMS"]["SIM_ON_MATCH"][
            "SIM_QUARANTINE_AND_DELETE"
        ] = True
        events = fleet.run(self.scan_job(fleet))
        assert fleet.ours() == []
        assert {e.data["error"]["code"] for e in of(events, EventKind.STATE)} == {"ksc_template_changed"}
        assert "ksc_template_changed" in {p.code for p in fleet.ksc.health().problems}

    def test_a_removed_template_stops_scans(self, fleet: KscFleet) -> None:
        del fleet.world.tasks["41"]
        events = fleet.run(self.scan_job(fleet))
        assert {e.data["error"]["code"] for e in of(events, EventKind.STATE)} == {"ksc_template_missing"}
        assert not fleet.ksc.health().ok

    def test_a_renamed_template_is_the_same(self, fleet: KscFleet) -> None:
        fleet.world.tasks["41"].data["TASK_INFO_PARAMS"]["DisplayName"] = "another name"
        assert states(fleet.run(self.scan_job(fleet)), "ws01")[-1] == "done"

    @pytest.mark.parametrize("how", ["task deleted", "group removed"])
    def test_a_task_that_vanishes_under_us_is_a_failed_device_and_no_clean_one(
        self, fleet: KscFleet, how: str
    ) -> None:
        job = self.scan_job(fleet)
        fleet.run(job, steps=1)
        for task in fleet.ours():
            del fleet.world.tasks[task.id]
        if how == "group removed":
            del fleet.world.groups[5]
        events, _ = read_all(fleet.ksc, job.id)
        assert of(events, EventKind.STATE, "ws01")[-1].data["error"]["code"] == "ksc_task_gone"

    def test_ioc_files_do_not_stay_for_ever(self, fleet: KscFleet) -> None:
        job = self.scan_job(fleet)
        fleet.run(job)
        kept = fleet.ksc.memory / "iocs"
        assert len(list(kept.iterdir())) == 2
        fleet.ksc.withdraw(job.id)
        assert len(list(kept.iterdir())) == 2, "another task may be about the same object"
        later = self.scan_job(fleet, "task2.1")
        fleet.run(later)
        fleet.clock.ahead = timedelta(days=61)
        fleet.ksc.withdraw(later.id)
        assert list(kept.iterdir()) == []

    def test_states_of_two_tasks_on_one_device(self, fleet: KscFleet) -> None:
        job = self.scan_job(fleet)
        fleet.run(job, steps=3)
        actionable, hunt = fleet.ours()
        actionable.states["ws01"], hunt.states["ws01"] = 2, 4
        actionable.states["ws02"], hunt.states["ws02"] = FAILED, 4
        actionable.states["ws03"], hunt.states["ws03"] = WARNING, 4
        events, _ = read_all(fleet.ksc, job.id)
        assert [states(events, device)[-1] for device in DEVICES] == ["running", "failed", "done"]
        assert of(events, EventKind.STATE, "ws02")[-1].data["error"]["message"] == "The disk cannot be read"
        assert of(events, EventKind.STATE, "ws03")[-1].data["not_evaluated"][0]["what"] == "task"

    def test_kinds_of_jobs_that_kaspersky_does_not_do_are_refused(self, fleet: KscFleet) -> None:
        job = replace(self.scan_job(fleet), kind=JobKind.RESTORE, plan=None, plan_digest=None)
        with pytest.raises(RefusedError) as caught:
            fleet.ksc.publish(job)
        assert caught.value.code == "ksc_job_kind"
        assert Capability.RESPOND not in fleet.ksc.caps

    @pytest.mark.parametrize("method", CALLS)
    def test_an_error_in_any_call_loses_nothing(self, fleet: KscFleet, method: str) -> None:
        fleet.plant("ws01", "x.exe", SAMPLE)
        fleet.server.fail(method, 1184)
        job = self.scan_job(fleet)
        for _ in range(3):
            try:
                fleet.ksc.groups()
                fleet.ksc.publish(job)
                fleet.ksc.deliver(job.id)
                fleet.world.advance(3)
                events, _ = read_all(fleet.ksc, job.id)
                break
            except DeviceError as error:
                assert error.code == "ksc_access_denied"
        assert len(of(events, EventKind.MATCH, "ws01")) == 1 and states(events, "ws01")[-1] == "done"
        assert len(fleet.ours()) == 2
        fleet.ksc.withdraw(job.id)
        assert fleet.rebuild().withdraw(job.id).complete and fleet.ours() == []
        if "Release" in method:
            fleet.server.calls.listings.clear()


class TestEvents(KscJobs):
    def test_windows_paths_quotes_and_other_alphabets(self, fleet: KscFleet) -> None:
        host = fleet.world.hosts["ws01"]
        host.shown_root, host.name = "C:\\", 'Büro "Süd" {{ 7*7 }}'
        fleet.plant("ws01", "Users/Анна/счёт '{{x}}'.exe", SAMPLE)
        (match,) = of(fleet.run(self.scan_job(fleet)), EventKind.MATCH)
        assert match.data["path"] == "C:\\Users\\Анна\\счёт '{{x}}'.exe"
        assert base64.b64decode(match.data["path_b64"]).decode() == match.data["path"]
        assert match.data["item"]["FileName"] == "счёт '{{x}}'.exe"
        device = fleet.ksc.devices("workstations")[0]
        assert any("Süd" in tag for tag in device.tags) and not any("{{" in tag for tag in device.tags)

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"GNRL_EA_PARAM_1": None}, "ksc_event_hash"),
            ({"GNRL_EA_PARAM_1": "C:\\x.exe", "GNRL_EA_PARAM_2": "a" * 64}, "ksc_event_hash"),
            ({"GNRL_EA_PARAM_2": None}, "ksc_event_path"),
            ({"GNRL_EA_PARAM_2": "a" * 64}, "ksc_event_swapped"),
            ({"GNRL_EA_PARAM_1": hashlib.sha256(OTHER).hexdigest()}, "foreign_hash"),
            ({"GNRL_EA_PARAM_2": "x" * 40_000}, "ksc_event_path"),
        ],
    )
    def test_an_event_with_missing_or_swapped_parameters_is_rejected(
        self, fleet: KscFleet, changes: dict[str, Any], code: str
    ) -> None:
        job = self.scan_job(fleet)
        fleet.run(job)
        task = next(task for task in fleet.ours() if task.name.endswith("a1"))
        fields = {
            "GNRL_EA_PARAM_1": hashlib.sha256(SAMPLE).hexdigest(),
            "GNRL_EA_PARAM_2": "C:\\x.exe",
            **changes,
        }
        fields = {name: value for name, value in fields.items() if value is not None}
        fleet.world.add_event(EVENT_IOC_FOUND, fleet.world.hosts["ws01"], task, **fields)
        events, cursor = read_all(fleet.ksc, job.id)
        assert of(events, EventKind.MATCH) == []
        assert [e.data["code"] for e in of(events, EventKind.REJECTED, "ws01")] == [code]
        assert read_all(fleet.ksc, job.id, cursor)[0] == [], "said once"

    def test_events_of_others_are_not_ours(self, fleet: KscFleet) -> None:
        fleet.plant("ws01", "x.exe", SAMPLE)
        job = self.scan_job(fleet)
        fleet.run(job)
        stranger = fleet.world.add_host(Host("ws99", "WS99", 6))
        task = next(task for task in fleet.ours() if task.name.endswith("a1"))
        known = next(event for event in fleet.world.events if event["event_type"] == EVENT_IOC_FOUND)
        fields = {name: value for name, value in known.items() if name.startswith("GNRL_EA_PARAM")}
        fleet.world.add_event(EVENT_IOC_FOUND, stranger, task, **fields)
        fleet.world.add_event(EVENT_IOC_FOUND, fleet.world.hosts["ws02"], None, **fields)
        assert [e.device_id for e in of(read_all(fleet.ksc, job.id)[0], EventKind.MATCH)] == ["ws01"]

    @pytest.mark.parametrize("code", [1184, 1193, 1194])
    def test_without_the_view_of_events_the_task_s_history_is_read(self, fleet: KscFleet, code: int) -> None:
        fleet.plant("ws01", "x.exe", SAMPLE)
        fleet.server.fail("SrvView.ResetIterator", *[code] * 10)
        events = fleet.run(self.scan_job(fleet))
        assert len(of(events, EventKind.MATCH, "ws01")) == 1
        assert "Tasks.GetTaskHistory" in {method for method, _ in fleet.server.requests}

    def test_a_task_whose_finds_cannot_be_seen_says_so(self, fleet: KscFleet) -> None:
        fleet.rebuild(events={})
        fleet.plant("ws01", "x.exe", SAMPLE)
        events = fleet.run(self.scan_job(fleet))
        state = of(events, EventKind.STATE, "ws01")[-1].data
        assert state["state"] == "done" and state["not_evaluated"][0]["what"] == "found objects"
        assert "ksc_event_unknown" in {p.code for p in fleet.ksc.health().problems}

    def test_a_session_that_ends_while_events_are_read(self, fleet: KscFleet) -> None:
        fleet.plant("ws01", "x.exe", SAMPLE)
        fleet.server.fail("SrvView.GetRecordRange", FORGET_SESSION)
        assert len(of(fleet.run(self.scan_job(fleet)), EventKind.MATCH)) == 1


class TestHealth:
    @pytest.mark.parametrize(
        ("version", "fine"),
        [("13.2.0.1511", True), ("13.1.0.8324", False), ("15.0", True), ("odd", False), ("", False)],
    )
    def test_the_server_s_version(self, tmp_path: Path, version: str, fine: bool) -> None:
        with ksc_fleet(tmp_path) as fleet:
            fleet.world.version = version
            assert ("ksc_version" not in {p.code for p in fleet.ksc.health().problems}) == fine

    def test_more_devices_than_it_is_meant_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with ksc_fleet(tmp_path) as fleet:
            assert "fleet_too_large" not in {p.code for p in fleet.ksc.health().problems}
            monkeypatch.setattr(ksc_health, "COMFORTABLE_DEVICES", 1)
            health = fleet.ksc.health()
            assert health.ok and "fleet_too_large" in {p.code for p in health.problems}

    @pytest.mark.parametrize(
        "method",
        [
            "HostGroup.FindGroups",
            "HostGroup.FindHosts",
            "Tasks.ResetTasksIterator",
            "Tasks.GetTaskData",
            "SrvView.ResetIterator",
        ],
    )
    def test_a_missing_right_is_named(self, tmp_path: Path, method: str) -> None:
        with ksc_fleet(tmp_path) as fleet:
            fleet.server.denied.add(method)
            health = fleet.ksc.health()
            assert not health.ok
            problem = next(p for p in health.problems if p.code == "ksc_access_denied")
            assert method in problem.message and "docs/kaspersky.md" in problem.hint

    def test_a_server_that_is_away_is_one_problem(self, tmp_path: Path) -> None:
        with ksc_fleet(tmp_path) as fleet:
            fleet.ksc.ksc.close()
            fleet.server.password = "changed"
            assert [p.code for p in fleet.ksc.health().problems] == ["ksc_log_on_failed"]

    def test_nothing_learned_is_fatal(self, tmp_path: Path) -> None:
        with ksc_fleet(tmp_path, learned=False) as fleet:
            assert "ksc_template_unknown" in {p.code for p in fleet.ksc.health().problems if p.fatal}
            job = KscJobs().scan_job(fleet)
            fleet.ksc.publish(job)
            with pytest.raises(DeviceError):
                fleet.ksc.deliver(job.id)
