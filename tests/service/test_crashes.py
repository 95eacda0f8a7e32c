"""Killed at any moment, run again: no task twice, no match lost or acted on twice, no job lost."""

from __future__ import annotations

import importlib
import multiprocessing
import random
import time
from typing import Any

from ioc_scan.service import collection, intake, lifetimes, tasks
from ioc_scan.service.context import open_context

from .world import RULE, World, cape_report, count, events, matches, sample, states

FORK = multiprocessing.get_context(
    "fork"
)  # modules are loaded: the kill falls into the work, not into imports


def _work(config: dict[str, Any], name: str, parameters: dict[str, Any]) -> None:
    module, function = name.split(".")
    use_case = getattr(importlib.import_module(f"ioc_scan.service.{module}"), function)
    with open_context(config) as context:
        use_case(context, **parameters)


def run_killed(world: World, name: str, after_seconds: float | None, **parameters: Any) -> bool:
    """Run a use case in a process of its own; SIGKILL after so many seconds. True if it ended before."""
    process = FORK.Process(target=_work, args=(world.config, name, parameters))
    process.start()
    process.join(after_seconds)
    if ended := not process.is_alive():
        assert process.exitcode == 0
    process.kill()
    process.join()
    world.catch_up()
    return ended


def moments(seed: str, longest: float, number: int) -> list[float]:
    rng = random.Random(seed)
    return [0.01, *sorted(rng.uniform(0.01, longest) for _ in range(number - 1))]


def test_fetch_detection(world: World) -> None:
    detection_id = world.drop_report(cape_report(sample()))
    for after in [*moments("fetch", 0.25, 5), None]:
        run_killed(world, "intake.fetch_detection", after, detection_id=detection_id)
    with world.context() as context:
        assert count(context, "detections") == 1
        assert len(events(context, "detection_received")) == 1
        assert count(context, "fetches") == 0 or events(context, "fetch_failed") == []


def test_start_task(world: World) -> None:
    world.plant("ws01", "a.exe", sample())
    with world.context() as context:
        task_id = world.task_for(context, sample())["task_id"]
    for after in moments("start", 0.5, 8):
        run_killed(world, "tasks.start_task", after, task_id=task_id, new_run=True, account=RULE)
    with world.context() as context:
        tasks.start_task(context, task_id, new_run=True, account=RULE)
        look = world.settle(context, task_id)
        assert (look["state"], look["answered"], look["matched"]) == ("completed", 3, 1)
        assert count(context, "tasks") == count(context, "jobs") == 1
        assert len(matches(context, task_id, tier="actionable")) == 1
        assert len(events(context, "task_started")) == 1


def test_respond(world: World) -> None:
    world.config["threat_response_policies"] = [world.policy("auto")]
    planted = [world.plant(device, f"{n}/a.exe", sample()) for device in ("ws01", "ws02") for n in range(4)]
    with world.context() as context:
        task_id = world.task_for(context, sample())["task_id"]
        world.scan(context, task_id)
    for after in moments("respond", 0.6, 8):
        run_killed(world, "responses.respond", after, task_id=task_id, account=RULE)
    with world.context() as context:
        deadline = time.monotonic() + 40
        while states(context, task_id) != ["quarantined"] * 8:
            assert time.monotonic() < deadline, states(context, task_id)
            collection.collect_results(context)
            world.respond(context, task_id)
            world.settle(context, task_id)
            if "claimed" in states(context, task_id):
                world.ahead(minutes=21)
            world.catch_up()
        assert not any(path.exists() for path in planted)
        assert count(context, "quarantine") == 8
        assert len(events(context, "object_quarantined")) == 8
        with context.store.reading() as tx:
            assert tx.responses.acted()["files"] == 8


def test_collect_results(world: World) -> None:
    for device in ("ws01", "ws02", "ws03"):
        for number in range(20):
            world.plant(device, f"{number}.exe", sample())
    detection_id = world.drop_report(cape_report(sample("other")))
    with world.context() as context:
        task_id = world.task_for(context, sample())["task_id"]
        tasks.start_task(context, task_id, account=RULE)
    world.ahead(minutes=11)
    for after in moments("collect", 0.8, 8):
        run_killed(world, "collection.collect_results", after)
        world.ahead(seconds=collection.LEASE_SECONDS + 5)
    with world.context() as context:
        collection.collect_results(context)
        world.settle(context, task_id)
        assert len(matches(context, task_id, tier="actionable")) == 60
        found = events(context, "match_found", task_id=task_id)
        named = [name for event in found for name in event["data"]["match_ids"]]
        assert (
            sum(event["data"]["matches"] for event in found)
            == count(context, "matches")
            == len(matches(context, task_id))
        )
        assert len(named) == len(set(named))
        # Killed between storing the detection and telling of it: told by a later round, as left over.
        world.ahead(minutes=21)
        collection.collect_results(context)
        with context.store.reading() as tx:
            assert tx.detections.get(detection_id) is not None
            told = [row for row in tx.outbox.due(500) if row["trigger"] == "ioc_scan.sandbox_detection"]
        assert told and {row["trace_tag"] for row in told} == {detection_id}
        assert len(events(context, "task_completed")) == 1


def test_prune(world: World) -> None:
    world.plant("ws01", "a.exe", sample(0))
    with world.context() as context:
        ids = [world.task_for(context, sample(number), number)["task_id"] for number in range(6)]
        world.scan(context, ids[0])
    world.ahead(days=7)
    for after in moments("prune", 0.5, 8):
        run_killed(world, "lifetimes.prune", after)
    with world.context() as context:
        lifetimes.prune(context)
        with context.store.reading() as tx:
            assert {tx.tasks.get(task_id)["state"] for task_id in ids} == {"expired"}
            assert tx.withdrawals.open() == []
        assert len(events(context, "task_expired")) == 6
        assert world.jobs_on("ws01") == []
    world.ahead(days=8)
    for after in moments("prune again", 0.5, 4):
        run_killed(world, "lifetimes.prune", after)
    with world.context() as context:
        lifetimes.prune(context)
        assert count(context, "tasks") == count(context, "matches") == 0
        with context.store.reading() as tx:
            summaries = {row["task_id"]: row for row in tx.task_summaries.list()}
        assert set(summaries) == set(ids)
        assert summaries[ids[0]]["actions"]["by_outcome"].get("none") == 1


def test_create_task(world: World) -> None:
    with world.context() as context:
        detection_id = world.submit(context, sample())
    for after in moments("create", 0.2, 4):
        run_killed(world, "tasks.create_task", after, detection_id=detection_id)
    with world.context() as context:
        answer = tasks.create_task(context, detection_id)
        assert answer["start"]
        assert count(context, "tasks") == 1 and len(events(context, "task_created")) == 1
        assert intake.stored_detection(context, detection_id)["task_id"] == answer["task_id"]
