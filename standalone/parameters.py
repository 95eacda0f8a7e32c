"""Rendering, casting and checking of an action's parameters, in StackStorm's order.

Twice, as there: *live* when an execution is requested (what the caller gave, templates rendered), and
*final* when it runs (every declared parameter, defaults rendered, None included).
"""

from __future__ import annotations

import ast
import graphlib
import json
import re
from typing import Any

import jinja2
import jsonschema
from ioc_scan.errors import InputError
from jinja2 import meta

from standalone import dialect, templates
from standalone.pack import RUNNER_PARAMETERS, Action

_WHOLE_VALUE = re.compile(r'"{{([A-z0-9_-]+)}}"')


def live_parameters(action: Action, given: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    """What of ``given`` becomes the execution's parameters. Raises InputError."""
    schemas = action.parameters
    known = _resolve(given, schemas, context, render_given=True)
    live = {name: _cast(name, known[name], schemas.get(name)) for name in given}
    for name, schema in schemas.items():
        default = schema.get("default")
        if schema.get("immutable") or name in given or not templates.is_expression(default):
            continue
        if known[name] != default:
            live[name] = _cast(name, known[name], schema)
    return live


def check_parameters(action: Action, live: dict[str, Any]) -> None:
    """Required, enum, type, unknown names, immutables. Raises InputError."""
    try:
        dialect.validate(live, dialect.parameters_schema(action.parameters))
    except jsonschema.ValidationError as error:
        path = ".".join(str(part) for part in error.absolute_path)
        raise InputError(
            "parameter_invalid",
            f"{action.ref}: {path + ': ' if path else ''}{error.message}",
            f"See: python -m standalone run {action.ref} --help",
        ) from error
    fixed = sorted(name for name in live if action.parameters.get(name, {}).get("immutable"))
    if fixed:
        raise InputError(
            "parameter_immutable",
            f"Override of immutable parameter(s) {fixed} is unsupported.",
            "Leave them out.",
        )


def final_parameters(
    action: Action, live: dict[str, Any], context: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(runner parameters, action parameters): every declared one, ``None`` where nothing is known."""
    schemas = action.parameters
    known = _resolve(live, schemas, context, render_given=False)
    final = {name: _cast(name, known[name], schema) for name, schema in schemas.items()}
    runner = RUNNER_PARAMETERS[action.runner]
    return (
        {name: value for name, value in final.items() if name in runner},
        {name: value for name, value in final.items() if name not in runner},
    )


def _resolve(
    given: dict[str, Any], schemas: dict[str, Any], context: dict[str, Any], *, render_given: bool
) -> dict[str, Any]:
    """All values by name, each template rendered after those it names.

    A quirk is StackStorm's: a given template counts as no value, so a default that is a template itself
    takes its place (and what both name must be there).
    """
    values, found_templates = dict(context), dict[str, Any]()
    needs: dict[str, set[str]] = {}

    def add(name: str, value: Any, may_render: bool) -> None:
        names = _names_in(value) if may_render else None
        if names is None:
            values[name] = value
        else:
            found_templates[name] = value
            needs.setdefault(name, set()).update(names)

    for name, value in given.items():
        add(name, value, render_given)
    for name, schema in schemas.items():
        if values.get(name) is None or schema.get("immutable"):
            add(name, schema.get("default"), True)
    for needed in set().union(*needs.values()):
        if needed not in values and needed not in found_templates:
            raise InputError("parameter_unknown_name", f'Dependency unsatisfied in variable "{needed}"')
    try:
        order = list(graphlib.TopologicalSorter(needs).static_order())
    except graphlib.CycleError as error:
        raise InputError("parameter_cycle", f"Cyclic dependency found in: {error.args[1]}") from error
    for name in order:
        if name in found_templates:
            try:
                values[name] = _render(found_templates[name], values)
            except (jinja2.TemplateError, ValueError, TypeError) as error:
                raise InputError(
                    "parameter_not_rendered", f'Failed to render parameter "{name}": {error}'
                ) from error
    return values


def _names_in(value: Any) -> set[str] | None:
    """The variables a template needs; None if StackStorm would not take the value for a template."""
    text = str(value) if isinstance(value, (list, dict)) else value
    if not templates.is_expression(text):
        return None
    try:
        return meta.find_undeclared_variables(templates.environment().parse(text))
    except jinja2.TemplateSyntaxError:
        return None  # text that only looks like one passes as it is


def _render(template: Any, values: dict[str, Any]) -> Any:
    if isinstance(template, str):
        return templates.render(template, values)
    text = json.dumps(template, ensure_ascii=False, separators=(",", ":"))
    return json.loads(templates.render(_WHOLE_VALUE.sub(r"{{\1 | to_complex}}", text), values))


def _cast(name: str, value: Any, schema: dict[str, Any] | None) -> Any:
    """``value`` as the declared type; text is read as that type, nothing else is converted to text."""
    kind = (schema or {}).get("type")
    if value is None or not isinstance(kind, str):
        return value
    if value == templates.NONE_MARK and kind not in ("integer", "number"):
        return None
    try:
        if kind in ("array", "object") and isinstance(value, str):
            return _from_text(value)
        if kind == "boolean" and isinstance(value, str):
            return ast.literal_eval(value.capitalize())
        if kind == "integer":
            return int(value)
        if kind == "number":
            return float(value)
    except (ValueError, TypeError, SyntaxError) as error:
        raise InputError(
            "parameter_invalid", f'Parameter "{name}": {str(value)[:100]!r} is no {kind}: {error}'
        ) from error
    if kind == "string" and not isinstance(value, str):
        raise InputError(
            "parameter_invalid",
            f'Value "{value}" must either be a string or None. Got "{type(value).__name__}".',
            f'Parameter "{name}" is declared as a string.',
        )
    return value


def _from_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return ast.literal_eval(text)
