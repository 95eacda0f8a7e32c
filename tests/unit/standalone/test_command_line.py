"""The command line in real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ioc_scan.errors import InputError

from standalone.arguments import read_parameters
from standalone.pack import load_pack
from tests.unit.standalone.conftest import PACK

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def standalone(tmp_path):
    def run(*arguments, text=None):
        command = [sys.executable, "-m", "standalone", *arguments]
        if arguments[0] != "lint" and arguments[0] != "execution":
            command += ["--pack", str(PACK)]
        command += ["--state", str(tmp_path / "state")]
        return subprocess.run(command, cwd=REPOSITORY, input=text, capture_output=True, text=True, timeout=60)

    return run


def test_run_prints_like_st2_and_answers_with_its_exit_status(standalone):
    good = standalone("run", "small_pack.echo", "text=a=b", "number=4", "flag=true", "words=x,y")
    assert good.returncode == 0, good.stderr
    assert "action.ref: small_pack.echo\n" in good.stdout and "status: succeeded\n" in good.stdout
    assert "    text: a=b\n" in good.stdout
    assert "\033[" not in good.stdout
    bad = standalone("run", "small_pack.misbehave", "how=fail", "-j", "--user", "ann")
    assert bad.returncode == 1
    execution = json.loads(bad.stdout)
    assert (execution["status"], execution["context"]["user"]) == ("failed", "ann")


def test_refusals_say_what_and_what_to_do(standalone):
    refused = standalone("run", "small_pack.echo", "number=many")
    assert refused.returncode == 2
    assert refused.stderr.startswith("ERROR: number: ")
    missing = standalone("run", "small_pack.ech", "a=b")
    assert missing.returncode == 2 and "small_pack.echo" in missing.stderr
    assert "Traceback" not in refused.stderr + missing.stderr


def test_help_of_an_action_shows_its_parameters(standalone):
    shown = standalone("run", "small_pack.echo", "--help").stdout
    assert "Required Parameters:\n    text" in shown and "Enum: one, two" in shown
    assert "account" not in shown


def test_a_workflow_is_shown_with_its_tasks_and_found_again(standalone):
    ran = standalone("run", "small_pack.fail_with_reason", "how=fail")
    assert ran.returncode == 1
    assert "| small_pack.misbehave | go " in ran.stdout
    listed = json.loads(standalone("execution", "list", "-j").stdout)
    assert [one["action"] for one in listed] == ["small_pack.fail_with_reason", "small_pack.misbehave"]
    got = standalone("execution", "get", listed[0]["id"])
    assert got.stdout == ran.stdout
    assert standalone("execution", "get", "nothing").returncode == 2


def test_webhook_trigger_timer_and_values(standalone, tmp_path):
    body = tmp_path / "body.json"
    body.write_text('{"a": "{{ 7*7 }}"}')
    posted = standalone("webhook", str(body), "--trace-tag", "t-1")
    assert posted.returncode == 0
    assert "rule=small_pack.on_webhook" in posted.stdout and "trace=t-1" in posted.stdout
    assert standalone("trigger", "small_pack.word", '{"word": "a", "number": 2}').returncode == 0
    assert standalone("trigger", "small_pack.word", "{}").returncode == 2
    assert standalone("timer", "on_timer").returncode == 0
    assert standalone("key", "get", "small_pack.CountAction:calls").stdout == "1\n"
    assert standalone("webhook", "-", text="no json").returncode == 2


def test_up_runs_what_there_is_and_ends_when_idle(standalone):
    up = standalone("up", "--once-idle", "--poll-interval", "0.2")
    assert up.returncode == 0, up.stderr
    assert up.stdout.startswith("This is not StackStorm")
    assert "rule=small_pack.on_word" in up.stdout and "payload validation failed" in up.stdout


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("words=a, b", ["a", "b"]),
        ("words=[1]", [1]),
        ("words=7", [7]),
        ("words=a", ["a"]),
        ("flag=False", False),
        ("number=-3", -3),
        ('data={"a": 1}', {"a": 1}),
        ("data=a=1,b=2", {"a": "1", "b": "2"}),
        ("text=5", "5"),
        ("unknown=5", "5"),
    ],
)
def test_arguments_are_cast_as_the_st2_client_does(argument, value):
    action = load_pack(PACK).actions["small_pack.echo"]
    assert list(read_parameters(action, [argument]).values()) == [value]


def test_arrays_add_up_files_are_read_and_nonsense_is_refused(tmp_path):
    action = load_pack(PACK).actions["small_pack.echo"]
    assert read_parameters(action, ["words=a", "words=b"]) == {"words": ["a", "b"]}
    (tmp_path / "text").write_text("from a file")
    assert read_parameters(action, [f"@text={tmp_path / 'text'}"]) == {"text": "from a file"}
    for wrong in ("flag=maybe", "number=x", "data={", "nothing", f"@text={tmp_path / 'absent'}"):
        with pytest.raises(InputError):
            read_parameters(action, [wrong])
