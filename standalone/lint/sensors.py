"""Sensors and the trigger types they declare."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from standalone.lint.model import (
    Finding,
    LintPack,
    PythonFile,
    YamlFile,
    called_name,
    imported_names,
    methods,
)
from standalone.lint.schemas import check_schema

_LOWEST_POLL_INTERVAL_SECONDS = 4
_WANTED_METHODS = ("setup", "cleanup", "add_trigger", "update_trigger", "remove_trigger")
_HEAVY_MODULES = ("lxml", "sqlalchemy", "alembic", "sqlite3", "psycopg")
_HEAVY_ROOMS = ("store", "service", "devices", "openioc", "reports")
_KEYS = frozenset(
    (
        "id",
        "ref",
        "uid",
        "name",
        "class_name",
        "pack",
        "description",
        "artifact_uri",
        "entry_point",
        "enabled",
    )
) | frozenset(("trigger_types", "poll_interval", "metadata_file"))


def check(pack: LintPack) -> Iterator[Finding]:
    used: set[str] = set()
    for file in pack.sensor_files:
        if file.error:
            continue
        used.add(str(file.data.get("entry_point")))
        yield from _metadata(pack, file)
        for number, kind in enumerate(file.data.get("trigger_types") or []):
            yield from _trigger_type(file, number, kind if isinstance(kind, dict) else {})
    for path in sorted((pack.directory / "sensors").glob("*.py")):
        if path.name not in used:
            todo = "Add its YAML, or move it to lib/."
            yield Finding("sensor_without_metadata", pack.name(path), None, "no sensor has this file", todo)
    for file, source in pack.python_entry_points("sensors"):
        if not source.error:
            yield from _class(pack, file, source)
            yield from _imports(pack, source)


def _metadata(pack: LintPack, file: YamlFile) -> Iterator[Finding]:
    for key in ("class_name", "entry_point"):
        if not file.data.get(key):
            yield file.finding(
                "sensor_metadata", f"no {key}", "Add it: the sensor is not registered without."
            )
    for key in sorted(set(file.data) - _KEYS):
        yield file.finding("sensor_metadata", f"unknown key {key}", "StackStorm refuses it: remove it.", key)
    if file.data.get("entry_point") and not pack.entry_point(file, "sensors").is_file():
        what = f"sensors/{file.data['entry_point']} does not exist"
        yield file.finding("entry_point_missing", what, "Add the file or correct the name.", "entry_point")
    interval = file.data.get("poll_interval")
    if isinstance(interval, (int, float)) and interval < _LOWEST_POLL_INTERVAL_SECONDS:
        todo = "Below 4 seconds the registration of the whole pack fails."
        yield file.finding("poll_interval_low", f"poll_interval is {interval}", todo, "poll_interval")


def _trigger_type(file: YamlFile, number: int, kind: dict[str, object]) -> Iterator[Finding]:
    where = ("trigger_types", number)
    schema = kind.get("payload_schema")
    if not kind.get("description"):
        yield file.finding(
            "description_missing", f"trigger {kind.get('name')} has no description", "Add it.", *where
        )
    if not isinstance(schema, dict) or not schema:
        todo = "Declare the payload, else nothing is checked."
        yield file.finding(
            "payload_schema_missing", f"trigger {kind.get('name')} has no payload_schema", todo, *where
        )
        return
    yield from check_schema(file, schema, *where, "payload_schema")
    if schema.get("type") != "object":
        todo = "Start it with `type: object`."
        yield file.finding(
            "payload_schema_untyped", "payload_schema has no type: object", todo, *where, "payload_schema"
        )


def _class(pack: LintPack, file: YamlFile, source: PythonFile) -> Iterator[Finding]:
    name = file.data.get("class_name")
    node = next((one for one in source.classes if one.name == name), None)
    if node is None:
        yield source.finding("sensor_class", None, f"no class {name}", "Correct class_name.")
        return
    own = methods(node)
    polling = any(getattr(base, "id", getattr(base, "attr", "")) == "PollingSensor" for base in node.bases)
    for wanted in (*_WANTED_METHODS, "poll" if polling else "run"):
        if wanted not in own:
            yield source.finding("sensor_class", node, f"no method {wanted}", "Sensors are abstract: add it.")
    for wanted in _WANTED_METHODS[2:]:
        method = own.get(wanted)
        if method and "trigger" not in [arg.arg for arg in method.args.args] and method.args.kwarg is None:
            todo = "StackStorm calls it with the keyword `trigger`: name the argument so."
            yield source.finding("sensor_trigger_keyword", method, f"{wanted} takes no `trigger`", todo)
    if "poll" in own and not any(isinstance(part, ast.Try) for part in ast.walk(node)):
        todo = "An exception out of poll() ends the sensor, for good after two respawns: catch per source."
        yield source.finding("sensor_poll_uncaught", own["poll"], "poll() catches nothing", todo)
    calls = [part for part in ast.walk(node) if isinstance(part, ast.Call)]
    for call in calls:
        tagged = len(call.args) > 2 or any(keyword.arg in ("trace_tag", None) for keyword in call.keywords)
        if called_name(call).rpartition(".")[2] == "dispatch" and not tagged:
            todo = "Pass trace_tag, so that executions can be found by it."
            yield source.finding("sensor_trace_tag", call, "dispatch without trace_tag", todo)
        yield from _trigger_name(pack, source, call)
    called = {called_name(call).rpartition(".")[2] for call in calls}
    if "get_value" in called and "list_values" not in called:
        todo = "get_value is None for an outage too: use list_values(prefix=) at set-up, it raises."
        yield source.finding("sensor_cursor_outage", node, "a cursor is read with get_value only", todo)


def _trigger_name(pack: LintPack, source: PythonFile, call: ast.Call) -> Iterator[Finding]:
    if called_name(call).rpartition(".")[2] != "dispatch":
        return
    given = [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg == "trigger")]
    for value in given:
        text = value.value if isinstance(value, ast.Constant) else None
        if isinstance(text, str) and text not in pack.trigger_types:
            todo = "Declare it in trigger_types: else it is dropped with a log line."
            yield source.finding("trigger_unknown", call, f"trigger {text} is not declared", todo)


def _imports(pack: LintPack, source: PythonFile) -> Iterator[Finding]:
    """What the sensor imports, and what that imports when it is loaded, room by room."""
    seen: set[Path] = set()
    waiting: list[tuple[ast.AST, str]] = list(imported_names(source.tree))
    while waiting:
        node, name = waiting.pop()
        parts = name.split(".")
        room = len(parts) > 1 and (pack.directory / "lib" / parts[0]).is_dir() and parts[1] in _HEAVY_ROOMS
        if parts[0] in _HEAVY_MODULES or room:
            todo = "The sensor runs as another user with StackStorm's packages first: keep its imports light."
            yield source.finding("sensor_imports_store", node, f"the sensor imports {name}", todo)
            continue
        for path in _module_files(pack.directory / "lib", parts):
            if path not in seen:
                seen.add(path)
                below = imported_names(pack.python(path).tree, top_level_only=True)
                waiting += [(node, deeper) for _, deeper in below]


def _module_files(lib: Path, parts: list[str]) -> Iterator[Path]:
    for length in range(1, len(parts) + 1):
        base = lib.joinpath(*parts[:length])
        for path in (base / "__init__.py", base.with_suffix(".py")):
            if path.is_file():
                yield path
