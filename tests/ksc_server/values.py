"""Typed values as they stand in the JSON of a request, checked strictly; and plain values put into that form.

A value is a string, a whole number, a boolean, an array of values, or ``{"type": ..., "value": ...}``. An
argument of type params stands unwrapped at the top level, and nowhere else. There is no null inside params.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

INT_MAX = 2**31 - 1
_DATETIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")
_DATE = re.compile(r"\d{4}-\d\d-\d\d\Z")


class BadValue(Exception):
    """A value that is not of the documented form: error 1192."""


class Long(int):
    """A 64-bit number, which travels typed even where it is small."""


def decode(value: Any) -> Any:
    """A value of a request as Python: bytes for binary, dict for params, datetime as text. Raises BadValue."""
    if isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        if not -INT_MAX - 1 <= value <= INT_MAX:
            raise BadValue("a number over 32 bits must be of type long")
        return value
    if isinstance(value, list):
        return [decode(entry) for entry in value]
    if isinstance(value, dict):
        if set(value) != {"type", "value"}:
            raise BadValue("an object inside a value must be wrapped as type and value")
        return _decode_typed(value["type"], value["value"])
    raise BadValue(f"{type(value).__name__} cannot stand in a value")


def _decode_typed(kind: Any, value: Any) -> Any:
    if kind == "params" and isinstance(value, dict):
        return decode_params(value)
    if kind == "long" and isinstance(value, int) and not isinstance(value, bool):
        return Long(value)
    if kind == "datetime" and isinstance(value, str) and _DATETIME.match(value):
        return datetime.fromisoformat(value.replace("Z", "+00:00"))
    if kind == "date" and isinstance(value, str) and _DATE.match(value):
        return value
    if kind == "binary" and isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error:
            raise BadValue("binary that is not base64") from None
    if kind in ("float", "double") and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise BadValue(f"a value of type {kind!r} is not of its form")


def decode_params(value: Any) -> dict[str, Any]:
    """The content of params."""
    if not isinstance(value, dict):
        raise BadValue("params must be an object")
    if set(value) == {"type", "value"}:
        raise BadValue("params at the top level are not wrapped")
    return {name: decode(entry) for name, entry in value.items()}


def encode(value: Any) -> Any:
    """The other way: what the server answers, nested params wrapped."""
    if isinstance(value, Long):
        return {"type": "long", "value": int(value)}
    if isinstance(value, bytes):
        return {"type": "binary", "value": base64.b64encode(value).decode("ascii")}
    if isinstance(value, datetime):
        return {"type": "datetime", "value": value.strftime("%Y-%m-%dT%H:%M:%SZ")}
    if isinstance(value, float):
        return {"type": "double", "value": value}
    if isinstance(value, Mapping):
        return {"type": "params", "value": encode_params(value)}
    if isinstance(value, (list, tuple)):
        return [encode(entry) for entry in value]
    return value


def encode_params(value: Mapping[str, Any]) -> dict[str, Any]:
    """Params at the top level of an answer: not wrapped."""
    return {name: encode(entry) for name, entry in value.items()}
