"""The main ways once more over a real PostgreSQL server, where several hosts run actions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from ioc_scan.service import collection, intake, killswitch, lifetimes, outputs, tasks, views

from tests.fixtures.postgres import PostgresServer

from .world import NASTY_NAME, World, cape_report, count, detection, matches, sample, states


@pytest.fixture
def on_postgres(town: World, postgres_server: PostgresServer) -> Iterator[World]:
    name = postgres_server.new_database()
    town.config["store"]["url"] = postgres_server.url(name)
    yield town
    postgres_server.drop_database(name)


def test_from_detection_to_the_last_prune(on_postgres: World) -> None:
    town = on_postgres
    town.config["threat_response_policies"] = [town.policy("auto", tag_ceilings={"dc": "ask"})]
    town.manager.tags["ws02"] = ("dc",)
    for device in ("ws01", "ws02"):
        town.manager.files[device][f"/{NASTY_NAME}"] = sample()
    detection_id = town.drop_report(cape_report(sample()))
    with town.context() as context:
        assert intake.fetch_detection(context, detection_id)["starts_task"]
        task_id = tasks.create_task(context, detection_id)["task_id"]
        assert town.scan(context, task_id, new_run=True)["state"] == "completed"
        answer = town.respond(context, task_id)
        assert (answer["claimed"], answer["asked"]) == (1, 1)
        assert town.respond(context, task_id, account="alice")["outcomes"] == {"quarantined": 1}
        assert states(context, task_id) == ["quarantined", "quarantined"]
        triggers = {row["trigger"] for row in collection.collect_results(context)["due"]}
        assert {"ioc_scan.approval_needed", "ioc_scan.response_done", "ioc_scan.task_ended"} <= triggers
        assert views.list_tasks(context)["rows"][0]["quarantined"] == 2
        assert views.list_events(context, task_id=task_id)["rows"]
        assert outputs.render_report(context, task_id)["bytes"] > 1000
        killswitch.kill_switch(context, "stop", account="alice")
        killswitch.kill_switch(context, "go", account="alice")
        town.clock.ahead(days=7)
        assert lifetimes.prune(context)["expired"] == [task_id]
        town.clock.ahead(days=7)
        assert lifetimes.prune(context)["tasks_removed"] == 1
        assert (count(context, "tasks"), count(context, "task_summaries")) == (0, 1)


def test_several_hosts_at_once(on_postgres: World) -> None:
    town = on_postgres
    town.config["threat_response_policies"] = [town.policy("auto")]
    for device in ("ws01", "ws02", "ws03"):
        town.manager.files[device]["/a.exe"] = sample()
    created: list[dict[str, Any]] = []
    claimed: list[int] = []

    def intake_of(number: int) -> None:
        with town.context() as context:
            created.append(town.task_for(context, sample(), number))

    def response_of(task_id: str) -> None:
        with town.context() as context:
            claimed.append(town.respond(context, task_id)["claimed"])

    with town.context() as context:
        context.store.describe()
        _together([threading.Thread(target=intake_of, args=(number,)) for number in range(4)])
        assert len({answer["task_id"] for answer in created}) == 1
        assert sum(answer["created"] for answer in created) == 1
        task_id = created[0]["task_id"]
        town.scan(context, task_id, new_run=True)
        _together([threading.Thread(target=response_of, args=(task_id,)) for _ in range(4)])
        assert sorted(claimed) == [0, 0, 0, 3]
        assert len(town.manager.acted) == 3 == len(matches(context, task_id))


def test_text_no_database_takes_is_refused_or_kept_safe(on_postgres: World) -> None:
    with on_postgres.context() as context:
        pushed = detection(sample())
        pushed["verdict"]["native"] = "9.9 \u202e {{ 7*7 }}"
        answer = on_postgres.task_for(context, sample(), 1, verdict=pushed["verdict"])
        assert answer["decision"] == "task"


def _together(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
