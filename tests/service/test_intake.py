"""What comes in: once, whatever happens after; and bad input is refused with a code and a hint."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from typing import Any
from urllib.parse import quote

import pytest
from ioc_scan.detection.sources import SourceUnavailable
from ioc_scan.detection.sources.folder import FolderSource
from ioc_scan.errors import InputError, IocScanError, NotFoundError, SourceError
from ioc_scan.service import intake, looking, reconciling, tasks

from .world import NASTY_NAME, World, cape_report, count, detection, events, sample


def push(context: Any, payload: str) -> dict[str, Any]:
    return intake.submit_detection(context, payload, "webhook")


@pytest.mark.parametrize("shape", ["plain", "encoded", "spaced", "body_of_the_rule"])
def test_a_pushed_detection_in_every_shape_it_travels_in(town: World, shape: str) -> None:
    text = json.dumps(detection(sample(), target=detection(sample())["target"] | {"name": NASTY_NAME}))
    payload = {
        "plain": text,
        "encoded": quote(text, safe=""),
        "spaced": f"\n  {text}  \n",
        "body_of_the_rule": quote(text, safe="/"),
    }[shape]
    with town.context() as context:
        answer = push(context, payload)
        assert answer["outcome"] == "new" and answer["starts_task"]
        assert answer["detection_id"].startswith("webhook:webhook:")
        with context.store.reading() as tx:
            row = tx.detections.get(answer["detection_id"])
        assert row["document"]["target"]["name"] == NASTY_NAME
        assert push(context, payload)["outcome"] == "same"


def test_its_identity_is_the_channels_not_its_own_word(town: World) -> None:
    town.config["sources"].append({"name": "second", "type": "webhook"})
    pushed = detection(sample()) | {"detection_id": "cape:lab:1"}
    pushed["source"] = {"product": "cape", "instance": "lab", "report_id": "1"}
    with town.context() as context:
        one = push(context, json.dumps(pushed))["detection_id"]
        other = intake.submit_detection(context, json.dumps(pushed), "second")["detection_id"]
        assert one.split(":")[:2] == ["webhook", "webhook"]
        assert other.split(":")[:2] == ["webhook", "second"]
        with context.store.reading() as tx:
            assert tx.detections.get("cape:lab:1") is None
            assert {row["source_name"] for row in tx.detections.list()} == {"webhook", "second"}


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ("", "submission_not_json"),
        ("hello", "submission_not_json"),
        ('"a raw string"', "submission_not_object"),
        (quote('"a raw string"'), "submission_not_object"),
        (json.dumps([detection(b"x")]), "submission_not_object"),
        (quote(json.dumps([detection(b"x")])), "submission_not_object"),
        ("null", "submission_not_object"),
        ("17", "submission_not_object"),
        ("{not json", "submission_not_json"),
        ("%FF%FE", "submission_not_json"),
        ("<html>502 Bad Gateway</html>", "submission_not_json"),
        ("[" * 200_000, "submission_not_json"),
        ('{"a":' * 200_000, "submission_not_json"),
        ("{}", "submission_no_id"),
        ('{"detection_id": 7}', "submission_no_id"),
        ('{"detection_id": ""}', "submission_no_id"),
        ('{"detection_id": "a:b:c"}', "detection_invalid"),
        (json.dumps(detection(b"x") | {"extra": 1}), "detection_invalid"),
        (
            json.dumps(detection(b"x", verdict={"result": "malicious", "score": float("nan")})),
            "submission_not_json",
        ),
        (json.dumps(detection(b"x", verdict={"result": "malicious", "score": 101})), "detection_invalid"),
        (json.dumps(detection(b"x", detected_at="yesterday")), "detection_invalid"),
        (
            json.dumps(detection(b"x", target={"category": "file", "hashes": {"SHA-256": "A" * 64}})),
            "detection_invalid",
        ),
        ('{"detection_id": "\\ud800"}', "detection_invalid"),
        ("x" * (9 * 1024 * 1024), "submission_too_large"),
    ],
    ids=range(24),
)
def test_what_cannot_be_taken_is_refused_and_leaves_nothing(town: World, payload: str, code: str) -> None:
    with town.context() as context:
        with pytest.raises(InputError) as caught:
            push(context, payload)
        assert caught.value.code == code and caught.value.message
        assert len(caught.value.message) < 1000
        assert count(context, "detections") == 0


def test_a_polled_source_is_not_pushed_to_nor_the_other_way_round(town: World) -> None:
    with town.context() as context:
        with pytest.raises(InputError) as caught:
            intake.submit_detection(context, json.dumps(detection(sample())), "lab")
        assert caught.value.code == "source_not_pushed"
        with pytest.raises(NotFoundError) as missing:
            intake.submit_detection(context, json.dumps(detection(sample())), "nobody")
        assert missing.value.code == "source_unknown" and missing.value.hint
        with pytest.raises(InputError) as fetched:
            intake.fetch_detection(context, "webhook:webhook:1")
        assert fetched.value.code == "source_not_polled"


# -- fetching


def test_fetching_is_idempotent(town: World) -> None:
    with town.context() as context:
        detection_id = town.drop_report(cape_report(sample()))
        first = intake.fetch_detection(context, detection_id)
        second = intake.fetch_detection(context, detection_id)
        assert (first["outcome"], second["outcome"]) == ("new", "same")
        assert {**first, "outcome": ""} == {**second, "outcome": ""}
        assert count(context, "detections") == 1 and len(events(context, "detection_received")) == 1


def test_what_was_stored_counts_when_the_report_is_gone(town: World) -> None:
    with town.context() as context:
        detection_id = town.drop_report(cape_report(sample()))
        intake.fetch_detection(context, detection_id)
        shutil.rmtree(town.folder / "reports")
        assert intake.fetch_detection(context, detection_id)["outcome"] == "same"
        assert tasks.create_task(context, detection_id)["created"]


@pytest.mark.parametrize("why", ["report_gone", "not_json"])
def test_a_failed_fetch_is_recorded_with_its_next_try_and_given_up_in_the_end(town: World, why: str) -> None:
    reports = town.folder / "reports"
    detection_id = town.drop_report(cape_report(sample()))
    if why == "report_gone":
        (reports / "report.json").unlink()
    else:
        (reports / "report.json").write_bytes(b"{ truncated")
        os.utime(reports / "report.json", (1, 1))

        detection_id = f"cape:lab:sha256-{hashlib.sha256(b'{ truncated').hexdigest()[:32]}"
    pauses = []
    with town.context() as context:
        for _ in range(6):
            with pytest.raises((SourceError, InputError)) as caught:
                intake.fetch_detection(context, detection_id)
            with context.store.reading() as tx:
                row = tx.fetches.get(detection_id)
            assert row["code"] == caught.value.code and caught.value.hint
            pauses.append(row["next_try_at"] and (row["next_try_at"] - town.clock()).total_seconds() / 60)
        assert pauses == [5, 15, 60, 240, 720, None]
        assert row["state"] == "failed" and row["attempts"] == 6
        assert (len(events(context, "fetch_failed")), len(events(context, "fetch_given_up"))) == (5, 1)
        assert count(context, "detections") == 0


@pytest.mark.parametrize("why", ["folder_gone", "folder_open"])
def test_a_silent_source_defers_without_end_and_without_noise(town: World, why: str) -> None:
    reports = town.folder / "reports"
    detection_id = town.drop_report(cape_report(sample()))
    if why == "folder_gone":
        reports.rename(town.folder / "away")
    else:
        reports.chmod(0o777)
    with town.context() as context:
        for _ in range(10):
            with pytest.raises(SourceError) as caught:
                intake.fetch_detection(context, detection_id)
            with context.store.reading() as tx:
                row = tx.fetches.get(detection_id)
            assert row["code"] == caught.value.code and caught.value.hint
            assert (row["state"], row["attempts"]) == ("pending", 0)
            assert (row["next_try_at"] - town.clock()).total_seconds() == 300
            town.ahead(hours=2)
        (event,) = events(context, "fetch_failed")
        assert event["data"]["deferred"] is True
        shown = looking.list_detections(context)
        assert detection_id in json.dumps(shown["not_fetched"]) and caught.value.code in shown["table"]
        if why == "folder_gone":
            (town.folder / "away").rename(reports)
        else:
            reports.chmod(0o750)
        assert intake.fetch_detection(context, detection_id)["outcome"] == "new"


def test_a_source_that_is_throttled_says_when_to_come_back(
    town: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    detection_id = town.drop_report(cape_report(sample()))
    error = SourceUnavailable("source_throttled", "come back later", "ask less", retry_after_seconds=1800)
    asked: list[str] = []

    def fetch(self: FolderSource, report_id: str) -> dict[str, Any]:
        asked.append(report_id)
        raise error

    monkeypatch.setattr(FolderSource, "fetch", fetch)
    other = town.drop_report(cape_report(sample("other"), malscore=9.0), name="other.json")
    with town.context() as context:
        for name in (detection_id, other):
            with pytest.raises(SourceError):
                intake.fetch_detection(context, name)
        with context.store.reading() as tx:
            assert (tx.fetches.get(detection_id)["next_try_at"] - town.clock()).total_seconds() == 1800
        town.ahead(hours=1)
        asked.clear()
        reconciling.reconcile(context)
        assert len(asked) == 1, "one refusal, and the source is left alone for this round"
        monkeypatch.undo()
        town.ahead(hours=1)
        assert reconciling.reconcile(context) == 2


@pytest.mark.parametrize(
    "bad", ["", "a:b", "a:b:c:d", "a:b:c d", "cape:lab:{{ 7*7 }}", "cape:lab:" + "x" * 65]
)
def test_ids_that_are_none_are_refused(town: World, bad: str) -> None:
    with town.context() as context, pytest.raises(InputError) as caught:
        intake.fetch_detection(context, bad)
    assert caught.value.code == "bad_detection_id" and "{{" not in caught.value.message


def test_what_is_not_there_is_said_with_the_command_that_helps(town: World) -> None:
    with town.context() as context:
        for use in (tasks.create_task, tasks.generate_ioc):
            with pytest.raises(NotFoundError) as caught:
                use(context, "cape:lab:1")
            assert caught.value.code == "detection_unknown" and "fetch_detection" in caught.value.hint
        for use in (tasks.start_task, tasks.delete_task):
            with pytest.raises(IocScanError) as missing:
                use(context, "ioc-nothing", account="alice")
            assert missing.value.code == "task_not_found" and missing.value.hint
