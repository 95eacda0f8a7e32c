"""What the processes of test_concurrency.py do, each with a store of its own."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable
from datetime import datetime, timezone
from multiprocessing.connection import Connection
from typing import Any

from ioc_scan.store import Store

from . import make

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=timezone.utc)


def claim(store: Store, name: str) -> list[str]:
    """Claim in small bites until nothing is left."""
    taken: list[str] = []
    while True:
        with store.transaction() as tx:
            rows = tx.matches.claim("task-1", None, name, NOW, limit=7)
        if not rows:
            return taken
        taken += [row["match_id"] for row in rows]


def claim_all(store: Store, name: str) -> list[str]:
    with store.transaction() as tx:
        return [row["match_id"] for row in tx.matches.claim("task-1", None, name, NOW)]


def claim_within_limit(store: Store, name: str) -> int:
    """Count, then claim one, never past 20 for the whole fleet: what a blast limit does."""
    number = 0
    for _ in range(10):
        with store.transaction() as tx:
            if tx.responses.acted()["files"] < 20:
                number += len(tx.matches.claim("task-1", None, name, NOW, limit=1))
    return number


def create(store: Store, name: str) -> list[Any]:
    """Create a task for each of ten objects; the ids won and the ids seen."""
    won, seen = [], []
    for number in range(10):
        sha256 = f"{number:064x}"
        row = {"task_id": f"{name}-{number}", "name": name, "object_sha256": sha256, "live_object": sha256}
        row |= {"detection_id": "cape:main:1", "profile": "endpoint_agent", "created_at": NOW}
        with store.transaction() as tx:
            task, new = tx.tasks.create_or_get(row)
            tx.tasks.add_detection(task["task_id"], f"cape:main:{name}", NOW)
            tx.events.add("task_created" if new else "task_redetected", task_id=task["task_id"])
        won += [task["task_id"]] if new else []
        seen.append(task["task_id"])
    return [won, seen]


def lease(store: Store, name: str) -> bool:
    with store.transaction() as tx:
        return tx.leases.acquire("process_results", name, 60, NOW)


def outbox(store: Store, name: str) -> int:
    """Note the same thirty triggers as everybody; how many this one noted first."""
    number = 0
    for index in range(30):
        with store.transaction() as tx:
            number += tx.outbox.add("ioc_scan.task_ended", {}, dedupe_key=f"task_ended:{index}", now=NOW)
    return number


def count(store: Store, name: str) -> int:
    """Read, add one, write: an update is lost wherever two do this at once."""
    for _ in range(25):
        with store.transaction() as tx:
            tx.flags.set("counter", tx.flags.get("counter", 0) + 1, now=NOW)
            tx.events.add("alert_raised", actor=name)
    return 25


def deliver(store: Store, name: str) -> int:
    """Deliver the same results as everybody, in an order of one's own; how many were new."""
    order = list(range(40))
    order = order[int(name) * 7 :] + order[: int(name) * 7]
    new = 0
    for number in order:
        device = f"ws{number:02}"
        with store.transaction() as tx:
            new += len(tx.matches.add([make.match(NOW, device_id=device)]))
            state = {"run": 1, "state": "done", "matches": 1, "now": NOW}
            tx.task_devices.apply_state("task-1", "local", device, **state)
    return new


def opened(store: Store, name: str) -> str:
    """Opening was the work: all of them at an empty database."""
    with store.reading() as tx:
        return str(tx.events.head()[0])


def die_in_transaction(store: Store, name: str, pipe: Connection) -> None:
    """Confirm some, then be killed with a transaction half done."""
    for number in range(5):
        with store.transaction() as tx:
            tx.flags.set(f"confirmed-{number}", number, now=NOW)
            tx.events.add("alert_raised", data={"n": number})
        pipe.send(number)
    with store.transaction() as tx:
        tx.matches.claim("task-1", None, "never", NOW)
        tx.flags.set("half", "x" * 100_000, now=NOW)
        tx.events.add("response_claimed")
        os.kill(os.getpid(), signal.SIGKILL)


def write_until_killed(store: Store, name: str, pipe: Connection) -> None:
    """Write number after number, and tell each one once it is confirmed."""
    number = 0
    while True:
        with store.transaction() as tx:
            tx.flags.set("last", number, now=NOW)
            tx.events.add("alert_raised", data={"n": number})
        pipe.send(number)
        number += 1


def run(work: Callable[..., Any], url: str, name: str, at: float, pipe: Connection) -> None:
    """The body of each process: meet at the moment ``at``, work, send the result."""
    try:
        if work is opened:
            time.sleep(max(0.0, at - time.time()))
        with Store.open(url, allow_temporary=True) as store:
            time.sleep(max(0.0, at - time.time()))
            dying = work in (die_in_transaction, write_until_killed)
            pipe.send(work(store, name, pipe) if dying else work(store, name))
    except BaseException:
        pipe.send(traceback.format_exc())
        raise
