"""The sensor in a process of its own, with the path StackStorm gives it: its own folder, not the pack's."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fixtures.shared import REPOSITORY
from tests.unit.detection.samples import TARGET, report

STUB = Path(__file__).with_name("sensor_stub")
SENSORS = REPOSITORY / "sensors"
METADATA = yaml.safe_load((SENSORS / "sandbox_detections.yaml").read_text())


class Node:
    """A machine with a sensor container: it can be started, polled, killed, and lose its datastore."""

    def __init__(self, folder: Path) -> None:
        self.reports = folder / "reports"
        self.reports.mkdir(mode=0o750)
        self.datastore, self.log = folder / "datastore.json", folder / "dispatched"
        self.stderr = folder / "stderr"
        self.sources = [{"name": "lab", "type": "folder", "path": str(self.reports), "backfill_hours": 24}]
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        config = json.dumps({"sources": self.sources, "guard": {"threshold_score": 70}})
        arguments = [str(SENSORS / "sandbox_detections.py"), str(self.datastore), str(self.log), config]
        path = [str(STUB), str(SENSORS), sysconfig.get_paths()["purelib"]]
        self.process = subprocess.Popen(
            [sys.executable, "-S", str(STUB / "host.py"), *arguments],
            cwd="/", env={"PYTHONPATH": os.pathsep.join(path), "PATH": "/usr/bin:/bin"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.stderr.open("a"), text=True,
        )  # fmt: skip
        assert self._answer() == "ready"

    def poll(self) -> None:
        assert self.ask("poll") == "polled"

    def ask(self, command: str) -> str:
        self.send(command)
        return self._answer()

    def send(self, command: str) -> None:
        assert self.process and self.process.stdin
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        assert self.process and self.process.stdin
        self.process.stdin.close()
        assert self.process.wait(20) == 0

    def _answer(self) -> str:
        assert self.process and self.process.stdout
        line = self.process.stdout.readline().strip()
        assert line, self.stderr.read_text()
        return line

    def put(self, name: str, content: dict[str, Any] | bytes | None = None, age_seconds: float = 60) -> None:
        path = self.reports / name
        data = content if isinstance(content, bytes) else json.dumps(content or report()).encode()
        path.write_bytes(data)
        os.utime(path, (path.stat().st_mtime - age_seconds,) * 2)

    @property
    def dispatched(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def refuse_writes(self, refuse: bool) -> None:
        self.outage(refuse, ".full")

    def outage(self, down: bool, kind: str = ".down") -> None:
        flag = Path(f"{self.datastore}{kind}")
        if down:
            flag.touch()
        else:
            flag.unlink()


@pytest.fixture()
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    if node.process and node.process.poll() is None:
        node.kill()


def test_dispatches_ids_and_never_text(node: Node) -> None:
    name = "{{ 7*7 }}<% 1+1 %>.exe"
    node.put(
        f"{name}.json",
        report(target={"category": "file", "file": {**TARGET, "name": name}}, detections=[name]),
    )
    node.put("harmless.json", report(malscore=1))
    node.start()
    node.poll()
    node.poll()
    (sent,) = node.dispatched
    assert sent["trigger"] == "ioc_scan.sandbox_detection"
    assert sent["trace_tag"] == sent["payload"]["detection_id"]
    assert sent["payload"]["target_sha256"] == TARGET["sha256"]
    text = node.log.read_text() + node.datastore.read_text() + node.stderr.read_text()
    assert "{{" not in text and "<%" not in text and "49" not in sent["payload"]["detection_id"].split(":")[0]


def test_a_restart_repeats_nothing_and_misses_nothing(node: Node) -> None:
    node.put("1.json")
    node.start()
    node.poll()
    node.kill()
    node.put("2.json", report(malscore=9))
    node.start()
    node.poll()
    node.stop()
    assert len(node.dispatched) == 2
    assert len({sent["payload"]["report_id"] for sent in node.dispatched}) == 2


def test_a_kill_before_the_state_was_saved_repeats_rather_than_loses(node: Node) -> None:
    node.start()
    node.put("1.json")
    node.outage(True)
    node.outage(False)
    node.poll()
    node.datastore.unlink()
    node.kill()
    node.start()
    node.poll()
    assert len(node.dispatched) == 2 and node.dispatched[0] == node.dispatched[1]


def test_an_outage_at_the_start_is_not_a_first_start(node: Node) -> None:
    node.sources[0]["backfill_hours"] = 0
    node.start()
    node.poll()
    node.kill()
    state = node.datastore.read_text()
    node.put("1.json")
    node.outage(True)
    node.start()
    node.poll()
    assert node.dispatched == [] and node.datastore.read_text() == state
    node.outage(False)
    node.poll()
    assert len(node.dispatched) == 1


def test_an_outage_later_keeps_the_state_in_memory(node: Node) -> None:
    node.start()
    node.poll()
    node.outage(True)
    node.put("1.json")
    node.poll()
    node.poll()
    assert len(node.dispatched) == 1
    node.outage(False)
    node.poll()
    node.kill()
    node.start()
    node.poll()
    assert len(node.dispatched) == 1


def test_a_failing_source_stays_alone(node: Node, tmp_path: Path) -> None:
    node.sources.insert(0, {"name": "gone", "type": "folder", "path": str(tmp_path / "nowhere")})
    node.sources.insert(0, {"name": "odd", "type": "carrier pigeon"})
    node.sources.insert(0, {"name": "open", "type": "folder", "path": str(tmp_path / "open")})
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    node.put("1.json")
    node.start()
    node.poll()
    assert [sent["payload"]["source"] for sent in node.dispatched] == ["lab"]
    said = node.stderr.read_text()
    assert "folder_unreachable" in said and "source_type" in said and "folder_world_writable" in said


def test_a_source_that_hangs_delays_no_other(node: Node) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        node.sources.insert(0, {"name": "hung", "type": "cape", "url": url, "timeout_seconds": 120})
        node.put("1.json")
        node.start()
        node.send("poll")
        deadline = time.monotonic() + 15
        while not node.dispatched and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [sent["payload"]["source"] for sent in node.dispatched] == ["lab"]
        node.kill()


def test_a_key_in_the_configuration_is_nowhere_to_be_seen(node: Node) -> None:
    odd = {"type": "cape", "url": "http://127.0.0.1:9", "token": "s3cr3t-t0ken"}
    node.sources = [
        {"name": "closed", **odd},
        {"name": "wrong", **odd, "url": "http://user:s3cr3t-t0ken@x"},
        {"name": "blank", **odd, "token": "s3cr3t-t0ken s3cr3t-t0ken"},
        {"name": "strange", **odd, "look_back_hours": "s"},
    ]
    node.start()
    node.poll()
    node.stop()
    said = node.stderr.read_text()
    assert "source_unreachable" in said and "source_url" in said and "secret_unreadable" in said
    assert "s3cr3t" not in said + node.datastore.read_text()


def test_a_death_before_the_first_look_is_no_second_first_start(node: Node) -> None:
    node.sources[0]["backfill_hours"] = 0
    node.put("old.json")
    node.start()
    node.kill()
    time.sleep(1.1)  # times of arrival are whole seconds
    node.put("new.json", report(malscore=9), age_seconds=0)
    time.sleep(2.1)  # a folder leaves alone what was written to just now
    node.start()
    node.poll()
    assert [sent["payload"]["score"] for sent in node.dispatched] == [90]


def test_nothing_is_looked_at_before_the_first_start_is_stored(node: Node) -> None:
    node.put("1.json")
    node.refuse_writes(True)
    node.start()
    node.poll()
    assert node.dispatched == []
    node.refuse_writes(False)
    node.poll()
    assert len(node.dispatched) == 1


def test_poison_does_not_stand_in_the_way(node: Node) -> None:
    for number in range(30):
        node.put(f"{number}.json", b"<html>%d" % number)
    node.put("good.json")
    node.start()
    for _ in range(3):
        node.poll()
    assert [sent["trigger"] for sent in node.dispatched] == ["ioc_scan.sandbox_detection"]


def test_it_imports_little_and_nothing_of_the_store(node: Node) -> None:
    node.start()
    loaded = set(node.ask("modules").split())
    assert not loaded & {
        "lxml",
        "sqlalchemy",
        "ioc_scan.store",
        "ioc_scan.service",
        "ioc_scan.devices",
        "requests",
    }


def test_no_configuration_at_all(node: Node) -> None:
    node.sources = []
    node.start()
    node.poll()
    node.stop()
    assert node.dispatched == []


def test_metadata_holds_what_stackstorm_needs() -> None:
    assert METADATA["poll_interval"] >= 4
    names = {trigger["name"] for trigger in METADATA["trigger_types"]}
    assert names == {
        "sandbox_detection", "detection_failed", "matches_found", "approval_needed", "response_due",
        "task_ended", "response_done", "audit_head",
    }  # fmt: skip
    for trigger in METADATA["trigger_types"]:
        schema = trigger["payload_schema"]
        assert "required" not in schema, "a list here would drop every dispatch"
        for field, prop in schema["properties"].items():
            assert prop["description"] and prop["type"] in ("string", "integer", "number", "boolean"), field
            assert prop["type"] != "string" or "pattern" in prop or "enum" in prop, field
