"""Every action once, as StackStorm runs it: subprocess, config as an argument, output checked by its schema."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ioc_scan.errors import InputError

from standalone.engine import Engine
from tests.service.world import World, cape_report, detection, sample

from .conftest import MakeEngine
from .test_action_files import WANTED


class Runner:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.ran: set[str] = set()

    def __call__(self, action: str, user: str = "alice", **parameters: Any) -> dict[str, Any]:
        execution = self.engine.run_action(f"ioc_scan.{action}", parameters, user)
        assert execution["status"] == "succeeded", execution["result"]
        self.ran.add(action)
        answer = execution["result"]["result"]
        assert isinstance(answer, dict) and json.loads(json.dumps(answer)) == answer
        return answer


@pytest.mark.slow
def test_every_action_works_once(world: World, make_engine: MakeEngine) -> None:
    planted = world.plant("ws01", "a.exe", sample())
    detection_id = world.drop_report(cape_report(sample()))
    run = Runner(make_engine())

    setup = run("check_setup")
    assert setup["ok"], setup["table"]
    assert run("list_devices")["total"] == 3
    assert run("fetch_detection", detection_id=detection_id)["starts_task"]
    iocs = run("generate_ioc", detection_id=detection_id)["iocs"]
    assert "actionable" in {ioc["tier"] for ioc in iocs}
    created = run("create_task", detection_id=detection_id)
    task_id = created["task_id"]
    assert created["created"] and created["start"]
    assert run("start_task", task_id=task_id, new_run=True)["run"] == 1
    for _ in range(10):
        look = run("await_results", task_id=task_id)
        if look["settled"]:
            break
    assert look["actionable_matches"] == 1

    asked = run("respond", user="stanley", task_id=task_id)
    assert asked["asked"] == 1 and planted.exists()
    assert run("respond", task_id=task_id, dry_run=True)["claimed"] == 1 and planted.exists()
    run("respond", task_id=task_id)
    round_ = run("collect_results")
    assert round_["leased"]
    ids = [row["outbox_id"] for row in round_["due"]]
    assert run("confirm_dispatch", outbox_ids=ids)["confirmed"] == len(ids)
    for _ in range(10):
        if not run("await_results", task_id=task_id)["responses_running"]:
            break
    assert not planted.exists()
    (held,) = run("list_quarantine")["rows"]
    restored = run("restore_object", device_id="ws01", quarantine_id=held["quarantine_id"])
    assert restored["state"] in ("restored", "restoring")

    assert run("list_tasks")["total"] == 1
    assert run("get_task", task_id=task_id)["coverage"]["targeted"] == 3
    assert run("get_results", task_id=task_id)["total"] >= 1
    assert run("list_events", task_id=task_id, limit=5)["rows"]
    assert run("render_report", task_id=task_id)["bytes"] > 1000
    assert run("export_iocs", task_id=task_id)["files"]
    assert run("submit_detection", payload=json.dumps(detection(sample(2))), source="webhook")["starts_task"]
    assert run("scan_critical_areas", task_id=task_id, devices=["ws01"])["devices"] == 1
    assert run("learn_known_good", folder=str(world.root("ws02")))["digests"] >= 0
    assert run("prune", dry_run=True)["expired"] == []
    assert run("kill_switch")["stopped"] is False
    assert run("delete_task", task_id=task_id)["state"] == "deleted"
    assert run.ran >= WANTED | {"confirm_dispatch", "kill_switch"}


def test_a_rule_cannot_pose_as_a_person(world: World, make_engine: MakeEngine) -> None:
    engine = make_engine()
    for name in ("account", "chat_user"):
        with pytest.raises(InputError, match="immutable"):
            engine.run_action("ioc_scan.respond", {"task_id": "x", name: "alice"}, "stanley")


def test_through_chat_only_a_mapped_user_is_a_person(world: World, make_engine: MakeEngine) -> None:
    world.config["chat_identities"] = {"U1": "alice"}
    engine = make_engine()
    stopped = engine.run_action("ioc_scan.kill_switch", {"switch": "stop"}, "chatbot", api_user="U1")
    assert stopped["result"]["result"]["stopped"]
    refused = engine.run_action("ioc_scan.kill_switch", {"switch": "go"}, "chatbot", api_user="U9")
    assert refused["status"] == "failed" and refused["result"]["result"]["code"] == "person_needed"
    by_rule = engine.run_action("ioc_scan.kill_switch", {"switch": "go"}, "stanley")
    assert by_rule["result"]["result"]["code"] == "person_needed"
    allowed = engine.run_action("ioc_scan.kill_switch", {"switch": "go"}, "chatbot", api_user="U1")
    assert allowed["status"] == "succeeded" and not allowed["result"]["result"]["stopped"]


def test_an_error_of_the_configuration_is_an_answer(world: World, make_engine: MakeEngine) -> None:
    world.config["sorces"] = []  # StackStorm accepts a misspelt key at the top
    execution = make_engine().run_action("ioc_scan.list_tasks", {}, "alice")
    assert execution["status"] == "failed"
    error = execution["result"]["result"]
    assert error["code"] == "config_invalid" and "sorces" in error["message"] and error["hint"]
