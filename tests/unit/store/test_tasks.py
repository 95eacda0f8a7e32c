"""Tasks, their devices and coverage."""

from __future__ import annotations

import pytest
from ioc_scan.errors import NotFoundError, RefusedError, StoreError
from ioc_scan.store import Store

from . import make
from .conftest import Clock


def test_an_object_has_one_live_task_and_may_have_a_new_one_after_its_end(store: Store, clock: Clock) -> None:
    row = {
        "name": "x",
        "object_sha256": make.SHA256,
        "live_object": make.SHA256,
        "detection_id": "cape:main:1",
    }
    row |= {"profile": "endpoint_agent", "created_at": clock()}
    with store.transaction() as tx:
        first, new = tx.tasks.create_or_get(row | {"task_id": "t1"})
        assert new and (first["state"], first["run"], first["settings"]) == ("created", 0, {})
        again, new = tx.tasks.create_or_get(row | {"task_id": "t2"})
        assert not new and again["task_id"] == "t1"
        assert tx.tasks.end("t1", "expired", "7 days after creation", clock())
        assert not tx.tasks.end("t1", "cancelled", "too late", clock())
        third, new = tx.tasks.create_or_get(row | {"task_id": "t3"})
        assert new and third["task_id"] == "t3"
        assert tx.tasks.live_for(make.SHA256)["task_id"] == "t3"  # type: ignore[index]
        ended = tx.tasks.get("t1")
        assert ended is not None
        assert (ended["state"], ended["end_reason"]) == ("expired", "7 days after creation")
        assert (ended["ended_at"], ended["live_object"]) == (clock(), None)


def test_a_task_without_an_object_key_is_refused(store: Store, clock: Clock) -> None:
    with pytest.raises(ValueError, match="live_object"), store.transaction() as tx:
        make.task(tx, clock(), live_object=None)


def test_a_task_id_used_twice_is_refused(store: Store, clock: Clock) -> None:
    with pytest.raises(StoreError) as caught, store.transaction() as tx:
        make.task(tx, clock(), "t1", "a" * 64)
        make.task(tx, clock(), "t1", "b" * 64)
    assert caught.value.code == "store_conflict"


def test_a_detection_is_counted_once(store: Store, clock: Clock) -> None:
    with store.transaction() as tx:
        make.task(tx, clock())
        assert tx.tasks.add_detection("task-1", "cape:main:1", clock())
        assert not tx.tasks.add_detection("task-1", "cape:main:1", clock.ahead(hours=1))
        assert tx.tasks.add_detection("task-1", "cape:main:2", clock())
        assert tx.tasks.get("task-1")["detections_count"] == 2  # type: ignore[index]
        assert [row["detection_id"] for row in tx.tasks.detections("task-1")] == [
            "cape:main:1",
            "cape:main:2",
        ]


def test_updates_touch_what_they_may_and_nothing_else(store: Store, clock: Clock) -> None:
    with store.transaction() as tx:
        make.task(tx, clock())
        tx.tasks.update("task-1", state="running", run=1, first_start_at=clock(), settings={"scope": "all"})
        row = tx.tasks.get("task-1")
        assert row is not None and (row["state"], row["settings"]) == ("running", {"scope": "all"})
        for wrong in ({"state": "expired"}, {"live_object": None}, {"detections_count": 9}):
            with pytest.raises(ValueError, match="not to be set"):
                tx.tasks.update("task-1", **wrong)
        with pytest.raises(NotFoundError):
            tx.tasks.update("absent", state="running")
        with pytest.raises(ValueError, match="not an end"):
            tx.tasks.end("task-1", "running", "", clock())


def test_tasks_are_listed_newest_first_by_state_and_object(store: Store, clock: Clock) -> None:
    with store.transaction() as tx:
        for number in range(1, 4):
            make.task(tx, clock.ahead(minutes=1), f"t{number}", str(number) * 64)
        tx.tasks.end("t2", "cancelled", "by a person", clock())
        tx.tasks.set_iocs("t1", [("hunt", "h"), ("actionable", "a")])
        tx.tasks.set_iocs("t1", [("hunt", "h2"), ("actionable", "a")])
    with store.reading() as tx:
        assert [row["task_id"] for row in tx.tasks.list()] == ["t3", "t2", "t1"]
        assert [row["task_id"] for row in tx.tasks.list(["created"])] == ["t3", "t1"]
        assert [row["task_id"] for row in tx.tasks.list(limit=1, offset=2)] == ["t1"]
        assert [row["task_id"] for row in tx.tasks.list(object_sha256="2" * 64)] == ["t2"]
        assert tx.tasks.counts() == {"created": 2, "cancelled": 1}
        assert tx.tasks.iocs("t1") == [("actionable", "a"), ("hunt", "h2")]
        groups = tx.task_groups.list("t1")
        assert [(row["manager"], row["group"], row["response_mode"]) for row in groups] == [
            ("local", "workstations", "ask")
        ]


def target(store: Store, clock: Clock, run: int = 1, names: str = "a b c d e f g") -> int:
    with store.transaction() as tx:
        if tx.tasks.get("task-1") is None:
            make.task(tx, clock())
        return tx.task_devices.target("task-1", run, "local", "workstations", names.split(), now=clock())


def state(store: Store, clock: Clock, device: str, name: str, run: int = 1, **fields: object) -> bool:
    with store.transaction() as tx:
        return tx.task_devices.apply_state(
            "task-1", "local", device, run=run, state=name, now=clock(), **fields
        )


def test_coverage_names_its_denominator_and_adds_up(store: Store, clock: Clock) -> None:
    assert target(store, clock) == 7
    assert target(store, clock) == 0, "aiming again changes nothing"
    state(store, clock, "a", "done", matches=2)
    state(store, clock, "b", "done")
    state(store, clock, "c", "running", files_seen=5, progress=0.5)
    state(store, clock, "d", "waiting_idle")
    state(store, clock, "e", "failed", error_code="python_missing", error_message="no python")
    state(store, clock, "f", "running", matches=1)
    state(store, clock, "f", "failed", error_code="scanner_died")
    with store.reading() as tx:
        coverage = tx.task_devices.coverage("task-1")
        assert coverage == {
            "targeted": 7,
            "reached": 5,
            "answered": 3,
            "matched": 2,
            "clean": 1,
            "failed": 2,
            "never_seen": 2,
            "running": 1,
            "waiting_idle": 1,
            "by_state": {"done": 2, "running": 1, "waiting_idle": 1, "failed": 2, "pending": 1},
        }
        assert tx.tasks.get("task-1")["coverage"] == coverage  # type: ignore[index]
        assert tx.task_devices.coverage("task-1", manager="other")["targeted"] == 0
        assert [row["device_id"] for row in tx.task_devices.list("task-1", states=["failed"])] == ["e", "f"]
        assert tx.task_devices.device_ids("task-1", "local", ["done"]) == ["a", "b"]
        picked = tx.task_devices.pick("task-1", "local", ["c", "x", *(str(number) for number in range(1200))])
        assert {name: row["state"] for name, row in picked.items()} == {"c": "running"}


def test_an_end_of_a_device_stays_and_old_news_is_not_taken(store: Store, clock: Clock) -> None:
    target(store, clock, names="a b")
    assert state(store, clock, "a", "running", files_seen=10, not_evaluated=[{"what": "x"}])
    assert state(store, clock, "a", "running", files_seen=20)
    assert not state(store, clock, "unknown", "running")
    assert not state(store, clock, "a", "running", run=2)
    assert state(store, clock, "a", "done", matches=1)
    assert not state(store, clock, "a", "running")
    assert not state(store, clock, "a", "expired")
    with store.transaction() as tx:
        assert tx.task_devices.withdraw("task-1", "local", ["a", "x"], run=2, now=clock()) == 0
        assert tx.task_devices.withdraw("task-1", "local", ["a", "x"], run=1, now=clock()) == 1
        assert tx.task_devices.withdraw("task-1", "local", ["a"], run=1, now=clock()) == 0
    assert not state(store, clock, "a", "done")
    assert state(store, clock, "b", "failed")
    assert not state(store, clock, "b", "running"), "a late repetition of what came before"
    assert state(store, clock, "b", "done", error_code=""), "a device that recovered"
    with store.reading() as tx:
        row = tx.task_devices.get("task-1", "local", "a")
        assert row is not None
        assert (row["state"], row["outcome"], row["files_seen"], row["matches"]) == (
            "withdrawn",
            "done",
            20,
            1,
        )
        assert row["not_evaluated"] == [{"what": "x"}]
        coverage = tx.task_devices.coverage("task-1")
        assert (coverage["answered"], coverage["matched"], coverage["clean"]) == (2, 1, 1)
    for word in ("sleeping", "withdrawn"):  # the second is the manager's to say, not the device's
        with pytest.raises(ValueError, match="unknown device state"):
            state(store, clock, "a", word)


def test_many_states_are_taken_in_one_go(store: Store, clock: Clock) -> None:
    target(store, clock, names="a b c")
    rows = [{"task_id": "task-1", "manager": "local", "device_id": name, "run": 1} for name in "abcx"]
    with store.transaction() as tx:
        states = ["done", "failed", "running", "done"]
        updates = [row | {"state": name} for row, name in zip(rows, states, strict=True)]
        assert tx.task_devices.apply_states(updates, now=clock()) == 3, "one is no device of the task"
        assert tx.task_devices.apply_states([row | {"state": "running"} for row in rows], now=clock()) == 1
        assert tx.task_devices.apply_states([], now=clock()) == 0
        assert tx.task_devices.coverage("task-1")["by_state"] == {"done": 1, "failed": 1, "running": 1}


def test_a_new_run_starts_afresh_and_the_earlier_coverage_stays(store: Store, clock: Clock) -> None:
    target(store, clock, names="a b")
    state(store, clock, "a", "done", matches=1, skipped={"denied": 3})
    assert target(store, clock, run=2, names="a b c") == 3
    with store.reading() as tx:
        row = tx.task_devices.get("task-1", "local", "a")
        assert row is not None
        assert (row["state"], row["outcome"], row["matches"], row["skipped"]) == ("pending", None, 0, None)
        assert (row["reached"], row["ever_seen"]) == (False, True)
        runs = tx.tasks.runs("task-1")
        assert [(row["run"], row["coverage"]["targeted"], row["coverage"]["matched"]) for row in runs] == [
            (1, 2, 1)
        ]
        assert tx.task_devices.coverage("task-1")["never_seen"] == 2
    assert not state(store, clock, "a", "done", run=1), "the earlier run's results no longer count"
    assert target(store, clock, run=1, names="a") == 0


def test_a_device_in_two_groups_stays_with_the_first_and_tags_are_kept(store: Store, clock: Clock) -> None:
    with store.transaction() as tx:
        make.task(tx, clock())
        devices = [("a", ["domain_controller"]), "b"]
        assert tx.task_devices.target("task-1", 1, "local", "servers", devices, now=clock()) == 2
        assert tx.task_devices.target("task-1", 1, "local", "all", ["a", "c"], now=clock()) == 1
        rows = tx.task_devices.list("task-1")
        assert [(row["group"], row["tags"]) for row in rows] == [
            ("servers", ["domain_controller"]),
            ("servers", []),
            ("all", []),
        ]
        assert tx.task_devices.coverage("task-1", group="all")["targeted"] == 1
        assert tx.task_devices.target("task-1", 1, "local", "none", [], now=clock()) == 0


def test_the_end_of_a_task_ends_its_devices_and_spares_those_that_answered(
    store: Store, clock: Clock
) -> None:
    target(store, clock, names="a b c")
    state(store, clock, "a", "done")
    state(store, clock, "b", "running")
    with store.transaction() as tx:
        assert tx.task_devices.end_unfinished("task-1", "expired", clock()) == 2
        assert tx.task_devices.coverage("task-1")["by_state"] == {"done": 1, "expired": 2}
        assert tx.task_devices.tasks_of("local", "a")[0]["outcome"] == "done"


def test_devices_that_claim_absurd_numbers_break_nothing(store: Store, clock: Clock) -> None:
    target(store, clock, names="a")
    assert state(store, clock, "a", "running", files_seen=2**80, bytes_hashed=-5)
    with store.reading() as tx:
        row = tx.task_devices.get("task-1", "local", "a")
        assert row is not None and (row["files_seen"], row["bytes_hashed"]) == (2**63 - 1, 0)


def test_a_device_of_a_task_that_does_not_exist_is_refused(store: Store, clock: Clock) -> None:
    with pytest.raises(StoreError) as caught, store.transaction() as tx:
        tx.task_devices.target("absent", 1, "local", "g", ["a"], now=clock())
    assert caught.value.code == "store_conflict"


def test_a_summary_outlives_the_task_and_a_live_task_has_none(store: Store, clock: Clock) -> None:
    target(store, clock, names="a b")
    state(store, clock, "a", "done", matches=1)
    with store.transaction() as tx:
        tx.matches.add([make.match(clock())])
        with pytest.raises(RefusedError):
            tx.task_summaries.write("task-1")
        with pytest.raises(RefusedError):
            tx.deletion.delete_task_rows("task-1")
        tx.tasks.end("task-1", "deleted", "by alice", clock())
        with pytest.raises(RefusedError) as caught:
            tx.deletion.delete_task_rows("task-1")
        assert caught.value.code == "task_without_summary"
        tx.task_summaries.write("task-1", actor="alice", extra={"exported": True})
        tx.matches.set_response(tx.matches.list("task-1")[0]["match_id"], "quarantined", now=clock())
        tx.task_summaries.write("task-1")
        tx.deletion.delete_results_before(clock())
        tx.task_summaries.write("task-1")
    with store.transaction() as tx:
        assert tx.deletion.delete_task_rows("task-1") > 0 and tx.deletion.delete_task_rows("task-1") == 0
        assert tx.tasks.get("task-1") is None
        assert tx.task_summaries.write("task-1")["task_id"] == "task-1"
        with pytest.raises(NotFoundError):
            tx.task_summaries.write("absent")
        (row,) = tx.task_summaries.list()
        assert (row["actor"], row["state"], row["end_reason"]) == ("alice", "deleted", "by alice")
        assert row["matches"] == 1 and row["coverage"]["targeted"] == 2
        assert row["actions"]["by_outcome"] == {"quarantined": 1}
        assert tx.task_summaries.list(task_ids=["other"]) == []


def test_retention_facts_say_what_the_rules_ask(store: Store, clock: Clock) -> None:
    with store.transaction() as tx:
        make.task(tx, clock(), "t1", "1" * 64)
        make.task(tx, clock.ahead(seconds=1), "t2", "2" * 64)
        tx.task_groups.set("t2", [("ssh", "a", "ask"), ("local", "b", "ask"), ("local", "c", "ask")])
        tx.matches.add(
            [
                make.match(clock(), task_id="t1"),
                make.match(clock(), "hunted", task_id="t1", tier="hunt"),
                make.match(clock(), "done", task_id="t1"),
            ]
        )
        (done,) = (row for row in tx.matches.list("t1") if row["item_key"] == "done")
        tx.matches.set_response(done["match_id"], "quarantined", now=clock())
        tx.approvals.open(
            approval_id="a1",
            task_id="t2",
            match_ids=["m"],
            requested_at=clock(),
            expires_at=clock.ahead(hours=1),
        )
    with store.reading() as tx:
        first, second = tx.tasks.retention_facts()
    assert (first.task_id, first.managers, first.unacted_matches, first.open_approval) == (
        "t1",
        ("local",),
        1,
        False,
    )
    assert (second.task_id, second.managers, second.unacted_matches, second.open_approval) == (
        "t2",
        ("local", "ssh"),
        0,
        True,
    )
