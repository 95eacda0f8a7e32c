"""STIX 2.1 of an IOC file: an indicator for each branch that a STIX pattern can say, a note for each other.

What OpenIOC compares without regard to case is written with MATCHES and ``(?i)``: ``=`` of STIX regards it.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import stix2

from ioc_scan.openioc.explain import describe_node
from ioc_scan.openioc.model import Indicator, Ioc, Node
from ioc_scan.openioc.stix_patterns import CannotSay, observation_pattern
from ioc_scan.openioc.writer import xml_safe
from ioc_scan.scanner.values import SECOND, read_moment
from ioc_scan.text import printable

_IDS = uuid5(NAMESPACE_URL, "urn:ioc_scan:openioc:stix:1")
#: The one producer of these bundles; a fixed identity, as STIX wants one.
_PRODUCER = f"identity--{uuid5(_IDS, 'ioc_scan')}"
_EPOCH = "1970-01-01T00:00:00.000Z"
MAX_TEXT_CHARS = 4000


def to_stix_bundle(ioc: Ioc, *, digest: str | None = None, tier: str | None = None) -> dict[str, Any]:
    """A bundle as plain JSON data: producer, report, and an indicator or a note for each branch of the file.

    Same document, same bundle: ids follow from the document, times are its last-modified.
    ``digest``: SHA-256 of the IOC file, named in the report.
    """
    moment = _moment(ioc.last_modified) or _moment(ioc.authored_date) or _EPOCH
    seed = uuid5(_IDS, f"{ioc.id}\n{digest or ''}\n{moment}")
    common = {"created": moment, "modified": moment, "created_by_ref": _PRODUCER}
    report_id = f"report--{uuid5(seed, 'report')}"
    title = _text(ioc.short_description or ioc.id or "IOC file", 300)
    objects: list[Any] = []
    for position, branch in enumerate(_branches(ioc)):
        wording = _text("\n".join(describe_node(branch)), MAX_TEXT_CHARS)
        try:
            pattern = observation_pattern(branch)
        except CannotSay as reason:
            objects.append(
                stix2.v21.Note(
                    id=f"note--{uuid5(seed, str(position))}",
                    abstract=f"Not expressible in a STIX pattern: {_text(str(reason), 200)}",
                    content=wording,
                    object_refs=[report_id],
                    **common,
                )
            )
            continue
        objects.append(
            stix2.v21.Indicator(
                id=f"indicator--{uuid5(seed, str(position))}",
                name=title,
                description=wording,
                indicator_types=["malicious-activity"],
                pattern=pattern,
                pattern_type="stix",
                pattern_version="2.1",
                valid_from=moment,
                labels=[f"ioc-scan:{tier}"] if tier else None,
                **common,
            )
        )
    report = stix2.v21.Report(
        id=report_id,
        name=title,
        description=_text(ioc.description or "", MAX_TEXT_CHARS) or None,
        report_types=["indicator"],
        published=moment,
        object_refs=[entry["id"] for entry in objects] or [_PRODUCER],
        labels=[f"ioc-scan:{tier}"] if tier else None,
        external_references=[_reference(ioc, digest)],
        **common,
    )
    producer = stix2.v21.Identity(
        id=_PRODUCER, name="ioc_scan", identity_class="system", created=_EPOCH, modified=_EPOCH
    )
    bundle = stix2.v21.Bundle(producer, report, *objects, id=f"bundle--{uuid5(seed, 'bundle')}")
    return dict(json.loads(bundle.serialize()))


def _reference(ioc: Ioc, digest: str | None) -> dict[str, Any]:
    reference: dict[str, Any] = {
        "source_name": f"OpenIOC {ioc.version}",
        "external_id": _text(ioc.id or "(no id)", 200),
        "description": "The IOC file this bundle was made from; it is the one that scans use.",
    }
    if digest:
        reference["description"] += f" SHA-256 of the file: {digest}."
    return reference


def _branches(ioc: Ioc) -> list[Node]:
    """What OR joins at the top: each matches by itself."""
    found: list[Node] = []
    stack: list[Node] = list(reversed(ioc.roots))
    while stack:
        node = stack.pop()
        if isinstance(node, Indicator) and (node.operator == "OR" or len(node.children) == 1):
            stack.extend(reversed(node.children))
        elif not isinstance(node, Indicator) or node.children:
            found.append(node)
    return found


def _moment(text: str | None) -> str | None:
    read = read_moment(text) if text else None
    if read is None or read[0] < 0:
        return None
    moment = datetime.fromtimestamp(read[0] // SECOND, timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _text(text: str, limit: int) -> str:
    """Several lines are allowed here; everything else is made printable."""
    return xml_safe("\n".join(printable(line, limit) for line in text.splitlines()))[:limit]
