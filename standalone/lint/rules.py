"""Rules: what they name must exist, and what they pass on must be there and inert."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from standalone import rules as engine_rules
from standalone import timers
from standalone.lint.model import Finding, LintPack, YamlFile
from standalone.lint.schemas import CONTEXT_NAMES, template_problem
from standalone.templates import is_expression

_KEYS = frozenset(
    ("id", "ref", "uid", "name", "pack", "description", "type", "trigger", "criteria", "action", "enabled")
) | frozenset(("context", "tags", "metadata_file"))
_TIMER_FIELDS = {"type": "object", "properties": {"executed_at": {"type": "string"}, "schedule": {}}}
_CORE_PAYLOADS: dict[str, dict[str, Any]] = {
    "core.st2.webhook": {
        "type": "object",
        "properties": {
            "body": {"required": True},
            "headers": {"type": "object", "required": True},
            "headers_lower": {"type": "object", "required": True},
        },
    },
    **dict.fromkeys(timers.TIMER_TYPES, _TIMER_FIELDS),
}
_CORE_OTHERS = re.compile(r"^core\.st2\.(generic|action|sensor|key_value_pair)\.")
_WEBHOOK = "core.st2.webhook"
_EXPRESSION = re.compile(r"{{(.*?)}}", re.DOTALL)
_FIELD = re.compile(r"\btrigger\.([A-Za-z_]\w*)")
_RAISING = ("iequals", "ieq", "startswith", "istartswith", "endswith", "iendswith", "contains", "icontains")


def check(pack: LintPack) -> Iterator[Finding]:
    for file in pack.rule_files:
        if file.error:
            continue
        yield from _metadata(file)
        trigger = file.data.get("trigger") if isinstance(file.data.get("trigger"), dict) else {}
        schema = yield from _trigger(pack, file, trigger or {})
        yield from _criteria(file, schema)
        yield from _action(pack, file)
        yield from _expressions(file, schema, str((trigger or {}).get("type")))


def _metadata(file: YamlFile) -> Iterator[Finding]:
    for key in ("name", "trigger", "action"):
        if not file.data.get(key):
            yield file.finding("rule_metadata", f"no {key}", "Add it: the rule is not registered without.")
    for key in sorted(set(file.data) - _KEYS):
        yield file.finding("rule_metadata", f"unknown key {key}", "StackStorm refuses it: remove it.", key)
    if "enabled" not in file.data:
        yield file.finding("rule_enabled", "enabled is not said", "The default is off: say it.")


def _trigger(pack: LintPack, file: YamlFile, trigger: dict[str, Any]) -> Any:
    """Yields findings, returns the payload schema as far as it is known."""
    kind = str(trigger.get("type"))
    if kind in pack.trigger_types:
        return pack.trigger_types[kind].get("payload_schema") or {}
    if kind not in _CORE_PAYLOADS:
        if not _CORE_OTHERS.match(kind):
            todo = "Declare it in a sensor's trigger_types, else the rule never fires."
            yield file.finding(
                "rule_trigger_unknown", f"trigger {kind} is not declared", todo, "trigger", "type"
            )
        return {}
    parameters = trigger.get("parameters") or {}
    if kind in timers.TIMER_TYPES:
        try:
            timers.timer_trigger(trigger)
        except (KeyError, ValueError, TypeError) as error:
            what = f"{kind}: {type(error).__name__}: {error}"
            yield file.finding("rule_timer", what, "Correct the timer's parameters.", "trigger", "parameters")
    if kind == "core.st2.CronTimer" and not parameters.get("timezone"):
        todo = "The default is America/Los_Angeles: say timezone: UTC."
        yield file.finding(
            "cron_without_timezone", "CronTimer without timezone", todo, "trigger", "parameters"
        )
    if kind == _WEBHOOK and not parameters.get("url"):
        yield file.finding("rule_metadata", "webhook without url", "Give parameters.url.", "trigger")
    return _CORE_PAYLOADS[kind]


def _criteria(file: YamlFile, schema: dict[str, Any]) -> Iterator[Finding]:
    criteria = file.data.get("criteria") or {}
    problem = engine_rules.criteria_problem(criteria)
    if problem:
        yield file.finding(
            "rule_criteria", problem, "StackStorm does not register it: correct it.", "criteria"
        )
        return
    properties = schema.get("properties") or {}
    for key, criterion in criteria.items():
        name = key.split("#")[0].partition("trigger.")[2].split(".")[0].split("[")[0]
        where = ("criteria", key)
        if properties and name not in properties:
            todo = "The criterion can never hold: correct the name."
            yield file.finding("rule_field_unknown", f"{key} is not in the payload", todo, *where)
            continue
        declared = properties.get(name) or {}
        if "st2kv" in str(criterion["pattern"]):
            todo = "Such a pattern never matches in StackStorm 3.9: compare in the action."
            yield file.finding(
                "rule_pattern_st2kv", f"{key} is compared with a datastore value", todo, *where
            )
        if criterion["type"] in _RAISING and properties and not declared.get("required"):
            todo = "It raises where the field is missing: make it required in the payload."
            yield file.finding("rule_operator_raises", f"{criterion['type']} on optional {key}", todo, *where)
        if criterion["type"] in ("eq", "equals") and _other_type(criterion["pattern"], declared.get("type")):
            todo = "eq does not convert: give the pattern the type of the field."
            yield file.finding("rule_eq_type", f"{key} is of type {declared['type']}", todo, *where)


def _other_type(pattern: Any, kind: Any) -> bool:
    if isinstance(pattern, str) and "{{" in pattern:
        return False
    types: dict[Any, Any] = {"string": str, "integer": int, "number": (int, float), "boolean": bool}
    if kind not in types:
        return False
    return not isinstance(pattern, types[kind]) or (kind != "boolean" and isinstance(pattern, bool))


def _action(pack: LintPack, file: YamlFile) -> Iterator[Finding]:
    action = file.data.get("action")
    ref = action.get("ref") if isinstance(action, dict) else None
    if ref not in pack.actions:
        what = f"action {ref} does not exist (or is not registered)"
        yield file.finding("rule_action_unknown", what, "Correct the name.", "action", "ref")
        return
    given = action.get("parameters") or {} if isinstance(action, dict) else {}
    parameters = pack.actions[str(ref)].parameters
    for name in sorted(set(given) - set(parameters)):
        what = f"{ref} has no parameter {name}"
        yield file.finding(
            "rule_parameter_unknown", what, "No execution would start.", "action", "parameters", name
        )
    for name, schema in parameters.items():
        if schema.get("required") and "default" not in schema and name not in given:
            what = f"{ref} needs {name}"
            yield file.finding(
                "rule_parameter_missing", what, "No execution would start.", "action", "parameters"
            )
        passed, default = given.get(name), schema.get("default")
        if is_expression(default) and is_expression(passed) and not schema.get("immutable"):
            what = f"the default of {name} is a template too"
            todo = "StackStorm takes the default then: give the parameter another default."
            yield file.finding("rule_default_wins", what, todo, "action", "parameters", name)
        if schema.get("immutable") and name in given:
            what = f"{name} of {ref} is immutable"
            yield file.finding("rule_parameter_unknown", what, "Leave it out.", "action", "parameters", name)


def _expressions(file: YamlFile, schema: dict[str, Any], kind: str) -> Iterator[Finding]:
    action = file.data.get("action")
    parameters = action.get("parameters") if isinstance(action, dict) else None
    for name, value in (parameters or {}).items():
        where = ("action", "parameters", name)
        text = value if isinstance(value, str) else json.dumps(value)
        problem = template_problem(text, CONTEXT_NAMES | {"trigger"} | set(parameters or {}))
        if problem:
            yield file.finding("template_invalid", problem, "No execution would start: correct it.", *where)
            continue
        for expression in _EXPRESSION.findall(text):
            inert = re.search(r"\|\s*to_json_string\s*\|\s*urlencode\s*$", expression) is not None
            for field in _FIELD.findall(expression):
                yield from _field(file, schema, kind, field, inert, where)


def _field(
    file: YamlFile, schema: dict[str, Any], kind: str, field: str, inert: bool, where: tuple[str, ...]
) -> Iterator[Finding]:
    properties = schema.get("properties") or {}
    declared = properties.get(field)
    if kind == _WEBHOOK and field in ("body", "headers", "headers_lower") and not inert:
        todo = (
            "Pass {{ trigger.body | to_json_string | urlencode }}: text with templates in it arrives inert."
        )
        yield file.finding("rule_body_not_inert", f"trigger.{field} is passed as it is", todo, *where)
    if not properties:
        return
    if declared is None:
        todo = "Without the field no execution starts: correct the name or declare it."
        yield file.finding("rule_field_unknown", f"trigger.{field} is not in the payload", todo, *where)
        return
    if not declared.get("required") and "executed_at" not in properties:
        todo = "Where it is missing no execution starts: make it required in the payload."
        yield file.finding("rule_field_optional", f"trigger.{field} is optional", todo, *where)
    free = declared.get("type") == "string" and not declared.get("pattern") and not declared.get("enum")
    if free and not inert and "executed_at" not in properties:
        todo = (
            "Give it a pattern or enum in the payload schema, or pass it through to_json_string | urlencode."
        )
        yield file.finding(
            "rule_free_text", f"trigger.{field} may be any text, templates included", todo, *where
        )
