"""The watch over one source: at least once, in spite of everything."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from ioc_scan.detection import ids
from ioc_scan.detection.sources import Cursor, Row, SourceHealth, SourceUnavailable
from ioc_scan.detection.sources.triggers import DETECTION, FAILED, Triggers, detection_payload
from ioc_scan.detection.sources.watch import MAX_TRIES, Watch, WatchSettings
from ioc_scan.errors import InputError, SourceError

from tests.fixtures.shared import REPOSITORY
from tests.unit.detection.samples import normalize, report

TRIGGERS = Triggers(REPOSITORY / "sensors" / "sandbox_detections.yaml")
START = datetime(2024, 5, 1, 12, 0, tzinfo=timezone.utc)


class Lab:
    """A source in memory whose reports and moods a test sets."""

    name, product = "lab", "cape"

    def __init__(self) -> None:
        self.reports: dict[str, Any] = {}
        self.times: dict[str, datetime] = {}
        self.mood: Exception | None = None
        self.fetched: list[str] = []

    def put(self, report_id: str, content: Any, at: datetime = START) -> None:
        self.reports[report_id], self.times[report_id] = content, at

    def list_new(self, cursor: Cursor | None, now: datetime) -> tuple[list[Row], Cursor]:
        if self.mood:
            raise self.mood
        rows = [Row(ids.detection_id("cape", "lab", key), key, at) for key, at in self.times.items()]
        return rows, {"listed_at": int(now.timestamp())}

    def fetch(self, report_id: str) -> dict[str, Any]:
        self.fetched.append(report_id)
        content = self.reports[report_id]
        if isinstance(content, Exception):
            raise content
        return normalize(content, report_id=report_id)

    def fetch_degraded(self, report_id: str) -> dict[str, Any] | None:
        return None

    def health(self) -> SourceHealth:
        return SourceHealth(True)


class Bench:
    """A watch with a clock that is set by hand and a list of what was dispatched."""

    def __init__(self, lab: Lab, state: dict[str, Any] | None = None, **settings: Any) -> None:
        self.now = START + timedelta(minutes=1)
        self.sent: list[tuple[str, dict[str, Any], str]] = []
        self.logged: list[str] = []
        self.watch = Watch(
            lab, WatchSettings(**settings), TRIGGERS, state,
            clock=lambda: self.now, log=self.logged.append, jitter=lambda: 1.0,
        )  # fmt: skip

    def look(self, seconds: float = 10) -> list[str]:
        """Let time pass, look once, and say which reports were dispatched."""
        self.now += timedelta(seconds=seconds)
        before = len(self.sent)
        self.watch.poll(lambda *sent: self.sent.append(sent))
        return [payload["report_id"] for _, payload, _ in self.sent[before:]]


@pytest.fixture()
def lab() -> Lab:
    return Lab()


def started(lab: Lab, **settings: Any) -> Bench:
    """A bench whose first look lies behind it."""
    bench = Bench(lab, {"cursor": None, "seen": {}, "retry": {}}, **settings)
    return bench


def test_malicious_ones_are_dispatched_once(lab: Lab) -> None:
    bench = started(lab)
    lab.put("1", report())
    lab.put("2", report(malscore=2))
    assert bench.look() == ["1"]
    assert bench.look() == []
    trigger, payload, tag = bench.sent[0]
    assert (trigger, tag) == (DETECTION, "cape:lab:1")
    assert payload["target_sha256"] == "b" * 64 and payload["score"] == 100.0
    assert lab.fetched == ["1", "2"]


def test_the_state_survives_as_json(lab: Lab) -> None:
    bench = started(lab)
    lab.put("1", report())
    bench.look()
    again = Bench(lab, json.loads(json.dumps(bench.watch.state)))
    lab.put("2", report())
    assert again.look() == ["2"]


@pytest.mark.parametrize(
    "state", [{}, {"seen": 5, "retry": "x", "cursor": []}, {"seen": {"1": "x"}, "retry": {"1": {}}}]
)
def test_a_damaged_state_loses_nothing(lab: Lab, state: dict[str, Any]) -> None:
    lab.put("1", report())
    assert Bench(lab, state).look() == ["1"]


def test_first_start_begins_with_what_comes(lab: Lab) -> None:
    lab.put("old", report())
    bench = Bench(lab)
    assert bench.look() == []
    lab.put("new", report(), START - timedelta(days=1))
    assert bench.look() == ["new"]


def test_first_start_with_backfill(lab: Lab) -> None:
    lab.put("old", report(), START - timedelta(hours=5))
    lab.put("recent", report(), START - timedelta(hours=1))
    assert Bench(lab, backfill=timedelta(hours=2)).look() == ["recent"]


def test_late_and_reordered_reports(lab: Lab) -> None:
    bench = started(lab)
    lab.put("9", report())
    assert bench.look() == ["9"]
    lab.put("3", report(), START - timedelta(hours=20))
    assert bench.look() == ["3"]


def test_at_most_so_many_in_one_look(lab: Lab) -> None:
    bench = started(lab, max_dispatch_per_poll=2)
    for number in range(5):
        lab.put(str(number), report())
    assert [bench.look(), bench.look(), bench.look(), bench.look()] == [["0", "1"], ["2", "3"], ["4"], []]


def test_the_cursor_waits_for_what_was_deferred(lab: Lab) -> None:
    bench = started(lab, max_dispatch_per_poll=1)
    lab.put("1", report())
    lab.put("2", report())
    bench.look()
    assert bench.watch.state["cursor"] is None
    bench.look()
    assert bench.watch.state["cursor"] is None or "listed_at" in bench.watch.state["cursor"]
    bench.look()
    assert bench.watch.state["cursor"]


def test_a_poison_report_is_tried_named_and_left_behind(lab: Lab) -> None:
    bench = started(lab)
    lab.put("bad", InputError("report_html", "the report is HTML"))
    lab.put("worse", RuntimeError("<% 1 %>"))
    lab.put("good", report())
    assert bench.look() == ["good"]
    for _ in range(MAX_TRIES + 2):
        bench.look(3600)
    failed = [payload for trigger, payload, _ in bench.sent if trigger == FAILED]
    assert [(item["report_id"], item["code"], item["attempts"]) for item in failed] == [
        ("bad", "report_html", 5), ("worse", "internal_error", 5),
    ]  # fmt: skip
    assert lab.fetched.count("bad") == MAX_TRIES
    assert not bench.watch.state["retry"]


def test_pauses_grow(lab: Lab) -> None:
    bench = started(lab)
    lab.put("bad", InputError("report_html", "x"))
    waited = []
    for _ in range(MAX_TRIES - 1):
        bench.look()
        waited.append(bench.watch.state["retry"]["bad"]["next"] - bench.now.timestamp())
        bench.now += timedelta(seconds=waited[-1])
    assert waited == [30, 60, 120, 240]


def test_a_report_that_mends_is_dispatched_even_when_no_longer_listed(lab: Lab) -> None:
    bench = started(lab)
    lab.put("1", InputError("report_truncated", "x"))
    assert bench.look() == []
    lab.put("1", report())
    del lab.times["1"]
    assert bench.look(60) == ["1"]


def test_a_failing_source_is_asked_less_and_less(lab: Lab) -> None:
    bench = started(lab)
    lab.mood = SourceError("folder_unreachable", "gone")
    for _ in range(200):
        bench.look()
    assert 5 <= len(bench.logged) <= 9
    lab.mood = None
    lab.put("1", report())
    assert bench.look(900) == ["1"]


def test_retry_after_is_honoured_and_a_refused_login_asked_rarely(lab: Lab) -> None:
    bench = started(lab)
    lab.put("1", report())
    lab.mood = SourceUnavailable("source_throttled", "429", retry_after_seconds=120)
    bench.look()
    lab.mood = None
    assert bench.look(110) == [] and bench.look(11) == ["1"]
    lab.mood = SourceUnavailable("source_unauthorized", "401", lasting=True)
    bench.look()
    lab.mood = None
    lab.put("2", report())
    assert bench.look(890) == [] and bench.look(11) == ["2"]


def test_throttled_in_the_middle_defers_the_rest(lab: Lab) -> None:
    bench = started(lab)
    lab.put("1", report())
    lab.put("2", SourceUnavailable("source_throttled", "429", retry_after_seconds=60))
    lab.put("3", report())
    assert bench.look() == ["1"]
    assert not bench.watch.state["retry"] and bench.watch.state["cursor"] is None
    lab.put("2", report())
    assert bench.look(61) == ["2", "3"]


def test_what_is_tried_again_does_not_hold_the_window(lab: Lab) -> None:
    bench = started(lab)
    lab.put("1", InputError("report_html", "x"))
    bench.look()
    lab.put("1", SourceUnavailable("source_rate_limited", "used up", retry_after_seconds=60))
    before = bench.watch.state["cursor"]
    lab.put("2", report())
    assert bench.look(60) == ["2"]
    assert bench.watch.state["cursor"]["listed_at"] > before["listed_at"]
    assert bench.watch.state["retry"]["1"]["tries"] == 1
    assert bench.look(30) == [] and lab.fetched[-1] == "1", "the source is left alone as long as it asks for"
    lab.put("1", report())
    assert bench.look(31) == ["1"]


def test_what_breaks_off_holds_the_window_for_those_behind_it(lab: Lab) -> None:
    bench = started(lab)
    lab.put("1", SourceUnavailable("source_unreachable", "broke off", blames_report=True))
    lab.put("2", report())
    assert bench.look() == [] and bench.watch.state["cursor"] is None
    assert bench.look(1000) == ["2"]


def test_a_failed_dispatch_is_repeated(lab: Lab) -> None:
    bench = started(lab)
    lab.put("1", report())

    def refuse(*_: Any) -> None:
        raise ConnectionError("message bus down")

    bench.now += timedelta(seconds=10)
    with pytest.raises(ConnectionError):
        bench.watch.poll(refuse)
    assert bench.look() == ["1"]


def test_what_is_remembered_is_pruned(lab: Lab) -> None:
    bench = started(lab, look_back=timedelta(hours=24))
    lab.put("1", report())
    bench.look()
    bench.look(40 * 3600)
    assert "1" in bench.watch.state["seen"], "still listed: forgetting it would dispatch it again"
    del lab.times["1"]
    bench.look()
    assert bench.watch.state["seen"] == {}


def test_payloads_hold_no_text_from_the_report() -> None:
    hostile = "{{ 7*7 }}<% 1+1 %>.exe"
    content = report(
        detections=[{"family": hostile}], malstatus=hostile, info={"version": hostile, "ended": hostile}
    )
    content["target"]["file"]["name"] = hostile
    payload = detection_payload(normalize(content, report_id=hostile), "lab")
    TRIGGERS.check(DETECTION, payload)
    assert (
        "{{" not in json.dumps(payload) and payload["family_count"] == 1 and payload["detected_at_epoch"] == 0
    )


@pytest.mark.parametrize(
    "change",
    [{"verdict": "benign"}, {"verdict": "{{ x }}"}, {"score": "10"}, {"target_sha256": "x"}, {"more": 1},
     {"degraded": None}, {"detection_id": "a:b"}, {"families": ["x"]}],
)  # fmt: skip
def test_payloads_that_stackstorm_would_drop_are_caught(change: dict[str, Any]) -> None:
    payload = detection_payload(normalize(report()), "lab")
    TRIGGERS.check(DETECTION, payload)
    with pytest.raises(InputError, match="payload_invalid"):
        TRIGGERS.check(DETECTION, {**payload, **change})


def test_a_download_that_always_breaks_off_does_not_block_the_rest(lab: Lab) -> None:
    bench = started(lab)
    lab.put("1", SourceUnavailable("source_unreachable", "broke off", blames_report=True))
    lab.put("2", report())
    assert bench.look() == []
    assert bench.look(60) == ["2"]
    for _ in range(MAX_TRIES + 2):
        bench.look(3600)
    assert [payload["report_id"] for trigger, payload, _ in bench.sent if trigger == FAILED] == ["1"]
    assert lab.fetched.count("1") == MAX_TRIES


def test_a_lost_report_falls_back_to_its_list_entry(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {**normalize(report(), report_id="1"), "degraded": True}
    monkeypatch.setattr(Lab, "fetch_degraded", lambda self, report_id: entry)
    bench = started(lab)
    lab.put("1", InputError("report_html", "x"))
    for _ in range(MAX_TRIES):
        bench.look(3600)
    assert [(trigger, payload["degraded"]) for trigger, payload, _ in bench.sent] == [(DETECTION, True)]


def test_a_slow_look_ends_so_that_others_get_their_turn(lab: Lab) -> None:
    bench = started(lab)
    for number in range(10):
        lab.put(str(number), report())
    fetch = lab.fetch

    def slow(report_id: str) -> dict[str, Any]:
        bench.now += timedelta(seconds=20)
        return fetch(report_id)

    lab.fetch = slow  # type: ignore[method-assign]
    assert bench.look() == ["0", "1"] and bench.look() == ["2", "3"]


def test_a_source_may_ask_for_longer_pauses(lab: Lab) -> None:
    bench = started(lab, pause=timedelta(seconds=60))
    assert bench.look() == []
    lab.put("1", report())
    assert bench.look(50) == [] and bench.look(11) == ["1"]


def test_a_clock_that_is_set_back_stops_nothing(lab: Lab) -> None:
    bench = started(lab)
    lab.put("1", InputError("report_truncated", "x", "y"))
    bench.look()
    lab.mood = SourceError("folder_unreachable", "gone", "y")
    bench.look(60)
    lab.mood = None
    lab.put("1", report())
    lab.put("2", report())
    assert bench.look(-3 * 86400) == ["2", "1"]
