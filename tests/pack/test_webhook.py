"""Text from malware goes the whole way, from the webhook to the report, and no engine evaluates it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.service.world import NASTY_NAME, World, detection, sample

from .conftest import MakeEngine, finished, of_action

EVALUATED = ("49<%", "492.exe", "{{ 7*7 }}2.exe", "49&lt;%", "492&")


def nasty() -> dict[str, Any]:
    pushed = detection(sample())
    pushed["target"]["name"] = NASTY_NAME
    pushed["indicators"][0]["name"] = NASTY_NAME
    pushed["indicators"].append({"type": "file", "role": "dropped", "path": f"C:\\Users\\u\\{NASTY_NAME}"})
    pushed["indicators"].append(
        {"type": "mutex", "role": "created", "value": "{% raw %}{{ st2kv.system.x }}"}
    )
    pushed["verdict"]["families"] = ["{{ 7*7 }}<% 1+1 %>"]
    return pushed


@pytest.mark.slow
def test_a_name_that_is_a_template_arrives_everywhere_as_it_is(world: World, make_engine: MakeEngine) -> None:
    world.config["threat_response_policies"] = [world.policy("auto")]
    planted = world.plant("ws01", NASTY_NAME, sample())
    engine = make_engine()
    (started,) = engine.post_webhook("ioc_scan/detections", nasty())
    finished(engine)
    (outer,) = of_action(engine, "respond_to_submission")
    assert outer["id"] == started["id"] and outer["status"] == "succeeded", outer["result"]
    task_id = outer["result"]["output"]["task_id"]
    assert task_id and not planted.exists()

    records = json.dumps(engine.executions(), ensure_ascii=False)
    for evaluated in EVALUATED:
        assert evaluated not in records
    # in no parameter and no answer of an action does it stand in the clear
    for row in engine.executions():
        inert = {**row, "trigger": None}
        for part in ("parameters", "result"):
            text = json.dumps(inert.get(part), ensure_ascii=False)
            assert "{{ 7*7" not in text and "<% 1+1" not in text, (row["action"], part)

    with world.context() as context, context.store.reading() as tx:
        (row,) = [tx.detections.get(found["detection_id"]) for found in tx.detections.list()]
        iocs = [bytes(tx.ioc_files.get(digest)["content"]).decode() for _, digest in tx.tasks.iocs(task_id)]
        matches = tx.matches.list(task_id)
        events = tx.events.list(limit=1000)
    assert row["document"]["target"]["name"] == NASTY_NAME
    assert row["families"] == ["{{ 7*7 }}<% 1+1 %>"]
    assert any("{% raw %}{{ st2kv.system.x }}" in text for text in iocs)
    assert any(NASTY_NAME in str(match["item"]) for match in matches)
    stored = json.dumps([row, iocs, matches, events], default=str, ensure_ascii=False)
    page = Path(world.folder / "store" / "reports" / f"{task_id}.html").read_text(encoding="utf-8")
    assert "7*7" in page
    for text in (stored, page):
        for evaluated in EVALUATED:
            assert evaluated not in text


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ([detection(b"x")], "submission_not_object"),
        ({"detection_id": "x", "{{ 7*7 }}": "<% 1+1 %>"}, "detection_invalid"),
        ({}, "submission_no_id"),
    ],
)
def test_a_body_that_is_no_detection_fails_with_a_clear_error(
    world: World, make_engine: MakeEngine, body: Any, code: str
) -> None:
    engine = make_engine()
    engine.post_webhook("ioc_scan/detections", body)
    finished(engine)
    (workflow,) = of_action(engine, "respond_to_submission")
    assert workflow["status"] == "failed"
    error = workflow["result"]["output"]["error"]
    assert error["code"] == code and error["message"]
    assert "{{" not in json.dumps(error) and "<%" not in json.dumps(error)
    assert of_action(engine, "respond_to_detection") == []


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ('"a raw string"', "submission_not_object"),
        ("<html>", "submission_not_json"),
        ("x" * (8 * 1024 * 1024 + 1), "submission_too_large"),
    ],
    ids=["string", "html", "long"],
)
def test_a_payload_given_by_hand(world: World, make_engine: MakeEngine, payload: str, code: str) -> None:
    engine = make_engine()
    parameters = {"payload": payload, "source": "webhook"}
    execution = engine.run_action("ioc_scan.submit_detection", parameters, "alice")
    assert execution["status"] == "failed" and execution["result"]["result"]["code"] == code
