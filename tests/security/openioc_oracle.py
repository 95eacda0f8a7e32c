"""The meaning of OpenIOC once more, as slowly and plainly as possible; it shares no code with the product.

A document matches if items can be chosen, one per kind of document, so that the tree is true of them.
"""

from __future__ import annotations

import itertools
import re
from functools import partial
from typing import Any

from ioc_scan.openioc.model import Indicator, Ioc, Item, Node

Host = dict[str, list[dict[str, Any]]]


def document_matches(ioc: Ioc, host: Host) -> bool:
    names = sorted({item.search.split("/")[0] for item in ioc.items()})
    pools = [[None, *host.get(name, [])] for name in names]
    for combination in itertools.product(*pools):
        chosen = dict(zip(names, combination, strict=True))
        if any(_truth(root, partial(_leaf, chosen=chosen)) is True for root in ioc.roots):
            return True
    return False


def document_matches_host_wide(ioc: Ioc, host: Host) -> bool:
    def anywhere(leaf: Item) -> bool:
        name = leaf.search.split("/")[0]
        return any(_leaf(leaf, {name: item}) is True for item in host.get(name, []))

    return any(_truth(root, anywhere) is True for root in ioc.roots)


def _truth(node: Node, leaf: Any) -> bool | None:
    if isinstance(node, Item):
        value: bool | None = leaf(node)
        return value
    values = [_truth(child, leaf) for child in node.children]
    assert isinstance(node, Indicator)
    if node.operator == "AND":
        if not values or False in values:
            return False
        return None if None in values else True
    if True in values:
        return True
    return None if None in values else False


def _leaf(item: Item, chosen: dict[str, Any]) -> bool | None:
    document, _, field = item.search.partition("/")
    if document == "HookItem" or not item.content.strip():
        return None
    target = chosen.get(document)
    raw = None if target is None else target.get(field)
    if raw is None:
        return None
    if _holds(item, field, 0 if field in ("SizeInBytes", "remotePort") else "") is None:
        return None  # the item itself cannot be evaluated, whatever the value
    known = [value for value in (raw if isinstance(raw, list) else [raw]) if value is not None]
    unknown = isinstance(raw, list) and len(known) < len(raw)
    hit = any(_holds(item, field, value) for value in known)
    if hit:
        return not item.negate
    return None if unknown else item.negate


def _holds(item: Item, field: str, value: Any) -> bool | None:
    content = item.content
    if field in ("SizeInBytes", "remotePort"):
        if item.condition in ("contains", "matches", "starts-with", "ends-with"):
            return None
        found = re.fullmatch(r"\[?(\d+) TO (\d+)\]?", content)
        low, high = (int(found[1]), int(found[2])) if found else (int(content), int(content))
        if found and (low > high or item.condition != "is"):
            return None
        return {"is": low <= value <= high, "greater-than": value > high, "less-than": value < low}[
            item.condition
        ]
    if item.condition in ("greater-than", "less-than"):
        return None
    text = str(value)
    if field.endswith("sum"):
        if item.condition == "matches":
            return re.search(content, text) is not None
        if re.fullmatch("[0-9a-f]+", content) is None or (item.condition == "is" and len(content) != 64):
            return None
        if len(content) == 64:
            return content == text
    if not item.preserve_case:
        text = text.lower()
        content = content.lower() if item.condition != "matches" else content
    if item.condition == "matches":
        return re.search(content, str(value), 0 if item.preserve_case else re.IGNORECASE) is not None
    return {
        "is": text == content,
        "contains": content in text,
        "starts-with": text.startswith(content),
        "ends-with": text.endswith(content),
    }[item.condition]
