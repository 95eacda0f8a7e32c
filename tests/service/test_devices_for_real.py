"""The use cases with real scanners on folder trees: quarantine, undo, late devices, and ends that reach everybody."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.clock import to_iso
from ioc_scan.errors import DeviceError, NotFoundError, RefusedError
from ioc_scan.service import collection, lifetimes, outputs, publishing, responses, restores, tasks, views
from ioc_scan.service.context import Context
from ioc_scan.service.ending import end_task
from ioc_scan.service.people import Actor
from ioc_scan.service.policies import Target
from ioc_scan.service.targeting import resolve

from .world import DEVICES, NASTY_NAME, PERSON, RULE, World, count, events, matches, sample, states


def auto(world: World) -> None:
    world.config["threat_response_policies"] = [world.policy("auto")]


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def note_run(context: Context, task_id: str) -> None:
    """What start_task leaves when it dies before anything was pushed to a manager."""
    aims = resolve(context, [Target("workstations", "ask")], [])
    with context.store.transaction() as tx:
        publishing.begin_run(context, tx, tx.tasks.get(task_id), 1, aims, Actor("x", False))


def coverage(context: Context, task_id: str) -> dict[str, Any]:
    with context.store.reading() as tx:
        return dict(tx.task_devices.coverage(task_id))


def test_the_whole_way_and_back(world: World) -> None:
    auto(world)
    planted = [
        world.plant("ws01", f"home/anna/{NASTY_NAME}", sample()),
        world.plant("ws02", "deep/er/x.bin", sample()),
    ]
    decoy = world.plant("ws03", "decoy.exe", sample("decoy"))
    with world.context() as context:
        task_id = world.task_for(context, sample())["task_id"]
        assert world.scan(context, task_id)["state"] == "completed"
        assert coverage(context, task_id)["clean"] == 1
        world.respond(context, task_id)
        world.settle(context, task_id)
        assert states(context, task_id) == ["quarantined", "quarantined"]
        assert not any(path.exists() for path in planted)
        assert decoy.read_bytes() == sample("decoy")

        with context.store.reading() as tx:
            held = {row["device_id"]: row for row in tx.quarantine.list()}
        with pytest.raises(RefusedError) as caught:
            restores.restore_object(context, held["ws01"]["quarantine_id"], "ws01", account=RULE)
        assert caught.value.code == "person_needed"
        planted[0].write_bytes(b"somebody's own by now")
        with pytest.raises(DeviceError, match="there is a file of that name") as failed:
            restores.restore_object(context, held["ws01"]["quarantine_id"], "ws01", account=PERSON)
        assert failed.value.code == "restore_failed" and planted[0].read_bytes() == b"somebody's own by now"
        planted[0].unlink()
        answer = restores.restore_object(context, held["ws01"]["quarantine_id"], "ws01", account=PERSON)
        assert answer["state"] == "restored", answer
        assert planted[0].read_bytes() == sample()

        # found again by the next run, on both: the hash is exempt now, whoever asks
        planted[1].write_bytes(sample())
        world.ahead(hours=5)
        world.task_for(context, sample(), 2)
        world.scan(context, task_id, new_run=True)
        second = matches(context, task_id, run=2, tier="actionable")
        assert len(second) == 2
        assert world.respond(context, task_id)["claimed"] == 0
        ids = [row["match_id"] for row in second]
        assert world.respond(context, task_id, account=PERSON, match_ids=ids)["claimed"] == 0
        assert {row["response_code"] for row in matches(context, task_id, run=2, tier="actionable")} == {
            "exempt_hash"
        }
        assert all(path.exists() for path in planted)
        with pytest.raises(RefusedError) as caught:
            restores.restore_object(context, held["ws01"]["quarantine_id"], "ws01", account=PERSON)
        assert caught.value.code == "not_in_quarantine"

        page = Path(outputs.render_report(context, task_id)["path"]).read_text(encoding="utf-8")
        assert "7*7" in page and "{{" not in page and "<%" not in page


def test_a_late_device_gets_the_live_task_and_nothing_after_its_end(world: World) -> None:
    planted = world.plant("ws02", "a.exe", sample())
    world.take_offline("ws02")
    world.take_offline("ws03")
    with world.context() as context:
        task_id = world.task_for(context, sample())["task_id"]
        look = world.scan(context, task_id)
        assert (look["answered"], look["targeted"], look["state"]) == (1, 3, "running")
        assert coverage(context, task_id)["never_seen"] == 2
        world.ahead(days=2)
        world.bring_back("ws02")
        collection.collect_results(context)
        look = world.settle(context, task_id)
        assert (look["answered"], look["matched"]) == (2, 1) and planted.exists()

        world.ahead(days=5, seconds=1)
        assert lifetimes.prune(context)["expired"] == [task_id]
        world.bring_back("ws03")
        world.plant("ws03", "a.exe", sample())
        for _ in range(2):
            collection.collect_results(context)
        time.sleep(0.5)
        assert world.jobs_on("ws03") == [] and len(matches(context, task_id, device_id="ws03")) == 0


@pytest.mark.parametrize("end", ["deleted", "expired", "rotated"])
def test_the_end_of_a_task_reaches_every_device_those_away_when_they_are_back(world: World, end: str) -> None:
    with world.context() as context:
        task_id = world.task_for(context, sample())["task_id"]
        world.scan(context, task_id)
        assert all(world.jobs_on(device) for device in DEVICES)
        world.take_offline("ws03")
        _end(world, context, task_id, end)
        with context.store.reading() as tx:
            task = tx.tasks.get(task_id)
            (open_,) = [row for row in tx.withdrawals.open() if row["task_id"] == task_id]
        assert task["state"] == end and task["end_reason"]
        assert open_["pending"] == ["ws03"]
        assert world.jobs_on("ws01") == world.jobs_on("ws02") == []
        assert any(name.startswith(task_id) for name in world.jobs_on("ws03"))
        for _ in range(2):  # still away: nothing is given up
            collection.collect_results(context)
        world.bring_back("ws03")
        collection.collect_results(context)
        assert world.jobs_on("ws03") == []
        assert coverage(context, task_id)["by_state"] == {"withdrawn": 3}
        with context.store.reading() as tx:
            assert tx.withdrawals.open() == []
        assert events(context, "withdrawal_completed", task_id=task_id)
        ended = [
            e for e in collection.collect_results(context)["due"] if e["trigger"] == "ioc_scan.task_ended"
        ]
        assert end in {event["payload"]["state"] for event in ended if event["payload"]["task_id"] == task_id}


def _end(world: World, context: Context, task_id: str, end: str) -> None:
    if end == "deleted":
        answer = tasks.delete_task(context, task_id, account=PERSON)
        assert (answer["state"], answer["withdrawn"], answer["pending"]) == ("deleted", 2, 1)
    elif end == "expired":
        world.ahead(days=7)
        assert lifetimes.prune(context)["expired"] == [task_id]
    else:
        for number in range(100):
            world.task_for(context, sample(f"other {number}"), f"o{number}")
        assert lifetimes.prune(context)["rotated"] == [task_id]


def test_results_of_an_ended_task_count_no_more(world: World) -> None:
    world.plant("ws01", "a.exe", sample())
    with world.context() as context:
        task_id = world.task_for(context, sample())["task_id"]
        tasks.start_task(context, task_id, account=RULE)
        deadline = time.monotonic() + 30
        results = world.folder / "spool" / "ws01" / "jobs" / f"{task_id}.r1.0" / "results.jsonl"
        while not (results.exists() and b"summary" in results.read_bytes()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with context.store.transaction() as tx:  # it ends by a crash's worth before anything was collected
            end_task(context, tx, tx.tasks.get(task_id), "deleted", "test")
        collection.collect_results(context)
        assert matches(context, task_id) == [] and count(context, "matches") == 0


def test_a_respond_job_of_an_ended_task_does_not_act(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was claimed and noted; the task ends before the job reaches its device."""
    auto(world)
    planted = world.plant("ws01", "a.exe", sample())
    with world.context() as context:
        task_id = world.task_for(context, sample())["task_id"]
        world.scan(context, task_id)
        monkeypatch.setattr(
            responses, "push_jobs", lambda *_: tasks.delete_task(context, task_id, account=PERSON)
        )
        assert world.respond(context, task_id)["claimed"] == 1
        publishing.push_jobs(context)
        collection.collect_results(context)
        time.sleep(0.5)
        assert planted.exists() and world.jobs_on("ws01") == []


def test_deleting_a_task_keeps_what_its_response_had_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device has quarantined, nobody has asked it yet: the record must not go with the job folder."""
    auto(world)
    planted = world.plant("ws01", "a.exe", sample())
    with world.context() as context:
        task_id = world.task_for(context, sample())["task_id"]
        world.scan(context, task_id)
        monkeypatch.setattr(responses, "_wait_shortly", lambda *_: None)
        assert world.respond(context, task_id)["claimed"] == 1
        deadline = time.monotonic() + 30
        while planted.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        tasks.delete_task(context, task_id, account=PERSON)
        with context.store.reading() as tx:
            (held,) = tx.quarantine.list()
        answer = restores.restore_object(context, held["quarantine_id"], "ws01", account=PERSON)
        assert answer["state"] == "restored" and planted.read_bytes() == sample()


def test_a_quarantined_object_goes_for_good_after_its_term(world: World) -> None:
    auto(world)
    world.plant("ws01", "a.exe", sample())
    with world.context() as context:
        task_id = world.task_for(context, sample())["task_id"]
        world.scan(context, task_id)
        world.respond(context, task_id)
        world.settle(context, task_id)
        kept = world.folder / "spool" / "ws01" / "quarantine"
        assert files_in(kept)
        world.ahead(days=29)
        assert lifetimes.prune(context)["quarantine_expired"] == 0
        world.ahead(days=1, seconds=1)
        assert lifetimes.prune(context)["quarantine_expired"] == 1
        deadline = time.monotonic() + 30
        while events(context, "quarantine_expired") == []:
            assert time.monotonic() < deadline
            collection.collect_results(context)
        assert not files_in(kept)
        world.ahead(days=7)
        assert lifetimes.prune(context)["tasks_removed"] == 1
        with context.store.reading() as tx:
            (summary,) = tx.task_summaries.list()
        assert summary["task_id"] == task_id and summary["matches"] == 1
        assert summary["coverage"]["targeted"] == 3
        assert summary["actions"]["by_outcome"] == {"quarantined": 1}
        assert views.list_quarantine(context, state="any")["rows"][0]["state"] == "expired"
        with pytest.raises(NotFoundError, match="pruned"):
            views.get_task(context, task_id)


def test_a_device_folder_that_vanishes_mid_scan_is_recorded(world: World) -> None:
    for number in range(300):
        world.plant("ws01", f"many/{number % 10}/{number}.bin", os.urandom(4000))
    with world.context() as context:
        task_id = world.task_for(context, sample())["task_id"]
        tasks.start_task(context, task_id, account=RULE)
        shutil.rmtree(world.root("ws01"))
        look = world.settle(context, task_id)
        assert look["state"] in ("running", "completed")
        with context.store.reading() as tx:
            row = tx.task_devices.get(task_id, "local", "ws01")
        if row["state"] == "done":
            assert row["skipped"] or row["files_seen"] < 301
        world.plant("ws01", "a.exe", sample())
        for _ in range(2):
            collection.collect_results(context)
        world.settle(context, task_id)


def test_a_manager_gone_from_config_is_said_and_its_task_waits(world: World) -> None:
    world.plant("ws01", "a.exe", sample())
    managers = world.config["device_managers"]
    with world.context() as context:
        task_id = world.task_for(context, sample())["task_id"]
        note_run(context, task_id)
    world.config["device_managers"] = []
    with world.context() as context:
        assert collection.collect_results(context)["leased"]
        (event,) = events(context, "manager_unreachable")
        assert event["data"]["code"] == "manager_unknown"
        with context.store.reading() as tx:
            assert tx.tasks.get(task_id)["state"] == "running"
            assert len(tx.jobs.open("scan", task_id)) == 1
        assert views.get_task(context, task_id)["coverage"]["targeted"] == 3
        with pytest.raises(NotFoundError) as caught:
            tasks.start_task(context, task_id, account=PERSON)
        assert caught.value.code == "group_unknown" and caught.value.hint
    world.config["device_managers"] = managers
    with world.context() as context:
        collection.collect_results(context)
        assert world.settle(context, task_id)["matched"] == 1


def test_a_task_of_a_manager_gone_from_config_can_be_deleted(world: World) -> None:
    managers = world.config["device_managers"]
    with world.context() as context:
        task_id = world.task_for(context, sample())["task_id"]
        world.scan(context, task_id)
    world.config["device_managers"] = []
    with world.context() as context:
        answer = tasks.delete_task(context, task_id, account=PERSON)
        assert (answer["state"], answer["pending"]) == ("deleted", 3)
        world.ahead(days=40)
        lifetimes.prune(context)
        lifetimes.prune(context)
        assert all(world.jobs_on(device) for device in DEVICES)
        with context.store.reading() as tx:
            assert len(tx.withdrawals.open()) == 1  # nothing is forgotten
    world.config["device_managers"] = managers
    with world.context() as context:
        collection.collect_results(context)
        assert not any(world.jobs_on(device) for device in DEVICES)


def test_a_device_gone_from_config_fails_alone(world: World) -> None:
    world.plant("ws01", "a.exe", sample())
    with world.context() as context:
        task_id = world.task_for(context, sample())["task_id"]
        note_run(context, task_id)
    world.config["device_managers"][0]["groups"][0]["devices"].pop()
    with world.context() as context:
        collection.collect_results(context)
        look = world.settle(context, task_id)
        assert (look["answered"], look["matched"], look["failed"]) == (2, 1, 1)
        with context.store.reading() as tx:
            assert tx.task_devices.get(task_id, "local", "ws03")["error_code"] == "device_unknown"


def test_a_manager_that_lost_its_memory_gets_the_job_again(world: World) -> None:
    world.plant("ws03", "a.exe", sample())
    world.take_offline("ws03")
    with world.context() as context:
        task_id = world.task_for(context, sample())["task_id"]
        world.scan(context, task_id)
        shutil.rmtree(world.folder / "spool" / ".manager")
        world.bring_back("ws03")
        collection.collect_results(context)
        assert world.settle(context, task_id)["matched"] == 1


@pytest.mark.parametrize(("hours", "asked"), [(23, 0), (25, 1)])
def test_what_was_there_long_before_the_sandbox_saw_it_is_asked_about(
    world: World, hours: int, asked: int
) -> None:
    auto(world)
    planted = world.plant("ws01", "a.exe", sample())
    os.utime(planted, (0, 0))  # who wrote the file may say this; the change of its inode counts
    world.ahead(hours=hours)
    with world.context() as context:
        seen = to_iso(context.clock())
        task_id = world.task_for(context, sample(), detected_at=seen)["task_id"]
        world.scan(context, task_id)
        answer = world.respond(context, task_id)
        assert (answer["claimed"], answer["asked"]) == (1 - asked, asked)
        with context.store.reading() as tx:
            assert [row["reason"] for row in tx.approvals.list(task_id)] == [
                "there_before_the_sandbox"
            ] * asked
