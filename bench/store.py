"""How the store holds up under a large fleet, on SQLite and on PostgreSQL.

    .venv/bin/python -m bench.store [--tasks 100] [--devices 10000] [--rounds 5] [--only sqlite|postgresql]

Measures what collecting, listing, coverage and pruning cost in the store alone, with durable writes
(fsync on). Every number is the median of its rounds; the slowest is given too where people would wait.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

from ioc_scan.store import Store
from ioc_scan.store.tables import matches, task_devices
from sqlalchemy import literal, select

from tests.fixtures.postgres import running_postgres

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=timezone.utc)
#: Devices whose answers one transaction stores: what one poll of a device manager brings.
BATCH = 500
#: One device in five reports a match.
MATCH_EVERY = 5


def device_name(number: int) -> str:
    return f"ws{number:05}.example.org"


def make_task(store: Store, number: int, devices: int, now: datetime = NOW) -> str:
    """A running task aimed at so many devices."""
    task_id, sha256 = f"task-{number:04}", f"{number:064x}"
    with store.transaction() as tx:
        tx.tasks.create_or_get(
            {
                "task_id": task_id,
                "name": f"IOC Scan {number}",
                "object_sha256": sha256,
                "live_object": sha256,
                "detection_id": f"cape:main:{number}",
                "profile": "endpoint_agent",
                "created_at": now + timedelta(seconds=number),
            }
        )
        tx.task_groups.set(task_id, [("local", "workstations", "ask")])
        tx.tasks.update(task_id, state="running", run=1, first_start_at=now, last_start_at=now)
        names = [device_name(index) for index in range(devices)]
        tx.task_devices.target(task_id, 1, "local", "workstations", names, now=now)
    return task_id


def state_row(task_id: str, number: int) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "manager": "local",
        "device_id": device_name(number),
        "run": 1,
        "state": "done",
        "files_seen": 250_000,
        "bytes_hashed": 10**9,
        "matches": int(number % MATCH_EVERY == 0),
        "progress": 1.0,
        "skipped": {"permission_denied": 3},
        "not_evaluated": [{"what": "ProcessItem", "reason": "not on this system"}],
    }


def match_row(task_id: str, number: int) -> dict[str, Any]:
    path = f"/home/user{number}/Downloads/invoice.exe"
    return {
        "task_id": task_id,
        "run": 1,
        "manager": "local",
        "device_id": device_name(number),
        "group": "workstations",
        "item_key": f"{number:064x}",
        "ioc_digest": "d" * 64,
        "tier": "actionable",
        "document": "FileItem",
        "item": {"FullPath": path, "SizeInBytes": 123_456, "Sha256sum": "ab" * 32, "Md5sum": "cd" * 16},
        "proof": ["indicator-item-1", "indicator-item-2"],
        "found_at": NOW,
        "path": path,
        "path_b64": "L2hvbWUvdXNlci9Eb3dubG9hZHMvaW52b2ljZS5leGU=",
        "sha256": "ab" * 32,
        "size": 123_456,
        "st_dev": 64_768,
        "st_ino": number,
    }


def collect(store: Store, task_id: str, devices: int) -> None:
    """Store the answers of all devices: states, matches and an event for each, and how far was read."""
    for start in range(0, devices, BATCH):
        numbers = range(start, min(start + BATCH, devices))
        with store.transaction() as tx:
            tx.task_devices.apply_states([state_row(task_id, number) for number in numbers], now=NOW)
            found = [match_row(task_id, number) for number in numbers if number % MATCH_EVERY == 0]
            new = set(tx.matches.add(found))
            about = {"task_id": task_id, "manager": "local"}
            events = [
                about | {"type": "device_done", "device_id": device_name(number), "data": {"run": 1}}
                for number in numbers
            ]
            events += [
                about | {"type": "match_found", "data": {"match_id": match_id}} for match_id in sorted(new)
            ]
            tx.events.add_many(events)
            tx.jobs.save_cursor("job-1", {"line": numbers[-1]}, now=NOW)


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def rounds_of(work: Callable[[], Any], rounds: int) -> list[float]:
    return [timed(work) for _ in range(rounds)]


def show(what: str, seconds: Sequence[float], extra: str = "") -> None:
    median, worst = statistics.median(seconds), max(seconds)
    print(f"  {what:<58} {median * 1000:10.1f} ms   (slowest {worst * 1000:.1f} ms) {extra}", flush=True)


def bench_collecting(open_store: Callable[[], Any], devices: int, rounds: int) -> None:
    """Ten tasks of a tenth of the devices beside one task of all, turn by turn, so that both meet the same load."""
    small, large = devices // 10, devices
    of_small, of_large = [], []
    with open_store() as store:
        for turn in range(rounds):
            ten = [make_task(store, turn * 100 + number, small) for number in range(10)]
            one = make_task(store, turn * 100 + 50, large)
            of_small.append(sum(timed(partial(collect, store, task_id, small)) for task_id in ten))
            of_large.append(timed(partial(collect, store, one, large)))
    for what, seconds in ((f"10 x {small}", of_small), (f"{large}", of_large)):
        rate = large / statistics.median(seconds)
        show(f"collect {what} devices, one in {MATCH_EVERY} with a match", seconds, f"{rate:.0f} devices/s")
    growth = statistics.median(big / little for big, little in zip(of_large, of_small, strict=True))
    print(f"  cost per device, {large} against {small} in a task: {growth:.2f}x")


def bench_delivered_again(store: Store, devices: int) -> None:
    task_id = make_task(store, 9000, devices)
    collect(store, task_id, devices)
    show(f"the same {devices} results delivered again", [timed(lambda: collect(store, task_id, devices))])


def fill(store: Store, tasks: int, devices: int) -> None:
    """Tasks in which every device has answered, and every hundredth reported a match."""
    first = make_task(store, 0, devices)
    with store.transaction() as tx:
        tx.task_devices.apply_states([state_row(first, index) for index in range(devices)], now=NOW)
        tx.matches.add([match_row(first, index) for index in range(0, devices, 100)])
    for number in range(1, tasks):
        copy_devices(store, first, make_task(store, number, 0))


def copy_devices(store: Store, source: str, target: str) -> None:
    """The same answers for another task, by the database alone: filling is not what is measured."""
    with store.transaction() as tx:
        for table in (task_devices, matches):
            new = {"task_id": literal(target), "match_id": literal(f"{target}-") + matches.c.match_id}
            columns = [new.get(column.name, column) for column in table.columns]
            rows = select(*columns).where(table.c.task_id == source)
            tx.connection.execute(table.insert().from_select(list(table.columns.keys()), rows))
        tx.coverage_changed.add(target)
        tx.counts_changed.add(target)


def bench_looking(store: Store, devices: int, rounds: int) -> None:
    def looking(work: Callable[[Any], Any]) -> Callable[[], Any]:
        def once() -> None:
            with store.reading() as tx:
                work(tx)

        return once

    show(
        "list_tasks: 100 tasks with their coverage",
        rounds_of(looking(lambda tx: tx.tasks.list(limit=100)), rounds),
    )
    show("get_coverage: as stored", rounds_of(looking(lambda tx: tx.tasks.get("task-0001")), rounds))
    counted = looking(lambda tx: tx.task_devices.coverage("task-0001"))
    show(f"get_coverage: counted anew over {devices} devices", rounds_of(counted, rounds))
    show("matches of a task", rounds_of(looking(lambda tx: tx.matches.list("task-0001")), rounds))
    show("count matches of a task", rounds_of(looking(lambda tx: tx.matches.counts("task-0001")), rounds))
    page = looking(lambda tx: tx.task_devices.list("task-0001", limit=100, offset=devices // 2))
    show("a page of a task's devices", rounds_of(page, rounds))
    show(
        "tasks of one device",
        rounds_of(looking(lambda tx: tx.task_devices.tasks_of("local", device_name(7))), rounds),
    )
    show("facts for the lifetime rules", rounds_of(looking(lambda tx: tx.tasks.retention_facts()), rounds))
    show("one device's new state (coverage counted anew)", rounds_of(lambda: touch(store), rounds))


def touch(store: Store) -> None:
    with store.transaction() as tx:
        tx.task_devices.apply_states([state_row("task-0001", 1) | {"state": "failed"}], now=NOW)


def read_until_told(url: str, stop: Any, pipe: Any) -> None:
    """A reader and a small writer beside the pruning: the longest each had to wait."""
    longest = {"read": 0.0, "write": 0.0}
    with Store.open(url, allow_temporary=True) as store:
        pipe.send("ready")
        while not stop.is_set():
            started = time.perf_counter()
            with store.reading() as tx:
                tx.tasks.list(limit=20)
            longest["read"] = max(longest["read"], time.perf_counter() - started)
            started = time.perf_counter()
            with store.transaction() as tx:
                tx.flags.set("heartbeat", 1, now=NOW)
            longest["write"] = max(longest["write"], time.perf_counter() - started)
            time.sleep(0.02)
    pipe.send(longest)


def prune(store: Store, tasks: int) -> float:
    """End every task, sum it up and delete its rows; the longest transaction."""
    longest = 0.0
    for number in range(tasks):
        task_id = f"task-{number:04}"
        with store.transaction() as tx:
            tx.tasks.end(task_id, "expired", "7 days after last start", NOW)
            tx.task_devices.end_unfinished(task_id, "expired", NOW)
            tx.task_summaries.write(task_id)
        left = 1
        while left:
            started = time.perf_counter()
            with store.transaction() as tx:
                left = tx.deletion.delete_task_rows(task_id)
            longest = max(longest, time.perf_counter() - started)
    return longest


def bench_pruning(store: Store, url: str, tasks: int, devices: int) -> None:
    context = multiprocessing.get_context("spawn")
    stop, (mine, theirs) = context.Event(), context.Pipe(duplex=False)
    reader = context.Process(target=read_until_told, args=(url, stop, theirs))
    reader.start()
    mine.recv()
    started = time.perf_counter()
    longest = prune(store, tasks)
    took = time.perf_counter() - started
    stop.set()
    waits = mine.recv()
    reader.join()
    print(f"  prune {tasks} tasks with {tasks * devices} device rows                  {took:10.1f} s")
    print(
        f"    longest transaction {longest * 1000:.0f} ms; meanwhile the longest read took "
        f"{waits['read'] * 1000:.0f} ms, the longest write {waits['write'] * 1000:.0f} ms"
    )
    show("tidy up afterwards", [timed(store.optimize)])


@contextmanager
def databases(only: str | None) -> Iterator[dict[str, Callable[[], str]]]:
    """A maker of urls for each database; each call gives a fresh, empty one."""
    with tempfile.TemporaryDirectory(prefix="ioc-bench-") as folder, running_postgres(durable=True) as server:
        count = iter(range(10**6))

        def sqlite() -> str:
            place = Path(folder) / str(next(count))
            place.mkdir(mode=0o700)
            return f"sqlite:///{place}/store.db"

        made = {"sqlite": sqlite, "postgresql": lambda: server.url(server.new_database())}
        yield {name: make for name, make in made.items() if only in (None, name)}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    options = parser.parse_args()
    with databases(options.only) as made:
        for name, new_url in made.items():

            def fresh(new_url: Callable[[], str] = new_url) -> Store:
                return Store.open(new_url(), clock=lambda: NOW, allow_temporary=True)

            with fresh() as store:
                about = store.describe()
            print(f"{name} {about['version']}, Python {platform.python_version()}, {platform.machine()}")
            bench_collecting(fresh, options.devices, options.rounds)
            with fresh() as store:
                bench_delivered_again(store, options.devices)
            url = new_url()
            with Store.open(url, clock=lambda: NOW, allow_temporary=True) as store:
                seconds = timed(partial(fill, store, options.tasks, options.devices))
                rows = options.tasks * options.devices
                print(f"  (filled with {rows} device rows in {seconds:.0f} s)", flush=True)
                bench_looking(store, options.devices, options.rounds * 3)
                bench_pruning(store, url, options.tasks, options.devices)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            print(f"  memory of this process at most {memory} MB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
