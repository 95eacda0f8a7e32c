"""The round of process_results: one at a time, nothing announced twice, nothing left behind."""

from __future__ import annotations

import time
from typing import Any

import pytest
import yaml
from ioc_scan.config import pack_folder
from ioc_scan.devices.base import Online
from ioc_scan.errors import IocScanError
from ioc_scan.service import collection, intake, reconciling, tasks
from ioc_scan.service.collection import (
    COLLECT_SECONDS,
    LEASE,
    LEASE_SECONDS,
    PUSH_SECONDS,
    WITHDRAW_SECONDS,
)

from .test_responses import scanned
from .world import RULE, World, cape_report, count, events, matches, sample


def due(answer: dict[str, Any]) -> list[str]:
    return [row["trigger"].removeprefix("ioc_scan.") for row in answer["due"]]


# -- the lease


def test_one_round_at_a_time(town: World, monkeypatch: pytest.MonkeyPatch) -> None:
    inner: list[dict[str, Any]] = []

    def meanwhile(*_: Any) -> int:
        with town.context() as second:
            inner.append(collection.collect_results(second))
        return 0

    monkeypatch.setattr(collection, "reconcile", meanwhile)
    with town.context() as context:
        assert collection.collect_results(context)["leased"]
        assert inner == [{"leased": False, "matches": 0, "devices": 0, "due": []}]
        assert collection.collect_results(context)["leased"]


def test_a_holder_that_died_loses_the_lease(town: World) -> None:
    with town.context() as context:
        with context.store.transaction() as tx:
            assert tx.leases.acquire(LEASE, "somebody-killed", LEASE_SECONDS, town.clock())
        assert not collection.collect_results(context)["leased"]
        town.clock.ahead(seconds=LEASE_SECONDS - 1)
        assert not collection.collect_results(context)["leased"]
        town.clock.ahead(seconds=1)
        assert collection.collect_results(context)["leased"]


def test_no_holder_that_stackstorm_lets_live_loses_the_lease() -> None:
    action = yaml.safe_load((pack_folder() / "actions" / "collect_results.yaml").read_text())
    allowed = action["parameters"]["timeout"]["default"]
    assert PUSH_SECONDS + COLLECT_SECONDS + WITHDRAW_SECONDS < allowed < LEASE_SECONDS


def test_a_round_cut_short_is_gone_on_with_by_the_next(town: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices that take long, or are silent, hold up no job for ever."""
    town.manager.slow = {"ws01", "ws02", "ws03"}  # nothing new is ever said
    turns: dict[str, list[str]] = {"deliver": [], "poll": []}
    with town.context() as context:
        for number in range(3):
            tasks.start_task(context, town.task_for(context, sample(number), number)["task_id"], account=RULE)
        for name, seen in turns.items():
            real = getattr(town.manager, name)

            def slowly(job_id: str, *rest: Any, real: Any = real, seen: list[str] = seen) -> Any:
                seen.append(job_id)
                time.sleep(0.02)
                return real(job_id, *rest)

            monkeypatch.setattr(town.manager, name, slowly)
        monkeypatch.setattr(collection, "PUSH_SECONDS", 0.01)
        monkeypatch.setattr(collection, "COLLECT_SECONDS", 0.01)
        for _ in range(6):
            town.clock.ahead(minutes=5)
            collection.collect_results(context)
    for seen in turns.values():
        assert len(set(seen[:3])) == 3 and seen[3:] == seen[:3]


def test_a_round_that_fails_gives_the_lease_back(town: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise IocScanError("broken", "broken")

    with town.context() as context:
        with monkeypatch.context() as patch:
            patch.setattr(collection, "reconcile", broken)
            with pytest.raises(IocScanError):
                collection.collect_results(context)
        assert collection.collect_results(context)["leased"]


# -- the outbox


def test_what_was_not_confirmed_comes_again_and_what_was_does_not(town: World) -> None:
    with town.context() as context:
        scanned(town, context)
        first = collection.collect_results(context)
        assert sorted(due(first)) == ["matches_found", "response_due", "task_ended"]
        again = collection.collect_results(context)
        assert again["due"] == first["due"]
        collection.confirm_dispatch(context, [row["outbox_id"] for row in first["due"][:1]])
        assert collection.collect_results(context)["due"] == first["due"][1:]
        collection.confirm_dispatch(context, [row["outbox_id"] for row in first["due"]])
        assert collection.collect_results(context)["due"] == []


def test_matches_that_stay_due_are_announced_again(town: World) -> None:
    with town.context() as context:
        scanned(town, context)
        answer = collection.collect_results(context)
        collection.confirm_dispatch(context, [row["outbox_id"] for row in answer["due"]])
        town.clock.ahead(seconds=collection.DUE_AGAIN_SECONDS)
        assert due(collection.collect_results(context)) == ["response_due"]


def test_at_most_fifty_triggers_a_round_and_the_rest_in_the_next(town: World) -> None:
    with town.context() as context:
        payload = {"task_id": "t1", "detection_id": "a:b:c", "state": "expired", "matches": 0}
        with context.store.transaction() as tx:
            for number in range(60):
                tx.outbox.add("ioc_scan.task_ended", payload, dedupe_key=f"k{number}", now=town.clock())
        first = collection.collect_results(context)["due"]
        assert len(first) == 50
        collection.confirm_dispatch(context, [row["outbox_id"] for row in first])
        assert len(collection.collect_results(context)["due"]) == 10


def test_a_trigger_that_breaks_its_schema_does_not_hold_up_the_others(town: World) -> None:
    with town.context() as context:
        with context.store.transaction() as tx:
            tx.outbox.add("ioc_scan.task_ended", {"bad": 1}, dedupe_key="x", now=town.clock())
        scanned(town, context)
        assert "matches_found" in due(collection.collect_results(context))
        assert "trigger_invalid" in {event["data"]["alert"] for event in events(context, "alert_raised")}


# -- devices


def test_a_manager_that_fails_is_said_once_and_stops_nobody_else(town: World) -> None:
    with town.context() as context:
        task_id = town.task_for(context, sample())["task_id"]
        tasks.start_task(context, task_id, account="stanley")
        town.manager.broken = True
        detection_id = town.drop_report(cape_report(sample("other")))
        town.clock.ahead(minutes=11)
        for _ in range(2):
            assert "sandbox_detection" in due(collection.collect_results(context))
        (event,) = events(context, "manager_unreachable")
        assert event["data"]["code"] == "manager_down"
        with context.store.reading() as tx:
            assert tx.detections.get(detection_id) is not None
        town.manager.broken = False
        collection.collect_results(context)
        assert len(events(context, "manager_recovered")) == 1
        assert town.settle(context, task_id)["state"] == "completed"


def test_results_that_came_late_are_taken_and_announced(town: World) -> None:
    town.manager.online["ws02"] = Online.NO
    with town.context() as context:
        task_id = scanned(town, context)
        answer = collection.collect_results(context)
        collection.confirm_dispatch(context, [row["outbox_id"] for row in answer["due"]])
        town.manager.online.clear()
        answer = collection.collect_results(context)
        assert answer["matches"] == 1
        assert "matches_found" in due(answer)
        assert len(matches(context, task_id)) == 2


def test_results_on_their_way_when_the_task_ends_count_no_more(town: World) -> None:
    town.manager.files["ws01"]["/a.exe"] = sample()
    poll = town.manager.poll
    with town.context() as context:
        task_id = town.task_for(context, sample())["task_id"]

        def end_meanwhile(job_id: str, cursor: Any) -> Any:
            answer = poll(job_id, cursor)
            town.manager.poll = poll
            with town.context() as second:
                tasks.delete_task(second, task_id, account="alice")
            return answer

        tasks.start_task(context, task_id, account="stanley")
        town.manager.poll = end_meanwhile
        assert collection.collect_results(context)["matches"] == 0
        assert matches(context, task_id) == []


def test_a_task_without_devices_settles(town: World) -> None:
    town.manager.members = {"workstations": []}
    with town.context() as context:
        task_id = town.task_for(context, sample())["task_id"]
        assert town.scan(context, task_id)["state"] == "completed"


# -- what was lost on its way


def test_what_a_source_lists_and_the_store_lacks_is_taken_up_once(town: World) -> None:
    detection_id = town.drop_report(cape_report(sample()))
    with town.context() as context:
        assert reconciling.reconcile(context) == 0  # the sensor's turn first
        town.clock.ahead(minutes=11)
        assert reconciling.reconcile(context) == 1
        assert reconciling.reconcile(context) == 0
        (row,) = collection.collect_results(context)["due"]
        assert (row["trigger"], row["trace_tag"]) == ("ioc_scan.sandbox_detection", detection_id)
        assert row["payload"]["detection_id"] == detection_id
        assert count(context, "detections") == 1


def test_below_the_threshold_it_is_recorded_and_nothing_is_told(town: World) -> None:
    detection_id = town.drop_report(cape_report(sample(), malscore=1.0))
    with town.context() as context:
        town.clock.ahead(minutes=11)
        reconciling.reconcile(context)
        with context.store.reading() as tx:
            assert tx.detections.get(detection_id)["decision"] == "below_threshold"
        assert collection.collect_results(context)["due"] == []


def test_what_lay_there_before_the_pack_was_installed_is_left_alone(town: World) -> None:
    town.config["sources"][0]["backfill_hours"] = 0
    town.drop_report(cape_report(sample()))
    town.clock.ahead(minutes=30)
    with town.context() as context:
        assert reconciling.reconcile(context) == 0
        town.clock.ahead(minutes=30)
        assert reconciling.reconcile(context) == 0
        assert count(context, "detections") == 0


def test_a_failed_fetch_is_tried_again_at_its_time(town: World) -> None:
    reports = town.folder / "reports"
    detection_id = town.drop_report(cape_report(sample()))
    reports.chmod(0o777)
    with town.context() as context:
        with pytest.raises(IocScanError):
            intake.fetch_detection(context, detection_id)
        reports.chmod(0o700)
        town.clock.ahead(minutes=4, seconds=59)
        assert reconciling.reconcile(context) == 0
        town.clock.ahead(seconds=1)
        assert reconciling.reconcile(context) == 1
        with context.store.reading() as tx:
            assert tx.fetches.get(detection_id)["state"] == "fetched"
        assert due(collection.collect_results(context)) == ["sandbox_detection"]


def test_a_detection_whose_workflow_stopped_before_the_decision_is_told_again(town: World) -> None:
    detection_id = town.drop_report(cape_report(sample()))
    with town.context() as context:
        intake.fetch_detection(context, detection_id)
        assert collection.collect_results(context)["due"] == []
        town.clock.ahead(minutes=20)
        (row,) = collection.collect_results(context)["due"]
        assert row["payload"]["detection_id"] == detection_id
        tasks.create_task(context, detection_id)
        collection.confirm_dispatch(context, [row["outbox_id"]])
        town.clock.ahead(minutes=1)
        assert collection.collect_results(context)["due"] == []


def test_a_task_whose_workflow_stopped_before_the_start_is_told_again(town: World) -> None:
    with town.context() as context:
        task = town.task_for(context, sample())
        town.clock.ahead(minutes=20)
        (row,) = collection.collect_results(context)["due"]
        assert row["payload"]["detection_id"] == task["detection_id"]
        assert tasks.create_task(context, task["detection_id"])["start"]
        tasks.start_task(context, task["task_id"], new_run=True, account="stanley")
        collection.confirm_dispatch(context, [row["outbox_id"]])
        town.clock.ahead(hours=1)
        assert "sandbox_detection" not in due(collection.collect_results(context))


def test_a_manual_task_is_not_told_again(town: World) -> None:
    town.config["threat_response_policies"][0]["start"] = "manual"
    with town.context() as context:
        town.task_for(context, sample())
        town.clock.ahead(minutes=30)
        assert collection.collect_results(context)["due"] == []


def test_a_source_that_fails_is_said_once_and_stops_no_other(town: World) -> None:
    second = town.folder / "second"
    second.mkdir(mode=0o700)
    town.config["sources"].append(
        {"name": "second", "type": "folder", "path": str(second), "backfill_hours": 1}
    )
    (town.folder / "reports").rename(town.folder / "gone")
    (town.folder / "reports2").mkdir()
    with town.context() as context:
        for _ in range(2):
            collection.collect_results(context)
        (event,) = events(context, "source_unreachable")
        assert event["data"]["source"] == "lab" and event["data"]["code"]
        (town.folder / "gone").rename(town.folder / "reports")
        collection.collect_results(context)
        assert [event["data"]["source"] for event in events(context, "source_recovered")] == ["lab"]
