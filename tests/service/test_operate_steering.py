"""Pausing, resuming, cancelling and configuring a task."""

from __future__ import annotations

import time
from typing import Any

import pytest
from ioc_scan.devices.base import Capability
from ioc_scan.errors import InputError, IocScanError, RefusedError
from ioc_scan.service import collection, configuring, steering, tasks
from ioc_scan.service.collecting import collect
from ioc_scan.service.context import Context

from .test_responses import scanned
from .world import World, events, sample, states


def running(town: World, context: Context) -> str:
    """A task that ws02 has taken and not finished."""
    town.manager.slow = {"ws02"}
    task_id = town.task_for(context, sample())["task_id"]
    tasks.start_task(context, task_id, account="stanley")
    collection.await_results(context, task_id)
    return str(task_id)


def state_of(context: Context, task_id: str) -> str:
    with context.store.reading() as tx:
        return str(tx.tasks.get(task_id)["state"])


def refusal(function: Any, *given: Any, **named: Any) -> str:
    with pytest.raises(IocScanError) as caught:
        function(*given, **named)
    return str(caught.value.code)


def test_pause_and_resume_reach_the_jobs_of_the_run(town: World) -> None:
    told = []
    with town.context() as context:
        task_id = running(town, context)
        town.manager.caps = town.manager.caps | {Capability.PAUSE}
        town.manager.control = lambda job_id, op, device_ids=None: told.append((job_id, op.value))
        answer = steering.pause_task(context, task_id, account="alice")
        assert answer["devices"] == 3 and "told to pause" in answer["message"]
        steering.resume_task(context, task_id, account="alice")
        assert told == [(f"{task_id}.r1.0", "pause"), (f"{task_id}.r1.0", "resume")]
        assert [events(context, f"task_{word}")[0]["actor"] for word in ("paused", "resumed")] == [
            "alice"
        ] * 2
        assert state_of(context, task_id) == "running"


def test_what_cannot_be_paused_says_so(town: World) -> None:
    with town.context() as context:
        task_id = running(town, context)
        assert refusal(steering.pause_task, context, task_id, account="alice") == "pause_unsupported"
        town.manager.slow = set()
        collection.await_results(context, task_id)
        done = str(town.task_for(context, sample("other"), 2)["task_id"])
        town.scan(context, done)
        assert refusal(steering.pause_task, context, done, account="alice") == "task_not_running"
        assert refusal(steering.pause_task, context, "ioc-none", account="alice") == "task_not_found"


def test_a_manager_that_cannot_be_asked_is_an_error_and_no_event(town: World) -> None:
    with town.context() as context:
        task_id = running(town, context)
        town.manager.broken = True
        town.manager.caps = town.manager.caps | {Capability.PAUSE}
        town.manager.control = lambda *given: town.manager._check()
        assert refusal(steering.pause_task, context, task_id, account="alice") == "manager_unreachable"
        assert events(context, "task_paused") == []


def test_a_real_scan_stops_and_goes_on(world: World) -> None:
    world.plant("ws01", "zz.exe", sample())
    with world.context() as context:
        task_id = world.task_for(context, sample())["task_id"]
        tasks.start_task(context, task_id, account="stanley")
        assert steering.pause_task(context, task_id, account="alice")["devices"] == 3
        time.sleep(1)
        collect(context, task_id)
        with context.store.reading() as tx:
            found = {row["state"] for row in tx.task_devices.list(task_id)}
        assert found <= {"paused", "delivered", "done"}
        steering.resume_task(context, task_id, account="alice")
        assert world.settle(context, task_id)["matched"] == 1


def test_cancel_ends_the_task_everywhere_and_says_why(town: World) -> None:
    with town.context() as context:
        task_id = running(town, context)
        answer = steering.cancel_task(context, task_id, reason="wrong object", account="alice")
        assert answer["state"] == "cancelled" and answer["withdrawn"] == 3
        assert state_of(context, task_id) == "cancelled"
        (event,) = events(context, "task_cancelled")
        assert event["actor"] == "alice" and event["data"]["reason"] == "cancelled by alice: wrong object"
        assert steering.cancel_task(context, task_id, account="alice")["pending"] == 0
        assert len(events(context, "task_cancelled")) == 1
        tasks_left = [refusal(steering.pause_task, context, task_id, account="alice")]
        assert tasks_left == ["task_ended"]


def test_cancel_does_not_rename_another_end(town: World) -> None:
    with town.context() as context:
        task_id = running(town, context)
        tasks.delete_task(context, task_id, account="alice")
        assert refusal(steering.cancel_task, context, task_id, account="alice") == "task_ended"
        assert state_of(context, task_id) == "deleted"


def test_configure_changes_what_is_given_and_nothing_else(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context)
        with context.store.reading() as tx:
            before = tx.tasks.get(task_id)
        answer = configuring.configure_task(
            context, task_id, idle_only=True, cpu_percent=10, exclude_devices=["ws03"], account="alice"
        )
        assert answer["changed"] == {"idle_only": True, "cpu_percent": 10, "exclude_devices": ["ws03"]}
        with context.store.reading() as tx:
            after = tx.tasks.get(task_id)
            iocs = tx.tasks.iocs(task_id)
        different = {k for k in after["settings"] if after["settings"][k] != before["settings"].get(k)}
        assert different == {"idle_only", "cpu_percent", "exclude_devices"}
        assert after["plan_digest"] == before["plan_digest"] and len(iocs) == 2
        town.clock.ahead(hours=5)
        tasks.start_task(context, task_id, new_run=True, account="alice")
        with context.store.reading() as tx:
            (job,) = tx.jobs.open("scan", task_id)
        assert job["spec"]["device_ids"] == ["ws01", "ws02"]
        assert job["spec"]["settings"]["idle_only"] and job["spec"]["settings"]["cpu_percent"] == 10


def test_a_lowered_mode_counts_for_the_next_response(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context, "auto")
        configuring.configure_task(context, task_id, response_mode="report", account="alice")
        town.respond(context, task_id)
        assert states(context, task_id) == ["reported", "reported"] and town.manager.acted == []
        (event,) = events(context, "task_configured")
        assert event["data"]["changed"] == {"response_mode": "report"}


@pytest.mark.parametrize("source", [{"trust": "hunt"}, {"max_response_mode": "ask"}])
def test_no_mode_goes_above_the_ceiling_of_the_source(town: World, source: dict[str, str]) -> None:
    with town.context() as context:
        task_id = scanned(town, context)
        context.config["sources"][1] |= source
        code = refusal(configuring.configure_task, context, task_id, response_mode="auto", account="alice")
        assert code == "over_ceiling"
        assert town.respond(context, task_id)["asked"] == 2


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({}, "nothing_to_change"),
        ({"scope": "all"}, "nothing_to_change"),
        ({"scope": "custom"}, "roots_needed"),
        ({"scope": "custom", "roots": ["srv"]}, "roots_needed"),
        ({"response_mode": "report", "group": "nobody"}, "group_not_of_task"),
    ],
)
def test_what_makes_no_sense_changes_nothing(town: World, given: dict[str, Any], code: str) -> None:
    with town.context() as context:
        task_id = scanned(town, context)
        with pytest.raises(InputError) as caught:
            configuring.configure_task(context, task_id, account="alice", **given)
        assert caught.value.code == code and events(context, "task_configured") == []


@pytest.mark.parametrize("who", [{"account": "stanley"}, {"account": "bot", "chat_user": "U_STRANGER"}])
def test_rules_and_strangers_configure_nothing(town: World, who: dict[str, str]) -> None:
    with town.context() as context:
        task_id = scanned(town, context)
        with pytest.raises(RefusedError) as caught:
            configuring.configure_task(context, task_id, cpu_percent=1, **who)
        assert caught.value.code == "person_needed"
        assert f"st2 run ioc_scan.configure_task task_id={task_id}" in caught.value.hint
