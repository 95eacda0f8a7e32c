"""Blast limits: counted with everything that was acted on before, whoever detected what."""

from __future__ import annotations

from typing import Any

import pytest
from ioc_scan.devices.base import Online
from ioc_scan.service import collection, tasks
from ioc_scan.service.context import Context

from .fleet import MemoryFleet
from .world import World, sample, states


def town_of(town: World, devices: int, **limits: int) -> None:
    names = [f"pc{number:03d}" for number in range(devices)]
    town.manager = MemoryFleet({"workstations": names}, town.clock)
    town.config["threat_response_policies"] = [town.policy("auto")]
    town.config["response"] = {"min_answered_percent": 0, **limits}


def attack(town: World, context: Context, number: int, devices: int, per_device: int = 1) -> dict[str, Any]:
    """One detection whose object lies on so many devices, and the rule's response to it."""
    content = sample(f"object {number}", 64)
    for device in list(town.manager.files)[:devices]:
        for copy in range(per_device):
            town.manager.files[device][f"/{number}.{copy}.exe"] = content
    task_id = town.task_for(context, content, number)["task_id"]
    tasks.start_task(context, task_id, account="stanley")
    town.settle(context, task_id)
    return town.respond(context, task_id)


def acted(town: World) -> int:
    return len(town.manager.acted)


@pytest.mark.parametrize(
    ("limit", "detections"),
    [("max_files_per_hour", 50), ("max_files_per_day", 12), ("max_files_per_source_per_day", 12)],
)
def test_fifty_detections_that_each_stay_under_a_limit_do_not_pass_it_together(
    town: World, limit: str, detections: int
) -> None:
    others = dict.fromkeys(
        ("max_files_per_hour", "max_files_per_day", "max_files_per_source_per_day", "max_files_per_device"),
        500,
    )
    town_of(town, 2, **{**others, limit: detections + 3})
    with town.context() as context:
        answers = [attack(town, context, number, 2) for number in range(detections)]
        assert acted(town) == detections + 3
        assert sum(answer["claimed"] for answer in answers) == detections + 3
        assert sum(answer["asked"] for answer in answers) == detections - 3
        assert {entry["limit"] for answer in answers for entry in answer["held"]} == {limit}


def test_limits_of_time_leave_room_again_when_time_has_passed(town: World) -> None:
    town_of(town, 4, max_files_per_hour=4)
    with town.context() as context:
        assert attack(town, context, 1, 4)["claimed"] == 4
        town.clock.ahead(minutes=59)
        assert attack(town, context, 2, 4)["claimed"] == 0
        town.clock.ahead(minutes=1, seconds=1)
        assert attack(town, context, 3, 4)["claimed"] == 4


def test_the_limit_of_an_object_counts_all_its_tasks(town: World) -> None:
    town_of(town, 5, max_files_per_object=5, max_files_per_task=500)
    with town.context() as context:
        first = attack(town, context, 1, 3)
        assert first["claimed"] == 3
        tasks.delete_task(context, first["task_id"], account="alice")
        for device in town.manager.files:
            town.manager.files[device]["/back.exe"] = sample("object 1", 64)
        second = town.task_for(context, sample("object 1", 64), "again")
        assert second["created"]
        town.scan(context, second["task_id"])
        answer = town.respond(context, second["task_id"])
        assert (answer["claimed"], answer["asked"]) == (2, 3)


def test_the_limit_of_a_task(town: World) -> None:
    town_of(town, 10, max_files_per_task=4)
    with town.context() as context:
        answer = attack(town, context, 1, 10)
        assert (answer["claimed"], answer["asked"]) == (4, 6)
        assert states(context, answer["task_id"]).count("awaiting_approval") == 6
        assert town.respond(context, answer["task_id"], account="alice")["claimed"] == 6


def test_a_device_over_its_limit_holds_only_itself(town: World) -> None:
    town_of(town, 3, max_files_per_device=5)
    town.manager.files["pc001"] = {f"/copy{n}.exe": sample("object 1", 64) for n in range(6)}
    with town.context() as context:
        answer = attack(town, context, 1, 1)
        assert answer["claimed"] == 1 and answer["asked"] == 6
        assert {row["device"] for row in answer["held"]} == {"pc001"}
        assert town.manager.acted == [("pc000", "/1.0.exe")]
        # a person can approve it in parts, never the lot by one word
        assert town.respond(context, answer["task_id"], account="alice")["claimed"] == 0
        some = waiting(context, answer["task_id"])[:5]
        assert town.respond(context, answer["task_id"], account="alice", match_ids=some)["claimed"] == 5


def waiting(context: Context, task_id: str) -> list[str]:
    with context.store.reading() as tx:
        rows = tx.matches.list(task_id, response_state="awaiting_approval")
    return [row["match_id"] for row in rows]


def test_one_device_hit_by_many_detections_reaches_its_limit(town: World) -> None:
    town_of(town, 1, max_files_per_device=5)
    with town.context() as context:
        answers = [attack(town, context, number, 1) for number in range(8)]
        assert [answer["claimed"] for answer in answers] == [1] * 5 + [0] * 3
        assert [answer["asked"] for answer in answers] == [0] * 5 + [1] * 3
        town.clock.ahead(days=1, seconds=1)
        assert attack(town, context, 99, 1)["claimed"] == 1


def test_an_object_that_is_everywhere_is_asked_about(town: World) -> None:
    """What lies on every machine is more likely a vendor's file than malware."""
    town_of(town, 6, ask_when_seen_on_more_than=5)
    with town.context() as context:
        assert attack(town, context, 1, 5)["claimed"] == 5
        answer = attack(town, context, 2, 6)
        assert (answer["claimed"], answer["asked"]) == (0, 6)
        with context.store.reading() as tx:
            (approval,) = tx.approvals.list(answer["task_id"])
        assert approval["reason"] == "seen_on_many_devices"


def test_a_dry_run_does_not_use_up_a_limit(town: World) -> None:
    town_of(town, 4, max_files_per_task=4)
    town.config["threat_response_policies"] = [town.policy("report")]
    with town.context() as context:
        answer = attack(town, context, 1, 4)
        for _ in range(3):
            assert town.respond(context, answer["task_id"], dry_run=True, account="alice")["claimed"] == 4


@pytest.mark.parametrize(
    ("percent", "done", "acts"), [(50, 1, False), (50, 2, True), (100, 3, False), (0, 0, True)]
)
def test_auto_waits_until_enough_devices_have_answered(
    town: World, percent: int, done: int, acts: bool
) -> None:
    town_of(town, 4)
    town.config["response"]["min_answered_percent"] = percent
    names = list(town.manager.files)
    town.manager.slow = set(names[max(done, 1) :])
    if done == 0:
        town.manager.slow = set(names[1:])
    town.manager.files[names[0]]["/a.exe"] = sample()
    with town.context() as context:
        task_id = town.task_for(context, sample())["task_id"]
        tasks.start_task(context, task_id, account="stanley")
        collection.await_results(context, task_id)
        answer = town.respond(context, task_id)
        assert (answer["claimed"] == 1) is acts
        if not acts:
            assert answer["held"][0]["reason"] == "waiting_for_answers"
            assert states(context, task_id) == ["none"]
            # the rest answers: the match is announced again, and acted on
            town.manager.slow = set()
            due = collection.collect_results(context)["due"]
            assert "ioc_scan.response_due" in [row["trigger"] for row in due]
            assert town.respond(context, task_id)["claimed"] == 1


def test_auto_counts_those_that_are_about_to_take_the_task(town: World) -> None:
    """The first device that answers is not everybody."""
    town_of(town, 4)
    town.config["response"]["min_answered_percent"] = 50
    names = list(town.manager.files)
    town.manager.files[names[0]]["/a.exe"] = sample()
    deliver = town.manager.deliver
    online = town.manager.online

    def only_the_first(job_id: str, device_ids: Any = None) -> None:
        online.update(dict.fromkeys(names[1:], Online.NO))
        deliver(job_id)
        online.clear()

    with town.context() as context:
        task_id = town.task_for(context, sample())["task_id"]
        town.manager.deliver = only_the_first
        tasks.start_task(context, task_id, account="stanley")
        collection.await_results(context, task_id)
        assert town.respond(context, task_id)["held"][0]["reason"] == "waiting_for_answers"
        town.manager.deliver = deliver
        collection.collect_results(context)
        assert town.respond(context, task_id)["claimed"] == 1
