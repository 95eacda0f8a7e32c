"""IOC files from a triaged detection: one per tier, and the same detection always gives the same bytes.

The actionable file says AND(SizeInBytes, Sha256sum) per object and nothing else: with the size first a scan
reads almost nothing, and no innocent file shares a SHA-256. All else goes to the hunt file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import NAMESPACE_URL, UUID, uuid5

from ioc_scan.errors import InputError
from ioc_scan.openioc.generate_items import Parts, actionable_parts, hunt_parts
from ioc_scan.openioc.model import VERSIONS, Indicator, Ioc, Item, Link, Node
from ioc_scan.openioc.secure_xml import MAX_FILE_BYTES
from ioc_scan.openioc.terms import find_term
from ioc_scan.openioc.writer import write_ioc, xml_safe
from ioc_scan.text import printable

_IDS = uuid5(NAMESPACE_URL, "urn:ioc_scan:openioc:generate:1")
_CONTENT_TYPES = {"ip": "IP"}
_PURPOSE = {
    "actionable": "The objects themselves, by size and SHA-256. A response may act on what it matches.",
    "hunt": "What goes with the objects. To be looked for and reported, never acted on.",
}


class TriageLike(Protocol):
    """The two lists of a triage that are looked for; each entry is an indicator in normal form."""

    @property
    def actionable(self) -> Sequence[Mapping[str, Any]]: ...

    @property
    def hunt(self) -> Sequence[Mapping[str, Any]]: ...


@dataclass(frozen=True)
class GeneratedIoc:
    """``item_count``: indicator items in the file; ``dropped``: indicators not said, or without room."""

    tier: str
    content: bytes
    digest: str
    ioc_id: str
    item_count: int
    dropped: int


def generate_iocs(
    triage: TriageLike, detection: Mapping[str, Any], *, version: str = "1.0", max_bytes: int = MAX_FILE_BYTES
) -> list[GeneratedIoc]:
    """At most two files: "actionable", "hunt"; a tier with nothing to say gives none.

    ``max_bytes``: what a file may have (Kaspersky reads 2 MB); what comes last is left out first.
    """
    if version not in VERSIONS:
        raise InputError(
            "unknown_version", f"{printable(version, 20)} is not a version of OpenIOC", "1.0 or 1.1"
        )
    makers: tuple[tuple[str, Sequence[Mapping[str, Any]], Callable[..., Parts | None]], ...] = (
        ("actionable", triage.actionable, actionable_parts),
        ("hunt", triage.hunt, hunt_parts),
    )
    files = []
    for tier, indicators, make in makers:
        parts: dict[Parts, None] = {}
        dropped = 0
        for indicator in indicators:
            made = make(indicator, version)
            if made is None:
                dropped += 1
            else:
                parts[made] = None  # the same object may have been seen in several places
        if parts:
            files.append(_file(detection, tier, version, list(parts), dropped, max_bytes))
    return files


def _file(
    detection: Mapping[str, Any], tier: str, version: str, parts: list[Parts], dropped: int, max_bytes: int
) -> GeneratedIoc:
    while True:
        ioc = _document(detection, tier, version, parts)
        content = write_ioc(ioc)
        if len(content) <= max_bytes or len(parts) == 1:
            break
        keep = max(1, min(len(parts) - 1, len(parts) * max_bytes // len(content)))
        dropped += len(parts) - keep
        parts = parts[:keep]
    return GeneratedIoc(
        tier=tier,
        content=content,
        digest=hashlib.sha256(content).hexdigest(),
        ioc_id=ioc.id,
        item_count=sum(1 for _ in ioc.items()),
        dropped=dropped,
    )


def _document(detection: Mapping[str, Any], tier: str, version: str, parts: Iterable[Parts]) -> Ioc:
    detection_id = detection["detection_id"]
    ids = uuid5(_IDS, f"{detection_id}\n{tier}\n{version}")
    moment = detection["detected_at"]
    families = [_line(family) for family in detection["verdict"].get("families", [])]
    what = ", ".join(families[:3]) or detection["verdict"]["result"]
    maker = _Maker(ids)
    root = Indicator(maker.next_id(), "OR", [maker.node(part) for part in parts])
    return Ioc(
        version=version,
        id=str(ids),
        roots=[root],
        last_modified=moment,
        published_date=moment if version == "1.1" else None,
        short_description=_line(f"{what} ({tier}) from {detection_id}"),
        description=_line(f"{_PURPOSE[tier]} Made from the sandbox detection {detection_id}."),
        keywords=" ".join(families) or None,
        authored_by="ioc_scan",
        authored_date=moment,
        links=[Link(rel="detection", text=_line(detection_id)), Link(rel="tier", text=tier)],
    )


class _Maker:
    """Nodes with ids that follow from the detection and the place in the file."""

    def __init__(self, namespace: UUID) -> None:
        self.namespace = namespace
        self.count = 0

    def next_id(self) -> str:
        self.count += 1
        return str(uuid5(self.namespace, str(self.count)))

    def node(self, part: Parts) -> Node:
        if part[0] in ("AND", "OR"):
            identifier = self.next_id()
            # the schemas want items before nested indicators
            children = sorted(part[1:], key=lambda child: child[0] in ("AND", "OR"))
            return Indicator(identifier, part[0], [self.node(child) for child in children])
        search, condition, content = part
        term = find_term(search)
        assert term is not None, search
        return Item(
            id=self.next_id(),
            condition=condition,
            document=term.document,
            search=term.name,
            content=content,
            content_type=_CONTENT_TYPES.get(term.type, term.type),
        )


def _line(text: str) -> str:
    return xml_safe(printable(text, 300))
