"""A detection that was lost on its way is taken up later, through the pack's own rules and workflows."""

from __future__ import annotations

import pytest

from tests.service.world import World, cape_report, sample

from .conftest import MakeEngine, finished, of_action


@pytest.mark.slow
def test_a_dispatch_that_was_dropped(world: World, make_engine: MakeEngine) -> None:
    """No sensor, no trigger: the source alone knows."""
    world.plant("ws01", "a.exe", sample())
    detection_id = world.drop_report(cape_report(sample()))
    engine = make_engine()
    engine.fire_timer("process_results")
    finished(engine)
    assert of_action(engine, "respond_to_detection") == []  # the sensor's turn is not over

    engine = make_engine(minutes=11)
    engine.fire_timer("process_results")
    finished(engine)
    (workflow,) = of_action(engine, "respond_to_detection")
    assert workflow["status"] == "succeeded", workflow["result"]
    assert workflow["trace_tag"] == detection_id
    output = workflow["result"]["output"]
    assert output["decision"] == "task" and output["task_id"]
    # in ask mode it ends with a question, and says so
    assert "wait for a person" in output["message"]

    engine.fire_timer("process_results")
    finished(engine)
    assert len(of_action(engine, "respond_to_detection")) == 1


def test_a_rule_that_was_off(world: World, make_engine: MakeEngine) -> None:
    """The trigger came, twice, and nobody listened."""
    world.config["threat_response_policies"] = []
    detection_id = world.drop_report(cape_report(sample()))
    engine = make_engine(minutes=11)
    (rule,) = [rule for rule in engine.pack.rules if rule["name"] == "respond_to_detection"]
    rule["enabled"] = False
    engine.fire_timer("process_results")
    finished(engine)
    assert of_action(engine, "respond_to_detection") == []
    assert [row["status"] for row in of_action(engine, "confirm_dispatch")] == ["succeeded"]

    engine = make_engine(minutes=40)
    engine.fire_timer("process_results")
    finished(engine)
    (workflow,) = of_action(engine, "respond_to_detection")
    output = workflow["result"]["output"]
    assert workflow["status"] == "succeeded" and output["detection_id"] == detection_id
    # no policy: recorded, nothing ran, and the execution says so
    assert output["decision"] == "no_policy" and output["task_id"] is None
    assert "No threat response policy fits" in output["message"]
    assert of_action(engine, "start_task") == []


def test_a_fetch_that_failed(world: World, make_engine: MakeEngine) -> None:
    world.config["threat_response_policies"] = []
    detection_id = world.drop_report(cape_report(sample()))
    reports = world.folder / "reports"
    reports.chmod(0o777)  # refused: anybody could put a report there
    engine = make_engine()
    failed = engine.run_action("ioc_scan.respond_to_detection", {"detection_id": detection_id}, "stanley")
    assert failed["status"] == "failed"
    error = failed["result"]["output"]["error"]
    assert error["code"] and error["message"] and error["hint"]
    reports.chmod(0o700)

    engine = make_engine(minutes=4)
    engine.fire_timer("process_results")
    finished(engine)
    assert len(of_action(engine, "respond_to_detection")) == 1  # not yet due

    engine = make_engine(minutes=6)
    engine.fire_timer("process_results")
    finished(engine)
    again = of_action(engine, "respond_to_detection")[-1]
    assert again["status"] == "succeeded" and again["result"]["output"]["decision"] == "no_policy"


def test_an_injection_that_failed_comes_again(world: World, make_engine: MakeEngine) -> None:
    world.config["threat_response_policies"] = []
    world.drop_report(cape_report(sample()))
    engine = make_engine(minutes=11)
    declared = engine.pack.trigger_types.pop("ioc_scan.sandbox_detection")
    engine.fire_timer("process_results")
    finished(engine)
    (round_,) = of_action(engine, "process_results")
    assert round_["status"] == "failed"
    assert round_["result"]["output"]["error"]["code"] == "inject_failed"
    assert of_action(engine, "confirm_dispatch") == [] == of_action(engine, "respond_to_detection")
    engine.pack.trigger_types["ioc_scan.sandbox_detection"] = declared
    engine.fire_timer("process_results")
    finished(engine)
    assert len(of_action(engine, "respond_to_detection")) == 1


@pytest.mark.slow
def test_matches_that_came_late_get_their_response(world: World, make_engine: MakeEngine) -> None:
    """The workflow is long over when the device comes back; the timer's round starts the response."""
    world.config["threat_response_policies"] = [world.policy("auto")]
    planted = world.plant("ws02", "a.exe", sample())
    world.take_offline("ws02")
    detection_id = world.drop_report(cape_report(sample()))
    engine = make_engine()
    first = engine.run_action("ioc_scan.respond_to_detection", {"detection_id": detection_id}, "stanley")
    assert first["status"] == "succeeded" and first["result"]["output"]["response_id"] is None
    world.bring_back("ws02")
    engine = make_engine(minutes=5)
    for _ in range(2):  # one round brings the task, the next the matches
        engine.fire_timer("process_results")
        finished(engine)
    (late,) = of_action(engine, "respond_to_matches")
    assert late["status"] == "succeeded" and late["result"]["output"]["response_id"]
    assert not planted.exists()
