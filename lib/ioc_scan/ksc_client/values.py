"""Typed values of the Open API, both ways, and its filter language.

Text, booleans, numbers of 32 bits and arrays stand as they are; everything else is ``{"type", "value"}``. An
argument of type params stands unwrapped at the top level and wrapped inside. There is no null inside params.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from ..clock import from_iso, to_iso
from ..errors import InputError
from ..text import printable

_INT_MAX = 2**31 - 1
_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}\Z")


class Long(int):
    """A number the reference types as long (int64): it travels typed even where it is small."""


class Raw(dict[str, Any]):
    """Params that are in the server's JSON form already, and pass as they are."""


def encode(value: Any) -> Any:
    """A Python value for a place inside params or an array. Raises ValueError for what has no form."""
    if isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        if isinstance(value, Long) or not -_INT_MAX - 1 <= value <= _INT_MAX:
            return {"type": "long", "value": int(value)}
        return value
    if isinstance(value, float):
        return {"type": "double", "value": value}
    if isinstance(value, datetime):
        return {"type": "datetime", "value": to_iso(value)}
    if isinstance(value, bytes):
        return {"type": "binary", "value": base64.b64encode(value).decode("ascii")}
    if isinstance(value, Mapping):
        return {"type": "params", "value": {str(name): encode(inner) for name, inner in value.items()}}
    if isinstance(value, (list, tuple)):
        return [encode(inner) for inner in value]
    raise ValueError(f"{type(value).__name__} has no form in KSC Open API")


def encode_argument(value: Any) -> Any:
    """A Python value as an argument of a call: params unwrapped, null where a filter is left out."""
    if value is None:
        return None
    if isinstance(value, Raw):
        return dict(value)
    if isinstance(value, Mapping):
        return {str(name): encode(inner) for name, inner in value.items()}
    return encode(value)


def decode(value: Any) -> Any:
    """A value of an answer as Python; what is not of its form comes back as None. Never raises."""
    if isinstance(value, list):
        return [decode(inner) for inner in value]
    if not isinstance(value, Mapping):
        return value
    if set(value) != {"type", "value"}:
        return {str(name): decode(inner) for name, inner in value.items()}
    kind, inner = value["type"], value["value"]
    try:
        if kind == "params":
            return {str(name): decode(each) for name, each in inner.items()}
        if kind == "long":
            return int(inner)
        if kind == "datetime":
            return from_iso(inner)
        if kind == "binary":
            return base64.b64decode(inner, validate=True)
        if kind in ("float", "double"):
            return float(inner)
    except (AttributeError, TypeError, ValueError, binascii.Error):
        return None
    return inner


def order_by(attribute: str, ascending: bool = True) -> list[dict[str, Any]]:
    """The argument ``vecFieldsToOrder``."""
    return [{"Name": attribute, "Asc": ascending}]


# -- filters


def equals(attribute: str, value: str | int) -> str:
    """``(attribute=value)``; text is quoted. Raises InputError ``ksc_filter`` for text with wildcards."""
    return _compare(attribute, "=", value)


def greater(attribute: str, value: int) -> str:
    return _compare(attribute, ">", value)


def any_of(attribute: str, values: Iterable[str | int]) -> str:
    """One condition that holds for any of the values."""
    conditions = [equals(attribute, value) for value in values]
    if not conditions:
        raise InputError("ksc_filter", f"{attribute}: no value to look for", "this is a defect of the pack")
    return conditions[0] if len(conditions) == 1 else f"(|{''.join(conditions)})"


def all_of(*conditions: str) -> str:
    kept = [condition for condition in conditions if condition]
    return kept[0] if len(kept) == 1 else f"(&{''.join(kept)})"


def _compare(attribute: str, operator: str, value: str | int) -> str:
    if not _ATTRIBUTE.match(attribute):
        raise InputError(
            "ksc_filter", f"{printable(attribute, 100)} is no attribute", "see docs/kaspersky.md"
        )
    if isinstance(value, bool) or not isinstance(value, int):
        text = str(value)
        if any(char in text for char in "*?\\") or any(ord(char) < 32 for char in text):
            # How the server escapes wildcards is not documented: better no answer than too wide a one.
            raise InputError(
                "ksc_filter",
                f"{printable(text, 100)} cannot be looked for: it has a wildcard or a control character",
                "rename it on the server",
            )
        value_text = '"' + text.replace('"', '""') + '"'
    else:
        value_text = str(int(value))
    return f"({attribute}{operator}{value_text})"
