"""Detections, fetches, IOC files and plans."""

from __future__ import annotations

from datetime import timedelta, timezone

import pytest
from ioc_scan.errors import RefusedError
from ioc_scan.store import Store

from . import make
from .conftest import Clock


def test_a_detection_is_taken_in_once(store: Store, clock: Clock) -> None:
    with store.transaction() as tx:
        assert tx.detections.put(make.detection(), source_name="cape", now=clock()) == ("new", 1)
        assert tx.detections.put(make.detection(), source_name="cape", now=clock.ahead(hours=1)) == (
            "same",
            1,
        )
    with store.reading() as tx:
        row = tx.detections.get("cape:main:1")
        assert row is not None
        assert row["document"] == make.detection()
        assert row["received_at"] == clock() - timedelta(hours=1)
        assert row["received_at"].tzinfo is timezone.utc and row["detected_at"].hour == 11
        assert (row["score"], row["families"], row["object_sha256"]) == (90.0, ["Emotet"], make.SHA256)
        assert (row["decision"], row["degraded"], row["revision"]) == (None, False, 1)
        assert tx.detections.get("cape:main:other") is None


def test_other_content_under_the_same_id_is_a_revision_and_the_older_one_stays(
    store: Store, clock: Clock
) -> None:
    first, second = make.detection(), make.detection(tlp="red")
    with store.transaction() as tx:
        tx.detections.put(first, source_name="cape", now=clock())
        tx.detections.decide("cape:main:1", "task", policy_name="p", task_id="t", reason="fits")
        assert tx.detections.put(second, source_name="cape", now=clock.ahead(minutes=1)) == ("revision", 2)
        assert tx.detections.put(first, source_name="cape", now=clock.ahead(minutes=1)) == ("revision", 3)
        row = tx.detections.get("cape:main:1")
        assert row is not None and row["document"] == first and row["decision"] == "task"
        older = tx.detections.revisions("cape:main:1")
        assert [(item["revision"], item["document"]) for item in older] == [(1, first), (2, second)]


def test_a_detection_id_belongs_to_the_channel_that_brought_it(store: Store, clock: Clock) -> None:
    with store.transaction() as tx:
        tx.detections.put(make.detection(), source_name="cape", now=clock())
    with pytest.raises(RefusedError) as caught, store.transaction() as tx:
        tx.detections.put(make.detection(tlp="red"), source_name="webhook", now=clock())
    assert caught.value.code == "detection_of_other_source"
    with store.reading() as tx:
        row = tx.detections.get("cape:main:1")
        assert row is not None and (row["source_name"], row["revision"]) == ("cape", 1)


def test_lists_missing_ones_and_decisions(store: Store, clock: Clock) -> None:
    with store.transaction() as tx:
        for number in range(1, 4):
            tx.detections.put(make.detection(str(number)), source_name="cape", now=clock.ahead(minutes=1))
        tx.detections.decide("cape:main:2", "no_policy", reason="no policy fits")
    with store.reading() as tx:
        assert [row["report_id"] for row in tx.detections.list()] == ["3", "2", "1"]
        assert [row["report_id"] for row in tx.detections.list(limit=1, offset=1)] == ["2"]
        assert [row["report_id"] for row in tx.detections.list(since=clock())] == ["3"]
        assert [row["report_id"] for row in tx.detections.list(undecided=True)] == ["1", "3"]
        assert "document" not in tx.detections.list()[0]
        ids = [f"cape:main:{number}" for number in (9, 1, 8)] + [f"x:y:{number}" for number in range(1200)]
        assert tx.detections.missing(ids) == [ids[0], *ids[2:]]
    with pytest.raises(ValueError, match="unknown decision"), store.transaction() as tx:
        tx.detections.decide("cape:main:1", "perhaps")


TRAPS = [
    "a\x00b",
    "lone \ud800 and \udcff",
    "{{ 7*7 }}<% 1+1 %>",
    "line\nbreak\u202e\U0001f480",
    "\\x00 \\ud800",
    "ü",
]


@pytest.mark.parametrize("text", TRAPS)
def test_any_text_from_outside_can_be_stored_and_found_again(store: Store, clock: Clock, text: str) -> None:
    """NUL and lone surrogates become visible escapes, everything else comes back as it was."""
    safe = {TRAPS[0]: "a\\x00b", TRAPS[1]: "lone \\ud800 and \\udcff"}.get(text, text)
    indicator = {"type": "file", "role": "dropped", "name": text, text: [text, {"deep": text}]}
    with store.transaction() as tx:
        tx.detections.put(make.detection(text, indicators=[indicator]), source_name=text, now=clock())
        make.task(tx, clock(), name=text)
        tx.task_groups.set("task-1", [(text, text, "ask")])
        tx.task_devices.target("task-1", 1, text, text, [(text, [text])], now=clock())
        assert tx.task_devices.apply_state(
            "task-1", text, text, run=1, state="failed", now=clock(), error_message=text, skipped={text: 1}
        )
        ids = tx.matches.add([make.match(clock(), path=text, item={"FullPath": text}, item_key=text)])
        tx.fetches.failed(
            text, source_name=text, report_id=text, code="x", message=text, next_try_at=None, now=clock()
        )
        tx.events.add("match_found", device_id=text, data={text: text})
    with store.reading() as tx:
        row = tx.detections.get(f"cape:main:{text}")
        assert row is not None and row["source_name"] == safe
        assert row["document"]["indicators"][0][safe] == [safe, {"deep": safe}]
        device = tx.task_devices.get("task-1", text, text)
        assert device is not None and (device["error_message"], device["skipped"]) == (safe, {safe: 1})
        match = tx.matches.get(ids[0])
        assert match is not None and (match["path"], match["item"]) == (safe, {"FullPath": safe})
        assert tx.fetches.get(text)["message"] == safe  # type: ignore[index]
        assert tx.events.list(device_id=text)[0]["data"] == {safe: safe}
        assert tx.events.verify() is None


def test_numbers_json_has_no_word_for_become_null(store: Store, clock: Clock) -> None:
    with store.transaction() as tx:
        tx.flags.set("odd", {"a": [float("nan"), float("inf"), 1.5], 3: "key"}, now=clock())
        assert tx.flags.get("odd") == {"a": [None, None, 1.5], "3": "key"}


def test_a_naive_time_is_a_programming_error(store: Store, clock: Clock) -> None:
    with pytest.raises(Exception, match="aware"), store.transaction() as tx:
        tx.flags.set("a", 1, now=clock().replace(tzinfo=None))


def test_times_keep_their_moment_whatever_their_zone(store: Store, clock: Clock) -> None:
    moment = clock().replace(microsecond=123456).astimezone(timezone(timedelta(hours=-7)))
    with store.transaction() as tx:
        tx.flags.set("a", 1, now=moment)
        row = tx.flags.row("a")
        assert row is not None and row["updated_at"] == moment and row["updated_at"].tzinfo is timezone.utc


def test_a_failing_fetch_is_tried_again_when_due_and_given_up_at_last(store: Store, clock: Clock) -> None:
    def fail(minutes: int | None) -> int:
        later = None if minutes is None else clock() + timedelta(minutes=minutes)
        with store.transaction() as tx:
            return tx.fetches.failed(
                "cape:main:1",
                source_name="cape",
                report_id="1",
                code="report_truncated",
                message="cut",
                next_try_at=later,
                now=clock(),
            )

    def due() -> list[str]:
        with store.reading() as tx:
            return [row["detection_id"] for row in tx.fetches.due(clock())]

    assert fail(5) == 1 and due() == []
    clock.ahead(minutes=4, seconds=59)
    assert due() == []
    clock.ahead(seconds=1)
    assert due() == ["cape:main:1"]
    assert fail(5) == 2
    with store.transaction() as tx:
        tx.fetches.succeeded("cape:main:1", clock())
    clock.ahead(hours=1)
    assert due() == []
    assert fail(None) == 3
    with store.reading() as tx:
        assert due() == []
        row = tx.fetches.get("cape:main:1")
        assert row is not None and (row["state"], row["code"], row["attempts"]) == (
            "failed",
            "report_truncated",
            3,
        )
        assert [row["detection_id"] for row in tx.fetches.list("failed")] == ["cape:main:1"]


def test_an_announced_report_is_due_at_once_and_noted_once(store: Store, clock: Clock) -> None:
    with store.transaction() as tx:
        assert tx.fetches.announced("a:b:1", source_name="a", report_id="1", now=clock())
        assert not tx.fetches.announced("a:b:1", source_name="a", report_id="1", now=clock())
        assert [row["attempts"] for row in tx.fetches.due(clock())] == [0]


def test_ioc_files_and_plans_are_kept_once_by_digest(store: Store, clock: Clock) -> None:
    content = bytes(range(256)) * 10
    with store.transaction() as tx:
        for new in (True, False):
            digest, is_new = tx.ioc_files.put(
                content,
                ioc_id="u",
                detection_id="cape:main:1",
                tier="hunt",
                version="1.0",
                item_count=3,
                now=clock(),
            )
            assert is_new is new
        tx.ioc_files.put(
            b"other",
            ioc_id="v",
            detection_id="cape:main:1",
            tier="actionable",
            version="1.0",
            item_count=1,
            now=clock(),
        )
        assert tx.ioc_files.get(digest)["content"] == content  # type: ignore[index]
        assert [row["tier"] for row in tx.ioc_files.for_detection("cape:main:1")] == ["actionable", "hunt"]
        assert tx.ioc_files.get("absent") is None
        plan = tx.plans.put(content, now=clock())
        assert tx.plans.put(content, now=clock()) == plan == digest
        assert tx.plans.get(plan) == content and tx.plans.get("absent") is None
