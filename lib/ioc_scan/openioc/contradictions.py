"""Finds ANDs that no single item can satisfy: what is said of a single-valued term excludes each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ioc_scan.openioc.content import ContentError, build_test
from ioc_scan.openioc.model import Indicator, Item, Node, Problem
from ioc_scan.openioc.problem_codes import problem
from ioc_scan.openioc.terms import find_term
from ioc_scan.scanner.values import ip_number

#: Statements compared per term of one AND; a longer list says nothing new.
MAX_COMPARED = 64


class _Fact(NamedTuple):
    term: str
    operation: str
    value: Any
    negated: bool
    line: int


def find_contradictions(roots: Sequence[Node]) -> list[Problem]:
    """A problem ``contradiction`` for each outermost group that can never hold."""
    found: list[Problem] = []
    for root in roots:
        _never(root, (), found)
    return found


def _never(node: Node, known: tuple[_Fact, ...], found: list[Problem]) -> bool:
    """Can the node never hold while ``known`` does? What is found is reported once, where it arises."""
    if isinstance(node, Item):
        fact = _fact(node)
        return fact is not None and any(_exclude(fact, other) for other in known)
    if node.operator == "OR":
        results = [_never(child, known, found) for child in node.children]
        return bool(results) and all(results)
    facts = list(known)
    before = len(found)
    for item in _items_of_and(node):
        fact = _fact(item)
        if fact is None:
            continue
        other = next((each for each in facts if _exclude(fact, each)), None)
        if other is not None:
            _report(node, fact, other, found)
            return True
        if sum(each.term == fact.term for each in facts) < MAX_COMPARED:
            facts.append(fact)
    for child in _groups_of_and(node):
        if _never(child, tuple(facts), found):
            if len(found) == before:
                found.append(
                    problem(
                        "contradiction",
                        node.line,
                        f"no item can satisfy this AND: all alternatives of line {child.line} contradict it",
                        "split it, or read the file host-wide",
                    )
                )
            return True
    return False


def _report(node: Indicator, fact: _Fact, other: _Fact, found: list[Problem]) -> None:
    lines = sorted({fact.line, other.line})
    where = " and ".join(str(line) for line in lines)
    found.append(
        problem(
            "contradiction",
            node.line,
            f"no item can satisfy this AND: what line {where} says of {fact.term} excludes each other",
            "split it, or read the file host-wide",
        )
    )


def _items_of_and(node: Indicator) -> list[Item]:
    items = [child for child in node.children if isinstance(child, Item)]
    for child in node.children:
        if isinstance(child, Indicator) and (child.operator == "AND" or len(child.children) == 1):
            items.extend(_items_of_and(child))
    return items


def _groups_of_and(node: Indicator) -> list[Indicator]:
    groups = []
    for child in node.children:
        if isinstance(child, Indicator):
            if child.operator == "AND" or len(child.children) == 1:
                groups.extend(_groups_of_and(child))
            else:
                groups.append(child)
    return groups


def _fact(item: Item) -> _Fact | None:
    term = find_term(item.search)
    if term is None or term.many:
        return None
    try:
        operation, value = build_test(term.name, term.type, item.condition, item.content, item.preserve_case)
    except ContentError:
        return None
    if operation in ("eq", "contains", "starts", "ends"):
        value = value.casefold()  # exact case only narrows: what excludes without it excludes with it
    return _Fact(term.name, operation, value, item.negate, item.line)


def _exclude(one: _Fact, other: _Fact) -> bool:
    if one.term != other.term:
        return False
    if one.negated and other.negated:
        return False
    if one.negated or other.negated:
        positive, negative = (other, one) if one.negated else (one, other)
        return (positive.operation, positive.value) == (negative.operation, negative.value)
    operations = {one.operation, other.operation}
    if operations <= {"range", "ip", "ip_range"}:
        return _apart(_span(one), _span(other))
    if one.operation == other.operation:
        if one.operation in ("eq", "hash", "bool"):
            return bool(one.value != other.value)
        if one.operation == "starts":
            return not (one.value.startswith(other.value) or other.value.startswith(one.value))
        if one.operation == "ends":
            return not (one.value.endswith(other.value) or other.value.endswith(one.value))
        return False
    if "eq" in operations:
        whole, part = (one, other) if one.operation == "eq" else (other, one)
        if part.operation == "contains":
            return part.value not in whole.value
        if part.operation == "starts":
            return not whole.value.startswith(part.value)
        if part.operation == "ends":
            return not whole.value.endswith(part.value)
    return False


def _span(fact: _Fact) -> tuple[Any, Any]:
    if fact.operation == "ip":
        number = ip_number(fact.value)
        return number, number
    if fact.operation == "ip_range":
        return (fact.value[0], fact.value[1]), (fact.value[0], fact.value[2])
    return fact.value[0], fact.value[1]


def _apart(one: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    """Do two closed ranges not meet? None is an open end."""
    return (one[1] is not None and other[0] is not None and one[1] < other[0]) or (
        other[1] is not None and one[0] is not None and other[1] < one[0]
    )
