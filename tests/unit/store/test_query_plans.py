"""No question asked often reads a large table from end to end: looked up in SQLite's own query plans."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.store import Store, Transaction
from sqlalchemy import event

from . import dump, make
from .conftest import START

#: Tables that grow with devices, detections or time.
LARGE = "detections|task_devices|matches|events|acted_files|jobs|outbox|fetches|quarantine|task_detections"
LATER = START + timedelta(days=30)

QUESTIONS: dict[str, Callable[[Transaction], Any]] = {
    "detection by id": lambda tx: tx.detections.get("cape:main:1"),
    "newest detections": lambda tx: tx.detections.list(limit=10),
    "undecided detections": lambda tx: tx.detections.list(undecided=True, limit=10),
    "detections of an object": lambda tx: tx.detections.list(object_sha256=make.SHA256),
    "unknown detections": lambda tx: tx.detections.missing(["a", "b"]),
    "due fetches": lambda tx: tx.fetches.due(LATER),
    "tasks with coverage": lambda tx: tx.tasks.list(),
    "live task of an object": lambda tx: tx.tasks.live_for(make.SHA256),
    "aim at devices": lambda tx: tx.task_devices.target("task-1", 3, "local", "g", ["ws01"], now=START),
    "device states": lambda tx: tx.task_devices.apply_state(
        "task-1", "local", "ws01", run=2, state="running", now=START
    ),
    "coverage": lambda tx: tx.task_devices.coverage("task-1"),
    "devices of a task": lambda tx: tx.task_devices.list("task-1"),
    "tasks of a device": lambda tx: tx.task_devices.tasks_of("local", "ws01"),
    "end devices": lambda tx: tx.task_devices.end_unfinished("task-1", "expired", START),
    "store matches": lambda tx: tx.matches.add([make.match(START, "new", run=9)]),
    "matches of a task": lambda tx: tx.matches.list("task-1"),
    "withdraw devices": lambda tx: tx.task_devices.withdraw("task-1", "local", ["ws01"], run=2, now=START),
    "tally matches": lambda tx: tx.matches.tally("task-1"),
    "count matches": lambda tx: tx.matches.counts("task-1"),
    "claim": lambda tx: tx.matches.claim("task-1", None, "r9", START),
    "claim some": lambda tx: tx.matches.claim("task-1", ["a", "b"], "r9", START),
    "stale claims": lambda tx: tx.matches.release_stale(LATER),
    "prevalence of a hash": lambda tx: tx.matches.devices_with(make.SHA256),
    "limit per fleet and hour": lambda tx: tx.responses.acted(since=START),
    "limit per object": lambda tx: tx.responses.acted(object_sha256=make.SHA256),
    "limit per source": lambda tx: tx.responses.acted(source_name="cape"),
    "limit per task": lambda tx: tx.responses.acted(task_id="task-1"),
    "limit per device": lambda tx: tx.responses.acted(manager="local", device_id="ws01"),
    "open jobs": lambda tx: tx.jobs.open("scan"),
    "jobs of a task": lambda tx: tx.jobs.for_task("task-1"),
    "open withdrawals": lambda tx: tx.withdrawals.open(),
    "due triggers": lambda tx: tx.outbox.due(),
    "record an event": lambda tx: tx.events.add("alert_raised"),
    "events of a task": lambda tx: tx.events.list(task_id="task-1"),
    "events of a detection": lambda tx: tx.events.list(detection_id="cape:main:1"),
    "newest events": lambda tx: tx.events.list(),
    "events of a type": lambda tx: tx.events.list(types=["task_created"]),
    "approvals past their time": lambda tx: tx.approvals.expire_due(LATER),
    "quarantine past its term": lambda tx: tx.quarantine.expired(LATER),
    "quarantine of a hash": lambda tx: tx.quarantine.list(sha256=make.SHA256),
    "old results": lambda tx: tx.deletion.delete_results_before(LATER),
    "facts for the lifetime rules": lambda tx: tx.tasks.retention_facts(),
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder: Path = tmp_path_factory.mktemp("plans")
    folder.chmod(0o700)
    store = Store.open(f"sqlite:///{folder}/x.db", clock=lambda: START, allow_temporary=True)
    dump.fill(store)
    return store


@pytest.mark.parametrize("question", QUESTIONS)
def test_large_tables_are_asked_through_an_index(filled: Store, question: str) -> None:
    asked: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if re.match(r"\s*(SELECT|UPDATE|DELETE|INSERT)", statement):
            asked.append((statement, parameters[0] if many else parameters))

    try:
        with filled.transaction() as tx:
            event.listen(tx.connection, "before_cursor_execute", note)
            QUESTIONS[question](tx)
            event.remove(tx.connection, "before_cursor_execute", note)
            assert asked
            for statement, parameters in asked:
                plan = tx.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
                whole = [row.detail for row in plan if re.fullmatch(rf"SCAN ({LARGE})", row.detail)]
                assert not whole, f"{whole}\n{statement}"
            raise _LeaveAsItWas
    except _LeaveAsItWas:
        pass


class _LeaveAsItWas(Exception):
    """Rolls the transaction back, so that the questions do not disturb each other."""
