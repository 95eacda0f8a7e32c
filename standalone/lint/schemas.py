"""Checks of one schema, wherever it stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jinja2
import jsonschema
from jinja2 import meta

from standalone import dialect, templates
from standalone.lint.model import Finding, YamlFile, required_lists

#: What every template may name beside the parameters themselves.
CONTEXT_NAMES = {"st2kv", "action_context", "config_context"}
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
        problem = template_problem(schema.get("default"), CONTEXT_NAMES | set(parameters))
        if problem:
            todo = "It passes as plain text, or fails every run: correct it."
            yield file.finding("template_invalid", problem, todo, *where, name, "default")


def template_problem(text: Any, names: set[str]) -> str | None:
    """Why StackStorm would not render this text: syntax (then it passes as it is), filter, name."""
    if not templates.is_expression(text):
        return None
    try:
        needed = meta.find_undeclared_variables(templates.environment().parse(text))
        templates.environment().from_string(text)
    except jinja2.TemplateError as error:
        return f"{error} (in {text!r})"
    unknown = sorted(needed - names)
    return f"nothing is called {', '.join(unknown)} (in {text!r})" if unknown else None


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
