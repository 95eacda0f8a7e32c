"""JSON Schema in StackStorm's dialect: draft 4, but ``required: true`` stands on the property itself.

A list ``required: [...]`` is an invalid schema there, and what carries it is not registered or
dropped without a word; here it is refused aloud. Works with jsonschema 3.2 and 4.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
from jsonschema.validators import extend

META_SCHEMA: dict[str, Any] = copy.deepcopy(dict(jsonschema.Draft4Validator.META_SCHEMA))
META_SCHEMA["properties"].update(
    required={"type": "boolean"},
    secret={"type": "boolean"},
    immutable={"type": "boolean"},
    position={"type": "number", "minimum": 0},
)

#: The only keywords StackStorm takes on a parameter (of an action or of config.schema.yaml) itself.
_WORDS = """
    id $schema title description default multipleOf maximum exclusiveMaximum minimum
    exclusiveMinimum maxLength minLength pattern additionalItems items maxItems minItems
    uniqueItems maxProperties minProperties required secret additionalProperties definitions
    properties patternProperties dependencies enum type position immutable allOf anyOf oneOf not
"""
PARAMETER_KEYWORDS = frozenset(_WORDS.split())
ANY_TYPE = {
    "anyOf": [{"type": kind} for kind in ("array", "boolean", "integer", "number", "object", "string")]
}


def _properties(validator: Any, properties: dict[str, Any], instance: Any, schema: Any) -> Iterator[Any]:
    if not isinstance(instance, dict):
        return
    for name, subschema in properties.items():
        if name in instance:
            yield from validator.descend(instance[name], subschema, path=name, schema_path=name)
        elif subschema.get("required", False):
            yield jsonschema.ValidationError(
                f"'{name}' is a required property", path=[], validator="required"
            )


def _nothing(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    return iter(())


_Validator: Any = extend(jsonschema.Draft4Validator, {"properties": _properties, "required": _nothing})
_MetaValidator = jsonschema.Draft4Validator(META_SCHEMA)


def check_schema(schema: Any) -> None:
    """Raises jsonschema.ValidationError if StackStorm would not take this schema."""
    error = jsonschema.exceptions.best_match(_MetaValidator.iter_errors(schema))
    if error is not None:
        raise error


def check_parameters(parameters: Any) -> None:
    """The same for the ``parameters`` of an action or the whole of config.schema.yaml, which are stricter."""
    if not isinstance(parameters, dict):
        raise jsonschema.ValidationError("parameters must be an object")
    for name, schema in parameters.items():
        if not isinstance(name, str) or not name.replace("_", "a").isalnum():
            raise jsonschema.ValidationError(f"parameter name {name!r} is not a word")
        if not isinstance(schema, dict):
            raise jsonschema.ValidationError(f"parameter {name!r} has no schema object")
        unknown = sorted(set(schema) - PARAMETER_KEYWORDS)
        if unknown:
            raise jsonschema.ValidationError(f"parameter {name!r}: StackStorm does not know {unknown}")
        if isinstance(schema.get("type"), list):
            raise jsonschema.ValidationError(f"parameter {name!r}: type must be one name, not a list")
        try:
            check_schema(schema)
        except jsonschema.ValidationError as error:
            where = ".".join(str(part) for part in (name, *error.absolute_path))
            raise jsonschema.ValidationError(f"parameter {where!r}: {error.message}") from error


def with_defaults(instance: Any, schema: dict[str, Any]) -> Any:
    """A copy with the defaults of declared properties filled in, also where the value is None."""
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    if isinstance(instance, dict) and "object" in kinds:
        filled = dict(instance)
        for name, subschema in schema.get("properties", {}).items():
            if filled.get(name) is None and "default" in subschema:
                filled[name] = copy.deepcopy(subschema["default"])
            if filled.get(name) is not None:
                filled[name] = with_defaults(filled[name], subschema)
        return filled
    if isinstance(instance, list) and "array" in kinds:
        items = schema.get("items") or {}
        if isinstance(items, dict):
            return [with_defaults(items.get("default") if i is None else i, items) for i in instance]
    return copy.deepcopy(instance)


def allow_none(schema: dict[str, Any]) -> dict[str, Any]:
    """A copy in which properties that are optional, or have the default None, may be None."""
    schema = copy.deepcopy(schema)
    for name, subschema in schema.get("properties", {}).items():
        optional = not subschema.get("required", False)
        if (optional or "default" in subschema) and subschema.get("default") is None:
            for choice in ("anyOf", "oneOf"):
                if choice in subschema:
                    subschema[choice] = [*subschema[choice], {"type": "null"}]
                    break
            else:
                kind = subschema.get("type", "string")
                kinds = kind if isinstance(kind, list) else [kind]
                subschema["type"] = [*kinds, "null"] if "null" not in kinds else kinds
        if subschema.get("properties"):
            schema["properties"][name] = allow_none(subschema)
        elif isinstance(subschema.get("items"), dict) and subschema["items"].get("properties"):
            subschema["items"] = allow_none(subschema["items"])
    return schema


def validate(instance: Any, schema: dict[str, Any], *, none_is_absent: bool = True) -> Any:
    """``instance`` with defaults. Raises jsonschema.ValidationError for it or for the schema."""
    if none_is_absent:
        schema = allow_none(schema)
    check_schema(schema)
    filled = with_defaults(instance, schema)
    error = jsonschema.exceptions.best_match(_Validator(schema).iter_errors(filled))
    if error is not None:
        raise error
    return filled


def parameters_schema(parameters: dict[str, Any], *, open_top: bool = False) -> dict[str, Any]:
    """One object schema of a ``parameters`` mapping; an empty one accepts everything, as in StackStorm."""
    if not parameters:
        return {}
    return {
        "type": "object",
        "properties": {name: schema or ANY_TYPE for name, schema in parameters.items()},
        "additionalProperties": open_top,
    }


def heeded_output_schema(schema: Any) -> dict[str, Any] | None:
    """The output_schema StackStorm goes by, or None where it ignores it without a word.

    ``type`` must be one name, at every depth: a single list of types, and nothing is checked or masked.
    The old form (properties at the top, no ``type``) is heeded for masking alone; see :func:`mask_output`.
    """
    if not isinstance(schema, dict) or "type" not in schema or list(type_lists(schema)):
        return None
    return schema if _MetaValidator.is_valid(schema) else None


def type_lists(schema: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places of ``type: [...]``; below ``properties`` a key of that name is a property."""
    if isinstance(schema, list):
        for number, item in enumerate(schema):
            yield from type_lists(item, (*path, number))
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key == "type" and isinstance(value, list):
            yield (*path, key)
        elif key in ("properties", "patternProperties", "definitions") and isinstance(value, dict):
            for name, below in value.items():
                yield from type_lists(below, (*path, key, name))
        elif key not in ("default", "enum"):
            yield from type_lists(value, (*path, key))


def mask_output(value: Any, schema: Any) -> Any:
    """What of a result StackStorm's API shows, by the action's output_schema."""
    heeded = heeded_output_schema(schema) or heeded_output_schema({"type": "object", "properties": schema})
    return mask(value, heeded) if schema and heeded else value


def mask(value: Any, schema: Any) -> Any:
    """A copy of ``value`` with everything under ``secret: true`` shown as stars, as StackStorm's API does."""
    if not isinstance(schema, dict):
        return value
    if schema.get("secret"):
        return "********"
    if schema.get("type") == "object" and isinstance(value, dict):
        return {name: mask(item, _schema_of(name, schema)) for name, item in value.items()}
    if schema.get("type") == "array" and isinstance(value, list) and isinstance(schema.get("items"), dict):
        return [mask(item, schema["items"]) for item in value]
    return value


def _schema_of(name: str, schema: dict[str, Any]) -> Any:
    if name in (schema.get("properties") or {}):
        return schema["properties"][name]
    for pattern, below in (schema.get("patternProperties") or {}).items():
        if re.search(pattern, name):
            return below
    return schema.get("additionalProperties")
