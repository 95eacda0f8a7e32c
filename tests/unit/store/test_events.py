"""The record of events: complete, append-only, and its chain shows every tampering."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ioc_scan.errors import RefusedError, StoreError
from ioc_scan.store import ALL_EVENT_TYPES, EventType, Store

from . import make
from .conftest import Clock

REPOSITORY = Path(__file__).resolve().parents[3]

#: The whole list. Values are in databases and reports already: they may be added to, never renamed.
RELEASED = [
    "alert_raised",
    "approval_approved",
    "approval_expired",
    "approval_opened",
    "approval_rejected",
    "approval_reopened",
    "approval_seconded",
    "audit_exported",
    "audit_trimmed",
    "canary_passed",
    "canary_stopped",
    "canary_waiting",
    "claim_released",
    "config_refused",
    "critical_area_reported",
    "critical_areas_scan_requested",
    "detection_decided",
    "detection_received",
    "detection_recovered",
    "detection_refused",
    "detection_revised",
    "device_cancelled",
    "device_delivered",
    "device_done",
    "device_excluded",
    "device_expired",
    "device_failed",
    "device_held",
    "device_paused",
    "device_resumed",
    "device_started",
    "device_waiting_idle",
    "device_withdrawn",
    "exemption_added",
    "exemption_removed",
    "fetch_failed",
    "fetch_given_up",
    "indicator_suppressed",
    "ioc_exported",
    "ioc_generated",
    "job_delivery_failed",
    "job_published",
    "job_withdrawn",
    "kill_switch_off",
    "kill_switch_on",
    "known_good_learned",
    "limit_reached",
    "manager_recovered",
    "manager_unreachable",
    "match_found",
    "object_changed",
    "object_failed",
    "object_missing",
    "object_quarantined",
    "object_refused",
    "object_restored",
    "object_would_quarantine",
    "process_terminated",
    "prune_done",
    "quarantine_deleted",
    "quarantine_expired",
    "response_claimed",
    "response_done",
    "response_failed",
    "response_refused",
    "response_requested",
    "restore_failed",
    "restore_requested",
    "result_rejected",
    "results_exported",
    "results_pruned",
    "right_refused",
    "source_recovered",
    "source_unreachable",
    "stop_requested",
    "store_migrated",
    "task_cancelled",
    "task_completed",
    "task_configured",
    "task_created",
    "task_deleted",
    "task_expired",
    "task_paused",
    "task_pruned",
    "task_redetected",
    "task_resumed",
    "task_rotated",
    "task_start_refused",
    "task_started",
    "template_learned",
    "trust_ceiling_applied",
    "withdrawal_completed",
]


def test_the_list_of_event_types_is_the_released_one() -> None:
    assert sorted(ALL_EVENT_TYPES) == sorted(RELEASED)


@pytest.mark.parametrize("kind", list(EventType))
def test_every_event_type_has_a_name_and_one_sentence_of_meaning(kind: EventType) -> None:
    assert kind.name == kind.value.upper() and re.fullmatch(r"[a-z][a-z_]{3,39}", kind.value)
    assert kind.meaning.endswith(".") and 15 <= len(kind.meaning) <= 120 and "\n" not in kind.meaning
    assert json.dumps(kind) == f'"{kind.value}"'


def test_the_ends_and_outcomes_the_store_knows_all_have_an_event() -> None:
    from ioc_scan.store import states

    assert {f"task_{name}" for name in states.END_STATES} <= ALL_EVENT_TYPES
    assert {f"device_{name}" for name in states.DEVICE_OUTCOMES} <= ALL_EVENT_TYPES
    outcomes = states.RESPONSE_STATES - states.UNACTED_RESPONSE_STATES - {"rejected", "reported"}
    assert {f"object_{name}" for name in outcomes} <= ALL_EVENT_TYPES


def test_every_event_type_can_be_stored_and_no_other(store: Store, clock: Clock) -> None:
    with store.transaction() as tx:
        for kind in EventType:
            tx.events.add(kind, data={"kind": kind.value})
        with pytest.raises(ValueError, match="unknown event type"):
            tx.events.add("something_happened")
        assert {row["type"] for row in tx.events.list(limit=1000)} == ALL_EVENT_TYPES
        assert tx.events.verify() is None


def fill(store: Store, clock: Clock, number: int = 6) -> None:
    for index in range(number):
        with store.transaction() as tx:
            tx.events.add(
                "match_found",
                detection_id=f"cape:main:{index % 2}",
                task_id="t1",
                manager="local",
                device_id=f"ws{index}",
                actor="stanley",
                data={"n": index, "x": [1.5, "ü\u202e", None]},
            )
            clock.ahead(minutes=1)


def test_events_are_listed_by_what_they_concern(store: Store, clock: Clock) -> None:
    start = clock()
    fill(store, clock)
    with store.transaction() as tx:
        assert tx.events.add("kill_switch_on", actor="alice", at=start) == 7
        assert [row["event_id"] for row in tx.events.list(limit=2)] == [7, 6]
        assert [row["event_id"] for row in tx.events.list(types=["kill_switch_on"])] == [7]
        assert [row["event_id"] for row in tx.events.list(detection_id="cape:main:1")] == [6, 4, 2]
        assert [row["event_id"] for row in tx.events.list(task_id="t1", device_id="ws3")] == [4]
        assert [
            row["event_id"] for row in tx.events.list(manager="local", newest_first=False, after_id=4)
        ] == [5, 6]
        within = tx.events.list(since=start, until=start.replace(minute=2), newest_first=False)
        assert [row["event_id"] for row in within] == [1, 2, 7]
        assert tx.events.list(device_id="ws0")[0]["data"] == {"n": 0, "x": [1.5, "ü\u202e", None]}
        with pytest.raises(ValueError, match="unknown event type"):
            tx.events.list(types=["nothing"])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET actor = 'mallory' WHERE event_id = 2",
        "DELETE FROM events WHERE event_id = 2",
        "DELETE FROM events",
        "UPDATE event_anchors SET event_id = 99",
        "DELETE FROM event_anchors",
    ],
)
def test_the_database_itself_refuses_changes(store: Store, clock: Clock, statement: str) -> None:
    fill(store, clock)
    with store.transaction() as tx:
        assert tx.events.trim(clock(), actor="alice", now=clock(), limit=1) == 1
    with pytest.raises(StoreError) as caught, store.transaction() as tx:
        tx.connection.exec_driver_sql(statement)
    assert caught.value.code == "store_append_only"
    with store.reading() as tx:
        assert tx.events.verify() is None


def without_triggers(store: Store, statement: str) -> None:
    """What somebody with the database's password could do."""
    with store.transaction() as tx:
        if tx.connection.dialect.name == "postgresql":
            tx.connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
            tx.connection.exec_driver_sql(statement)
            return
        triggers = tx.connection.exec_driver_sql(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        ).all()
        for name, _ in triggers:
            tx.connection.exec_driver_sql(f"DROP TRIGGER {name}")
        tx.connection.exec_driver_sql(statement)
        for _, sql in triggers:
            tx.connection.exec_driver_sql(sql)


@pytest.mark.parametrize(
    ("statement", "first_broken"),
    [
        ("UPDATE events SET actor = 'mallory' WHERE event_id = 3", 3),
        ("UPDATE events SET data = '{}' WHERE event_id = 1", 1),
        ("UPDATE events SET type = 'alert_raised' WHERE event_id = 6", 6),
        ("UPDATE events SET at = (SELECT at FROM events WHERE event_id = 1) WHERE event_id = 4", 4),
        ("UPDATE events SET device_id = NULL WHERE event_id = 2", 2),
        ("DELETE FROM events WHERE event_id = 4", 4),
        ("DELETE FROM events WHERE event_id = 1", 1),
        ("UPDATE events SET event_id = 60 WHERE event_id = 6", 6),
    ],
)
def test_what_was_changed_or_removed_shows(
    store: Store, clock: Clock, statement: str, first_broken: int
) -> None:
    fill(store, clock)
    with store.reading() as tx:
        assert tx.events.verify() is None
    without_triggers(store, statement)
    with store.transaction() as tx:
        assert tx.events.verify() == first_broken
        assert tx.events.verify(up_to=first_broken - 1) is None


def test_a_broken_part_cannot_be_trimmed_away(store: Store, clock: Clock) -> None:
    fill(store, clock)
    without_triggers(store, "UPDATE events SET actor = 'mallory' WHERE event_id = 3")
    with store.transaction() as tx:
        assert tx.events.trim(clock(), actor="mallory", now=clock(), limit=2) == 2, "before it all is well"
        with pytest.raises(RefusedError) as caught:
            tx.events.trim(clock(), actor="mallory", now=clock())
        assert caught.value.code == "audit_broken" and tx.events.verify() == 3


def test_a_tail_that_was_cut_off_shows_against_a_head_kept_elsewhere(store: Store, clock: Clock) -> None:
    fill(store, clock)
    with store.reading() as tx:
        head = tx.events.head()
        assert head[0] == 6 and tx.events.verify(head) is None
    without_triggers(store, "DELETE FROM events WHERE event_id >= 5")
    with store.transaction() as tx:
        assert tx.events.verify() is None, "the rest is a whole chain: only the kept head tells"
        assert tx.events.verify(head) == 5
        fill_again = [tx.events.add("alert_raised", data={"n": number}) for number in range(4)]
        assert fill_again[-1] == 8 and tx.events.verify(head) == 6, "another sixth event stands in its place"


def test_trimming_keeps_the_chain_and_says_so(store: Store, clock: Clock) -> None:
    start = clock()
    fill(store, clock)
    with store.transaction() as tx:
        assert tx.events.trim(start, actor="alice", now=clock()) == 0
        assert tx.events.trim(start.replace(minute=3), actor="alice", now=clock()) == 3
        assert tx.events.verify() is None
        rows = tx.events.list(newest_first=False)
        assert [row["event_id"] for row in rows] == [4, 5, 6, 7]
        assert (rows[-1]["type"], rows[-1]["data"]["removed"]) == ("audit_trimmed", 3)
        clock.ahead(days=1)
        assert tx.events.trim(clock(), actor="alice", now=clock()) == 3, "never the last one"
        assert tx.events.verify(tx.events.head()) is None
    fill(store, clock, 3)
    without_triggers(store, "DELETE FROM events WHERE event_id = 7")
    with store.reading() as tx:
        assert tx.events.verify() == 7


def test_nothing_yet_is_a_whole_chain(store: Store) -> None:
    with store.transaction() as tx:
        assert tx.events.verify() is None and tx.events.head() == (0, "0" * 64)
        assert tx.events.add_many([]) == []


def test_an_event_goes_with_its_transaction(store: Store, clock: Clock) -> None:
    with pytest.raises(RuntimeError), store.transaction() as tx:
        make.task(tx, clock())
        tx.events.add("task_created", task_id="task-1")
        raise RuntimeError("the task was not created after all")
    with store.reading() as tx:
        assert tx.events.list() == []
