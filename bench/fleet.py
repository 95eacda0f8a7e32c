"""A large fleet through the real use cases and the real store, its devices' answers recorded.

    .venv/bin/python -m bench.fleet [--tasks 100] [--devices 10000] [--rounds 3] [--only sqlite|postgresql]

What is measured is what an action would do, from its use case to the durable store and back; only the
device manager is a recording in memory, so that devices cost nothing. ``bench.store`` measures the store alone.
Writes bench/fleet_results.md with --write.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

from ioc_scan.devices.base import (
    Capability,
    Device,
    DeviceEvent,
    EventKind,
    Group,
    Health,
    Job,
    Online,
    Withdrawal,
)
from ioc_scan.scanner.plan import load_plan
from ioc_scan.service import collection, intake, lifetimes, looking, responses, tasks, views
from ioc_scan.service.context import ALLOW_TEMPORARY_VARIABLE, Context, open_context

from bench.store import copy_devices, make_task, read_until_told
from tests.fixtures.postgres import running_postgres
from tests.service.world import detection, sample

RESULTS = Path(__file__).with_name("fleet_results.md")
#: Devices whose answers one poll brings.
BATCH = 500
MATCH_EVERY = 5
POLICY = {
    "name": "all",
    "when": {"min_score": 70},
    "run_ioc_scan_on": [{"group": "fleet", "response_mode": "ask"}],
}
Row = dict[str, Any]


class Recorded:
    """Knows a number of devices; every one has answered, one in five with a match."""

    caps = frozenset({Capability.RESPOND, Capability.OFFLINE_QUEUE})

    def __init__(self, name: str, devices: int) -> None:
        self.name = name
        self.ids = [f"ws{number:05}.example.org" for number in range(devices)]
        self.jobs: dict[str, tuple[Job, str]] = {}

    def groups(self) -> list[Group]:
        return [Group("fleet")]

    def devices(self, group: str) -> list[Device]:
        return [Device(name, group, "windows", Online.YES) for name in self.ids]

    def publish(self, job: Job) -> None:
        plan = load_plan(job.plan) if job.plan else None
        ioc = next((ioc.digest for ioc in plan.iocs if ioc.tier == "actionable"), "") if plan else ""
        self.jobs.setdefault(job.id, (job, ioc))

    def deliver(self, job_id: str, device_ids: Sequence[str] | None = None) -> None:
        pass

    def poll(self, job_id: str, cursor: Mapping[str, Any] | None) -> tuple[list[DeviceEvent], Row]:
        at = (cursor or {}).get("at", 0)
        job, ioc = self.jobs[job_id]
        part = job.device_ids[at : at + BATCH]
        events: list[DeviceEvent] = []
        for number, device in enumerate(part, at):
            matched = number % MATCH_EVERY == 0
            if matched:
                events.append(DeviceEvent(device, EventKind.MATCH, 1, _match(number, ioc)))
            events.append(DeviceEvent(device, EventKind.STATE, 0, _done(device, job, matched)))
        return events, {"at": at + len(part)}

    def control(self, job_id: str, op: Any, device_ids: Sequence[str] | None = None) -> None:
        pass

    def withdraw(self, job_id: str) -> Withdrawal:
        return Withdrawal(tuple(self.jobs[job_id][0].device_ids) if job_id in self.jobs else (), ())

    def health(self) -> Health:
        return Health(True)


def _match(number: int, ioc: str) -> Row:
    path = f"/home/user{number}/Downloads/invoice.exe"
    return {
        "item_key": f"{number:064x}",
        "ioc": ioc,
        "tier": "actionable",
        "document": "FileItem",
        "item": {"FullPath": path, "SizeInBytes": 123_456, "Sha256sum": "ab" * 32, "Md5sum": "cd" * 16},
        "proof": ["indicator-item-1", "indicator-item-2"],
        "path": path,
        "path_b64": "L2hvbWUvdXNlci9Eb3dubG9hZHMvaW52b2ljZS5leGU=",
        "sha256": "ab" * 32,
        "size": 123_456,
        "device": 64_768,
        "inode": number,
    }


def _done(device: str, job: Job, matched: bool) -> Row:
    return {
        "device_id": device,
        "run": job.run,
        "state": "done",
        "finished_at": "2026-03-01T12:00:00Z",
        "files_seen": 250_000,
        "bytes_hashed": 10**9,
        "matches": int(matched),
        "progress": 1.0,
        "skipped": {"permission_denied": 3},
        "not_evaluated": [{"what": "ProcessItem", "reason": "not on this system"}],
        "error": None,
    }


class Installation:
    """One store, and managers with so many devices each; a clock that is set by hand."""

    def __init__(self, folder: Path, url: str, **fleets: int) -> None:
        self.now = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)
        self.managers = {name: Recorded(name, devices) for name, devices in fleets.items()}
        self.config = {
            "store": {"folder": str(folder), "url": url},
            "sources": [{"name": "webhook", "type": "webhook"}],
            "threat_response_policies": [POLICY],
            "audit": {"syslog": False},
        }
        self.count = 0

    @contextmanager
    def context(self, *names: str) -> Iterator[Context]:
        with open_context(self.config, lambda: self.now) as context:
            context.managers = {name: self.managers[name] for name in names or self.managers}
            yield context

    def new_task(self, context: Context) -> str:
        self.count += 1
        pushed = json.dumps(detection(sample(self.count, 64), self.count))
        told = intake.submit_detection(context, pushed, "webhook")
        return str(tasks.create_task(context, str(told["detection_id"]))["task_id"])


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(folder: Path, url: str, options: argparse.Namespace) -> list[tuple[str, str, str, bool | None]]:
    """Rows of the table: what, seen, aim, whether it is met."""
    rows: list[tuple[str, str, str, bool | None]] = []
    least = 2000 if url.startswith("postgresql") else 1000
    place = Installation(folder, url, small=options.devices // 10, large=options.devices)
    publishing, small, large, asking = [], [], [], []
    for _ in range(options.rounds):
        with place.context("small") as context:
            ids = [place.new_task(context) for _ in range(10)]
            for task_id in ids:
                tasks.start_task(context, task_id, account="stanley")
            small.append(timed(partial(collection.collect_results, context)))
            for task_id in ids:  # else their matches are due in every later round
                responses.respond(context, task_id, account="stanley")
        with place.context("large") as context:
            task_id = place.new_task(context)
            publishing.append(timed(partial(tasks.start_task, context, task_id, account="stanley")))
            large.append(timed(partial(collection.collect_results, context)))
            found = looking.get_coverage(context, task_id)["coverage"]
            matched = -(-options.devices // MATCH_EVERY)
            assert (found["answered"], found["matched"]) == (options.devices, matched), found
            asking.append(timed(partial(responses.respond, context, task_id, account="stanley")))
    rate = options.devices / statistics.median(large)
    growth = statistics.median(big / little for big, little in zip(large, small, strict=True))
    rows.append((f"publish a task on {options.devices} devices", _ms(publishing), "", None))
    text = f"{_ms(large)}, {rate:.0f} devices/s"
    rows.append(
        (f"collect {options.devices} results with {matched} matches", text, f">= {least}/s", rate >= least)
    )
    rows.append(("cost per device against ten tasks of a tenth", f"{growth:.2f}", "<= 1.2", growth <= 1.2))
    rows.append((f"respond: ask about {matched} matches", _ms(asking), "", None))
    rows += _full_house(place, task_id, url, options)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    rows.append(("memory of the process at most", f"{memory} MB", "<= 300 MB", memory <= 300))
    return rows


def _full_house(
    place: Installation, source: str, url: str, options: argparse.Namespace
) -> Iterator[tuple[str, str, str, bool | None]]:
    with place.context("large") as context:
        for number in range(options.tasks):
            made = make_task(context.store, number, 0, place.now)
            with context.store.transaction() as tx:
                tx.task_groups.set(made, [("large", "fleet", "ask")])
            copy_devices(context.store, source, made)
        context.store.optimize()  # as each prune does
        looks: dict[str, Callable[[], Any]] = {
            f"list_tasks ({options.tasks} tasks)": lambda: views.list_tasks(context, limit=100),
            "get_coverage": lambda: looking.get_coverage(context, source),
            "get_task": lambda: views.get_task(context, source),
            "get_results (a page)": lambda: views.get_results(context, source),
        }
        for name, look in looks.items():
            seconds = [timed(look) for _ in range(options.rounds * 3)]
            aimed = name.startswith(("list_tasks", "get_coverage"))
            met = statistics.median(seconds) <= 0.1 if aimed else None
            yield name, _ms(seconds), "<= 100 ms" if aimed else "", met
        idle = [timed(partial(collection.collect_results, context)) for _ in range(options.rounds)]
        yield "process_results with nothing new", _ms(idle), "", None
        yield from _prune(place, context, url, options)


def _prune(
    place: Installation, context: Context, url: str, options: argparse.Namespace
) -> Iterator[tuple[str, str, str, bool | None]]:
    spawn = multiprocessing.get_context("spawn")
    stop, (mine, theirs) = spawn.Event(), spawn.Pipe(duplex=False)
    reader = spawn.Process(target=read_until_told, args=(url, stop, theirs))
    reader.start()
    mine.recv()
    place.now += timedelta(days=7, minutes=30)
    ended = timed(lambda: lifetimes.prune(context))
    place.now += timedelta(days=7, minutes=30)
    removed = timed(lambda: lifetimes.prune(context))
    stop.set()
    waits = mine.recv()
    reader.join()
    with context.store.reading() as tx:
        assert tx.tasks.list(limit=1) == []
    took, count = ended + removed, options.tasks * options.devices
    text = f"{took:.1f} s (ending {ended:.1f} s, removing {removed:.1f} s)"
    yield f"prune {options.tasks} tasks with {count} device rows", text, "<= 60 s", took <= 60
    yield "longest a reader waited meanwhile", f"{waits['read'] * 1000:.0f} ms", "<= 1 s", waits["read"] <= 1
    yield "longest a writer waited meanwhile", f"{waits['write'] * 1000:.0f} ms", "", None


def _ms(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.0f} ms"


def _in_child(folder: str, url: str, options: argparse.Namespace, pipe: Any) -> None:
    os.environ[ALLOW_TEMPORARY_VARIABLE] = "1"
    pipe.send(measure(Path(folder), url, options))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    lines = [
        "# A large fleet through the service",
        "",
        f"{datetime.now(timezone.utc):%Y-%m-%d}, {platform.platform()}, {os.cpu_count()} processors, "
        f"Python {platform.python_version()}. `{' '.join(['python -m bench.fleet', *sys.argv[1:]])}`: medians of "
        f"{options.rounds} rounds, writes durable, devices recorded in memory, one process.",
    ]
    missed = 0
    with tempfile.TemporaryDirectory(prefix="ioc-bench-") as folder, running_postgres(durable=True) as server:
        urls = {
            "sqlite": f"sqlite:///{folder}/ioc_scan.db",
            "postgresql": server.url(server.new_database()),
        }
        for name, url in urls.items():
            if options.only not in (None, name):
                continue
            spawn = multiprocessing.get_context("spawn")
            mine, theirs = spawn.Pipe(duplex=False)
            child = spawn.Process(target=_in_child, args=(folder, url, options, theirs))
            child.start()
            theirs.close()
            rows = mine.recv()
            child.join()
            load = os.getloadavg()[0]
            lines += ["", f"## {name}", "", f"Load average at the end {load:.1f}.", ""]
            lines += ["| work | seen | aim | |", "| --- | --- | --- | --- |"]
            for what, seen, aim, met in rows:
                lines.append(
                    f"| {what} | {seen} | {aim} | {'' if met is None else 'met' if met else 'MISSED'} |"
                )
                missed += met is False
    text = "\n".join(lines) + "\n"
    print(text)
    if options.write:
        RESULTS.write_text(text, encoding="utf-8")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
