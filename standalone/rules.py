"""Which rules a trigger matches, with StackStorm's operators and their quirks."""

from __future__ import annotations

import fnmatch
import json
import re
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from dateutil import parser  # type: ignore[import-untyped]

from standalone import templates

_path_lock = threading.Lock()  # the JSONPath parser is not safe for threads
_EXPRESSION = re.compile(r"({{)\s*(.*)\s*(}})")


def _on_text(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """An operator that a missing pattern never satisfies."""
    return lambda value, pattern: pattern is not None and compare(value, pattern)


#: eq does not coerce ("5" is not 5); operators that call string methods raise on a missing value.
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "matchwildcard": _on_text(fnmatch.fnmatch),
    "matchregex": _on_text(lambda v, p: re.compile(p, re.DOTALL).match(v) is not None),
    "regex": _on_text(lambda v, p: re.search(p, v) is not None),
    "iregex": _on_text(lambda v, p: re.search(p, v, re.IGNORECASE) is not None),
    "equals": _on_text(lambda v, p: v == p),
    "nequals": lambda v, p: v != p,
    "iequals": _on_text(lambda v, p: v.lower() == p.lower()),
    "contains": _on_text(lambda v, p: p in v),
    "icontains": _on_text(lambda v, p: p.lower() in v.lower()),
    "ncontains": _on_text(lambda v, p: p not in v),
    "incontains": _on_text(lambda v, p: p.lower() not in v.lower()),
    "startswith": _on_text(lambda v, p: v.startswith(p)),
    "istartswith": _on_text(lambda v, p: v.lower().startswith(p.lower())),
    "endswith": _on_text(lambda v, p: v.endswith(p)),
    "iendswith": _on_text(lambda v, p: v.lower().endswith(p.lower())),
    "lessthan": _on_text(lambda v, p: v < p),
    "greaterthan": _on_text(lambda v, p: v > p),
    "exists": lambda v, p: v is not None,
    "nexists": lambda v, p: v is None,
    "inside": _on_text(lambda v, p: v in p),
    "ninside": _on_text(lambda v, p: v not in p),
}
SHORT_NAMES = {
    "eq": "equals",
    "neq": "nequals",
    "ieq": "iequals",
    "lt": "lessthan",
    "gt": "greaterthan",
    "in": "inside",
    "nin": "ninside",
}
#: Known to StackStorm, not to standalone (the time differences are done by hand below).
TIME_OPERATORS = {"td_lt", "timediff_lt", "td_gt", "timediff_gt"}
NOT_HERE = {"search"}


def criteria_problem(criteria: Any) -> str | None:
    """Why StackStorm would not register these criteria."""
    for key, criterion in (criteria or {}).items():
        operator = (criterion or {}).get("type")
        known = operator in OPERATORS or operator in SHORT_NAMES or operator in TIME_OPERATORS | NOT_HERE
        if not known:
            return f"{key}: operator {operator!r} is not known"
        if criterion.get("pattern") is None:
            return f"{key}: no pattern specified for operator {operator} (exists and nexists want one too)"
    return None


def matches(
    rule: dict[str, Any], payload: dict[str, Any] | None, context: dict[str, Any], now: datetime
) -> bool:
    """Whether all criteria hold. ``context`` has ``trigger`` and ``st2kv``.

    Raises whatever an operator raises: StackStorm then takes the rule as not matched and logs it.
    """
    criteria = rule.get("criteria") or {}
    if criteria and not payload:
        return False
    for key, criterion in criteria.items():
        pattern = _pattern(criterion.get("pattern"), context)
        with _path_lock:
            found = templates.parse_path(key.split("#", 1)[0]).find({"trigger": payload})
        value = found[0].value if found else None
        operator = str(criterion["type"]).lower()
        if operator in TIME_OPERATORS:
            age_seconds = (now - _moment(value)).total_seconds()
            if (age_seconds < float(pattern)) != operator.endswith("lt"):
                return False
        elif not OPERATORS[SHORT_NAMES.get(operator, operator)](value, pattern):
            return False
    return True


def _moment(value: Any) -> datetime:
    parsed: datetime = parser.parse(str(value))
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)


def _pattern(pattern: Any, context: dict[str, Any]) -> Any:
    """A pattern may be a template; one that is a lone variable keeps that variable's type.

    A datastore value cannot be such a pattern: it raises TypeError, in StackStorm too.
    """
    if not isinstance(pattern, str) or not templates.is_expression(pattern):
        return pattern
    if _EXPRESSION.search(pattern):
        try:
            typed = _EXPRESSION.sub(r"\1\2 | to_complex\3", pattern)
            return json.loads(templates.render(typed, context))
        except ValueError:  # not JSON as a whole: text
            pass
    return templates.render(pattern, context)
