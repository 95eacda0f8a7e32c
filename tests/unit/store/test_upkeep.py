"""Jobs, withdrawals, outbox, leases, flags, and deletion in bounded batches."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from ioc_scan.store import Store, Transaction

from . import make
from .conftest import Clock


def job(clock: Clock, job_id: str = "j1", **changes: Any) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "task_id": "task-1",
        "run": 1,
        "kind": "scan",
        "manager": "local",
        "created_at": clock(),
        "not_before": clock(),
        "not_after": clock() + timedelta(days=7),
        "spec": {"settings": {"scope": "critical"}},
    } | changes


def test_a_job_is_noted_once_and_remembers_how_far_it_was_read(store: Store, clock: Clock) -> None:
    with store.transaction() as tx:
        assert tx.jobs.create(job(clock)) and not tx.jobs.create(job(clock, kind="respond"))
        row = tx.jobs.get("j1")
        assert row is not None and (row["kind"], row["cursor"], row["state"]) == ("scan", None, "open")
        tx.jobs.save_cursor("j1", {"ws01": 17}, now=clock())
        assert tx.jobs.get("j1")["cursor"] == {"ws01": 17}  # type: ignore[index]
        with pytest.raises(ValueError, match="unknown job state"):
            tx.jobs.set_state("j1", "lost", now=clock())


def test_open_jobs_come_round_fairly(store: Store, clock: Clock) -> None:
    with store.transaction() as tx:
        for number in range(3):
            tx.jobs.create(job(clock, f"j{number}", created_at=clock.ahead(seconds=1)))
        tx.jobs.create(
            job(clock, "r1", kind="respond", response_id="r", manager="ssh", task_id=None, run=None)
        )
        tx.jobs.save_cursor("j0", 1, now=clock.ahead(seconds=1))
        tx.jobs.set_state("j1", "closed", now=clock())
        assert [row["job_id"] for row in tx.jobs.open("scan")] == ["j2", "j0"]
        assert [row["job_id"] for row in tx.jobs.open(manager="ssh", response_id="r")] == ["r1"]
        assert [row["job_id"] for row in tx.jobs.open(task_id="task-1", limit=1)] == ["j2"]
        assert [row["job_id"] for row in tx.jobs.for_task("task-1", "scan")] == ["j0", "j1", "j2"]
        tx.jobs.touch(["j2"], clock.ahead(seconds=1))
        assert [row["job_id"] for row in tx.jobs.open("scan")] == ["j0", "j2"]


def test_a_withdrawal_stays_until_the_last_device_confirmed(store: Store, clock: Clock) -> None:
    with store.transaction() as tx:
        tx.jobs.create(job(clock))
        tx.withdrawals.request("j1", ["c", "a", "b"], clock())
        tx.withdrawals.request("j1", ["d"], clock())
        assert tx.jobs.get("j1")["state"] == "withdrawing"  # type: ignore[index]
        assert tx.withdrawals.confirm("j1", ["b", "stranger"], clock.ahead(seconds=1)) == ["a", "c"]
        (row,) = tx.withdrawals.open()
        assert (row["pending"], row["confirmed"], row["manager"]) == (["a", "c"], 1, "local")
        assert tx.withdrawals.confirm("j1", ["a", "c"], clock()) == []
        assert tx.jobs.get("j1")["state"] == "withdrawn" and tx.withdrawals.open() == []  # type: ignore[index]
        assert tx.withdrawals.get("j1")["confirmed"] == 3  # type: ignore[index]
        assert tx.withdrawals.confirm("absent", ["a"], clock()) == []


def test_a_trigger_is_noted_once_and_due_until_injected(store: Store, clock: Clock) -> None:
    with store.transaction() as tx:
        for number in range(60):
            key = f"task_ended:{number}"
            assert tx.outbox.add(
                "ioc_scan.task_ended", {"n": number}, dedupe_key=key, now=clock(), trace_tag="t"
            )
        assert not tx.outbox.add("ioc_scan.task_ended", {}, dedupe_key="task_ended:0", now=clock())
        due = tx.outbox.due()
        assert [row["payload"]["n"] for row in due] == list(range(50)) and due[0]["trace_tag"] == "t"
        tx.outbox.mark_injected([row["outbox_id"] for row in due], clock())
        assert [row["payload"]["n"] for row in tx.outbox.due()] == list(range(50, 60))
        assert not tx.outbox.add("ioc_scan.task_ended", {}, dedupe_key="task_ended:0", now=clock())


def test_a_lease_has_one_holder_and_frees_itself_at_its_second(store: Store, clock: Clock) -> None:
    with store.transaction() as tx:
        assert tx.leases.acquire("process_results", "a", 60, clock())
        assert not tx.leases.acquire("process_results", "b", 60, clock.ahead(seconds=59))
        assert tx.leases.acquire("process_results", "a", 60, clock()), "the holder may prolong"
        assert not tx.leases.acquire("process_results", "b", 60, clock.ahead(seconds=59))
        assert tx.leases.acquire("process_results", "b", 60, clock.ahead(seconds=1))
        assert not tx.leases.release("process_results", "a")
        assert tx.leases.get("process_results")["holder"] == "b"  # type: ignore[index]
        assert tx.leases.release("process_results", "b") and tx.leases.get("process_results") is None


def test_flags_hold_any_plain_value(store: Store, clock: Clock) -> None:
    with store.transaction() as tx:
        assert tx.flags.get("kill_switch", False) is False
        for value in (True, None, {"a": [1, "x"]}, "text"):
            tx.flags.set("kill_switch", value, now=clock(), actor="alice")
            assert tx.flags.get("kill_switch", "default") == value
        assert tx.flags.row("kill_switch")["updated_by"] == "alice"  # type: ignore[index]


def large_task(tx: Transaction, clock: Clock, devices: int = 50) -> None:
    tx.detections.put(make.detection(), source_name="cape", now=clock())
    tx.detections.decide("cape:main:1", "task", task_id="task-1")
    make.task(tx, clock())
    tx.tasks.add_detection("task-1", "cape:main:1", clock())
    digest, _ = tx.ioc_files.put(
        b"ioc", ioc_id="i", detection_id="cape:main:1", tier="hunt", version="1.0", item_count=1, now=clock()
    )
    tx.tasks.set_iocs("task-1", [("hunt", digest)])
    tx.tasks.update("task-1", plan_digest=tx.plans.put(b"plan", now=clock()))
    names = [f"ws{number:03}" for number in range(devices)]
    tx.task_devices.target("task-1", 1, "local", "workstations", names, now=clock())
    tx.task_devices.target("task-1", 2, "local", "workstations", names, now=clock())
    tx.matches.add([make.match(clock(), device_id=name, run=2) for name in names])
    tx.jobs.create(job(clock, "done", state="closed"))
    tx.jobs.create(job(clock, "leaving"))
    tx.withdrawals.request("leaving", ["ws000"], clock())
    tx.approvals.open(
        approval_id="a", task_id="task-1", match_ids=[], requested_at=clock(), expires_at=clock.ahead(hours=1)
    )
    tx.responses.create(response_id="r", task_id="task-1", actor="alice", requested_at=clock(), dry_run=False)
    tx.events.add("task_created", task_id="task-1")


def test_a_tasks_rows_go_in_bounded_batches_and_only_what_must_stays(store: Store, clock: Clock) -> None:
    with store.transaction() as tx:
        large_task(tx, clock)
        tx.tasks.end("task-1", "expired", "7 days", clock())
        tx.task_summaries.write("task-1")
    batches = []
    while True:
        with store.transaction() as tx:
            batches.append(tx.deletion.delete_task_rows("task-1", 30))
        if not batches[-1]:
            break
        with store.reading() as tx:
            assert (tx.tasks.get("task-1") is not None) is (batches[-1] == 30), "its own row goes last"
    assert max(batches) == 30 and sum(batches) == 50 + 50 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1
    with store.reading() as tx:
        assert tx.matches.list("task-1") == [] and tx.task_devices.list("task-1") == []
        assert [row["job_id"] for row in tx.jobs.for_task("task-1")] == ["leaving"], "a device still holds it"
        assert tx.task_summaries.get("task-1")["matches"] == 50  # type: ignore[index]
        assert len(tx.events.list(task_id="task-1")) == 1
        assert tx.detections.get("cape:main:1") is not None


def test_leftovers_go_only_when_nothing_refers_to_them(store: Store, clock: Clock) -> None:
    with store.transaction() as tx:
        large_task(tx, clock, devices=2)
        tx.fetches.failed(
            "x", source_name="s", report_id="r", code="c", message="m", next_try_at=clock(), now=clock()
        )
        tx.outbox.add("t", {}, dedupe_key="waiting", now=clock())
        later = clock.ahead(days=60)
        assert tx.deletion.delete_leftovers_before(later) == 0, "all of it is still in use"
        assert tx.deletion.delete_detections_before(later) == 0
        tx.tasks.end("task-1", "expired", "7 days", clock())
        tx.task_summaries.write("task-1")
        while tx.deletion.delete_task_rows("task-1"):
            pass
        assert tx.deletion.delete_leftovers_before(later) == 1, (
            "the plan; the IOC file belongs to a detection"
        )
        assert tx.deletion.delete_detections_before(later) == 1
        tx.withdrawals.confirm("leaving", ["ws000"], clock())
        tx.fetches.succeeded("x", clock())
        tx.outbox.mark_injected([row["outbox_id"] for row in tx.outbox.due()], clock())
        assert tx.deletion.delete_leftovers_before(clock() - timedelta(seconds=1)) == 1, (
            "the IOC file alone is old"
        )
        assert tx.deletion.delete_leftovers_before(clock(), limit=2) == 2
        assert tx.deletion.delete_leftovers_before(clock()) == 2, "outbox, fetch, withdrawal and job"
        assert tx.deletion.delete_leftovers_before(clock()) == 0
        assert tx.deletion.delete_summaries(keep=1) == 0 and tx.deletion.delete_summaries(keep=0) == 1


def test_undecided_detections_stay_and_revisions_go_with_their_detection(store: Store, clock: Clock) -> None:
    with store.transaction() as tx:
        tx.detections.put(make.detection("1"), source_name="cape", now=clock())
        tx.detections.put(make.detection("1", tlp="red"), source_name="cape", now=clock())
        tx.detections.put(make.detection("2"), source_name="cape", now=clock())
        tx.detections.decide("cape:main:1", "no_policy")
        assert tx.deletion.delete_detections_before(clock() - timedelta(seconds=1)) == 0
        assert tx.deletion.delete_detections_before(clock()) == 2
        assert [row["report_id"] for row in tx.detections.list()] == ["2"]
        assert tx.detections.revisions("cape:main:1") == []


def test_results_go_oldest_first_at_their_second_but_never_those_in_question(
    store: Store, clock: Clock
) -> None:
    start = clock()
    with store.transaction() as tx:
        make.task(tx, start)
        make.task(tx, start, "long", "9" * 64, profile="endpoint_security")
        for number in range(5):
            found = start + timedelta(seconds=number)
            tx.matches.add([make.match(found, str(number)), make.match(found, str(number), task_id="long")])
        ids = {row["item_key"]: row["match_id"] for row in tx.matches.list("task-1")}
        tx.matches.move([ids["0"]], ["none"], "awaiting_approval")
        tx.matches.claim("task-1", [ids["1"]], "r", start)

    def left() -> list[str]:
        with store.reading() as tx:
            return [row["item_key"] for row in tx.matches.list("task-1")]

    def prune(cutoff: Any, limit: int = 100) -> int:
        with store.transaction() as tx:
            return tx.deletion.delete_results_before(cutoff, limit, profile="endpoint_agent")

    assert prune(start + timedelta(seconds=1)) == 0
    assert prune(start + timedelta(seconds=4), limit=1) == 1 and left() == ["0", "1", "3", "4"]
    assert prune(start + timedelta(seconds=3)) == 1 and left() == ["0", "1", "4"]
    assert prune(start + timedelta(seconds=3, microseconds=999_999)) == 0
    assert prune(start + timedelta(seconds=4)) == 1 and left() == ["0", "1"]
    with store.transaction() as tx:
        assert len(tx.matches.list("long")) == 5, "another profile, another term"
        assert tx.deletion.delete_results_before(start + timedelta(days=1)) == 5
    store.optimize()
