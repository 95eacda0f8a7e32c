"""Matches, claims, approvals, blast-limit counts, quarantine and exemptions."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from ioc_scan.store import Store

from . import make
from .conftest import Clock


@pytest.fixture
def with_task(store: Store, clock: Clock) -> Store:
    with store.transaction() as tx:
        tx.detections.put(make.detection(), source_name="cape", now=clock())
        make.task(tx, clock())
    return store


def add(store: Store, clock: Clock, *rows: dict[str, Any]) -> list[str]:
    with store.transaction() as tx:
        return tx.matches.add([make.match(clock(), **row) for row in rows])


def test_a_match_is_stored_once_however_often_it_is_delivered(with_task: Store, clock: Clock) -> None:
    first = add(with_task, clock, {"item_key": "a"}, {"item_key": "a"}, {"item_key": "b"})
    assert len(first) == 2
    assert add(with_task, clock, {"item_key": "b"}, {"item_key": "c"}) != []
    assert add(with_task, clock, {"item_key": "a"}) == []
    others = [{"run": 2}, {"device_id": "ws02"}, {"manager": "ssh"}, {"ioc_digest": "e" * 64}]
    assert len(add(with_task, clock, *({"item_key": "a"} | other for other in others))) == 4
    with with_task.reading() as tx:
        counts = tx.matches.counts("task-1")
        assert (counts["matches"], counts["devices"], counts["by_tier"]) == (7, 3, {"actionable": 7})
        assert tx.matches.counts("task-1", run=2)["matches"] == 1
        assert tx.matches.devices_with(make.SHA256) == 3


def test_a_match_keeps_its_exact_path_and_its_numbers(with_task: Store, clock: Clock) -> None:
    row = {"st_ino": 2**64 - 1, "st_dev": 2**63, "size": 2**40, "path": None, "sha256": None}
    (match_id,) = add(with_task, clock, row)
    with with_task.reading() as tx:
        stored = tx.matches.get(match_id)
        assert stored is not None and tx.matches.get("absent") is None
        assert {name: stored[name] for name in row} == row
        assert stored["path_b64"] == "L2hvbWUvYS94LmV4ZQ==" and stored["response_state"] == "none"


def test_a_claim_takes_each_match_once(with_task: Store, clock: Clock) -> None:
    ids = add(with_task, clock, *({"item_key": str(number)} for number in range(5)))
    with with_task.transaction() as tx:
        taken = tx.matches.claim("task-1", ids[:2], "r1", clock())
        assert sorted(row["match_id"] for row in taken) == sorted(ids[:2])
        assert {(row["response_state"], row["response_id"]) for row in taken} == {("claimed", "r1")}
    with with_task.transaction() as tx:
        assert {row["match_id"] for row in tx.matches.claim("task-1", ids, "r2", clock(), limit=2)} < set(
            ids[2:]
        )
        assert len(tx.matches.claim("task-1", None, "r3", clock())) == 1
        assert tx.matches.claim("task-1", None, "r4", clock()) == []
        assert tx.matches.claim("other-task", ids, "r5", clock()) == []
        assert len(tx.matches.list("task-1", response_id="r2")) == 2


def test_a_match_of_the_hunt_tier_can_never_be_claimed(with_task: Store, clock: Clock) -> None:
    ids = add(with_task, clock, {"tier": "hunt"})
    with with_task.transaction() as tx:
        assert tx.matches.claim("task-1", ids, "r1", clock()) == []
        assert tx.matches.claim("task-1", None, "r1", clock()) == []
        assert tx.responses.acted()["files"] == 0


def test_only_matches_in_the_named_states_are_claimed(with_task: Store, clock: Clock) -> None:
    ids = add(with_task, clock, {"item_key": "a"}, {"item_key": "b"})
    with with_task.transaction() as tx:
        assert tx.matches.move(ids[:1], ["none"], "awaiting_approval") == 1
        assert tx.matches.move(ids, ["awaiting_approval"], "awaiting_approval") == 1
        assert [row["match_id"] for row in tx.matches.claim("task-1", None, "r", clock())] == ids[1:]
        taken = tx.matches.claim("task-1", None, "r", clock(), from_states=["awaiting_approval"])
        assert [row["match_id"] for row in taken] == ids[:1]


def test_an_answer_counts_only_from_the_response_that_holds_the_match(with_task: Store, clock: Clock) -> None:
    (match_id,) = add(with_task, clock, {})
    with with_task.transaction() as tx:
        tx.matches.claim("task-1", None, "r1", clock())
        assert not tx.matches.set_response(match_id, "quarantined", now=clock(), response_id="r0")
        assert tx.matches.set_response(
            match_id,
            "quarantined",
            now=clock(),
            response_id="r1",
            code="ok",
            message="moved",
            quarantine_id="q1",
        )
        row = tx.matches.get(match_id)
        assert row is not None
        assert (row["response_state"], row["quarantine_id"], row["response_message"]) == (
            "quarantined",
            "q1",
            "moved",
        )
        assert not tx.matches.set_response("absent", "failed", now=clock())
        with pytest.raises(ValueError, match="unknown response state"):
            tx.matches.set_response(match_id, "exploded", now=clock())
        assert [row["match_id"] for row in tx.matches.list("task-1", response_state="quarantined")] == [
            match_id
        ]
        assert tx.matches.list("task-1", response_state=["none", "claimed"]) == []


def test_a_response_that_never_answers_frees_its_matches_after_its_time(
    with_task: Store, clock: Clock
) -> None:
    (match_id,) = add(with_task, clock, {})
    with with_task.transaction() as tx:
        tx.matches.claim("task-1", None, "r1", clock())
        assert tx.matches.release_stale(clock() - timedelta(seconds=1)) == []
        assert tx.matches.release_stale(clock()) == [match_id]
        assert tx.matches.release_stale(clock()) == []
        assert tx.responses.acted()["files"] == 1, "it may have acted, so it still counts"
        assert len(tx.matches.claim("task-1", None, "r2", clock())) == 1
        assert not tx.matches.set_response(match_id, "quarantined", now=clock(), response_id="r1")


def test_what_was_acted_on_is_counted_for_every_limit(with_task: Store, clock: Clock) -> None:
    ids = add(
        with_task,
        clock,
        {"item_key": "a"},
        {"item_key": "b"},
        {"item_key": "a", "device_id": "ws02"},
        {"item_key": "c", "device_id": "ws03"},
    )
    other = "9" * 64
    with with_task.transaction() as tx:
        tx.detections.put(make.detection("2", other), source_name="webhook", now=clock())
        make.task(tx, clock(), "task-2", other, detection_id="cape:main:2")
        tx.matches.add([make.match(clock(), task_id="task-2", device_id="ws01")])
        tx.matches.claim("task-1", None, "r1", clock())
        later = clock.ahead(hours=2)
        tx.matches.claim("task-2", None, "r2", later)
        assert tx.responses.acted() == {"files": 5, "devices": 3}
        assert tx.responses.acted(since=later) == {"files": 1, "devices": 1}
        assert tx.responses.acted(object_sha256=make.SHA256) == {"files": 4, "devices": 3}
        assert tx.responses.acted(source_name="webhook") == {"files": 1, "devices": 1}
        assert tx.responses.acted(source_name="cape")["files"] == 4
        assert tx.responses.acted(task_id="task-1", device_id="ws01", manager="local") == {
            "files": 2,
            "devices": 1,
        }
        for match_id, state in zip(
            ids, ("refused", "quarantined", "failed", "would_quarantine"), strict=True
        ):
            tx.matches.set_response(match_id, state, now=later)
        assert tx.responses.acted(task_id="task-1") == {"files": 2, "devices": 2}


def test_the_count_outlives_the_tasks_rows(with_task: Store, clock: Clock) -> None:
    add(with_task, clock, {})
    with with_task.transaction() as tx:
        tx.matches.claim("task-1", None, "r1", clock())
        tx.tasks.end("task-1", "deleted", "by alice", clock())
        tx.task_summaries.write("task-1")
        while tx.deletion.delete_task_rows("task-1"):
            pass
        assert tx.responses.acted(object_sha256=make.SHA256) == {"files": 1, "devices": 1}


def test_a_response_runs_and_ends_once(store: Store, clock: Clock) -> None:
    with store.transaction() as tx:
        tx.responses.create(
            response_id="r1",
            task_id="t",
            actor="alice",
            requested_at=clock(),
            dry_run=True,
            counts={"asked": 3},
        )
        assert [row["response_id"] for row in tx.responses.list(state="running")] == ["r1"]
        tx.responses.note("r1", {"asked": 3, "quarantined": 1})
        assert tx.responses.get("r1")["counts"] == {"asked": 3, "quarantined": 1}  # type: ignore[index]
        assert tx.responses.finish("r1", "done", counts={"quarantined": 3}, now=clock())
        tx.responses.note("r1", {"too": "late"})
        assert not tx.responses.finish("r1", "failed", counts={}, now=clock())
        row = tx.responses.get("r1")
        assert row is not None
        assert (row["state"], row["counts"], row["dry_run"]) == ("done", {"quarantined": 3}, True)
        assert [row["response_id"] for row in tx.responses.list("t")] == ["r1"] and tx.responses.list(
            "u"
        ) == []
        with pytest.raises(ValueError, match="not an end"):
            tx.responses.finish("r1", "running", counts={}, now=clock())


def ask(store: Store, clock: Clock, approval_id: str = "a1") -> bool:
    with store.transaction() as tx:
        return tx.approvals.open(
            approval_id=approval_id,
            task_id="t",
            match_ids=["m2", "m1"],
            requested_at=clock(),
            expires_at=clock() + timedelta(hours=24),
            ioc_digest="d",
        )


def test_an_approval_is_decided_once_by_a_named_person(store: Store, clock: Clock) -> None:
    assert ask(store, clock) and not ask(store, clock)
    with store.transaction() as tx:
        assert tx.approvals.get("a1")["match_ids"] == ["m1", "m2"]  # type: ignore[index]
        assert [row["approval_id"] for row in tx.approvals.list("t", "open")] == ["a1"]
        with pytest.raises(ValueError, match="not a decision"):
            tx.approvals.decide("a1", "open", decided_by="alice", now=clock())
        assert tx.approvals.decide("a1", "approved", decided_by="alice", now=clock(), chat_user="@al")
        assert not tx.approvals.decide("a1", "rejected", decided_by="bob", now=clock())
        row = tx.approvals.get("a1")
        assert row is not None
        assert (row["state"], row["decided_by"], row["chat_user"], row["decided_at"]) == (
            "approved",
            "alice",
            "@al",
            clock(),
        )
        assert tx.approvals.expire_due(clock.ahead(days=2)) == []


def test_nothing_can_be_approved_when_its_time_is_over(store: Store, clock: Clock) -> None:
    ask(store, clock)
    with store.transaction() as tx:
        early = clock.ahead(hours=23, minutes=59, seconds=59)
        assert tx.approvals.expire_due(early) == []
        assert not tx.approvals.decide("a1", "approved", decided_by="alice", now=clock.ahead(seconds=1))
        assert [row["state"] for row in tx.approvals.expire_due(clock())] == ["expired"]
        assert tx.approvals.expire_due(clock()) == []


def test_the_end_of_a_task_closes_its_questions(store: Store, clock: Clock) -> None:
    ask(store, clock)
    with store.transaction() as tx:
        assert tx.approvals.expire_for_task("other", clock()) == []
        assert [row["approval_id"] for row in tx.approvals.expire_for_task("t", clock())] == ["a1"]
        assert tx.approvals.list(state="open") == []


def test_quarantine_has_its_own_term_and_its_own_ids_per_device(store: Store, clock: Clock) -> None:
    row = {
        "manager": "local",
        "quarantine_id": "q1",
        "sha256": make.SHA256,
        "size": 3,
        "path": "/x",
        "path_b64": "L3g=",
        "quarantined_at": clock(),
        "expires_at": clock() + timedelta(days=30),
    }
    with store.transaction() as tx:
        assert tx.quarantine.add(row | {"device_id": "ws01"}) and tx.quarantine.add(
            row | {"device_id": "ws02"}
        )
        assert not tx.quarantine.add(row | {"device_id": "ws01"})
        assert [item["device_id"] for item in tx.quarantine.get("q1")] == ["ws01", "ws02"]
        assert len(tx.quarantine.get("q1", "local", "ws02")) == 1 and tx.quarantine.get("q2") == []
        assert tx.quarantine.set_state("q1", "local", "ws01", "restored", now=clock(), restored_by="alice")
        assert not tx.quarantine.set_state("q9", "local", "ws01", "deleted", now=clock())
        (restored,) = tx.quarantine.list(states=["restored"])
        assert (restored["restored_by"], restored["restored_at"]) == ("alice", clock())
        assert [item["device_id"] for item in tx.quarantine.list(device_id="ws02")] == ["ws02"]
        assert len(tx.quarantine.list(sha256=make.SHA256, manager="local")) == 2
        clock.ahead(days=29, hours=23, minutes=59, seconds=59)
        assert tx.quarantine.expired(clock()) == []
        clock.ahead(seconds=1)
        assert [item["device_id"] for item in tx.quarantine.expired(clock())] == ["ws02"]
        with pytest.raises(ValueError, match="unknown quarantine state"):
            tx.quarantine.set_state("q1", "local", "ws01", "lost", now=clock())


def test_an_exempt_hash_is_exempt_however_it_is_written(store: Store, clock: Clock) -> None:
    with store.transaction() as tx:
        assert not tx.exemptions.is_exempt("ab" * 32)
        assert tx.exemptions.add("AB" * 32, created_by="alice", reason="ours", now=clock())
        assert not tx.exemptions.add("ab" * 32, created_by="bob", reason="again", now=clock())
        assert tx.exemptions.is_exempt("ab" * 32) and tx.exemptions.is_exempt("AB" * 32)
        assert [(row["sha256"], row["created_by"]) for row in tx.exemptions.list()] == [("ab" * 32, "alice")]
        assert tx.exemptions.remove("AB" * 32) and not tx.exemptions.remove("ab" * 32)
