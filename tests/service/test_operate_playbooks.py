"""The example playbooks of docs/examples run, in standalone, over a real task; their rules fit the triggers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from standalone.engine import Engine

from .test_responses import approvals
from .world import World, events, sample, sha256, states

REPOSITORY = Path(__file__).resolve().parents[2]
PLAYBOOKS = REPOSITORY / "docs" / "examples" / "ioc_playbooks"
RULES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((PLAYBOOKS / "rules").glob("*.yaml"))}
TRIGGERS = {
    f"ioc_scan.{trigger['name']}": trigger["payload_schema"]["properties"]
    for trigger in yaml.safe_load((REPOSITORY / "sensors" / "sandbox_detections.yaml").read_text())[
        "trigger_types"
    ]
}


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both packs as one: standalone runs one pack at a time."""
    folder = tmp_path_factory.mktemp("pack")
    for name in ("pack.yaml", "config.schema.yaml", "lib", "sensors", "requirements.txt"):
        (folder / name).symlink_to(REPOSITORY / name)
    (folder / "rules").mkdir()
    (folder / "actions" / "workflows").mkdir(parents=True)
    (folder / "actions" / "lib").symlink_to(REPOSITORY / "lib")
    for path in [*(REPOSITORY / "actions").glob("*.*"), *(REPOSITORY / "workflows").glob("*.yaml")]:
        where = folder / "actions" / ("workflows" if path.parent.name == "workflows" else "")
        (where / path.name).symlink_to(path)
    for path in PLAYBOOKS.glob("actions/**/*.*"):
        text = path.read_text().replace("ioc_playbooks.", "ioc_scan.")
        (folder / path.relative_to(PLAYBOOKS)).write_text(text)
    return folder


@pytest.fixture
def asked(world: World) -> str:
    """A task whose match on ws01 waits for a person."""
    world.plant("ws01", "a.exe", sample())
    with world.context() as context:
        task_id = str(world.task_for(context, sample())["task_id"])
        world.scan(context, task_id)
        assert world.respond(context, task_id)["asked"] == 1
    return task_id


def run(world: World, pack: Path, name: str, user: str = "stanley", **given: Any) -> dict[str, Any]:
    with Engine(pack, world.config, world.folder / "state") as engine:
        execution = engine.run_action(f"ioc_scan.{name}", given, user=user)
    assert execution["status"] == "succeeded", execution["result"]
    return dict(execution["result"]["output"])


@contextmanager
def ticket_system() -> Iterator[tuple[str, list[dict[str, str]]]]:
    tickets: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            tickets.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(201)
            self.end_headers()
            self.wfile.write(b'{"id": 4711}')

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/tickets", tickets
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
def test_a_ticket_holds_what_a_person_needs_and_approves_nothing(
    world: World, pack: Path, asked: str
) -> None:
    with ticket_system() as (url, tickets):
        answer = run(world, pack, "ticket_with_approval", task_id=asked, ticket_url=url)
    assert answer["ticket_id"] == "4711"
    (ticket,) = tickets
    for words in (
        "1 matches on ws01",
        "3 of 3 devices",
        sha256(sample()),
        f"respond task_id={asked}",
        "would_quarantine",
    ):
        assert words in ticket["text"]
    with world.context() as context:
        assert states(context, asked) == ["awaiting_approval"]
        assert approvals(context, asked)[0]["state"] == "open"


@pytest.mark.slow
def test_our_own_program_ends_its_task_and_others_are_only_tried(
    world: World, pack: Path, asked: str, tmp_path: Path
) -> None:
    known = tmp_path / "own.txt"
    known.write_text("0" * 64 + "\n")
    given = {"task_id": asked, "known_file": str(known)}
    answer = run(world, pack, "enrich_then_decide", **given)
    assert answer["decision"] == "ask" and "would_quarantine" in answer["message"]
    known.write_text(sha256(sample()) + "\n")
    assert run(world, pack, "enrich_then_decide", **given)["decision"] == "cancelled"
    with world.context() as context:
        (event,) = events(context, "task_cancelled")
        assert event["data"]["reason"].endswith("the object is a program of our own")
    assert (world.root("ws01") / "a.exe").exists()


@pytest.mark.slow
def test_a_golden_image_is_learnt_by_a_rule_only_where_the_configuration_names_it(
    world: World, pack: Path, tmp_path: Path
) -> None:
    image = tmp_path / "golden"
    image.mkdir()
    (image / "tool.exe").write_bytes(sample("tool"))
    world.config["guard"] = {"golden_images": [str(image)]}
    answer = run(world, pack, "learn_golden_image", folder=str(image), days=7)
    assert answer["files"] == 1 and ":" in answer["head"]
    with Engine(pack, world.config, world.folder / "state") as engine:
        refused = engine.run_action("ioc_scan.learn_golden_image", {"folder": str(tmp_path)}, user="stanley")
    assert refused["status"] == "failed" and refused["result"]["output"]["error"]["code"] == "person_needed"


@pytest.mark.parametrize("name", RULES)
def test_an_example_rule_uses_fields_its_trigger_has(name: str) -> None:
    rule = RULES[name]
    assert rule["enabled"] is False and rule["pack"] == "ioc_playbooks" and rule["name"] == name
    text = json.dumps(rule)
    used = {word.split(".")[1].split(" ")[0] for word in text.split('"') if word.startswith("trigger.")}
    used |= {part.split("}}")[0].strip().removeprefix("trigger.") for part in text.split("{{")[1:]}
    known = TRIGGERS.get(rule["trigger"]["type"])
    if known is None:
        assert rule["trigger"]["type"] == "core.st2.CronTimer" and rule["trigger"]["parameters"]["timezone"]
    else:
        assert used and used <= set(known)


def test_each_trigger_for_playbooks_has_an_example() -> None:
    wanted = {"approval_needed", "matches_found", "task_ended", "response_done"}
    assert {f"ioc_scan.{name}" for name in wanted} <= {rule["trigger"]["type"] for rule in RULES.values()}
