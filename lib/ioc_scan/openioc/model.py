"""An OpenIOC document as plain data: everything both versions can say, nothing of XML.

Conditions are kept in the words of 1.1: ``isnot`` of 1.0 is ``is`` with ``negate``. A condition the standard
does not know is kept as it stands; it is never evaluated, and lint names it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

VERSIONS = ("1.0", "1.1")

#: What the tools of the standard write where no date is known.
NO_DATE = "0001-01-01T00:00:00"


@dataclass(slots=True)
class Item:
    """One indicator item: ``document``/``search`` name the term, ``content`` is compared by ``condition``."""

    id: str
    condition: str
    document: str
    search: str
    content: str
    content_type: str = "string"
    context_type: str = "mir"
    comment: str | None = None
    negate: bool = False
    preserve_case: bool = False
    line: int = field(default=0, compare=False)


@dataclass(slots=True)
class Indicator:
    """``operator`` (AND, OR) over ``children`` in the order of the file."""

    id: str
    operator: str
    children: list[Node] = field(default_factory=list)
    node_context: str | None = None
    line: int = field(default=0, compare=False)


Node = Indicator | Item


@dataclass(slots=True)
class Link:
    rel: str | None = None
    href: str | None = None
    title: str | None = None
    type: str | None = None
    text: str = ""


@dataclass(slots=True)
class Parameter:
    """1.1 only: a named value that belongs to the node with id ``ref_id``. It never changes what matches."""

    id: str
    ref_id: str
    name: str
    value: str | None = None
    value_type: str | None = None
    line: int = field(default=0, compare=False)


@dataclass(slots=True)
class Problem:
    """Something to say about a file: a stable ``code``, "error" or "warning", and a line (0: no one line)."""

    code: str
    severity: str
    line: int
    message: str
    hint: str = ""

    def as_dict(self) -> dict[str, object]:
        return {
            "code": self.code,
            "severity": self.severity,
            "line": self.line,
            "message": self.message,
            "hint": self.hint,
        }


@dataclass(slots=True)
class Ioc:
    """One document. Dates are text as in the file, OR joins ``roots``, ``notes`` is what was forgiven."""

    version: str
    id: str
    roots: list[Indicator] = field(default_factory=list)
    last_modified: str | None = None
    published_date: str | None = None
    short_description: str | None = None
    description: str | None = None
    keywords: str | None = None
    authored_by: str | None = None
    authored_date: str | None = None
    links: list[Link] = field(default_factory=list)
    parameters: list[Parameter] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list, compare=False)

    def nodes(self) -> Iterator[Node]:
        """All indicators and items, in document order."""
        stack: list[Node] = list(reversed(self.roots))
        while stack:
            node = stack.pop()
            yield node
            if isinstance(node, Indicator):
                stack.extend(reversed(node.children))

    def items(self) -> Iterator[Item]:
        """All indicator items, in document order."""
        return (node for node in self.nodes() if isinstance(node, Item))
