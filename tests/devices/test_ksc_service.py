"""The whole way through the service with Kaspersky Security Center as fleet and as source."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.clock import AHEAD_VARIABLE
from ioc_scan.config import load_config
from ioc_scan.errors import ConfigError, InputError, RefusedError
from ioc_scan.service import collection, intake, killswitch, lifetimes, setup, steering, tasks, templates
from ioc_scan.service.context import ALLOW_TEMPORARY_VARIABLE, Context

from tests.ksc_server import KscServer, marker_bytes, sim_world
from tests.service.world import World, events, matches, sample, sha256, states

from .ksc_fleet import REPORT, RESPOND, KscFleet, time_passes


class Center(World):
    """A world whose fleet and whose source are the stand-in's."""

    def __init__(self, folder: Path, server: KscServer, url: str) -> None:
        super().__init__(folder)
        self.server = server
        self.fleet = KscFleet(folder, server, url)
        entry = self.fleet.config()
        self.config["device_managers"] = [entry]
        source = {
            name: entry[name] for name in ("url", "username", "password_file", "certificate_file")
        }  # fmt: skip
        self.config["sources"].append({"name": "center", "type": "ksc", "backfill_hours": 1, **source})
        (folder / "marker.ioc").write_bytes(marker_bytes())
        self.learn_parameters = {
            "manager": "ksc",
            "report_template": REPORT,
            "respond_template": RESPOND,
            "marker_file": str(folder / "marker.ioc"),
            "account": "alice",
        }

    def learn(self, context: Context) -> None:
        seen = templates.learn_ksc_template(context, **self.learn_parameters)
        templates.learn_ksc_template(context, confirm_digest=seen["digest"], **self.learn_parameters)

    def plant(self, device: str, name: str, content: bytes) -> Path:
        path = self.folder / "disks" / device / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def ours(self) -> list[str]:
        return sorted(task.name for task in self.fleet.ours())


@pytest.fixture
def center(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Center]:
    monkeypatch.setenv(ALLOW_TEMPORARY_VARIABLE, "1")
    monkeypatch.setenv(AHEAD_VARIABLE, "0")
    server = KscServer(sim_world(tmp_path / "disks"), tmp_path / "tls")
    with server.serving() as url:
        yield Center(tmp_path, server, url)
    assert server.refused == [] and server.open_iterators == []


def scanned(center: Center, context: Context) -> str:
    """A task of the sample that has found it on ws01 and ws02."""
    center.learn(context)
    task_id = str(center.task_for(context, sample())["task_id"])
    look = center.scan(context, task_id)
    assert look["actionable_matches"] == 2
    return task_id


def test_from_a_detection_to_the_last_prune(center: Center) -> None:
    planted = [center.plant(device, "invoice.exe", sample()) for device in ("ws01", "ws02")]
    decoy = center.plant("ws03", "decoy.exe", sample("other"))
    with center.context() as context, time_passes(center.server.world):
        task_id = scanned(center, context)
        assert {row["device_id"] for row in matches(context, task_id, tier="actionable")} == {"ws01", "ws02"}
        assert all(path.exists() for path in planted)

        assert center.respond(context, task_id)["asked"] == 2, "the policy says ask"
        dry = center.respond(context, task_id, account="alice", dry_run=True)
        assert dry["outcomes"] == {"would_quarantine": 2} and all(path.exists() for path in planted)
        only = matches(context, task_id, device_id="ws01")[0]["match_id"]
        center.respond(context, task_id, account="alice", match_ids=[only])
        center.settle(context, task_id)
        assert states(context, task_id) == ["awaiting_approval", "quarantined"]
        assert not planted[0].exists() and planted[1].exists() and decoy.exists()
        assert len(events(context, "object_quarantined")) == 1

        center.ahead(days=8)
        assert lifetimes.prune(context)["expired"] == [task_id]
        assert center.ours() == [], "the task's end reaches the server"


def test_the_kill_switch_takes_running_responses_from_the_server(center: Center) -> None:
    planted = [center.plant(device, "invoice.exe", sample()) for device in ("ws01", "ws02")]
    with center.context() as context:
        with time_passes(center.server.world):
            task_id = scanned(center, context)
        # time stands still: the devices have taken the response and are not through with it
        center.respond(context, task_id, account="alice")
        center.server.world.advance(1)
        assert any("resp" in name for name in center.ours())
        killswitch.kill_switch(context, "stop", "a mistake", account="alice")
        assert not any("resp" in name for name in center.ours())
        center.server.world.advance(5)
        assert all(path.exists() for path in planted)
        with pytest.raises(RefusedError):
            center.respond(context, task_id, account="alice")


def coverage(context: Context, task_id: str) -> dict[str, int]:
    with context.store.reading() as tx:
        return {
            name: number for name, number in tx.task_devices.coverage(task_id)["by_state"].items() if number
        }


def test_pause_resume_and_cancel_reach_the_server(center: Center) -> None:
    with center.context() as context:
        center.learn(context)
        task_id = str(center.task_for(context, sample())["task_id"])
        tasks.start_task(context, task_id)
        center.server.world.advance(1)
        steering.pause_task(context, task_id, account="alice")
        center.server.world.advance(3)
        collection.collect_results(context)
        assert coverage(context, task_id) == {"paused": 3}
        steering.resume_task(context, task_id, account="alice")
        center.server.world.advance(3)
        collection.collect_results(context)
        assert coverage(context, task_id) == {"done": 3}
        steering.cancel_task(context, task_id, account="alice")
        assert center.ours() == []


def test_a_detection_of_the_server_s_own_events_becomes_a_task(center: Center) -> None:
    center.plant("ws01", "invoice.exe", sample())
    center.plant("ws02", "copy.exe", sample())
    world = center.server.world
    fields = {
        "GNRL_EA_SEVERITY": 4,
        "GNRL_EA_PARAM_1": sha256(sample()),
        "GNRL_EA_PARAM_2": "C:\\invoice.exe",
        "GNRL_EA_PARAM_5": "Trojan.TestFamily",
        "GNRL_EA_PARAM_9": json.dumps({"method": 6, "md5": "0" * 32}),
    }
    number = world.add_event("GNRL_EV_VIRUS_FOUND", world.hosts["ws01"], **fields)["event_db_id"]
    center.config["threat_response_policies"] = [center.policy(when={"sources": ["center"]})]
    with center.context() as context, time_passes(world):
        center.learn(context)
        detection_id = f"ksc:center:{number}"
        assert intake.fetch_detection(context, detection_id)["starts_task"]
        task_id = str(tasks.create_task(context, detection_id)["task_id"])
        assert center.scan(context, task_id)["actionable_matches"] == 2


def test_learning_is_for_people_with_the_right_and_leaves_a_trace(center: Center) -> None:
    with center.context() as context:
        with pytest.raises(RefusedError) as caught:
            templates.learn_ksc_template(context, **{**center.learn_parameters, "account": "stanley"})
        assert caught.value.code == "person_needed"
        seen = templates.learn_ksc_template(context, **center.learn_parameters)
        assert not seen["stored"] and seen["digest"] in seen["next_step"] and "QUARANTINE" in seen["table"]
        assert events(context, "template_learned") == []
        center.learn(context)
        assert len(events(context, "template_learned")) == 1
        for bad in ("/nowhere", str(center.folder / "password")):
            with pytest.raises(InputError) as refused:
                templates.learn_ksc_template(context, **{**center.learn_parameters, "marker_file": bad})
            assert refused.value.code == "marker_unusable"


def test_check_setup_names_what_is_missing(center: Center) -> None:
    def failed(context: Context) -> set[str]:
        return {check["code"] for check in setup.check_setup(context)["checks"] if not check["ok"]}

    with center.context() as context:
        assert "ksc_template_unknown" in failed(context)
        center.learn(context)
        assert [code for code in failed(context) if not code.startswith("warning_")] == []
        center.server.denied.add("Tasks.GetTaskData")
        center.server.world.version = "13.1.0.8324"
        assert {"ksc_access_denied", "ksc_version", "source_unhealthy"} <= failed(context)


def test_a_full_server_is_waited_for(center: Center) -> None:
    with center.context() as context:
        center.learn(context)
        task_id = str(center.task_for(context, sample())["task_id"])
        center.server.world.limit = 2
        tasks.start_task(context, task_id)
        assert center.ours() == []
        center.server.world.limit = 100
        collection.collect_results(context)
        assert len(center.ours()) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"url": "http://ksc:13299"},
        {"events": {"ioc_found": {"type": "x) or"}}},
        {"events": {"other": {"type": "X"}}},
        {"certificate_file": None},
        {"native_response": "yes"},
    ],
)
def test_settings_are_checked_before_anything_is_asked(center: Center, change: dict[str, Any]) -> None:
    center.config["device_managers"][0] |= change
    with pytest.raises(ConfigError), center.context() as context:
        context.managers  # noqa: B018
    assert load_config({})["device_managers"] == []
