"""JSON for a scan's start and end: the ``json`` package, without the 9 ms that importing it takes.

Nearly all of that is ``re`` and ``enum``, for patterns its C part does not need. Where that C part is missing
(another Python, another version), the package itself does the work.
"""

from __future__ import annotations

from . import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Callable

_make_scanner: Callable[[Any], Callable[[str, int], tuple[Any, int]]] | None = None
_quote: Callable[[str], str]
try:
    from _json import encode_basestring_ascii as _quote
    from _json import make_scanner as _make_scanner
except ImportError:
    pass

_WHITESPACE = " \t\n\r"


def _refuse(name: str) -> float:
    raise ValueError(name + " is not JSON")


class _Options:
    """What the C scanner wants to know: numbers and objects as Python has them, NaN is no number."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_refuse)


def loads(text: str) -> Any:
    """One JSON value. Raises ValueError, RecursionError."""
    if _make_scanner is None:
        import json

        return json.loads(text, parse_constant=_refuse)
    text = text.strip(_WHITESPACE)
    try:
        value, end = _make_scanner(_Options)(text, 0)
    except StopIteration:
        raise ValueError("not JSON") from None
    if end != len(text):
        raise ValueError("more than one JSON value")
    return value


def dumps(value: Any) -> str:
    """``json.dumps(value)`` for plain values: text, numbers, bool, None, lists, dicts with text keys."""
    if _make_scanner is None:
        import json

        return json.dumps(value)
    if isinstance(value, str):
        return _quote(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quote(key)}: {dumps(entry)}" for key, entry in value.items()) + "}"
    return "[" + ", ".join(map(dumps, value)) + "]"
