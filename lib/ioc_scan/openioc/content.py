"""What an indicator item asks, as a test that needs no further reading: the type of its term decides.

A test is ``(operation, value)``; ``scanner/conditions.py`` runs it:

=============  ==================================  ========================================================
operation      value                               holds when
=============  ==================================  ========================================================
``eq``         text                                the text is equal
``contains``   text                                it lies in the text; likewise ``starts``, ``ends``
``matches``    {"pattern", "program", "literal"}   the pattern is found anywhere in the text
``range``      [low or None, high or None]         the number, moment or span lies in it, ends included
``hash``       lower hex                           the digest is equal
``ip``         address in its one spelling         the address is equal
``ip_range``   [4 or 6, low, high]                 the address lies in it
``bool``       true or false                       equal
=============  ==================================  ========================================================
"""

from __future__ import annotations

import math
import re
from typing import Any

from ioc_scan.openioc.patterns import PatternError, compile_pattern, required_literal
from ioc_scan.openioc.terms import HASH_TYPES, NUMBER_TYPES
from ioc_scan.scanner.values import (
    ip_number,
    read_bool,
    read_float,
    read_int,
    read_ip,
    read_moment,
    read_span,
)

INT_MIN, INT_MAX = -(2**63), 2**64 - 1
MAX_CONTENT_CHARS = 32 * 1024

Test = tuple[str, Any]

TEXT_CONDITIONS = {"is": "eq", "contains": "contains", "starts-with": "starts", "ends-with": "ends"}
_TEXT_TYPES = frozenset({"string", "ip", *HASH_TYPES})
_RANGE = re.compile(r"\[?([^\[\]]+)\]?\Z")
_HIVES = {
    "hklm": "HKEY_LOCAL_MACHINE",
    "hkcu": "HKEY_CURRENT_USER",
    "hku": "HKEY_USERS",
    "hkcr": "HKEY_CLASSES_ROOT",
    "hkcc": "HKEY_CURRENT_CONFIG",
}


class ContentError(ValueError):
    """The item cannot be evaluated; ``code`` is one of the lint codes, ``hint`` says what would do."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


def build_test(term: str, kind: str, condition: str, content: str, preserve_case: bool = False) -> Test:
    """The test of one item. ``kind`` is the term's type. Raises ContentError."""
    if not condition:
        raise ContentError("condition_missing", "the item has no condition", "write is or contains")
    if condition not in TEXT_CONDITIONS and condition not in ("matches", "greater-than", "less-than"):
        raise ContentError("condition_unknown", f"condition {condition[:40]!a} is not of OpenIOC", "")
    if not content.strip():
        raise ContentError("content_empty", "the content is empty; it never matches", "remove the item")
    if len(content) > MAX_CONTENT_CHARS:
        raise ContentError(
            "content_too_long", f"the content has more than {MAX_CONTENT_CHARS} characters", ""
        )
    if condition == "matches":
        _need_text(kind, condition)
        try:
            program = compile_pattern(content, ignore_case=not preserve_case)
        except PatternError as error:
            raise ContentError("pattern_refused", f"the pattern is refused: {error}", error.hint) from None
        return "matches", {"literal": required_literal(content), "pattern": content, "program": program}
    if condition in ("greater-than", "less-than"):
        if kind not in NUMBER_TYPES:
            raise ContentError(
                "condition_type", f"{condition} needs a number or a date, the term is {kind}", ""
            )
        return "range", _compared(kind, condition, content)
    if kind in NUMBER_TYPES:
        _only_is(kind, condition)
        return "range", _bounds(kind, content)
    if kind == "bool":
        _only_is(kind, condition)
        value = read_bool(content)
        if value is None:
            raise ContentError("content_type", "the content is not true or false", "")
        return "bool", value
    if kind in HASH_TYPES:
        return _hash_test(kind, condition, content)
    if kind == "ip" and condition == "is":
        return _ip_test(content)
    return TEXT_CONDITIONS[condition], _text(term, condition, content)


def _need_text(kind: str, condition: str) -> None:
    if kind not in _TEXT_TYPES:
        raise ContentError(
            "condition_type",
            f"{condition} needs text, the term is {kind}",
            "use is, greater-than or less-than",
        )


def _only_is(kind: str, condition: str) -> None:
    if condition != "is":
        raise ContentError(
            "condition_type",
            f"{condition} needs text, the term is {kind}",
            "use is, greater-than or less-than",
        )


def _text(term: str, condition: str, content: str) -> str:
    if term == "FileItem/FileExtension" and condition == "is":
        return content.strip().lstrip(".")  # both ".exe" and "exe" are written
    if term in ("RegistryItem/Path", "RegistryItem/Hive") and condition in ("is", "starts-with"):
        hive, separator, rest = content.partition("\\")
        return _HIVES.get(hive.lower(), hive) + separator + rest
    return content


def _hash_test(kind: str, condition: str, content: str) -> Test:
    text = "".join(content.split()).lower()
    digits = re.fullmatch("[0-9a-f]+", text) is not None
    if digits and len(text) == HASH_TYPES[kind]:
        return "hash", text  # the whole digest: contains, starts-with and ends-with say the same as is
    if condition == "is" or not digits or len(text) > HASH_TYPES[kind]:
        raise ContentError("content_type", f"the content is not a {kind} ({HASH_TYPES[kind]} hex digits)", "")
    return TEXT_CONDITIONS[condition], text


def _ip_test(content: str) -> Test:
    ends = _range_ends(content)
    if ends is None:
        address = read_ip(content)
        if address is None:
            raise ContentError(
                "content_type", "the content is not an IP address", "a host name belongs to DnsEntryItem/Host"
            )
        return "ip", address
    low, high = read_ip(ends[0]), read_ip(ends[1])
    if low is None or high is None:
        raise ContentError("content_type", "the ends of the range are not IP addresses", "")
    (version, first), (other, last) = ip_number(low), ip_number(high)
    if version != other or first > last:
        raise ContentError("range_empty", "no address lies in the range", "")
    return "ip_range", [version, first, last]


def _range_ends(content: str) -> tuple[str, str] | None:
    """``A TO B`` and ``[A TO B]``, as Kaspersky reads them."""
    text = content.strip()
    if text.startswith("[") != text.endswith("]"):
        return None
    match = _RANGE.match(text)
    if match is None:
        return None
    first, word, last = match.group(1).partition(" TO ")
    return (first.strip(), last.strip()) if word else None


def int_bounds(content: str) -> tuple[int, int]:
    """Both ends of what an int item says; for one number they are equal. Raises ContentError."""
    low, high = _bounds("int", content)
    return int(low), int(high)


def _bounds(kind: str, content: str) -> list[Any]:
    ends = _range_ends(content)
    if ends is None:
        return list(_number(kind, content))
    low, high = _number(kind, ends[0])[0], _number(kind, ends[1])[1]
    if low > high:
        raise ContentError("range_empty", "the range ends before it begins", "")
    return [low, high]


def _compared(kind: str, condition: str, content: str) -> list[Any]:
    if _range_ends(content) is not None:
        raise ContentError("condition_type", f"{condition} needs one value, not a range", "")
    low, high = _number(kind, content)
    if kind == "float":
        return (
            [math.nextafter(high, math.inf), None]
            if condition == "greater-than"
            else [None, math.nextafter(low, -math.inf)]
        )
    return [high + 1, None] if condition == "greater-than" else [None, low - 1]


def _number(kind: str, content: str) -> tuple[Any, Any]:
    value: Any
    if kind == "int":
        value = read_int(content)
        if value is not None and not INT_MIN <= value <= INT_MAX:
            value = None
    elif kind == "float":
        value = read_float(content)
    elif kind == "duration":
        value = read_span(content)
    else:
        moment = read_moment(content)
        if moment is None:
            raise ContentError("content_type", "the content is not a date", "write 2026-01-31T12:00:00Z")
        return moment
    if value is None:
        what = {"int": "whole number of 64 bits", "float": "number", "duration": "duration"}[kind]
        raise ContentError("content_type", f"the content is not a {what}", "")
    return value, value
