"""The subset of the server's filter language: (a=v) (a<v) (a>v) (a<>v) (a&n<>0), joined by & | !."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

Row = Mapping[str, Any]
Test = Callable[[Row], bool]
_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r"<>|=|<|>")
_BITS = re.compile(r"&(\d+)(<>|=)(\d+)")


class BadFilter(Exception):
    """Not a filter: error 1192."""


def parse_filter(text: str) -> Test:
    """A test for rows. Text is quoted with doubled quotes inside; * and ? are wildcards unless escaped by \\."""
    if not text:
        return lambda row: True
    test, end = _condition(text, 0)
    if end != len(text):
        raise BadFilter(f"more than one condition at {end}")
    return test


def _condition(text: str, at: int) -> tuple[Test, int]:
    if text[at : at + 1] != "(":
        raise BadFilter(f"a bracket is missing at {at}")
    mark = text[at + 1 : at + 2]
    if mark in ("&", "|", "!"):
        tests, at = [], at + 2
        while text[at : at + 1] == "(":
            test, at = _condition(text, at)
            tests.append(test)
        if text[at : at + 1] != ")" or not tests or (mark == "!" and len(tests) != 1):
            raise BadFilter(f"a junction is not closed, or empty, at {at}")
        if mark == "!":
            return (lambda row: not tests[0](row)), at + 1
        join = all if mark == "&" else any
        return (lambda row: join(test(row) for test in tests)), at + 1
    name = _ATTRIBUTE.match(text, at + 1)
    if not name:
        raise BadFilter(f"an attribute is missing at {at + 1}")
    if bits := _BITS.match(text, name.end()):
        mask, wanted, differs = int(bits[1]), int(bits[3]), bits[2] == "<>"
        return _closed(text, bits.end(), lambda row: (row.get(name[0], 0) & mask != wanted) == differs)
    operator = _OPERATOR.match(text, name.end())
    if not operator:
        raise BadFilter(f"an operator is missing at {name.end()}")
    value, end = _value(text, operator.end())
    return _closed(text, end, _comparison(name[0], operator[0], value))


def _closed(text: str, at: int, test: Test) -> tuple[Test, int]:
    if text[at : at + 1] != ")":
        raise BadFilter(f"a condition is not closed at {at}")
    return test, at + 1


def _value(text: str, at: int) -> tuple[Any, int]:
    if text[at : at + 1] == '"':
        out, at = "", at + 1
        while True:
            end = text.find('"', at)
            if end < 0:
                raise BadFilter("a quote is not closed")
            out += text[at:end]
            if text[end : end + 2] != '""':
                return out, end + 1
            out, at = out + '"', end + 2
    number = re.compile(r"-?\d+").match(text, at)
    if number:
        return int(number[0]), number.end()
    word = re.compile(r"[^()&|!<>=\"]+").match(text, at)
    if not word:
        raise BadFilter(f"a value is missing at {at}")
    return word[0], word.end()


def _comparison(name: str, operator: str, value: Any) -> Test:
    def test(row: Row) -> bool:
        if name not in row:
            return False
        found = row[name]
        if isinstance(found, datetime):
            found = found.strftime("%Y-%m-%dT%H:%M:%SZ")
        if isinstance(found, str) != isinstance(value, str):
            return False
        if operator in ("=", "<>"):
            same = _like(value).fullmatch(found) is not None if isinstance(found, str) else found == value
            return same == (operator == "=")
        return bool(found < value if operator == "<" else found > value)

    return test


def _like(text: str) -> re.Pattern[str]:
    out, position = "", 0
    while position < len(text):
        char = text[position]
        if char == "\\" and position + 1 < len(text):
            position += 1
            out += re.escape(text[position])
        else:
            out += {"*": ".*", "?": "."}.get(char, re.escape(char))
        position += 1
    return re.compile(out, re.IGNORECASE | re.DOTALL)
