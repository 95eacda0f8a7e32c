"""Python actions: what reaches them, what comes back, and what StackStorm makes of wrong answers."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest
from ioc_scan.errors import InputError, NotFoundError

from standalone.python_runner import CHILDREN
from tests.unit.standalone.conftest import PACK


def test_every_declared_parameter_arrives_and_the_result_comes_back(engine):
    execution = engine.run_action("small_pack.echo", {"text": "hi", "words": ["a"]}, user="ann")
    assert execution["status"] == "succeeded"
    assert execution["result"]["exit_code"] == 0
    answer = execution["result"]["result"]
    assert (answer["text"], answer["shouted"], answer["words"]) == ("hi", "HI", ["a"])
    assert (answer["number"], answer["flag"], answer["data"]) == (3, None, None)
    assert answer["cwd"] == "/"
    assert execution["parameters"] == {"text": "hi", "words": ["a"]}


def test_secrets_are_masked_in_what_is_kept(engine):
    execution = engine.run_action("small_pack.echo", {"text": "hi", "password": "xyz"})
    assert execution["parameters"]["password"] == "********"
    assert execution["result"]["result"]["key"] == "********"
    assert execution["result"]["result"]["password_length"] == 3
    assert b"a secret" not in (engine.state.folder / "standalone.db").read_bytes()


@pytest.mark.parametrize(
    ("user", "api_user", "account"), [("ann", None, "ann"), ("bot", "carl", "carl"), ("ann", "", "ann")]
)
def test_an_immutable_parameter_names_who_asked(engine, user, api_user, account):
    execution = engine.run_action("small_pack.echo", {"text": "hi"}, user, api_user=api_user)
    assert execution["result"]["result"]["account"] == account


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "'text' is a required property"),
        ({"text": "a", "kind": "three"}, "is not one of"),
        ({"text": "a", "other": 1}, "Additional properties are not allowed"),
        ({"text": "a", "number": "many"}, "is no integer"),
        ({"text": "a", "number": "{{ flag | use_none }}"}, "is no integer"),
        ({"text": 5}, "must either be a string or None"),
        ({"text": "a", "words": "[1"}, "is no array"),
        ({"text": "a", "account": "root"}, "immutable"),
        ({"text": "{{ nothing }}"}, 'unsatisfied in variable "nothing"'),
        ({"text": "{{ number }}", "number": "{{ text }}"}, "Cyclic"),
        ({"text": "{{ action_context.nothing.x }}"}, "Failed to render"),
        ({"text": "{{ ''.__class__.__mro__ }}"}, "Failed to render"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_runs(engine, given, said):
    with pytest.raises(InputError) as refused:
        engine.run_action("small_pack.echo", given)
    assert said in refused.value.message
    assert engine.executions() == []


def test_parameters_are_cast_and_rendered_as_stackstorm_does(engine):
    engine.state.values.set("word", "stored")
    given = {
        "text": "{{ st2kv.system.word }} {{ number }} {{ config_context.greeting }}",
        "number": "7",
        "flag": "true",
        "words": '["a"]',
        "data": {"n": "{{number}}", "s": "x{{ number }}"},
    }
    answer = engine.run_action("small_pack.echo", given)["result"]["result"]
    assert answer["text"] == "stored 7 hello"
    assert (answer["number"], answer["flag"], answer["words"]) == (7, True, ["a"])
    assert answer["data"] == {"n": "7", "s": "x7"}


def test_a_default_that_is_a_template_replaces_a_template_that_is_given(make_engine, tmp_path):
    """StackStorm takes a given template for no value."""
    pack = _copy(tmp_path)
    path = pack / "actions" / "echo.yaml"
    path.write_text(path.read_text().replace("default: one", 'default: "{{ text }}"'))
    engine = make_engine(pack=pack)
    given = {"text": "two", "kind": "{{ number }}"}
    assert engine.run_action("small_pack.echo", given)["result"]["result"]["kind"] == "two"
    given = {"text": "two", "kind": "one"}
    assert engine.run_action("small_pack.echo", given)["result"]["result"]["kind"] == "one"


def test_none_means_the_default_and_the_none_mark_means_none(engine):
    given = {"text": "a", "data": "{{ flag | use_none }}", "number": None}
    answer = engine.run_action("small_pack.echo", given)["result"]["result"]
    assert (answer["number"], answer["data"]) == (3, None)


def test_text_that_only_looks_like_a_template_passes(engine):
    answer = engine.run_action("small_pack.echo", {"text": "{{ 7 * }}<% 1 + 1 %>"})["result"]["result"]
    assert answer["text"] == "{{ 7 * }}<% 1 + 1 %>"


@pytest.mark.parametrize(
    "how", ["fail", "raise", "status", "object", "object_without_status", "exit", "none"]
)
def test_wrong_answers_fail(engine, how):
    assert engine.run_action("small_pack.misbehave", {"how": how})["status"] == "failed"


def test_what_a_failure_looks_like(engine):
    failed = engine.run_action("small_pack.misbehave", {"how": "fail"})["result"]
    assert failed["result"] == {"code": "as_asked", "message": "failed", "hint": "do not ask"}
    raised = engine.run_action("small_pack.misbehave", {"how": "raise"})["result"]
    assert (raised["result"], raised["exit_code"]) == ("None", 1)
    assert raised["stderr"].rstrip().endswith("RuntimeError: as asked")
    status = engine.run_action("small_pack.misbehave", {"how": "status"})["result"]
    assert "must either be True or False, got: yes" in status["error"]


def test_the_actions_own_timeout_ends_it(engine):
    execution = engine.run_action("small_pack.misbehave", {"how": "sleep"})
    assert execution["status"] == "timeout"
    assert execution["result"]["error"] == "Action failed to complete in 2 seconds"
    assert (execution["result"]["exit_code"], execution["result"]["stdout"]) == (-9, "before\n")


def test_stopping_the_engine_ends_what_runs(make_engine):
    engine = make_engine()
    ends = []
    engine.on_execution(lambda e: ends.append(e) if e["end_timestamp"] else None)
    asked = threading.Thread(target=engine.run_action, args=("small_pack.misbehave", {"how": "sleep"}))
    started = time.monotonic()
    asked.start()
    time.sleep(0.5)
    engine.stop()
    assert time.monotonic() - started < 1.8
    assert [(one["status"], one["result"]["exit_code"]) for one in ends] == [("failed", -9)]
    asked.join(1)


def test_large_parameters_go_through_standard_input(engine):
    text = "ä" * 200_000
    assert engine.run_action("small_pack.echo", {"text": text})["result"]["result"]["text"] == text


def test_a_config_past_128_kib_fails_every_action(make_engine):
    engine = make_engine({"greeting": "x" * 131_072})
    execution = engine.run_action("small_pack.count", {})
    assert execution["status"] == "failed"
    assert "Argument list too long" in execution["result"]["error"]


def test_unknown_and_disabled_actions(engine):
    with pytest.raises(NotFoundError):
        engine.run_action("small_pack.nothing", {})


def test_values_are_text_and_local_to_the_class(engine):
    first = engine.run_action("small_pack.count", {})["result"]["result"]
    second = engine.run_action("small_pack.count", {})["result"]["result"]
    assert (first["calls"], second["calls"]) == (1, 2)
    assert engine.state.values.get("small_pack.CountAction:calls") == "2"


def test_the_clock_of_children_is_moved(make_engine, tmp_path):
    pack = _copy(tmp_path)
    (pack / "actions" / "count.py").write_text(
        "import os\nfrom st2common.runners.base_action import Action\n"
        "class CountAction(Action):\n    def run(self, settled_after):\n"
        "        return {'calls': int(os.environ['IOC_SCAN_CLOCK_AHEAD_SECONDS']), 'settled': True}\n"
    )
    engine = make_engine(pack=pack, clock_ahead_seconds=86_400)
    assert engine.run_action("small_pack.count", {})["result"]["result"]["calls"] == 86_400


@pytest.mark.parametrize("link", ["lib"])
def test_without_its_link_shared_code_is_not_found(make_engine, tmp_path, link):
    pack = _copy(tmp_path)
    (pack / "actions" / link).unlink()
    execution = make_engine(pack=pack).run_action("small_pack.echo", {"text": "a"})
    assert execution["status"] == "failed"
    assert "No module named 'small_pack'" in execution["result"]["stderr"]


def test_an_action_sees_stackstorms_path_in_its_order(make_engine, tmp_path):
    pack = _copy(tmp_path)
    (pack / "actions" / "misbehave.py").write_text(
        "import os, sys\nfrom st2common.runners.base_action import Action\n"
        "class A(Action):\n    def run(self, how):\n"
        "        return True, {'path': sys.path, 'pythonpath': os.environ['PYTHONPATH']}\n"
    )
    result = make_engine(pack=pack).run_action("small_pack.misbehave", {"how": "none"})["result"]["result"]
    environment = result["pythonpath"].split(":")
    assert environment[0] == os.path.join(sys.prefix, "lib", f"python3.{sys.version_info.minor}")
    assert environment[1].endswith("site-packages")
    assert environment[2] == str(pack / "actions" / "lib")
    assert result["path"][0].endswith("site-packages")
    assert result["path"][-1] == str(pack / "actions")
    assert str(pack) not in result["path"] and str(pack / "lib") not in result["path"]


def test_what_only_the_development_virtualenv_adds_is_hidden(tmp_path):
    """The virtualenv of the checkout knows lib/; the one StackStorm makes does not."""
    lib, allowed, elsewhere = tmp_path / "lib", tmp_path / "actions" / "lib", "/somewhere/else"
    program = (
        f"import sys\nsys.path += ['{lib}', '{tmp_path}', '{allowed}', '{elsewhere}']\n"
        f"import plugin\nplugin.hide_checkout('{tmp_path}', ('{allowed}',))\nprint(sys.path)"
    )
    environment = {**os.environ, "PYTHONPATH": str(CHILDREN)}
    command = [sys.executable, "-c", program]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    path = ast.literal_eval(shown)
    assert path[-2:] == [str(allowed), elsewhere]
    assert str(lib) not in path and str(tmp_path) not in path


def test_the_alphabetically_first_class_runs_and_postponed_dataclasses_crash(make_engine, tmp_path):
    pack = _copy(tmp_path)
    source = (
        "from st2common.runners.base_action import Action\n"
        "class Zebra(Action):\n    def run(self, how):\n        return True, {'it': 'zebra'}\n"
        "class Ape:\n    def __init__(self, config, action_service):\n        pass\n"
        "    def run(self, how):\n        return True, {'it': 'ape'}\n"
    )
    (pack / "actions" / "misbehave.py").write_text(source)
    engine = make_engine(pack=pack)
    assert engine.run_action("small_pack.misbehave", {"how": "none"})["result"]["result"] == {"it": "ape"}
    (pack / "actions" / "misbehave.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        + source.replace("class Zebra", "@dataclass\nclass Data:\n    a: str\n\nclass Zebra")
    )
    assert engine.run_action("small_pack.misbehave", {"how": "none"})["status"] == "failed"


def _copy(tmp_path):
    pack = tmp_path / "pack"
    shutil.copytree(PACK, pack, symlinks=True)
    return pack
