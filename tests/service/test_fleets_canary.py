"""Canary devices: a few first, the rest only when they have answered as hoped, whatever dies in between."""

from __future__ import annotations

from typing import Any

import pytest
from ioc_scan.clock import from_iso
from ioc_scan.devices.base import Online
from ioc_scan.errors import RefusedError
from ioc_scan.service import (
    collecting,
    collection,
    configuring,
    decisions,
    lifetimes,
    looking,
    publishing,
    tasks,
)
from ioc_scan.service.context import Context

from .fleet import MemoryFleet
from .world import PERSON, RULE, World, events, sample, states


def fleet_of(town: World, mode: str = "auto", canaries: int = 4, **settings: Any) -> MemoryFleet:
    groups = {
        "workstations": [f"pc{number:02d}" for number in range(20)],
        "servers": [f"srv{number:02d}" for number in range(10)],
    }
    town.manager = MemoryFleet(groups, town.clock)
    aims = [{"group": name, "response_mode": mode} for name in groups]
    town.config["threat_response_policies"] = [
        town.policy(mode, run_ioc_scan_on=aims, canary_devices=canaries, **settings)
    ]
    return town.manager


def begin(town: World, context: Context, **options: Any) -> str:
    task_id = str(town.task_for(context, sample())["task_id"])
    tasks.start_task(context, task_id, account=RULE, **options)
    return task_id


def asked(town: World) -> set[str]:
    """Devices that were given a scan."""
    return {
        device
        for job in town.manager.jobs.values()
        if job.kind == "scan"
        for device in town.manager.said.get(job.id, {})
    }


def coverage(context: Context, task_id: str) -> dict[str, Any]:
    return dict(looking.get_coverage(context, task_id)["coverage"])


def canary(context: Context, task_id: str) -> dict[str, Any]:
    with context.store.reading() as tx:
        return dict(tx.tasks.get(task_id)["settings"]["canary"])


def test_a_few_devices_of_every_group_go_first_and_the_rest_follows(town: World) -> None:
    fleet = fleet_of(town)
    fleet.online["pc03"] = Online.NO
    with town.context() as context:
        task_id = begin(town, context)
        first = asked(town)
        assert len(first) == 4 and "pc03" not in first
        assert sum(name.startswith("srv") for name in first) == 2
        assert coverage(context, task_id)["targeted"] == 30
        assert [event["data"]["devices"] for event in events(context, "canary_waiting")] == [4]
        town.settle(context, task_id)
        assert len(asked(town)) == 29
        assert [event["data"]["rest"] for event in events(context, "canary_passed")] == [26]
        found = coverage(context, task_id)
        assert (found["targeted"], found["answered"], found["never_seen"]) == (30, 29, 1)
        fleet.online["pc03"] = Online.YES
        collection.collect_results(context)
        assert town.settle(context, task_id)["state"] == "completed"


def test_the_same_devices_are_chosen_each_time_and_each_run_of_a_passed_plan_goes_to_all(town: World) -> None:
    fleet_of(town)
    with town.context() as context:
        task_id = begin(town, context)
        first = asked(town)
        town.settle(context, task_id)
        town.clock.ahead(hours=5)
        tasks.start_task(context, task_id, new_run=True, account=RULE)
        assert town.settle(context, task_id)["state"] == "completed"
        assert len(events(context, "canary_waiting")) == 1
        town.manager.said.clear()
        town.manager.jobs.clear()
        other = town.task_for(context, sample("other"), 2)["task_id"]
        tasks.start_task(context, other, account=RULE)
        assert asked(town) == first


@pytest.mark.parametrize("reason", ["too_many_matched", "too_many_failed"])
def test_widening_stops_with_event_alert_and_question(town: World, reason: str) -> None:
    fleet = fleet_of(town)
    with town.context() as context:
        if reason == "too_many_matched":
            for files in fleet.files.values():
                files["/a.exe"] = sample()
        else:
            fleet.failing = set(fleet.files)
        task_id = begin(town, context)
        assert town.settle(context, task_id)["state"] == "running"
        for _ in range(3):
            town.clock.ahead(minutes=5)
            collection.collect_results(context)
        assert len(asked(town)) == 4
        assert [event["data"]["reason"] for event in events(context, "canary_stopped")] == [reason]
        alerts = [event["data"]["alert"] for event in events(context, "alert_raised")]
        assert alerts.count("canary_stopped") == 1
        (question,) = decisions.list_approvals(context, task_id)["rows"]
        assert (question["reason"], question["state"]) == ("canary_stopped", "open")
        due = collection.collect_results(context)["due"]
        assert "ioc_scan.approval_needed" in {row["trigger"] for row in due}
        found = coverage(context, task_id)
        assert (found["targeted"], found["answered"]) == (30, 4)
        # what the canary devices found is asked about, not acted on
        answer = town.respond(context, task_id)
        assert answer["claimed"] == 0 and fleet.acted == []
        if reason == "too_many_matched":
            assert answer["asked"] == 4
        # a rule cannot go past it, nor a new run
        with pytest.raises(RefusedError) as caught:
            tasks.start_task(context, task_id, widen=True, account=RULE)
        assert caught.value.code == "person_needed"
        town.clock.ahead(hours=5)
        tasks.start_task(context, task_id, new_run=True, account=RULE)
        town.settle(context, task_id)
        assert len(asked(town)) == 4
        tasks.start_task(context, task_id, widen=True, account=PERSON)
        town.settle(context, task_id)
        assert len(asked(town)) == 30
        assert coverage(context, task_id)["answered"] == 30
        assert {
            row["state"]
            for row in decisions.list_approvals(context, task_id)["rows"]
            if row["reason"] == "canary_stopped"
        } == {"approved"}
        assert [event["actor"] for event in events(context, "canary_passed")] == [PERSON]


def test_with_four_eyes_two_people_widen(town: World) -> None:
    town.config["response"] = {"four_eyes": True}
    town.config["chat_identities"] = {"U_ALICE": "alice"}
    fleet = fleet_of(town)
    with town.context() as context:
        fleet.failing = set(fleet.files)
        task_id = begin(town, context)
        town.settle(context, task_id)
        alice = {"account": "alice"}
        for who in (alice, alice, {"account": "bot", "chat_user": "U_ALICE"}):
            answer = tasks.start_task(context, task_id, widen=True, **who)
            assert "second person" in answer["message"] and len(asked(town)) == 4
        assert [event["actor"] for event in events(context, "approval_seconded")] == ["alice"]
        (question,) = decisions.list_approvals(context, task_id)["rows"]
        assert (question["reason"], question["state"]) == ("canary_stopped", "open")
        # a first word holds as long as a question does, and then the question is put again
        town.clock.ahead(hours=25)
        lifetimes.prune(context)
        tasks.start_task(context, task_id, widen=True, account="bob")
        assert len(asked(town)) == 4 and events(context, "canary_passed") == []
        assert len(decisions.list_approvals(context, task_id, state="open")["rows"]) == 1
        fleet.failing = set()
        tasks.start_task(context, task_id, widen=True, account="alice")
        assert len(asked(town)) == 30
        assert [event["actor"] for event in events(context, "canary_passed")] == ["alice"]
        assert decisions.list_approvals(context, task_id, state="open")["rows"] == []


def test_auto_waits_for_the_canary_devices(town: World) -> None:
    fleet = fleet_of(town, canaries=3)
    with town.context() as context:
        task_id = begin(town, context)
        one, two, _ = sorted(asked(town))
        assert looking.get_coverage(context, task_id)
        town.settle(context, task_id)
        tasks.delete_task(context, task_id, account=PERSON)
        fleet.jobs.clear()
        fleet.said.clear()
        fleet.files[one]["/a.exe"] = sample()
        fleet.slow = {two}
        town.clock.ahead(hours=1)
        task_id = begin_again(town, context)
        collecting.collect(context, task_id)
        answer = town.respond(context, task_id)
        assert [entry["reason"] for entry in answer["held"]] == ["canary_waiting"] and not fleet.acted
        fleet.slow = set()
        collection.collect_results(context)
        town.settle(context, task_id)
        assert town.respond(context, task_id)["claimed"] == 1
        assert states(context, task_id) == ["quarantined"]


def begin_again(town: World, context: Context) -> str:
    task_id = str(town.task_for(context, sample(), "again")["task_id"])
    tasks.start_task(context, task_id, account=RULE)
    return task_id


def test_silent_canary_devices_count_as_failed_after_a_time(town: World) -> None:
    fleet = fleet_of(town)
    with town.context() as context:
        fleet.slow = set(fleet.files)
        task_id = begin(town, context)
        town.clock.ahead(hours=23, minutes=59)
        collection.collect_results(context)
        assert canary(context, task_id)["state"] == "waiting"
        town.clock.ahead(minutes=1)
        collection.collect_results(context)
        assert canary(context, task_id)["state"] == "stopped"
        assert [event["data"]["failed"] for event in events(context, "canary_stopped")] == [4]


def test_one_silent_canary_device_of_four_does_not_hold_the_rest_for_ever(town: World) -> None:
    fleet = fleet_of(town)
    with town.context() as context:
        task_id = str(town.task_for(context, sample())["task_id"])
        fleet.slow = {"srv00", *sorted(fleet.files)[:1]}
        tasks.start_task(context, task_id, account=RULE)
        fleet.slow = set(sorted(asked(town))[:1])
        collection.collect_results(context)
        town.clock.ahead(hours=24)
        collection.collect_results(context)
        assert canary(context, task_id)["state"] == "passed"
        assert len(asked(town)) == 30


def test_fewer_devices_than_canaries(town: World) -> None:
    fleet_of(town, canaries=500)
    with town.context() as context:
        task_id = begin(town, context)
        assert town.settle(context, task_id)["state"] == "completed"
        assert canary(context, task_id)["state"] == "passed"
        assert coverage(context, task_id)["answered"] == 30
        with pytest.raises(RefusedError) as caught:
            tasks.start_task(context, task_id, widen=True, account=PERSON)
        assert caught.value.code == "nothing_to_widen"


class Died(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", range(12))
def test_dead_at_any_step_and_gone_on_with(town: World, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Each use of the store or of the manager may be the last; every device is asked once all the same."""
    fleet = fleet_of(town)
    fleet.files["pc00"]["/a.exe"] = sample()
    left = {"uses": step}

    def mortal(work: Any) -> Any:
        def wrapped(*args: Any, **options: Any) -> Any:
            left["uses"] -= 1
            if left["uses"] == -1:
                raise Died
            return work(*args, **options)

        return wrapped

    with town.context() as context:
        task_id = str(town.task_for(context, sample())["task_id"])
    with monkeypatch.context() as patch:
        for name in ("publish", "deliver", "poll"):
            patch.setattr(fleet, name, mortal(getattr(fleet, name)))
        patch.setattr(publishing, "create_scan_jobs", mortal(publishing.create_scan_jobs))
        patch.setattr(collecting, "judge", mortal(collecting.judge))
        patch.setattr(collecting, "push_jobs", mortal(collecting.push_jobs))
        with town.context() as context:
            try:
                tasks.start_task(context, task_id, account=RULE)
                collection.collect_results(context)
            except Died:
                pass
    town.clock.ahead(seconds=collection.LEASE_SECONDS + 1)
    with town.context() as context:
        tasks.start_task(context, task_id, account=RULE)
        for _ in range(3):
            collection.collect_results(context)
        assert town.settle(context, task_id)["state"] == "completed"
        found = coverage(context, task_id)
        assert (found["targeted"], found["answered"], found["matched"]) == (30, 30, 1)
        assert len(events(context, "canary_waiting")) == len(events(context, "canary_passed")) == 1
        devices = [name for job in fleet.jobs.values() for name in job.device_ids]
        assert sorted(devices) == sorted(fleet.files)


def test_settings_may_change_and_detections_may_join_while_canary_devices_are_asked(town: World) -> None:
    fleet = fleet_of(town, mode="ask")
    with town.context() as context:
        fleet.slow = set(fleet.files)
        task_id = begin(town, context)
        before = canary(context, task_id)
        configuring.configure_task(context, task_id, cpu_percent=10, account=PERSON)
        town.task_for(context, sample(), 2)
        assert canary(context, task_id) == before
        assert from_iso(before["since"]) == town.clock()
        town.clock.ahead(days=7)
        assert lifetimes.prune(context)["expired"] == [task_id]
        assert coverage(context, task_id)["targeted"] == 30
        collection.collect_results(context)
        assert len(asked(town)) == 4
