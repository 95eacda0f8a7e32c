"""Small documents for tests, and the shortest way from a document to an evaluator."""

from __future__ import annotations

from typing import Any

from ioc_scan.openioc.model import Indicator, Ioc, Item, Node
from ioc_scan.openioc.plan import compile_plan
from ioc_scan.openioc.writer import write_ioc
from ioc_scan.scanner.evaluate import Evaluator
from ioc_scan.scanner.plan import load_plan

MD5_1, MD5_2 = "1" * 32, "2" * 32
SHA_1, SHA_2, SHA_3 = "a" * 64, "b" * 64, "c" * 64
DATE = "2026-01-01T00:00:00Z"


def node(tree: list[Any], counter: list[int] | None = None) -> Node:
    """["AND", part...], ["OR", part...] or [term, condition, content, {"preserve-case", "negate"}]."""
    counter = counter if counter is not None else [0]
    counter[0] += 1
    identifier = f"n{counter[0]}"
    if tree[0] in ("AND", "OR"):
        return Indicator(identifier, tree[0], [node(part, counter) for part in tree[1:]])
    options = tree[3] if len(tree) > 3 else {}
    condition, negate = tree[1], bool(options.get("negate"))
    if condition in ("isnot", "containsnot"):
        condition, negate = condition[:-3], True
    return Item(
        id=identifier,
        condition=condition,
        document=tree[0].partition("/")[0],
        search=tree[0],
        content=tree[2],
        negate=negate,
        preserve_case=bool(options.get("preserve-case")),
    )


def document(tree: list[Any], version: str = "1.1") -> Ioc:
    """A document around a tree; the root is an Indicator, as the schema wants."""
    root = node(tree)
    if isinstance(root, Item):
        root = Indicator("root", "OR", [root])
    return Ioc(
        version=version,
        id="12345678-0000-4000-8000-000000000001",
        roots=[root],
        last_modified=DATE,
        published_date=DATE if version == "1.1" else None,
        short_description="test",
        authored_date=DATE,
    )


def plan_bytes(tree: list[Any], tier: str = "hunt", binding: str = "item") -> bytes:
    """The plan of a tree, by way of the XML that would be stored."""
    return compile_plan([(write_ioc(document(tree)), tier)], binding=binding)


def evaluator(
    tree: list[Any], tier: str = "hunt", binding: str = "item", system: str | None = None
) -> Evaluator:
    """An evaluator as a device makes it: from the bytes of the plan alone."""
    return Evaluator(load_plan(plan_bytes(tree, tier, binding)), system)


def matches(tree: list[Any], items: list[dict[str, Any]], binding: str = "item") -> list[int]:
    """Numbers of the items that are part of a match; each item names its document as "doc"."""
    judge = evaluator(tree, binding=binding)
    hits = {number for number, item in enumerate(items) if judge.feed(item["doc"], without_document(item))}
    for match in judge.finish().matches:
        for name, matched, _ in match.parts:
            hits |= {
                number
                for number, item in enumerate(items)
                if item["doc"] == name and without_document(item) == matched
            }
    return sorted(hits)


def without_document(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name != "doc"}
