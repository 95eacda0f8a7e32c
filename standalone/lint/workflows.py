"""Workflow files: orquesta's own inspection, StackStorm's, and what neither says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from standalone.lint.model import Finding, LintPack, YamlFile
from standalone.pack import RUNNER_PARAMETERS

_MESSAGES = (
    ("is not registered", "workflow_action_unknown", "Add the action or correct the name."),
    ("missing required input", "workflow_input_missing", "Pass it: bad parameters fail the whole workflow."),
    (
        "unexpected input",
        "workflow_input_unexpected",
        "Declare it or leave it out: else the workflow fails.",
    ),
)
_NO_TASK_NAMES = ("items", "keys", "values", "get", "copy", "pop", "update")  # methods of the task mapping


def check(pack: LintPack) -> Iterator[Finding]:
    used = set()
    for file in pack.action_files:
        if file.data.get("runner_type") != "orquesta":
            continue
        path = pack.entry_point(file, "actions")
        if not path.is_file() or ".." in path.parts:
            continue
        used.add(path.resolve())
        workflow = pack.yaml(path)
        if workflow.error:
            yield Finding(
                "file_unreadable", workflow.name, workflow.error_line, workflow.error, "Correct the YAML."
            )
            continue
        yield from _tasks(workflow)
        yield from _injected(pack, workflow)
        yield from _interface(file, workflow)
        yield from _inspection(pack, workflow)
    for path in sorted((pack.directory / "workflows").glob("*.yaml")):
        if path.resolve() not in used:
            yield Finding(
                "workflow_unused", pack.name(path), None, "no action runs it", "Add its action, or remove it."
            )


def _task_items(file: YamlFile) -> list[tuple[str, dict[str, Any]]]:
    tasks = file.data.get("tasks")
    return [(str(n), t) for n, t in tasks.items() if isinstance(t, dict)] if isinstance(tasks, dict) else []


def _inspection(pack: LintPack, file: YamlFile) -> Iterator[Finding]:
    from standalone.workflow import WorkflowSpec, conducting, inspect_workflow  # orquesta takes a second

    if any(name in _NO_TASK_NAMES for name, _ in _task_items(file)):
        return  # the inspection itself would crash
    try:
        with conducting():
            problems = inspect_workflow(WorkflowSpec(file.data), pack.actions)
    except Exception as error:  # noqa: BLE001  orquesta raises all kinds of errors for broken definitions
        yield file.finding("workflow_invalid", f"{type(error).__name__}: {error}", "Correct the definition.")
        return
    yield from _functions(file)
    for problem in problems:
        message = str(problem.get("message"))
        where = [
            int(p) if p.isdigit() else p for p in re.split(r"[.\[\]]+", str(problem.get("spec_path"))) if p
        ]
        for text, code, todo in _MESSAGES:
            if text in message:
                yield file.finding(code, message, todo, *where)
                break
        else:
            what = f"{problem.get('spec_path')}: {message} {problem.get('expression', '')}".strip()
            yield file.finding("workflow_invalid", what, "Correct the definition.", *where)


def _functions(file: YamlFile) -> Iterator[Finding]:
    """Functions that neither YAQL nor StackStorm has: the inspection does not see them, the run fails."""
    from standalone.orquesta_shim import has_function

    for path, text in _texts(file.data, ()):
        for expression in re.findall(r"<%(.*?)%>", text, re.DOTALL):
            bare = re.sub(r"'[^']*'|\"[^\"]*\"", "''", expression)
            for name in re.findall(r"(?<![\w.$])([A-Za-z_]\w*)\(", bare):
                if name not in ("and", "or", "not", "in") and not has_function(name):
                    what = f"there is no function {name}()"
                    yield file.finding("workflow_function_unknown", what, "Correct the expression.", *path)


def _texts(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, (dict, list)):
        for key, below in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(below, (*path, key))


def _tasks(file: YamlFile) -> Iterator[Finding]:
    tasks = dict(_task_items(file))
    for name, task in tasks.items():
        where = ("tasks", name)
        if name in _NO_TASK_NAMES:
            todo = "It crashes the inspection: rename the task."
            yield file.finding("workflow_task_name", f"a task named {name}", todo, *where)
        items = task.get("with")
        if isinstance(items, dict) and str(items.get("concurrency")).strip() == "0":
            yield file.finding(
                "workflow_concurrency_zero", "with.concurrency is 0", "Use 1 or more.", *where, "with"
            )
        if items and task.get("retry"):
            todo = "A retry runs all items again: loop inside one action."
            yield file.finding("workflow_items_retry", "with-items and retry together", todo, *where, "retry")
    failing = _reached_by_failure(tasks)
    for name, task in tasks.items():
        before = list(_transitions_to(tasks, name))
        if task.get("join"):
            for source, number, when in before:
                if _takes_failure(when):
                    todo = "A failed branch cannot join in orquesta 1.2.0: let it end in its own task."
                    what = f"{source} joins {name} on failure"
                    yield file.finding("workflow_join_failed", what, todo, "tasks", source, "next", number)
        elif _rejoins(before, failing):
            todo = "Routes multiply from here on: end the error branch, or give it tasks of its own."
            yield file.finding(
                "workflow_rejoin", f"an error branch leads back to {name}", todo, "tasks", name
            )
        handled = any(_takes_failure(str(step.get("when") or "")) for step in _steps(task))
        if task.get("action") and not str(task["action"]).startswith("core.") and not handled:
            todo = "On <% failed() %> publish <% result().result %> and fail: else its reason is lost."
            yield file.finding(
                "workflow_failure_unexplained", f"{name} has no failure branch", todo, "tasks", name
            )


def _injected(pack: LintPack, file: YamlFile) -> Iterator[Finding]:
    """What ``core.inject_trigger`` names must be declared, and carry what the payload schema asks for."""
    for name, task in _task_items(file):
        given = task.get("input")
        if task.get("action") != "core.inject_trigger" or not isinstance(given, dict):
            continue
        where = ("tasks", name, "input")
        trigger = str(given.get("trigger_name") or given.get("trigger"))
        if "<%" in trigger or "{{" in trigger:
            continue
        if trigger not in pack.trigger_types:
            todo = "Declare it in a sensor's trigger_types: else the task fails."
            yield file.finding("trigger_unknown", f"trigger {trigger} is not declared", todo, *where)
            continue
        payload, schema = given.get("payload") or {}, pack.trigger_types[trigger].get("payload_schema") or {}
        properties = schema.get("properties") or {}
        if not isinstance(payload, dict):
            continue
        missing = {n for n, s in properties.items() if s.get("required") and n not in payload}
        unknown = set(payload) - set(properties) if schema.get("additionalProperties") is False else set()
        for field in sorted(missing | unknown):
            what = f"{trigger} {'needs' if field in missing else 'has no'} {field}"
            yield file.finding("trigger_payload", what, "The task would fail: correct it.", *where, "payload")


def _steps(task: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for step in task.get("next") or [] if isinstance(step, dict)]


def _targets(step: dict[str, Any]) -> list[str]:
    do = step.get("do") or []
    return [part.strip() for part in do.split(",")] if isinstance(do, str) else [str(part) for part in do]


def _takes_failure(when: str) -> bool:
    return "failed()" in when.replace(" ", "") or "completed()" in when.replace(" ", "")


def _transitions_to(tasks: dict[str, Any], name: str) -> Iterator[tuple[str, int, str]]:
    for source, task in tasks.items():
        for number, step in enumerate(_steps(task)):
            if name in _targets(step):
                yield source, number, str(step.get("when") or "")


def _rejoins(before: list[tuple[str, int, str]], failing: set[str]) -> bool:
    """Whether both an error branch and another one of a different task lead here."""
    errors = {s for s, _, when in before if s in failing or "failed()" in when.replace(" ", "")}
    others = {s for s, _, when in before if s not in failing and "failed()" not in when.replace(" ", "")}
    return bool(errors and others - errors)


def _reached_by_failure(tasks: dict[str, Any]) -> set[str]:
    """Tasks that only an error branch leads to."""
    return {
        name
        for name in tasks
        for before in [list(_transitions_to(tasks, name))]
        if before and all("failed()" in when.replace(" ", "") for _, _, when in before)
    }


def _interface(action: YamlFile, workflow: YamlFile) -> Iterator[Finding]:
    """Inputs and outputs of the workflow against its action's YAML."""
    declared = set(action.data.get("parameters") or {}) - set(RUNNER_PARAMETERS["orquesta"])
    inputs = {_name(item) for item in workflow.data.get("input") or []}
    for name in sorted(inputs - declared):
        todo = f"Declare it in {action.name}: nobody can give it."
        yield workflow.finding("workflow_input_undeclared", f"input {name} is no parameter", todo, "input")
    for name in sorted(declared - inputs):
        todo = f"Take it as input in {workflow.name}: it never arrives."
        yield action.finding(
            "workflow_parameter_unused", f"{name} is no input of the workflow", todo, "parameters", name
        )
    schema = action.data.get("output_schema") or {}
    properties = schema.get("properties") if isinstance(schema, dict) else None
    outputs = {_name(item) for item in workflow.data.get("output") or []}
    if not isinstance(properties, dict):
        return
    for name in sorted(set(properties) - outputs):
        todo = f"Add it to the output of {workflow.name}, or leave it out here."
        where = ("output_schema", "properties", name)
        yield action.finding("workflow_output_missing", f"the workflow has no output {name}", todo, *where)
    for name in sorted(outputs - set(properties)):
        todo = f"Declare it in the output_schema of {action.name}."
        yield workflow.finding("workflow_output_undeclared", f"output {name} is not declared", todo, "output")


def _name(item: Any) -> str:
    return str(next(iter(item))) if isinstance(item, dict) and item else str(item)
