"""Random documents and hosts, from small pools so that matches happen."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from ioc_scan.openioc.model import Indicator, Ioc, Item, Link, Node, Parameter

SHAS = ["a" * 64, "b" * 64, "ab" * 32]
WORDS = ["a", "A", "b", "ab", "AB.exe", "b.EXE", "/tmp/a", "/tmp/AB.exe", "/usr/b.EXE"]
PATTERNS = ["a", "^A", "b$", "^ab?$", "(a|b)+", r"\.exe$", "[^a]", r"\Da", "^$"]
NUMBERS = ["1", "2", "3", "[1 TO 2]", "2 TO 3", "[3 TO 1]"]
TEXT_TERMS = [
    "FileItem/FileName",
    "FileItem/FullPath",
    "FileItem/StringList/string",
    "ProcessItem/name",
    "HookItem/Foo",
]
NUMBER_TERMS = ["FileItem/SizeInBytes", "PortItem/remotePort"]
CONDITIONS = ["is", "contains", "matches", "starts-with", "ends-with", "greater-than", "less-than"]


@st.composite
def evaluable_items(draw: st.DrawFn) -> Item:
    term = draw(st.sampled_from([*TEXT_TERMS, *NUMBER_TERMS, "FileItem/Sha256sum"]))
    condition = draw(st.sampled_from(CONDITIONS))
    if condition == "matches":
        content = draw(st.sampled_from(PATTERNS))
    elif term in NUMBER_TERMS:
        content = draw(st.sampled_from(NUMBERS))
    elif term.endswith("Sha256sum"):
        content = draw(st.sampled_from([*SHAS, "aa", "ba"]))
    else:
        content = draw(st.sampled_from([*WORDS, " "]))
    return Item(
        id=f"i{draw(st.integers(0, 10**6))}",
        condition=condition,
        document=term.split("/")[0],
        search=term,
        content=content,
        negate=draw(st.booleans()),
        preserve_case=draw(st.booleans()),
    )


def trees(leaf: st.SearchStrategy[Item]) -> st.SearchStrategy[Node]:
    def group(children: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
        return st.builds(
            Indicator,
            id=st.just("g"),
            operator=st.sampled_from(["AND", "OR"]),
            children=st.lists(children, max_size=4),
        )

    return st.recursive(leaf, group, max_leaves=10)


def _as_document(node: Node) -> Ioc:
    root = node if isinstance(node, Indicator) else Indicator("root", "OR", [node])
    return Ioc(version="1.1", id="x", roots=[root], authored_date="2026-01-01T00:00:00Z")


def evaluable_documents() -> st.SearchStrategy[Ioc]:
    return trees(evaluable_items()).map(_as_document)


_TEXT = st.sampled_from(WORDS)


def _optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


FILES = st.fixed_dictionaries(
    {
        "FileName": _optional(_TEXT),
        "FullPath": _optional(_TEXT),
        "SizeInBytes": _optional(st.integers(1, 3)),
        "Sha256sum": _optional(st.sampled_from(SHAS)),
        "StringList/string": _optional(st.lists(_optional(_TEXT), max_size=2)),
    }
)
HOSTS = st.fixed_dictionaries(
    {
        "FileItem": st.lists(FILES, max_size=3),
        "PortItem": st.lists(st.fixed_dictionaries({"remotePort": _optional(st.integers(1, 3))}), max_size=2),
        "ProcessItem": st.lists(st.fixed_dictionaries({"name": _optional(_TEXT)}), max_size=2),
    }
)

# ------------------------------------------------------------------- any document at all, for writing and reading

_XML_TEXT = st.text(
    st.characters(
        blacklist_categories=["Cs"],
        blacklist_characters=[chr(code) for code in range(32)] + ["\ufffe", "\uffff"],
    )
    | st.sampled_from("\t\n\r<>&\"']"),
    max_size=20,
)
_MAYBE = st.none() | _XML_TEXT


@st.composite
def any_items(draw: st.DrawFn, version: str) -> Item:
    modern = version == "1.1"
    return Item(
        id=draw(_XML_TEXT.filter(bool)),
        condition=draw(st.sampled_from(CONDITIONS if modern else ["is", "contains"])),
        document=draw(_XML_TEXT),
        search=draw(_XML_TEXT),
        content=draw(_XML_TEXT),
        content_type=draw(_XML_TEXT),
        context_type=draw(_XML_TEXT),
        comment=None if modern else draw(_MAYBE),
        negate=draw(st.booleans()),
        preserve_case=draw(st.booleans()) if modern else False,
    )


def _items_first(node: Node) -> Node:
    if isinstance(node, Indicator):
        node.children = sorted(
            (_items_first(child) for child in node.children), key=lambda each: isinstance(each, Indicator)
        )
    return node


@st.composite
def any_documents(draw: st.DrawFn) -> Ioc:
    version = draw(st.sampled_from(["1.0", "1.1"]))
    modern = version == "1.1"
    roots = []
    for tree in draw(st.lists(trees(any_items(version)), min_size=1, max_size=2)):
        node = _items_first(tree)
        roots.append(node if isinstance(node, Indicator) else Indicator("r", "AND", [node]))
    return Ioc(
        version=version,
        id=draw(_XML_TEXT),
        roots=roots,
        last_modified=draw(_XML_TEXT.filter(bool)),
        published_date=draw(_XML_TEXT.filter(bool)) if modern else None,
        short_description=draw(_MAYBE),
        description=draw(_MAYBE),
        keywords=draw(_MAYBE),
        authored_by=draw(_MAYBE),
        authored_date=draw(_XML_TEXT.filter(bool)),
        links=draw(st.lists(st.builds(Link, _XML_TEXT, _MAYBE, _MAYBE, _MAYBE, _XML_TEXT), max_size=2)),
        parameters=draw(
            st.lists(st.builds(Parameter, _XML_TEXT, _XML_TEXT, _XML_TEXT, _XML_TEXT, _MAYBE), max_size=2)
        )
        if modern
        else [],
    )
