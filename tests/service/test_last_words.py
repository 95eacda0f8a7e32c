"""What a device quarantined is known in the end, however long it was away and whatever ended meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.devices.base import LeftBehind, Withdrawal
from ioc_scan.devices.local import LocalManager
from ioc_scan.service import collection, ending, lifetimes, restores, tasks
from ioc_scan.service.context import Context

from .world import PERSON, World, events, matches, sample, states


@pytest.fixture(autouse=True)
def auto(world: World) -> None:
    world.config["threat_response_policies"] = [world.policy("auto")]


@pytest.fixture
def link() -> Iterator[pytest.MonkeyPatch]:
    """To the device, for responses; cut by patching, whole again when that is undone."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def away_half_way(world: World, context: Context, link: pytest.MonkeyPatch) -> tuple[str, Path]:
    """A task whose response is done on the device, which nobody can ask any more; and the object."""
    planted = world.plant("ws01", "home/anna/a.exe", sample())
    task_id = str(world.task_for(context, sample())["task_id"])
    world.scan(context, task_id)
    poll, withdraw = LocalManager.poll, LocalManager.withdraw

    def deaf(self: LocalManager, job_id: str, cursor: Any) -> Any:
        return ([], dict(cursor or {})) if job_id.startswith("resp") else poll(self, job_id, cursor)

    def pending(self: LocalManager, job_id: str) -> Withdrawal:
        if job_id.startswith("resp"):
            return Withdrawal((), ("ws01",))
        return withdraw(self, job_id)

    link.setattr(LocalManager, "poll", deaf)
    link.setattr(LocalManager, "withdraw", pending)
    world.respond(context, task_id)
    deadline = time.monotonic() + 60
    while planted.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not planted.exists() and states(context, task_id) == ["claimed"]
    return task_id, planted


def in_quarantine(context: Context) -> list[dict[str, Any]]:
    with context.store.reading() as tx:
        return list(tx.quarantine.list())


@pytest.mark.parametrize("ended", ["deleted", "claim released", "both", "pruned"])
def test_it_is_told_when_the_device_is_back_and_can_be_undone(
    world: World, link: pytest.MonkeyPatch, ended: str
) -> None:
    with world.context() as context:
        task_id, planted = away_half_way(world, context, link)
        if ended in ("claim released", "both"):
            world.ahead(minutes=21)
            collection.collect_results(context)
            assert states(context, task_id) == ["none"]
        if ended in ("deleted", "both"):
            tasks.delete_task(context, task_id, account=PERSON)
        if ended == "pruned":
            tasks.delete_task(context, task_id, account=PERSON)
            world.ahead(days=8)
            lifetimes.prune(context)
            assert matches(context, task_id) == []
        assert in_quarantine(context) == []
        link.undo()
        collection.collect_results(context)
        (held,) = in_quarantine(context)
        assert (held["device_id"], held["state"], held["path"]) == ("ws01", "quarantined", str(planted))
        assert states(context, task_id) == ([] if ended == "pruned" else ["quarantined"])
        assert [event["data"]["code"] for event in events(context, "object_quarantined")] == ["told_late"]
        assert not any(name.startswith("resp") for name in world.jobs_on("ws01"))
        answer = restores.restore_object(context, held["quarantine_id"], "ws01", account=PERSON)
        assert answer["state"] == "restored", answer
        assert planted.read_bytes() == sample()


def test_it_is_noted_once_however_often_it_is_told(world: World, link: pytest.MonkeyPatch) -> None:
    """Whoever dies between the device's word and the store's is told again."""
    with world.context() as context:
        task_id, _ = away_half_way(world, context, link)
        tasks.delete_task(context, task_id, account=PERSON)
        link.undo()
        with link.context() as patch:
            patch.setattr(ending, "store_last_words", _die)
            with pytest.raises(KeyboardInterrupt):
                ending.withdraw_ended(context)
        assert in_quarantine(context) == []
        for _ in range(2):
            collection.collect_results(context)
        assert len(in_quarantine(context)) == len(events(context, "object_quarantined")) == 1
        assert states(context, task_id) == ["quarantined"]


def _die(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "lie",
    [{"device_id": "ws02"}, {"match_id": "another"}, {"sha256": "ef" * 32}],
    ids=lambda lie: next(iter(lie)),
)
def test_a_device_speaks_only_of_what_it_was_asked_for(
    world: World, link: pytest.MonkeyPatch, lie: dict[str, str]
) -> None:
    withdraw = LocalManager.withdraw

    def lying(self: LocalManager, job_id: str) -> Withdrawal:
        told = withdraw(self, job_id)
        left: tuple[LeftBehind, ...] = tuple(replace(one, **lie) for one in told.left)
        return replace(told, left=left)

    with world.context() as context:
        task_id, _ = away_half_way(world, context, link)
        tasks.delete_task(context, task_id, account=PERSON)
        link.undo()
        link.setattr(LocalManager, "withdraw", lying)
        ending.withdraw_ended(context)
        assert in_quarantine(context) == [] and states(context, task_id) != ["quarantined"]
