"""IOC files for Kaspersky's task that no detection wrote: exactly the objects of an approved response.

And the way back: an event names a hash and a path, a match needs the IOC file and the size it satisfies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID, uuid5

from ..scanner.plan import Plan, load_plan
from .result_shapes import PlanFacts

_IDS = UUID("6f6d4a3e-3f0b-5d53-9d0e-3f5d3a9f2f11")
_MAX_SIZES = 5000
_HEAD = (
    '<?xml version="1.0" encoding="utf-8"?>\n'
    '<ioc xmlns="http://schemas.mandiant.com/2010/ioc" id="{id}" last-modified="{moment}">\n'
    "  <short_description>objects of response {name}</short_description>\n"
    "  <authored_by>ioc_scan</authored_by>\n"
    "  <authored_date>{moment}</authored_date>\n"
    "  <links/>\n"
    '  <definition>\n    <Indicator operator="OR" id="{root}">\n'
)
_ITEM = (
    '        <IndicatorItem id="{id}" condition="is">\n'
    '          <Context document="FileItem" search="FileItem/{field}" type="mir"/>\n'
    '          <Content type="{kind}">{value}</Content>\n        </IndicatorItem>\n'
)


def ioc_for(objects: Iterable[tuple[str, int | None]], name: str, moment: str) -> bytes:
    """OpenIOC 1.0: AND(size, SHA-256) per object. Names, hashes and sizes are ours and were checked before."""
    ids = uuid5(_IDS, name)
    text = _HEAD.format(id=ids, name=name, moment=moment.rstrip("Z"), root=uuid5(ids, "root"))
    for number, (sha256, size) in enumerate(sorted(set(objects), key=str)):
        inner = []
        if size is not None:
            inner.append(("SizeInBytes", "int", str(int(size))))
        inner.append(("Sha256sum", "sha256", bytes.fromhex(sha256).hex()))
        text += f'      <Indicator operator="AND" id="{uuid5(ids, f"and{number}")}">\n'
        for field, kind, value in inner:
            text += _ITEM.format(id=uuid5(ids, f"{number}{field}"), field=field, kind=kind, value=value)
        text += "      </Indicator>\n"
    return (text + "    </Indicator>\n  </definition>\n</ioc>\n").encode("utf-8")


class Matcher:
    """What a plan makes of an object that an event names."""

    def __init__(self, plan_bytes: bytes) -> None:
        self._plan = load_plan(plan_bytes)
        self._facts = PlanFacts.of(plan_bytes)
        self._sizes = _sizes(self._plan)
        self.tiers = {ioc.digest: ioc.tier for ioc in self._plan.iocs}

    def match(
        self, ioc_digest: str, item: Mapping[str, Any]
    ) -> tuple[dict[str, Any], tuple[str, ...] | None]:
        """The item, with the size the plan has for that hash, and the indicator items it satisfies (or None).

        An object of that SHA-256 has that size: the event need not name it.
        """
        proof = self._facts.proves(ioc_digest, "FileItem", item)
        if proof is not None or "SizeInBytes" in item:
            return dict(item), proof
        for size in self._sizes:
            sized = {**item, "SizeInBytes": size}
            proof = self._facts.proves(ioc_digest, "FileItem", sized)
            if proof is not None:
                return sized, proof
        return dict(item), None

    def names_digest(self, digest: str) -> bool:
        return self._facts.names_digest(digest)


def _sizes(plan: Plan) -> list[int]:
    found = {
        test.value
        for test in plan.tests
        if plan.terms[test.term].field == "SizeInBytes" and isinstance(test.value, int)
    }
    for group in plan.groups:
        found.update(size for size in group.sizes or () if isinstance(size, int))
    return sorted(found)[:_MAX_SIZES]


def item_key(device_id: str, path: str, digest: str) -> str:
    """One file on one device: the same finding of another run, or told twice, has the same key."""
    return hashlib.sha256(
        f"ksc\0{device_id}\0{path}\0{digest}".encode("utf-8", "backslashreplace")
    ).hexdigest()
