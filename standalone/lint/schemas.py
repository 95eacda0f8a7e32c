"""Checks of one schema, wherever it stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema

from standalone import dialect, templates
from standalone.lint.model import Finding, YamlFile, required_lists

_LIST_TODO = "Write `required: true` on each property; StackStorm drops or skips what has a list, silently."


def check_schema(file: YamlFile, schema: Any, *where: Any) -> Iterator[Finding]:
    """A payload_schema or output_schema."""
    lists = list(required_lists(schema))
    for path in lists:
        yield file.finding(
            "schema_required_list", f"required is a list in {_dotted(where, path)}", _LIST_TODO, *where, *path
        )
    if lists:
        return
    try:
        dialect.check_schema(schema)
    except jsonschema.ValidationError as error:
        path = tuple(error.absolute_path)
        yield file.finding(
            "schema_invalid", f"{_dotted(where, path)}: {error.message}", "Correct the schema.", *where, *path
        )


def check_parameters(file: YamlFile, parameters: Any, *where: Any) -> Iterator[Finding]:
    """The parameters of an action, or all of config.schema.yaml; StackStorm reads these more strictly."""
    if not isinstance(parameters, dict):
        yield file.finding("schema_invalid", "parameters are no mapping", "Write name: schema.", *where)
        return
    for name, schema in parameters.items():
        lists = list(required_lists(schema))
        for path in lists:
            what = f"required is a list in {_dotted((*where, name), path)}"
            yield file.finding("schema_required_list", what, _LIST_TODO, *where, name, *path)
        if lists:
            continue
        try:
            dialect.check_parameters({name: schema})
        except jsonschema.ValidationError as error:
            todo = "StackStorm does not register it, and does not say so. Correct the schema."
            yield file.finding("schema_invalid", error.message, todo, *where, name)
            continue
        yield from _check_default(file, name, schema, *where, name)


def _check_default(file: YamlFile, name: str, schema: dict[str, Any], *where: Any) -> Iterator[Finding]:
    default = schema.get("default")
    if default is None or templates.is_expression(default):
        return
    try:
        dialect.validate({name: default}, {"type": "object", "properties": {name: schema}})
    except jsonschema.ValidationError as error:
        what = f"default of {name} breaks its own schema: {error.message}"
        yield file.finding("default_invalid", what, "Every run without it would fail: correct it.", *where)


def _dotted(where: tuple[Any, ...], path: tuple[Any, ...]) -> str:
    return ".".join(str(part) for part in (*where, *path))
