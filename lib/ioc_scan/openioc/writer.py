"""OpenIOC 1.0 and 1.1 to bytes: a document always gives the same bytes, in the order of the schemas."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ioc_scan.errors import InputError
from ioc_scan.openioc.model import NO_DATE, Indicator, Ioc, Item, Link, Node
from ioc_scan.openioc.reader import NAMESPACES
from ioc_scan.text import printable

_NEGATED_1_0 = {"is": "isnot", "contains": "containsnot"}
#: What XML 1.0 cannot carry, not even escaped.
XML_UNSAFE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_TEXT_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})
_ATTRIBUTE_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
)


def xml_safe(text: str) -> str:
    """Text without the characters XML cannot carry (NUL, most controls, half surrogates)."""
    return XML_UNSAFE.sub("", text)


def write_ioc(ioc: Ioc, version: str | None = None) -> bytes:
    """The document as UTF-8 XML, valid against the public schema of its version.

    ``version`` other than the document's own converts it first (:mod:`ioc_scan.openioc.convert`).
    Raises InputError where that would change the meaning, or for text XML cannot carry.
    """
    if version is not None and version != ioc.version:
        from ioc_scan.openioc.convert import convert  # convert writes nothing, but knows what fits where

        ioc = convert(ioc, version).ioc
    lines = ['<?xml version="1.0" encoding="utf-8"?>']
    lines.extend(_document_1_0(ioc) if ioc.version == "1.0" else _document_1_1(ioc))
    text = "\n".join(lines) + "\n"
    unsafe = XML_UNSAFE.search(text)
    if unsafe:
        raise InputError(
            "xml_unsafe_text",
            f"the document holds the character {printable(unsafe.group())}, which XML cannot carry",
            "leave it out",
        )
    return text.encode("utf-8")


def _attributes(pairs: Iterable[tuple[str, str | None]]) -> str:
    return "".join(
        f' {name}="{value.translate(_ATTRIBUTE_ESCAPES)}"' for name, value in pairs if value is not None
    )


def _element(indent: int, name: str, text: str | None, pairs: Iterable[tuple[str, str | None]] = ()) -> str:
    head = f"{'  ' * indent}<{name}{_attributes(pairs)}"
    return f"{head}>{text.translate(_TEXT_ESCAPES)}</{name}>" if text else f"{head}/>"


def _document_1_0(ioc: Ioc) -> Iterable[str]:
    pairs = [("xmlns", NAMESPACES["1.0"]), ("id", ioc.id), ("last-modified", ioc.last_modified or NO_DATE)]
    yield f"<ioc{_attributes(pairs)}>"
    yield from _metadata(ioc, 1)
    yield "  <definition>"
    for root in ioc.roots:
        yield from _node(root, 2, "1.0")
    yield "  </definition>"
    yield "</ioc>"


def _document_1_1(ioc: Ioc) -> Iterable[str]:
    pairs = [
        ("xmlns", NAMESPACES["1.1"]),
        ("id", ioc.id),
        ("last-modified", ioc.last_modified or NO_DATE),
        ("published-date", ioc.published_date or NO_DATE),
    ]
    yield f"<OpenIOC{_attributes(pairs)}>"
    yield "  <metadata>"
    yield from _metadata(ioc, 2)
    yield "  </metadata>"
    yield "  <criteria>"
    for root in ioc.roots:
        yield from _node(root, 2, "1.1")
    yield "  </criteria>"
    if ioc.parameters:
        yield "  <parameters>"
        for parameter in ioc.parameters:
            pairs = [("id", parameter.id), ("ref-id", parameter.ref_id), ("name", parameter.name)]
            if parameter.value is None:
                yield _element(2, "param", None, pairs)
            else:
                yield f"    <param{_attributes(pairs)}>"
                yield _element(3, "value", parameter.value, [("type", parameter.value_type)])
                yield "    </param>"
        yield "  </parameters>"
    else:
        yield "  <parameters/>"
    yield "</OpenIOC>"


def _metadata(ioc: Ioc, indent: int) -> Iterable[str]:
    for name in ("short_description", "description", "keywords", "authored_by"):
        value = getattr(ioc, name)
        if value is not None:
            yield _element(indent, name, value)
    yield _element(indent, "authored_date", ioc.authored_date or NO_DATE)
    pad = "  " * indent
    if not ioc.links:
        yield f"{pad}<links/>"
        return
    yield f"{pad}<links>"
    for link in ioc.links:
        yield _element(indent + 1, "link", link.text, _link_attributes(link, ioc.version))
    yield f"{pad}</links>"


def _link_attributes(link: Link, version: str) -> list[tuple[str, str | None]]:
    rel = link.rel if link.rel is not None or version == "1.0" else ""
    return [("rel", rel), ("href", link.href), ("title", link.title), ("type", link.type)]


def _node(node: Node, indent: int, version: str) -> Iterable[str]:
    """Items before nested indicators, as the schemas want; the order has no meaning."""
    pad = "  " * indent
    if isinstance(node, Item):
        yield from _item(node, indent, version)
        return
    pairs = [("operator", node.operator), ("id", node.id or (None if version == "1.0" else ""))]
    if version == "1.1":
        pairs.append(("node-context", node.node_context))
    if not node.children:
        yield f"{pad}<Indicator{_attributes(pairs)}/>"
        return
    yield f"{pad}<Indicator{_attributes(pairs)}>"
    for child in node.children:
        if isinstance(child, Item):
            yield from _item(child, indent + 1, version)
    for child in node.children:
        if isinstance(child, Indicator):
            yield from _node(child, indent + 1, version)
    yield f"{pad}</Indicator>"


def _item(item: Item, indent: int, version: str) -> Iterable[str]:
    pad = "  " * indent
    pairs: list[tuple[str, str | None]]
    if version == "1.1":
        pairs = [
            ("id", item.id),
            ("condition", item.condition),
            ("preserve-case", "true" if item.preserve_case else "false"),
            ("negate", "true" if item.negate else "false"),
        ]
    else:
        # what 1.0 has no words for stays as the file had it, so that nothing changes its meaning unseen
        plain = not item.negate or item.condition in _NEGATED_1_0
        pairs = [
            ("id", item.id or None),
            (
                "condition",
                (_NEGATED_1_0[item.condition] if item.negate and plain else item.condition) or None,
            ),
            ("preserve-case", "true" if item.preserve_case else None),
            ("negate", None if plain else "true"),
        ]
    yield f"{pad}<IndicatorItem{_attributes(pairs)}>"
    context = [("document", item.document), ("search", item.search), ("type", item.context_type or None)]
    yield _element(indent + 1, "Context", None, context)
    yield _element(indent + 1, "Content", item.content, [("type", item.content_type or None)])
    if item.comment is not None:
        yield _element(indent + 1, "Comment", item.comment)
    yield f"{pad}</IndicatorItem>"
