"""Between OpenIOC 1.0 and 1.1, where the meaning allows; a clear refusal where it does not."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from uuid import NAMESPACE_URL, uuid5

from ioc_scan.errors import InputError
from ioc_scan.openioc.content import INT_MAX, INT_MIN, ContentError, int_bounds
from ioc_scan.openioc.model import NO_DATE, VERSIONS, Indicator, Ioc, Item, Parameter, Problem
from ioc_scan.openioc.terms import term_type
from ioc_scan.text import printable

#: The name tools give the parameter that carries an item's comment in 1.1.
COMMENT = "comment"
_IDS = uuid5(NAMESPACE_URL, "urn:ioc_scan:openioc:convert")


@dataclass(frozen=True)
class Conversion:
    """``ioc`` in the other version; ``notes``: metadata the target has no place for (never logic)."""

    ioc: Ioc
    notes: list[Problem]


def convert(ioc: Ioc, version: str, *, drop_parameters: bool = False) -> Conversion:
    """A copy in ``version``. Raises InputError ``convert_*`` where the target cannot say the same.

    ``drop_parameters``: to 1.0, leave out parameters that are not comments instead of refusing.
    """
    if version not in VERSIONS:
        raise InputError(
            "unknown_version", f"{printable(version, 20)} is not a version of OpenIOC", "1.0 or 1.1"
        )
    result = copy.deepcopy(ioc)
    if version == ioc.version:
        return Conversion(result, [])
    notes: list[Problem] = []
    if version == "1.1":
        _to_1_1(result)
    else:
        _to_1_0(result, notes, drop_parameters)
    result.version = version
    return Conversion(result, notes)


def _to_1_1(ioc: Ioc) -> None:
    ioc.published_date = ioc.published_date or NO_DATE
    for link in ioc.links:
        link.rel = link.rel or ""
    for position, node in enumerate(ioc.nodes()):
        # 1.1 wants an id everywhere; made from the place, so that the same file gives the same bytes
        node.id = node.id or str(uuid5(_IDS, f"{ioc.id}#{position}"))
        if isinstance(node, Item):
            if not node.condition:
                raise _refusal("convert_no_condition", node, "the item has no condition", "1.1 requires one")
            if node.comment is not None:
                ioc.parameters.append(
                    Parameter(
                        str(uuid5(_IDS, f"{node.id}#{COMMENT}#{position}")),
                        node.id,
                        COMMENT,
                        node.comment,
                        "string",
                    )
                )
                node.comment = None


def _to_1_0(ioc: Ioc, notes: list[Problem], drop_parameters: bool) -> None:
    items = {node.id: node for node in ioc.items() if node.id}
    for parameter in ioc.parameters:
        target = items.get(parameter.ref_id)
        if (
            parameter.name == COMMENT
            and target is not None
            and target.comment is None
            and parameter.value is not None
        ):
            target.comment = parameter.value
        elif drop_parameters:
            message = f"parameter {printable(parameter.name, 60)} is left out: 1.0 has none"
            notes.append(Problem("parameter_dropped", "warning", parameter.line, message))
        else:
            raise InputError(
                "convert_parameter",
                f"line {parameter.line}: parameter {printable(parameter.name, 60)} has no place in 1.0",
                "drop parameters, if nothing of yours reads them",
            )
    ioc.parameters = []
    if ioc.published_date not in (None, NO_DATE, NO_DATE + "Z"):
        notes.append(
            Problem("published_date_dropped", "warning", 0, "published-date is left out: 1.0 has none")
        )
    ioc.published_date = None
    for node in ioc.nodes():
        if isinstance(node, Indicator):
            if node.node_context:
                notes.append(
                    Problem(
                        "node_context_dropped", "warning", node.line, "node-context is left out: 1.0 has none"
                    )
                )
            node.node_context = None
        else:
            _item_to_1_0(node)


def _item_to_1_0(item: Item) -> None:
    kind = term_type(item.search)
    if item.preserve_case:
        if kind in (None, "string"):
            raise _refusal(
                "convert_preserve_case",
                item,
                "1.0 cannot ask for exact case",
                "drop preserve-case, if it does not matter",
            )
        item.preserve_case = False  # it says nothing about numbers, hashes, dates and addresses
    if item.condition in ("is", "contains"):
        return
    if item.condition in ("greater-than", "less-than") and kind == "int":
        try:
            low, high = int_bounds(item.content)
        except ContentError as error:
            raise _refusal("convert_content", item, str(error), "") from None
        if item.condition == "greater-than" and high < INT_MAX:
            item.condition, item.content = "is", f"[{high + 1} TO {INT_MAX}]"
            return
        if item.condition == "less-than" and low > INT_MIN:
            item.condition, item.content = "is", f"[{INT_MIN} TO {low - 1}]"
            return
    raise _refusal(
        "convert_condition",
        item,
        f"1.0 has no condition {printable(item.condition or '(none)', 40)}",
        "keep the file in 1.1",
    )


def _refusal(code: str, item: Item, message: str, hint: str) -> InputError:
    return InputError(code, f"line {item.line}, item {printable(item.id or '?', 60)}: {message}", hint)
