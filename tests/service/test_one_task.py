"""One task per object, however often it is detected."""

from __future__ import annotations

import json
import multiprocessing
from typing import Any

import pytest
from ioc_scan.devices.base import Online
from ioc_scan.errors import RefusedError
from ioc_scan.service import intake, tasks
from ioc_scan.service.context import open_context

from .world import RULE, World, count, detection, events, matches, sample


def test_two_reports_of_one_object_are_one_task(town: World) -> None:
    with town.context() as context:
        first = town.task_for(context, sample(), 1)
        second = town.task_for(context, sample(), 2)
        again = town.task_for(context, sample(), 2)
        assert first["created"] and not second["created"] and not again["created"]
        assert first["task_id"] == second["task_id"] == again["task_id"]
        with context.store.reading() as tx:
            assert tx.tasks.get(first["task_id"])["detections_count"] == 2
        assert len(events(context, "task_redetected")) == 1
        assert count(context, "tasks") == 1


def test_another_object_is_another_task(town: World) -> None:
    with town.context() as context:
        assert (
            town.task_for(context, sample(1), 1)["task_id"] != town.task_for(context, sample(2), 2)["task_id"]
        )


def test_an_object_known_by_md5_only_is_one_object_too(town: World) -> None:
    md5 = {"category": "file", "name": "x", "hashes": {"MD5": "a" * 32}}
    with town.context() as context:
        first = town.task_for(context, sample(), 1, target=md5)
        second = town.task_for(context, sample(), 2, target=md5)
        assert first["task_id"] == second["task_id"]


def _detect_and_start(config: dict[str, Any], number: int, answers: Any) -> None:
    with open_context(config) as context:
        pushed = json.dumps(detection(sample(), number))
        found = intake.submit_detection(context, pushed, "webhook")
        task = tasks.create_task(context, found["detection_id"])
        if task["start"]:
            tasks.start_task(context, task["task_id"], new_run=True, account=RULE)
        answers.put(task)


def test_six_processes_at_once_make_one_task_and_one_run(world: World) -> None:
    fork = multiprocessing.get_context("fork")
    queue = fork.Queue()
    workers = [
        fork.Process(target=_detect_and_start, args=(world.config, number, queue)) for number in range(6)
    ]
    for worker in workers:
        worker.start()
    answers = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert len({answer["task_id"] for answer in answers}) == 1
    assert sum(answer["created"] for answer in answers) == 1
    with world.context() as context:
        with context.store.reading() as tx:
            task = tx.tasks.get(answers[0]["task_id"])
        assert (task["run"], task["detections_count"]) == (1, 6)
        assert count(context, "jobs") == 1


def test_a_re_detection_starts_a_run_only_after_the_pause(town: World) -> None:
    town.manager.files["ws01"]["/a.exe"] = sample()
    with town.context() as context:
        task = town.task_for(context, sample(), 1)
        town.scan(context, task["task_id"], new_run=True)
        town.clock.ahead(hours=3, minutes=59)
        soon = town.task_for(context, sample(), 2)
        assert not soon["start"] and "less than 4 hours" in soon["message"]
        town.clock.ahead(minutes=2)
        later = town.task_for(context, sample(), 3)
        assert later["start"]
        assert tasks.start_task(context, task["task_id"], new_run=True, account=RULE)["run"] == 2
        town.settle(context, task["task_id"])
        assert [row["run"] for row in matches(context, task["task_id"], tier="actionable")] == [1, 2]
        assert matches(context, task["task_id"], run=1) and matches(context, task["task_id"], run=2)


def test_a_re_detection_renews_a_run_that_waits_for_an_absent_device(town: World) -> None:
    """One laptop in a drawer must not keep the others from being scanned again."""
    town.manager.online["ws03"] = Online.NO
    with town.context() as context:
        task_id = town.task_for(context, sample(), 1)["task_id"]
        assert town.scan(context, task_id, new_run=True)["state"] == "running"
        town.manager.files["ws01"]["/new.exe"] = sample()
        town.clock.ahead(hours=5)
        assert town.task_for(context, sample(), 2)["start"]
        answer = tasks.start_task(context, task_id, new_run=True, account=RULE)
        assert answer["started"] and answer["run"] == 2
        assert town.settle(context, task_id)["matched"] == 1
        assert f"{task_id}.r1.0" in town.manager.withdrawn


def test_starting_twice_is_starting_once(town: World) -> None:
    with town.context() as context:
        task_id = town.task_for(context, sample(), 1)["task_id"]
        first = tasks.start_task(context, task_id, new_run=True, account=RULE)
        second = tasks.start_task(context, task_id, new_run=True, account=RULE)
        town.settle(context, task_id)
        third = tasks.start_task(context, task_id, new_run=True, account=RULE)
        assert (first["started"], second["started"], third["started"]) == (True, False, False)
        assert count(context, "jobs") == 1
        by_hand = tasks.start_task(context, task_id, new_run=True, account="alice")
        assert by_hand["started"] and by_hand["run"] == 2


def test_after_the_end_a_new_detection_makes_a_new_task_and_an_old_one_does_not(town: World) -> None:
    with town.context() as context:
        first = town.task_for(context, sample(), 1)
        tasks.delete_task(context, first["task_id"], account="alice")
        told_again = town.task_for(context, sample(), 1)
        assert not told_again["start"] and told_again["task_id"] == first["task_id"]
        assert "has ended" in told_again["message"]
        new = town.task_for(context, sample(), 2)
        assert new["created"] and new["task_id"] != first["task_id"]


def test_a_manual_task_waits_for_a_person(town: World) -> None:
    town.config["threat_response_policies"][0]["start"] = "manual"
    with town.context() as context:
        task = town.task_for(context, sample(), 1)
        assert task["created"] and not task["start"] and "person" in task["message"]
        tasks.start_task(context, task["task_id"], account="alice")
        town.clock.ahead(hours=9)
        assert not town.task_for(context, sample(), 2)["start"]


def test_the_same_id_with_other_content_is_a_revision_and_an_alert(town: World) -> None:
    with town.context() as context:
        town.submit(context, sample(), 1)
        answer = intake.submit_detection(context, json.dumps(detection(sample("other"), 1)), "webhook")
        assert answer["outcome"] == "revision"
        assert [event["data"]["alert"] for event in events(context, "alert_raised")] == ["detection_revised"]
        assert count(context, "detections") == 1


@pytest.mark.parametrize(
    ("custom", "kind", "code", "named"),
    [
        ("<ioc xmlns='http://schemas.mandiant.com/2010/ioc'/>", "openioc", "custom_ioc_refused", "custom"),
        ("<ioc/>", None, "custom_ioc_refused", "custom"),
        (None, "yara", "rule_type_refused", "YARA"),
        (None, "SIGMA", "rule_type_refused", "Sigma"),
        (None, "snort", "rule_type_refused", "Snort"),
        ("rule evil { condition: true }", "openioc", "rule_type_refused", "YARA"),
        ('import "pe"\nprivate rule evil { condition: pe.is_pe }', None, "rule_type_refused", "YARA"),
        ("title: x\nlogsource:\n  product: windows\ndetection:\n  a: b", None, "rule_type_refused", "Sigma"),
        ('alert tcp any any -> any 80 (msg:"x"; sid:1;)', None, "rule_type_refused", "Snort"),
        ('alert http any any -> any any (msg:"x"; sid:1;)', None, "rule_type_refused", "Snort"),
        ("<ioc><description>rule x { }</description></ioc>", None, "custom_ioc_refused", "custom"),
        ("x", "{{ 7*7 }}", "rule_type_refused", "{ { 7*7 }}"),
    ],
)
def test_tasks_take_no_rules_but_the_generated(
    town: World, custom: str | None, kind: str | None, code: str, named: str
) -> None:
    with town.context() as context:
        detection_id = town.submit(context, sample())
        with pytest.raises(RefusedError) as caught:
            tasks.create_task(context, detection_id, custom_ioc=custom, rule_type=kind)
        assert caught.value.code == code
        assert named in caught.value.message and caught.value.hint
        assert count(context, "tasks") == 0
