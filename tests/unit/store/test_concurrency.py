"""Many processes at once: no lost update, nothing done twice, nobody stuck."""

from __future__ import annotations

import multiprocessing
import random
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import pytest
from ioc_scan.store import Store, schema

from . import make, workers
from .conftest import Clock

# Processes forked from a clean one: a copy of this process would share its database connections.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.unit.store.workers"])


def start(
    work: Callable[..., Any], url: str, name: str = "", at: float = 0
) -> tuple[BaseProcess, Connection]:
    mine, theirs = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=workers.run, args=(work, url, name, at, theirs))
    process.start()
    theirs.close()
    return process, mine


def received(pipe: Connection) -> list[Any]:
    """All that came through, until the other end is gone."""
    messages = []
    try:
        while True:
            messages.append(pipe.recv())
    except EOFError:
        return messages


def together(work: Callable[..., Any], url: str, number: int) -> list[Any]:
    """The same work in so many processes, begun at the same moment; what each returned."""
    at = time.time() + 0.2 + 0.05 * number
    started = [start(work, url, str(index), at) for index in range(number)]
    results = []
    for process, pipe in started:
        results.append(received(pipe)[-1])
        process.join(60)
        assert process.exitcode == 0, results[-1]
    return results


@pytest.fixture
def with_matches(store: Store, clock: Clock) -> Store:
    with store.transaction() as tx:
        make.task(tx, clock())
        names = [f"ws{number:02}" for number in range(40)]
        tx.task_devices.target("task-1", 1, "local", "workstations", names, now=clock())
        tx.matches.add([make.match(clock(), str(number), device_id="ws00") for number in range(60)])
    return store


def test_two_claimers_never_hold_the_same_match(with_matches: Store, url: str) -> None:
    claimed = together(workers.claim, url, 2)
    everything = [match_id for part in claimed for match_id in part]
    assert len(everything) == len(set(everything)) == 60
    with with_matches.reading() as tx:
        for index, part in enumerate(claimed):
            mine = tx.matches.list("task-1", response_id=str(index), limit=1000)
            assert {row["match_id"] for row in mine} == set(part)


def test_of_many_who_claim_everything_one_gets_it_all(with_matches: Store, url: str) -> None:
    assert sorted(len(part) for part in together(workers.claim_all, url, 4)) == [0, 0, 0, 60]


def test_a_limit_holds_for_all_processes_together(with_matches: Store, url: str) -> None:
    assert sum(together(workers.claim_within_limit, url, 4)) == 20
    with with_matches.reading() as tx:
        assert tx.responses.acted()["files"] == 20


def test_many_creators_make_one_live_task_per_object(store: Store, url: str) -> None:
    results = together(workers.create, url, 5)
    won = [task_id for part, _ in results for task_id in part]
    assert len(won) == 10, "each object was won by one process"
    assert all(sorted(seen) == sorted(won) for _, seen in results), "the others were given the winner's task"
    with store.reading() as tx:
        assert [row["detections_count"] for row in tx.tasks.list()] == [5] * 10
        assert tx.events.verify() is None and tx.events.head()[0] == 50


def test_a_lease_has_one_holder_among_many(store: Store, url: str) -> None:
    assert sum(together(workers.lease, url, 5)) == 1


def test_a_trigger_is_noted_once_by_many(store: Store, url: str) -> None:
    assert sum(together(workers.outbox, url, 4)) == 30
    with store.reading() as tx:
        assert len(tx.outbox.due(100)) == 30


def test_reading_then_writing_loses_no_update(store: Store, url: str) -> None:
    together(workers.count, url, 4)
    with store.reading() as tx:
        assert tx.flags.get("counter") == 100
        assert tx.events.head()[0] == 100 and tx.events.verify() is None


def test_results_delivered_by_many_are_stored_once(with_matches: Store, url: str) -> None:
    assert sum(together(workers.deliver, url, 4)) == 40
    with with_matches.reading() as tx:
        assert tx.matches.counts("task-1")["matches"] == 100
        coverage = tx.tasks.get("task-1")["coverage"]  # type: ignore[index]
        assert (coverage["targeted"], coverage["matched"]) == (40, 40)
        assert coverage == tx.task_devices.coverage("task-1")


def test_many_may_open_an_empty_database_at_once(empty_url: str) -> None:
    assert together(workers.opened, empty_url, 4) == ["0"] * 4
    with Store.open(empty_url, allow_temporary=True) as store:
        assert store.describe()["schema"] == schema.SCHEMA_REVISION


def test_a_busy_writer_lets_others_in(url: str, store: Store) -> None:
    """What pruning does: one long transaction after the other."""
    done = threading.Event()

    def busy() -> None:
        with Store.open(url, allow_temporary=True) as own:
            while not done.is_set():
                with own.transaction() as tx:
                    tx.flags.set("busy", 1, now=tx.now())
                    time.sleep(0.08)

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        waits = []
        for _ in range(12):
            started = time.monotonic()
            with store.transaction() as tx:
                tx.flags.set("other", 1, now=tx.now())
            waits.append(time.monotonic() - started)
            time.sleep(0.02)
    finally:
        done.set()
        thread.join()
    assert sorted(waits)[-2] < 1.0, waits


def test_a_process_killed_in_mid_transaction_leaves_what_was_confirmed(with_matches: Store, url: str) -> None:
    process, pipe = start(workers.die_in_transaction, url)
    assert received(pipe) == [0, 1, 2, 3, 4]
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    with Store.open(url, allow_temporary=True, busy_timeout_seconds=5) as store, store.transaction() as tx:
        assert [tx.flags.get(f"confirmed-{number}") for number in range(5)] == list(range(5))
        assert tx.flags.get("half") is None
        assert tx.matches.counts("task-1")["by_response_state"] == {"none": 60}
        assert tx.events.head()[0] == 5 and tx.events.verify() is None
        assert len(tx.matches.claim("task-1", None, "next", tx.now())) == 60, "and the writer's place is free"


def test_writers_killed_at_any_moment_lose_nothing_they_confirmed(store: Store, url: str) -> None:
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    for _ in range(6):
        process, pipe = start(workers.write_until_killed, url)
        first = pipe.recv()
        time.sleep(chance.uniform(0.0, 0.15))
        process.kill()
        process.join(60)
        confirmed = [first, *received(pipe)][-1]
        with store.transaction() as tx:
            stored = tx.flags.get("last")
            assert stored in (confirmed, confirmed + 1), f"seed {seed}"
            assert tx.events.list(limit=1)[0]["data"]["n"] == stored, "all of a transaction or nothing of it"
            assert tx.events.verify() is None
