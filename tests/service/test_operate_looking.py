"""Coverage, detections, explanations and health; and that every answer crosses StackStorm's JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ioc_scan.devices.base import Online
from ioc_scan.errors import IocScanError, NotFoundError
from ioc_scan.service import answer, audit, collection, decisions, looking, tasks, views
from ioc_scan.service.context import Context

from .test_responses import scanned
from .world import NASTY_NAME, World, sample, sha256


def plain_types(value: Any, where: str = "answer") -> None:
    """StackStorm's encoder takes exact types only; anything else makes it answer with one long text."""
    assert type(value) in (str, int, float, bool, type(None), list, dict), (where, type(value))
    for key, child in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        assert not isinstance(value, dict) or type(key) is str, (where, key, type(key))
        plain_types(child, f"{where}.{key}")


@pytest.mark.parametrize(
    ("use_case", "wants"),
    [
        (looking.get_coverage, "task_id"),
        (looking.list_detections, None),
        (looking.explain_detection, "detection_id"),
        (looking.health, None),
        (decisions.list_approvals, None),
        (views.list_tasks, None),
        (views.get_task, "task_id"),
        (views.get_results, "task_id"),
        (views.list_events, None),
        (views.list_devices, None),
        (views.list_quarantine, None),
        (audit.verify_audit, None),
    ],
)
def test_every_answer_is_of_plain_types(town: World, use_case: Any, wants: str | None) -> None:
    with town.context() as context:
        ids = {"task_id": scanned(town, context, "auto")}
        town.respond(context, ids["task_id"])
        with context.store.reading() as tx:
            ids["detection_id"] = tx.detections.list()[0]["detection_id"]
        given = {wants: ids[wants]} if wants else {}
        result = use_case(context, **given)
        ok, told = answer({}, lambda _: result)
    assert ok
    plain_types(told)
    assert told["chat"]


# -- coverage


def test_coverage_names_its_denominator_and_shows_who_is_missing_first(town: World) -> None:
    town.manager.slow = {"ws02"}
    town.manager.online = {"ws03": Online.NO}
    town.manager.files["ws01"]["/a.exe"] = sample()
    with town.context() as context:
        task_id = str(town.task_for(context, sample())["task_id"])
        tasks.start_task(context, task_id, account="stanley")
        collection.await_results(context, task_id)
        told = looking.get_coverage(context, task_id)
        assert "1 of 3 targeted devices answered (33%)" in told["table"]
        for words in ("1 answered with matches", "1 never seen"):
            assert words in told["table"] and words in told["chat"]
        assert [row["device_id"] for row in told["rows"]][-1] == "ws01"
        bar = next(line for line in told["table"].splitlines() if line.startswith("["))
        assert bar.count("#") == 13 and bar.count("?") == 13
        with pytest.raises(NotFoundError):
            looking.get_coverage(context, "ioc-none")


def test_coverage_before_the_start_is_no_division(town: World) -> None:
    with town.context() as context:
        task_id = str(town.task_for(context, sample())["task_id"])
        assert "0 of 0 targeted devices" in looking.get_coverage(context, task_id)["table"]


# -- detections


def test_detections_say_what_they_led_to(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context)
        town.task_for(context, sample("low"), 2, verdict={"result": "suspicious", "score": 10})
        rows = looking.list_detections(context)["rows"]
        assert {row["decision"] for row in rows} == {"task", "below_threshold"}
        (row,) = looking.list_detections(context, decision="task")["rows"]
        assert row["task_id"] == task_id and row["score"] == 95
        assert looking.list_detections(context, decision="undecided")["rows"] == []


def test_reports_that_could_not_be_fetched_are_told(town: World) -> None:
    with town.context() as context:
        with pytest.raises(IocScanError):
            from ioc_scan.service.intake import fetch_detection

            fetch_detection(context, "cape:lab:nothing-there")
        told = looking.list_detections(context)
        assert told["not_fetched"][0]["detection_id"] == "cape:lab:nothing-there"
        assert "1 reports could not be fetched" in told["table"] and "1 reports" in told["chat"]


def test_explain_gives_each_indicator_its_tier_and_reason(town: World) -> None:
    with town.context() as context:
        detection_id = town.submit(context, sample())
        told = looking.explain_detection(context, detection_id)
        tiers = {row["type"] + ":" + row["role"]: row["tier"] for row in told["rows"]}
        assert tiers["file:target"] == "actionable" and tiers["mutex:created"] == "hunt"
        assert all(": " in row["reason"] for row in told["rows"])
        target = next(row for row in told["rows"] if row["role"] == "target")
        assert target["sha256"] == sha256(sample())
        assert sum(told["counts"].values()) == told["total"] == len(told["rows"])
        hunted = looking.explain_detection(context, detection_id, tier="hunt")
        assert {row["tier"] for row in hunted["rows"]} == {"hunt"}
        assert "verdict     malicious, score 95 of 100, TestFamily" in told["table"]
        with pytest.raises(NotFoundError):
            looking.explain_detection(context, "a:b:c")


def test_names_from_malware_are_harmless_in_every_answer(town: World) -> None:
    name = f"<!channel> @here http://evil.example {NASTY_NAME}"
    indicators = [{"type": "file", "role": "dropped", "path": f"C:\\{name}"}]
    with town.context() as context:
        detection_id = town.submit(context, sample(), indicators=indicators)
        ok, told = answer({}, lambda _: looking.explain_detection(context, detection_id))
    assert ok and "{{" not in str(told) and "<%" not in str(told)
    assert not {"@", "<", "://"} & set(told["chat"]) and "://" not in told["chat"]


# -- health


def look_at(context: Context) -> list[str]:
    return list(looking.health(context)["look_at"])


def test_health_points_at_what_needs_a_person(town: World, tmp_path: Path) -> None:
    with town.context() as context:
        assert look_at(context) == [] and looking.health(context)["ok"]
        task_id = scanned(town, context)
        town.respond(context, task_id)
        assert look_at(context) == ["approvals"]
        town.manager.slow = {"ws01"}
        other = town.task_for(context, sample("other"), 2)["task_id"]
        tasks.start_task(context, other, account="stanley")
        town.manager.broken = True
        collection.collect_results(context)
        assert "manager local" in look_at(context)
        town.clock.ahead(minutes=16)
        assert "triggers" in look_at(context)
        (town.folder / "store" / "STOP").touch()
        assert "responses" in look_at(context)
