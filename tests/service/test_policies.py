"""Threat response policies decide whether there is a task, where, and how far its response may go."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ioc_scan.config import load_config
from ioc_scan.errors import ConfigError, NotFoundError
from ioc_scan.service import intake, tasks

from .world import World, count, detection, events, matches, sample, sha256


def groups(context: Any, task_id: str) -> dict[str, str]:
    with context.store.reading() as tx:
        return {row["group"]: row["response_mode"] for row in tx.task_groups.list(task_id)}


def devices(context: Any, task_id: str) -> dict[str, dict[str, Any]]:
    with context.store.reading() as tx:
        return {row["device_id"]: row for row in tx.task_devices.list(task_id)}


def test_the_first_policy_that_fits_decides(town: World) -> None:
    town.config["threat_response_policies"] = [
        town.policy(name="bank", when={"families": ["Emotet"]}),
        town.policy(name="high", when={"min_score": 95, "sources": ["webhook"]}),
        town.policy(name="rest", when={"sources": []}),
    ]
    with town.context() as context:
        assert town.task_for(context, sample(1), 1)["policy"] == "high"
        low = {"result": "malicious", "score": 94, "families": []}
        assert town.task_for(context, sample(2), 2, verdict=low)["policy"] == "rest"
        emotet = {"result": "malicious", "score": 99, "families": ["x", "EMOTET"]}
        assert town.task_for(context, sample(3), 3, verdict=emotet)["policy"] == "bank"


@pytest.mark.parametrize(
    ("when", "fits"),
    [
        ({"sources": []}, True),
        ({"sources": ["webhook"]}, True),
        ({"sources": ["lab"]}, False),
        ({"min_score": 95}, True),
        ({"min_score": 96}, False),
        ({"families": []}, True),
        ({"families": ["testfamily"]}, True),
        ({"families": ["other"]}, False),
        ({"families_not": ["other"]}, True),
        ({"families_not": ["TESTFAMILY"]}, False),
        ({"sources": ["webhook"], "min_score": 90, "families": ["other", "TestFamily"]}, True),
        ({"sources": ["webhook"], "min_score": 90, "families_not": ["testFamily"]}, False),
    ],
)
def test_every_condition_of_when_must_hold(town: World, when: dict[str, Any], fits: bool) -> None:
    town.config["threat_response_policies"] = [town.policy(when=when)]
    with town.context() as context:
        answer = town.task_for(context, sample())
        assert (answer["decision"] == "task") is fits
        if not fits:
            assert answer["decision"] == "no_policy" and answer["task_id"] is None and not answer["start"]
            assert "No threat response policy fits" in answer["message"]


def test_a_detection_without_a_score_fits_no_min_score(town: World) -> None:
    verdict = {"result": "malicious", "families": ["x"]}
    town.config["threat_response_policies"] = [town.policy(when={"min_score": 1})]
    with town.context() as context:
        assert town.task_for(context, sample(), verdict=verdict)["decision"] == "no_policy"


def test_without_a_policy_a_detection_is_recorded_and_nothing_runs(town: World) -> None:
    town.config["threat_response_policies"] = []
    with town.context() as context:
        answer = town.task_for(context, sample())
        assert answer["decision"] == "no_policy" and "nothing runs" in answer["message"]
        assert (count(context, "detections"), count(context, "tasks"), count(context, "jobs")) == (1, 0, 0)
        (decided,) = events(context, "detection_decided")
        assert decided["data"]["decision"] == "no_policy"
        with context.store.reading() as tx:
            assert tx.detections.get(answer["detection_id"])["decision"] == "no_policy"


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        ({"when": {}}, "config_policy_when_empty", "sources: []"),
        ({"when": {"min_score": None}}, "config_policy_when_empty", "empty"),
        ({"when": {"min_scor": 70}}, "config_invalid", "min_scor"),
        ({"wehn": {}}, "config_invalid", "wehn"),
        ({"when": {"sources": ["nobody"]}}, "config_policy_source", "nobody"),
        ({"run_ioc_scan_on": []}, "config_invalid", "run_ioc_scan_on"),
        ({"run_ioc_scan_on": [{"group": "g", "response_mode": "delete"}]}, "config_invalid", "delete"),
        ({"run_ioc_scan_on": [{"group": "g"}, {"group": "g"}]}, "config_policy_groups", "twice"),
        ({"scope": "custom"}, "config_policy_roots", "roots"),
        ({"scope": "custom", "roots": ["relative"]}, "config_policy_roots", "absolute"),
        ({"roots": ["/srv"]}, "config_policy_roots", "custom"),
        ({"tag_ceilings": {"dc": "never"}}, "config_invalid", "never"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(
    town: World, change: dict[str, Any], code: str, named: str
) -> None:
    town.config["threat_response_policies"] = [town.policy() | change]
    with pytest.raises(ConfigError) as caught:
        load_config(town.config)
    assert caught.value.code == code
    assert named in caught.value.message and caught.value.hint


def test_the_response_mode_of_each_group_is_the_policys(town: World) -> None:
    aims = [{"group": "workstations", "response_mode": "auto"}, {"group": "servers"}]
    town.config["threat_response_policies"] = [town.policy(run_ioc_scan_on=aims)]
    with town.context() as context:
        task_id = town.task_for(context, sample())["task_id"]
        assert groups(context, task_id) == {"workstations": "auto", "servers": "ask"}


@pytest.mark.parametrize(("ceiling", "mode"), [("report", "report"), ("ask", "ask"), ("auto", "auto")])
def test_a_source_has_a_ceiling(town: World, ceiling: str, mode: str) -> None:
    town.config["sources"][1]["max_response_mode"] = ceiling
    town.config["threat_response_policies"] = [town.policy("auto")]
    with town.context() as context:
        task_id = town.task_for(context, sample())["task_id"]
        assert groups(context, task_id) == {"workstations": mode}
        assert len(events(context, "trust_ceiling_applied")) == (mode != "auto")


def test_a_source_trusted_for_hunting_leads_to_no_response(town: World) -> None:
    town.config["sources"][1]["trust"] = "hunt"
    town.config["threat_response_policies"] = [town.policy("auto")]
    town.manager.files["ws01"]["/a.exe"] = sample()
    with town.context() as context:
        answer = town.task_for(context, sample())
        assert answer["decision"] == "hunt_only"
        task_id = answer["task_id"]
        assert groups(context, task_id) == {"workstations": "report"}
        with context.store.reading() as tx:
            assert [tier for tier, _ in tx.tasks.iocs(task_id)] == ["hunt"]
        town.scan(context, task_id)
        assert town.respond(context, task_id)["claimed"] == 0
        assert town.respond(context, task_id, account="alice")["claimed"] == 0
        assert town.manager.acted == []


def test_without_hunting_only_the_actionable_file_is_scanned_for(town: World) -> None:
    town.config["threat_response_policies"] = [town.policy(hunt=False)]
    with town.context() as context:
        task_id = town.task_for(context, sample())["task_id"]
        with context.store.reading() as tx:
            assert [tier for tier, _ in tx.tasks.iocs(task_id)] == ["actionable"]


def test_hunt_false_and_nothing_actionable_is_nothing_to_do(town: World) -> None:
    town.config["threat_response_policies"] = [town.policy(hunt=False)]
    md5 = {"category": "file", "name": "x", "hashes": {"MD5": "a" * 32}}
    file = {"type": "file", "role": "target", "name": "x", "hashes": {"MD5": "a" * 32}}
    with town.context() as context:
        answer = town.task_for(context, sample(), target=md5, indicators=[file])
        assert answer["decision"] == "nothing_to_do" and answer["task_id"] is None


@pytest.mark.parametrize(
    ("tags", "mode", "acted"),
    [((), "auto", True), (("domain_controller",), "ask", False), (("lab", "kiosk"), "report", False)],
)
def test_tags_of_a_device_lower_what_may_happen_there(
    town: World, tags: tuple[str, ...], mode: str, acted: bool
) -> None:
    ceilings = {"domain_controller": "ask", "kiosk": "report"}
    town.config["threat_response_policies"] = [town.policy("auto", tag_ceilings=ceilings)]
    town.manager.tags["ws01"] = tags
    town.manager.files["ws01"]["/a.exe"] = sample()
    town.manager.files["ws02"]["/a.exe"] = sample()
    with town.context() as context:
        task_id = town.task_for(context, sample())["task_id"]
        town.scan(context, task_id)
        town.respond(context, task_id)
        by_device = {row["device_id"]: row["response_state"] for row in matches(context, task_id)}
        expected = {"auto": "quarantined", "ask": "awaiting_approval", "report": "reported"}[mode]
        assert by_device == {"ws01": expected, "ws02": "quarantined"}
        assert (("ws01", "/a.exe") in town.manager.acted) is acted


def test_excluded_devices_are_no_part_of_it(town: World) -> None:
    town.config["threat_response_policies"] = [town.policy(exclude_devices=["ws02"])]
    with town.context() as context:
        answer = town.task_for(context, sample())
        assert answer["devices"] == 2
        town.scan(context, answer["task_id"])
        assert set(devices(context, answer["task_id"])) == {"ws01", "ws03"}
        assert [event["device_id"] for event in events(context, "device_excluded")] == ["ws02"]
        # The policy may change; the task keeps what it was created with.
        context.config["threat_response_policies"][0]["exclude_devices"] = []
        town.clock.ahead(hours=5)
        tasks.start_task(context, answer["task_id"], new_run=True, account="alice")
        assert set(devices(context, answer["task_id"])) == {"ws01", "ws03"}


def test_a_device_in_two_groups_has_the_lower_mode(town: World) -> None:
    town.manager.members = {"a_auto": ["ws01"], "b_report": ["ws01", "ws02"]}
    aims = [
        {"group": "a_auto", "response_mode": "auto"},
        {"group": "b_report", "response_mode": "report"},
    ]
    town.config["threat_response_policies"] = [town.policy(run_ioc_scan_on=aims)]
    town.manager.files["ws01"]["/a.exe"] = sample()
    with town.context() as context:
        task_id = town.task_for(context, sample())["task_id"]
        town.scan(context, task_id)
        assert len(devices(context, task_id)) == 2
        assert town.respond(context, task_id)["claimed"] == 0
        assert town.manager.acted == []


def test_one_group_under_two_names_is_one_group_with_the_lower_mode(town: World) -> None:
    aims = [
        {"group": "workstations", "response_mode": "auto"},
        {"group": "local/workstations", "response_mode": "report"},
    ]
    town.config["threat_response_policies"] = [town.policy(run_ioc_scan_on=aims)]
    with town.context() as context:
        task_id = town.task_for(context, sample())["task_id"]
        assert groups(context, task_id) == {"workstations": "report"}


def test_a_group_nobody_has_is_an_error_and_the_detection_stays_undecided(town: World) -> None:
    town.config["threat_response_policies"] = [town.policy(run_ioc_scan_on=[{"group": "typo"}])]
    with town.context() as context:
        detection_id = town.submit(context, sample())
        with pytest.raises(NotFoundError) as caught:
            tasks.create_task(context, detection_id)
        assert caught.value.code == "group_unknown" and "list_devices" in caught.value.hint
        with context.store.reading() as tx:
            assert tx.detections.get(detection_id)["decision"] is None
        assert count(context, "tasks") == 0


@pytest.mark.parametrize(
    ("verdict", "decision"),
    [
        ({"result": "suspicious", "score": 40}, "below_threshold"),
        ({"result": "benign", "score": 95}, "below_threshold"),
    ],
)
def test_below_the_threshold_nothing_runs(town: World, verdict: dict[str, Any], decision: str) -> None:
    with town.context() as context:
        answer = town.task_for(context, sample(), verdict=verdict)
        assert answer["decision"] == decision and answer["task_id"] is None
        assert "recorded" in answer["message"]


def test_an_object_on_the_known_good_list_is_reported_never_acted_on(town: World) -> None:
    listed = town.folder / "known_good.txt"
    listed.write_text(sha256(sample()) + "\n")
    town.config["guard"] = {"known_good_file": str(listed)}
    town.config["threat_response_policies"] = [town.policy("auto")]
    town.manager.files["ws01"]["/a.exe"] = sample()
    with town.context() as context:
        answer = town.task_for(context, sample())
        assert answer["decision"] == "hunt_only"
        assert "known_good_conflict" in {event["data"]["alert"] for event in events(context, "alert_raised")}
        town.scan(context, answer["task_id"])
        assert town.respond(context, answer["task_id"], account="alice")["claimed"] == 0


def test_a_re_detection_by_a_better_source_raises_what_the_task_may_do(town: World) -> None:
    """Else whoever reports an object first, trusted for nothing, decides for a week that nothing is done."""
    town.config["sources"][1]["trust"] = "hunt"
    town.config["sources"].append({"name": "trusted", "type": "webhook"})
    town.config["threat_response_policies"] = [town.policy("auto")]
    town.manager.files["ws01"]["/a.exe"] = sample()
    with town.context() as context:
        task_id = town.task_for(context, sample(), 1)["task_id"]
        town.scan(context, task_id, new_run=True)
        second = intake.submit_detection(context, json.dumps(detection(sample(), 2)), "trusted")
        answer = tasks.create_task(context, second["detection_id"])
        assert answer["task_id"] == task_id and answer["start"]
        assert groups(context, task_id) == {"workstations": "auto"}
        tasks.start_task(context, task_id, new_run=True, account="stanley")
        town.settle(context, task_id)
        assert town.respond(context, task_id)["outcomes"] == {"quarantined": 1}
        # and the other way round nothing is lowered
        third = town.task_for(context, sample(), 3)
        assert third["task_id"] == task_id and groups(context, task_id) == {"workstations": "auto"}
        assert len(events(context, "task_configured")) == 1
