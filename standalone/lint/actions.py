"""Metadata of actions, and the run() method against it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from standalone import dialect
from standalone.lint.model import Finding, LintPack, PythonFile, YamlFile, methods
from standalone.lint.schemas import check_parameters, check_schema
from standalone.pack import RUNNER_PARAMETERS

_KEYS = frozenset(
    ("id", "ref", "uid", "name", "description", "enabled", "runner_type", "entry_point", "pack")
) | frozenset(("parameters", "output_schema", "tags", "notify", "metadata_file"))
_OVERRIDABLE = frozenset(("default", "description", "enum", "immutable", "required"))
_OTHER_RUNNERS = frozenset(
    ("action-chain", "announcement", "http-request", "inquirer", "local-shell-cmd", "local-shell-script")
) | frozenset(
    ("noop", "remote-shell-cmd", "remote-shell-script", "winrm-cmd", "winrm-ps-cmd", "winrm-ps-script")
)


def check(pack: LintPack) -> Iterator[Finding]:
    used: set[str] = set()
    for file in pack.action_files:
        if file.error:
            continue
        used.add(str(file.data.get("entry_point")))
        yield from _metadata(pack, file)
        yield from _parameters(file)
    for path in sorted((pack.directory / "actions").glob("*.py")):
        if path.name not in used:
            todo = "Add its YAML, or move it to lib/."
            yield Finding("action_without_metadata", pack.name(path), None, "no action has this file", todo)
    for file, source in pack.python_entry_points("actions"):
        if not source.error:
            yield from _run_method(file, source)


def _metadata(pack: LintPack, file: YamlFile) -> Iterator[Finding]:
    data = file.data
    for key in ("name", "runner_type"):
        if not data.get(key):
            yield file.finding(
                "action_metadata", f"no {key}", "Add it: the action is not registered without."
            )
    for key in sorted(set(data) - _KEYS):
        yield file.finding("action_metadata", f"unknown key {key}", "StackStorm refuses it: remove it.", key)
    runner = data.get("runner_type")
    if runner and runner not in RUNNER_PARAMETERS and runner not in _OTHER_RUNNERS:
        yield file.finding(
            "action_runner", f"runner_type {runner!r}", "StackStorm has no such runner.", "runner_type"
        )
    if not data.get("description"):
        yield file.finding("description_missing", "the action has no description", "Describe it.")
    yield from _entry_point(pack, file)
    output = data.get("output_schema")
    if not output:
        yield file.finding("output_schema_missing", "no output_schema", "Say what the result holds.")
    elif isinstance(output, dict):
        yield from check_schema(file, output, "output_schema")
        for path in dialect.type_lists(output):
            todo = "Use anyOf: with a list StackStorm checks and masks nothing, and does not say so."
            where = ("output_schema", *path)
            yield file.finding("output_schema_type_list", f"type is a list in {where[-2]}", todo, *where)
        if "type" not in output:
            todo = "Start it with `type: object` and `properties:`; the old form is never checked."
            yield file.finding("output_schema_untyped", "output_schema has no type", todo, "output_schema")


def _entry_point(pack: LintPack, file: YamlFile) -> Iterator[Finding]:
    entry = str(file.data.get("entry_point") or "")
    if file.data.get("runner_type") not in ("python-script", "orquesta"):
        return
    if not entry:
        yield file.finding("entry_point_missing", "no entry_point", "Name the file.")
    elif ".." in PurePosixPath(entry).parts or entry.startswith("/"):
        todo = "It registers and then every run fails: keep it under actions/ (a link may lead out)."
        yield file.finding("entry_point_outside", f"entry_point {entry} leaves actions/", todo, "entry_point")
    elif not pack.entry_point(file, "actions").is_file():
        todo = "It registers without complaint: add the file or correct the name."
        yield file.finding("entry_point_missing", f"actions/{entry} does not exist", todo, "entry_point")


def _parameters(file: YamlFile) -> Iterator[Finding]:
    parameters = file.data.get("parameters") or {}
    yield from check_parameters(file, parameters, "parameters")
    if not isinstance(parameters, dict):
        return
    runner = RUNNER_PARAMETERS.get(str(file.data.get("runner_type")), {})
    for name, schema in parameters.items():
        if not isinstance(schema, dict):
            continue
        where = ("parameters", name)
        if name in runner:
            changed = sorted(k for k in schema if k not in _OVERRIDABLE and schema[k] != runner[name].get(k))
            if changed or name != "timeout":
                todo = "This name is StackStorm's and never reaches run(): take another one."
                yield file.finding("parameter_reserved", f"parameter {name} is the runner's", todo, *where)
            continue
        if not schema.get("description"):
            yield file.finding(
                "description_missing", f"parameter {name} has no description", "Describe it.", *where
            )
        if not schema.get("type"):
            todo = "Give it a type, else text from the command line stays text."
            yield file.finding("parameter_untyped", f"parameter {name} has no type", todo, *where)
        if schema.get("immutable") and "default" not in schema:
            todo = "It is always None: give it a default."
            yield file.finding(
                "parameter_immutable", f"parameter {name} is immutable, without default", todo, *where
            )


def _run_method(file: YamlFile, source: PythonFile) -> Iterator[Finding]:
    with_run = [node for node in source.classes if "run" in methods(node)]
    if not with_run:
        yield source.finding("action_class", None, "no class with a run method", "Add one.")
        return
    if len(with_run) > 1:
        names = ", ".join(node.name for node in with_run)
        todo = "StackStorm takes the alphabetically first: keep one class per action file."
        yield source.finding("action_classes", with_run[1], f"several classes with run: {names}", todo)
    chosen = min(with_run, key=lambda node: node.name)
    run = methods(chosen)["run"]
    runner = RUNNER_PARAMETERS["python-script"]
    declared = {name for name in file.data.get("parameters") or {} if name not in runner}
    accepted = [arg.arg for arg in [*run.args.args[1:], *run.args.kwonlyargs]]
    if run.args.kwarg is None:
        for name in sorted(declared - set(accepted)):
            todo = "Every declared parameter is passed: accept it."
            yield source.finding("run_signature", run, f"run() does not take the parameter {name}", todo)
    for name, default in _with_defaults(run):
        if name in runner:
            todo = "StackStorm never passes it: rename the parameter."
            yield source.finding("parameter_reserved", run, f"run() takes {name}", todo)
        elif name not in declared and default is None:
            todo = "Declare it in the YAML, else every run fails."
            yield source.finding("run_signature", run, f"run() wants {name}, which is not declared", todo)
        elif default is not None and not (isinstance(default, ast.Constant) and default.value is None):
            todo = "It is dead (None is passed): put the default in the YAML."
            yield source.finding("run_default_dead", run, f"run() has a default for {name}", todo)


def _with_defaults(run: ast.FunctionDef) -> list[tuple[str, Any]]:
    positional = run.args.args[1:]
    defaults: list[Any] = [None] * (len(positional) - len(run.args.defaults)) + list(run.args.defaults)
    pairs = [(arg.arg, default) for arg, default in zip(positional, defaults, strict=False)]
    keyword = zip(run.args.kwonlyargs, run.args.kw_defaults, strict=True)
    return [*pairs, *((arg.arg, default) for arg, default in keyword)]
