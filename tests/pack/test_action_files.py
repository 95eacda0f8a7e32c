"""What stands in an action's two files must agree, and a Python file stays a door: no more than one call."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml
from ioc_scan.config import load_config, pack_folder

REPOSITORY = Path(__file__).resolve().parents[2]
#: Parameters StackStorm's python runner keeps for itself (StackStorm 3.9).
OF_THE_RUNNER = {"env", "timeout", "debug", "log_level", "content_version", "notify"}
METADATA = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((REPOSITORY / "actions").glob("*.yaml"))
}
PYTHON = sorted(name for name, data in METADATA.items() if data["runner_type"] == "python-script")
WORKFLOWS = sorted(set(METADATA) - set(PYTHON))
WANTED = {
    "fetch_detection",
    "submit_detection",
    "generate_ioc",
    "create_task",
    "start_task",
    "await_results",
    "collect_results",
    "respond",
    "restore_object",
    "delete_task",
    "list_tasks",
    "get_task",
    "get_results",
    "list_events",
    "export_iocs",
    "prune",
    "render_report",
    "list_devices",
    "list_quarantine",
    "check_setup",
}


def declared(name: str) -> set[str]:
    return set(METADATA[name]["parameters"] or {}) - OF_THE_RUNNER


def the_class(name: str) -> ast.ClassDef:
    tree = ast.parse((REPOSITORY / "actions" / f"{name}.py").read_text(encoding="utf-8"))
    (found,) = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return found


def the_call(name: str) -> ast.Call:
    """``return answer(self.config, module.function, ...)``"""
    (method,) = [node for node in the_class(name).body if isinstance(node, ast.FunctionDef)]
    (statement,) = method.body
    assert isinstance(statement, ast.Return) and isinstance(statement.value, ast.Call)
    return statement.value


def use_case(name: str) -> Any:
    function = the_call(name).args[1]
    assert isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name)
    return getattr(importlib.import_module(f"ioc_scan.service.{function.value.id}"), function.attr)


def test_every_wanted_action_is_there() -> None:
    assert set(PYTHON) >= WANTED


@pytest.mark.parametrize("name", PYTHON)
def test_every_declared_parameter_is_taken_and_passed_on(name: str) -> None:
    (method,) = [node for node in the_class(name).body if isinstance(node, ast.FunctionDef)]
    assert method.name == "run"  # and no __init__: no network, no store before run
    arguments = method.args
    assert not arguments.defaults and not arguments.kw_defaults and arguments.kwarg is None
    taken = [argument.arg for argument in arguments.args]
    assert taken[0] == "self" and set(taken[1:]) == declared(name)
    passed = {
        keyword.arg: keyword.value.id
        for keyword in the_call(name).keywords
        if isinstance(keyword.value, ast.Name)
    }
    assert passed == {parameter: parameter for parameter in taken[1:]}


@pytest.mark.parametrize("name", PYTHON)
def test_the_use_case_takes_them_too_and_only_required_ones_have_no_default(name: str) -> None:
    signature = inspect.signature(use_case(name))
    parameters = dict(list(signature.parameters.items())[1:])
    assert set(parameters) == declared(name)
    for parameter, data in METADATA[name]["parameters"].items():
        if parameter in OF_THE_RUNNER:
            continue
        if not data.get("required"):
            assert parameters[parameter].default is None, parameter  # StackStorm passes None
        else:
            assert parameters[parameter].default is inspect.Parameter.empty, parameter


@pytest.mark.parametrize("name", PYTHON)
def test_an_action_file_is_short_and_imports_one_room(name: str) -> None:
    text = (REPOSITORY / "actions" / f"{name}.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 20
    imported = {
        node.module if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    assert imported == {"ioc_scan.service", "st2common.runners.base_action"}
    assert "from __future__" not in text


@pytest.mark.parametrize("name", PYTHON + WORKFLOWS)
def test_parameters_and_answers_are_described(name: str) -> None:
    data = METADATA[name]
    assert data["description"].strip() and data["enabled"] is True
    for parameter, schema in (data["parameters"] or {}).items():
        assert schema.get("description"), parameter
    assert data["output_schema"]["properties"]
    for field, schema in data["output_schema"]["properties"].items():
        assert schema.get("description"), field


def test_who_asks_can_never_be_given() -> None:
    """Whoever may run an action must not be able to say who he is."""
    asking = [name for name in PYTHON if declared(name) & {"account", "chat_user"}]
    assert {"respond", "restore_object", "kill_switch", "delete_task", "start_task"} <= set(asking)
    for name in asking:
        for parameter, key in (("account", "user"), ("chat_user", "api_user")):
            schema = METADATA[name]["parameters"][parameter]
            assert schema["immutable"] is True
            assert schema["default"] == "{{ action_context.get('" + key + "') }}"


@pytest.mark.parametrize("name", PYTHON + WORKFLOWS)
def test_ids_carry_their_pattern(name: str) -> None:
    patterns = {
        "detection_id": "^[A-Za-z0-9._-]{1,64}:[A-Za-z0-9._-]{1,64}:[A-Za-z0-9._-]{1,64}$",
        "task_id": "^[A-Za-z0-9._-]{1,64}$",
    }
    for parameter, pattern in patterns.items():
        schema = (METADATA[name]["parameters"] or {}).get(parameter)
        assert schema is None or schema["pattern"] == pattern


def test_the_example_configuration_is_valid_as_it_stands() -> None:
    text = (REPOSITORY / "ioc_scan.yaml.example").read_text(encoding="utf-8")
    config = load_config(yaml.safe_load(text))
    assert config["threat_response_policies"] and config["device_managers"]
    # the webhook rule names a source: the example has it
    rule = yaml.safe_load((REPOSITORY / "rules" / "receive_detection.yaml").read_text(encoding="utf-8"))
    assert rule["action"]["parameters"]["source"] in {
        source["name"] for source in config["sources"] if source["type"] == "webhook"
    }


def test_rules_are_enabled_and_an_empty_configuration_is_harmless() -> None:
    for path in (REPOSITORY / "rules").glob("*.yaml"):
        assert yaml.safe_load(path.read_text(encoding="utf-8"))["enabled"] is True
    for empty in (None, {}, {"store": None, "sources": [], "threat_response_policies": []}):
        config = load_config(empty)
        assert config["threat_response_policies"] == config["sources"] == config["device_managers"] == []


def test_the_pack_folder_is_found_through_every_link() -> None:
    assert pack_folder() == REPOSITORY
