"""JSON Schema as StackStorm reads it."""

from __future__ import annotations

import jsonschema
import pytest

from standalone import dialect


def test_required_stands_on_the_property():
    schema = {"type": "object", "properties": {"a": {"type": "string", "required": True}}}
    assert dialect.validate({"a": "x"}, schema) == {"a": "x"}
    with pytest.raises(jsonschema.ValidationError, match="'a' is a required property"):
        dialect.validate({}, schema)


def test_a_list_of_required_names_is_no_schema():
    with pytest.raises(jsonschema.ValidationError):
        dialect.validate({"a": 1}, {"type": "object", "required": ["a"]})
    with pytest.raises(jsonschema.ValidationError):
        dialect.check_parameters({"a": {"type": "object", "properties": {"b": {"required": ["c"]}}}})


def test_a_property_may_be_called_required():
    schema = {"type": "object", "properties": {"required": {"type": "string"}}}
    assert dialect.validate({"required": "x"}, schema) == {"required": "x"}


def test_defaults_are_filled_in_at_every_depth():
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "object", "default": {}, "properties": {"b": {"type": "integer", "default": 1}}},
            "c": {"type": "array", "items": {"type": "object", "properties": {"d": {"default": 2}}}},
        },
    }
    assert dialect.validate({"c": [{}]}, schema) == {"a": {"b": 1}, "c": [{"d": 2}]}


def test_optional_values_may_be_none():
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"enum": ["x"]}}}
    dialect.validate({"a": None}, schema)
    with pytest.raises(jsonschema.ValidationError):
        dialect.validate({"a": None}, schema, none_is_absent=False)


@pytest.mark.parametrize(
    "parameters",
    [
        {"a": {"type": "string", "format": "date"}},
        {"a": {"type": ["string", "null"]}},
        {"a-b": {"type": "string"}},
        {"a": "string"},
        {"a": {"type": "text"}},
    ],
)
def test_parameters_stackstorm_would_not_register(parameters):
    with pytest.raises(jsonschema.ValidationError):
        dialect.check_parameters(parameters)


def test_secrets_are_masked_at_every_depth():
    schema = {
        "type": "object",
        "properties": {
            "a": {"secret": True},
            "b": {
                "type": "array",
                "items": {"type": "object", "properties": {"c": {"secret": True}}},
            },
        },
        "additionalProperties": {"secret": True},
    }
    value = {"a": 1, "b": [{"c": 2, "d": 3}], "e": 4}
    stars = "********"
    assert dialect.mask(value, schema) == {"a": stars, "b": [{"c": stars, "d": 3}], "e": stars}


@pytest.mark.parametrize(
    ("schema", "shown"),
    [
        ({"type": "object", "properties": {"a": {"type": "string", "secret": True}}}, "********"),
        ({"a": {"type": "string", "secret": True}}, "********"),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "string", "secret": True}, "b": {"type": ["string", "null"]}},
            },
            "open",
        ),
        ({}, "open"),
    ],
)
def test_one_list_of_types_and_nothing_is_masked(schema, shown):
    assert dialect.mask_output({"a": "open"}, schema) == {"a": shown}
