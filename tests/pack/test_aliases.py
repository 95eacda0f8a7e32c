"""Chat commands: what is extracted, that exactly one alias answers, and that answers are harmless in chat."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest
import yaml
from ioc_scan.errors import IocScanError
from ioc_scan.service import answer, chat, people
from ioc_scan.service.chat import chat_lines, chat_table, for_chat

from .alias_parser import extract

REPOSITORY = Path(__file__).resolve().parents[2]
ALIASES = {
    path.stem: yaml.safe_load(path.read_text()) for path in sorted((REPOSITORY / "aliases").glob("*.yaml"))
}
TASK = "ioc-20260101-090000-0a1b2c3d"
ITEM = "resp-20260101-090000-0a1b2c3d.0.4f2a9c11"
DETECTION = "cape:lab:sha256-0123456789abcdef0123456789abcdef"

#: command -> (alias, parameters given to the action)
COMMANDS = {
    "ioc tasks": ("tasks", {"state": "live"}),
    "ioc tasks expired": ("tasks", {"state": "expired"}),
    f"ioc task {TASK}": ("task", {"task_id": TASK}),
    f"ioc results {TASK}": ("results", {"task_id": TASK}),
    f"ioc results {TASK} tier=hunt": ("results", {"task_id": TASK, "tier": "hunt"}),
    f"ioc coverage {TASK}": ("coverage", {"task_id": TASK}),
    "ioc detections": ("detections", {"decision": "any"}),
    "ioc detections no_policy": ("detections", {"decision": "no_policy"}),
    f"ioc explain {DETECTION}": ("explain", {"detection_id": DETECTION}),
    "ioc approvals": ("approvals", {"state": "open"}),
    f"ioc approve {TASK}": ("approve", {"task_id": TASK, "devices": "*"}),
    f"ioc approve {TASK} ws01": ("approve", {"task_id": TASK, "devices": "ws01"}),
    f"ioc approve {TASK} dry_run=true": ("approve", {"task_id": TASK, "devices": "*", "dry_run": "true"}),
    f"ioc reject {TASK}": ("reject", {"task_id": TASK, "devices": "*"}),
    f'ioc reject {TASK} ws01 reason="our own tool"': (
        "reject",
        {"task_id": TASK, "devices": "ws01", "reason": "our own tool"},
    ),
    f"ioc reopen {TASK}": ("reopen", {"task_id": TASK}),
    f"ioc start {TASK}": ("start", {"task_id": TASK}),
    f"ioc pause {TASK}": ("pause", {"task_id": TASK}),
    f"ioc resume {TASK}": ("resume", {"task_id": TASK}),
    f"ioc cancel {TASK}": ("cancel", {"task_id": TASK}),
    f"ioc delete {TASK}": ("delete", {"task_id": TASK}),
    f"ioc configure {TASK} cpu_percent=10 response_mode=ask": (
        "configure",
        {"task_id": TASK, "cpu_percent": "10", "response_mode": "ask"},
    ),
    "ioc quarantine": ("quarantine", {"device": None}),
    "ioc quarantine ws01": ("quarantine", {"device": "ws01"}),
    f"ioc restore {ITEM}": ("restore", {"quarantine_id": ITEM, "device_id": None}),
    f"ioc restore {ITEM} on ws01": ("restore", {"quarantine_id": ITEM, "device_id": "ws01"}),
    f"ioc export {TASK}": ("export", {"task_id": TASK}),
    "ioc report": ("report", {"task_id": None}),
    f"ioc report {TASK}": ("report", {"task_id": TASK}),
    "ioc devices": ("devices", {"group": None}),
    "ioc devices front desk": ("devices", {"group": "front desk"}),
    "ioc health": ("health", {}),
    "ioc stop": ("stop", {"reason": None}),
    "ioc stop a false positive": ("stop", {"reason": "a false positive"}),
    "ioc go": ("go", {"reason": None}),
}
HOSTILE = (
    "<!channel> @here <@U123> `rm` {{ 7*7 }} <% 1+1 %> http://evil.example/x?y=1 *bold* ![x](https://a.example/p.png) "
    "\u202egpj.exe \u200b ＠all"
)


def matching(command: str) -> list[tuple[str, dict[str, Any]]]:
    return [
        (name, given)
        for name, alias in ALIASES.items()
        for form in alias["formats"]
        for representation in form["representation"]
        if (given := extract(representation, command)) is not None
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_exactly_one_alias_answers_with_these_parameters(command: str) -> None:
    assert matching(command) == [COMMANDS[command]]


def test_every_alias_has_a_command_here() -> None:
    assert {name for name, _ in COMMANDS.values()} == set(ALIASES)


@pytest.mark.parametrize(
    "command", ["ioc", "ioc tasksfoo", "ioc task", "ioc approve", "xioc tasks", "ioc nothing"]
)
def test_what_is_no_command_matches_nothing(command: str) -> None:
    assert matching(command) == []


@pytest.mark.parametrize("name", ALIASES)
def test_an_alias_fits_its_action(name: str) -> None:
    alias = ALIASES[name]
    pack, action = alias["action_ref"].split(".")
    metadata = yaml.safe_load((REPOSITORY / "actions" / f"{action}.yaml").read_text())
    assert pack == alias["pack"] == "ioc_scan" and alias["name"] == f"ioc_{name}" and alias["enabled"]
    declared = metadata["parameters"]
    fixed = alias.get("immutable_parameters", {})
    given = {key for _, values in [c for c in COMMANDS.values() if c[0] == name] for key in values} | set(
        fixed
    )
    assert given <= set(declared)
    assert not given & {key for key, value in declared.items() if value.get("immutable")}
    required = {key for key, value in declared.items() if value.get("required")}
    for form in alias["formats"]:
        assert form["display"].startswith(f"ioc {name}")
        for representation in form["representation"]:
            assert required <= set(re.findall(r"\{\{ (\w+)", representation)) | set(fixed)
    arrays = {key for key, value in declared.items() if value.get("type") == "array"}
    for values in [values for command, values in COMMANDS.values() if command == name]:
        assert all(values.get(key, "") is not None for key in arrays)  # StackStorm cannot cast an absent one
    assert alias["ack"]["format"] and alias["ack"]["append_url"] is True
    assert "{{" not in alias["ack"]["format"]  # an echo of what was typed would repeat its mentions


# -- what is posted


def posted(name: str, result: Any, status: str = "succeeded") -> str:
    """As chatops.format_execution_result renders it: undefined names are empty, nothing is escaped."""
    execution = {"status": status, "id": "5f0c", "result": result, "parameters": {"reason": HOSTILE}}
    template = jinja2.Environment(autoescape=False).from_string(ALIASES[name]["result"]["format"])
    return template.render(execution=execution)


def harmless(text: str) -> None:
    assert not re.search(r"[@＠<>]|\{\{|<%|\{%|https?:|://|[\u202a-\u202e\u200b-\u200f]", text), text
    assert not re.search(r"\w\.(?:example|exe|png)\b", text), text


def test_hostile_text_becomes_harmless() -> None:
    shown = for_chat(HOSTILE)
    harmless(shown)
    assert "hxxp[:]//evil[.]example/x" in shown and "[at]here" in shown and "`" not in shown
    assert for_chat("st2 run ioc_scan.list_tasks") == "st2 run ioc_scan.list_tasks"
    assert for_chat("10.0.0.1") == "10[.]0[.]0[.]1" and "\n" not in for_chat("a\nb")


@pytest.mark.parametrize("name", ALIASES)
def test_the_template_prints_hostile_answers_harmlessly(name: str) -> None:
    rows = [{"path": HOSTILE, "size": 3}] * 30
    table = chat_table(rows, ["path", "size"], 30, "none")
    assert "20 of 30 shown" in table
    text = posted(name, {"result": {"chat": table, "rows": rows, "message": HOSTILE, "next_step": HOSTILE}})
    harmless(text)
    assert table in text and "Next: " in text.splitlines()[-1]
    assert len(text) < 4000


@pytest.mark.parametrize("name", ALIASES)
def test_a_refusal_names_its_code_and_what_to_do(name: str) -> None:
    def refuse(context: Any) -> None:
        raise IocScanError(
            "person_needed", f"chat user {HOSTILE} may not", "Run it: st2 run ioc_scan.respond"
        )

    ok, result = answer({}, refuse)
    assert not ok
    text = posted(name, {"result": result, "exit_code": 1}, "failed")
    harmless(text)
    assert text.startswith("person_needed: ") and "st2 run ioc_scan.respond" in text


@pytest.mark.parametrize("result", [None, {}, {"result": "None"}, {"error": HOSTILE}, HOSTILE])
@pytest.mark.parametrize("name", ALIASES)
def test_a_timeout_or_crash_says_where_to_look(name: str, result: Any) -> None:
    text = posted(name, result, "timeout")
    harmless(text)
    assert f"ioc {name} ended as timeout" in text and "st2 execution get 5f0c" in text


def test_slack_extra_depends_on_the_status() -> None:
    for alias in ALIASES.values():
        slack = alias["result"]["extra"]["slack"]
        template = jinja2.Environment(autoescape=False).from_string(slack["color"])
        colors = {
            status: template.render(execution={"status": status})
            for status in ("succeeded", "failed", "timeout")
        }
        assert colors["succeeded"] != colors["failed"] == colors["timeout"]
        assert slack["unfurl_links"] is False and slack["unfurl_media"] is False


def test_long_texts_are_cut_at_a_line() -> None:
    text = chat_lines("\n".join(f"line {number}" for number in range(5000)))
    assert len(text) <= chat.MAX_CHAT_TEXT + 2 and text.endswith("\n…")


def test_from_chat_only_mapped_people_count() -> None:
    config = {"system_users": ["stanley"], "chat_identities": {"U1": "alice"}, "rights": {"accounts": []}}
    context = SimpleNamespace(config=config)
    assert people.Actor.of(context, "hubot", "U1").name == "alice"  # type: ignore[arg-type]
    assert not people.Actor.of(context, "hubot", "U2").person  # type: ignore[arg-type]
