"""Collects what a plan holds, each test and term once, and writes it as canonical JSON."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from ioc_scan.errors import InputError
from ioc_scan.openioc.content import Test
from ioc_scan.openioc.model import Ioc
from ioc_scan.openioc.terms import Term
from ioc_scan.scanner.plan import (
    MAX_IOCS,
    MAX_PLAN_BYTES,
    MAX_SET_VALUES,
    MAX_TESTS,
    PLAN_VERSION,
)
from ioc_scan.text import printable

#: Reasons kept per IOC file; the first ones show what is wrong.
MAX_UNUSABLE = 1000
#: Leaves of all formulas; a file within its cap has 10,000 items at most, unless they are distributed.
MAX_LEAVES = 250_000
#: Steps of all patterns; public files need a few thousand.
MAX_PATTERN_STEPS = 100_000

_UUIDS = re.compile("(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})+")


@dataclass(slots=True)
class ValueSet:
    """Values that each are a branch of their own. ``ids`` are packed as long as all of them are UUIDs."""

    ioc: int
    term: int
    operation: str
    exact_case: bool
    values: list[str] = field(default_factory=list)
    digests: bytearray = field(default_factory=bytearray)
    sizes: list[int] | None = None
    packed_ids: bytearray = field(default_factory=bytearray)
    text_ids: list[str] | None = None

    def add_ids(self, identifiers: list[str]) -> None:
        if self.text_ids is None:
            raw = _uuid_bytes(identifiers)
            if raw is not None:
                self.packed_ids += raw
                return
            packed = self.packed_ids
            self.text_ids = [str(UUID(bytes=bytes(packed[at : at + 16]))) for at in range(0, len(packed), 16)]
        self.text_ids += identifiers

    def as_dict(self) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "ioc": self.ioc,
            "term": self.term,
            "operation": self.operation,
            "exact_case": int(self.exact_case),
            "sizes": self.sizes,
            "ids": base64.b64encode(self.packed_ids).decode("ascii")
            if self.text_ids is None
            else self.text_ids,
        }
        if self.operation == "hash":
            entry["digests"] = base64.b64encode(self.digests).decode("ascii")
        else:
            entry["values"] = self.values
        return entry


def _uuid_bytes(identifiers: list[str]) -> bytes | None:
    """The bytes of UUIDs in their usual spelling (lower case, dashes), so that they can be given back; else None."""
    joined = "".join(identifiers)
    if any(len(text) != 36 for text in identifiers) or not _UUIDS.fullmatch(joined):
        return None
    return bytes.fromhex(joined.replace("-", ""))


class PlanBuilder:
    def __init__(self, binding: str) -> None:
        self.binding = binding
        self.iocs: list[dict[str, str]] = []
        self.predicates: list[list[Any]] = []
        self.branches: list[list[Any]] = []
        self._terms: dict[str, tuple[int, Term]] = {}
        self._tests: dict[str, int] = {}
        self._test_rows: list[list[Any]] = []
        self._sets: dict[tuple[int, int, str, bool, bool], ValueSet] = {}
        self._unusable: dict[tuple[int, str, str], None] = {}
        self._nodes = 0
        self._steps = 0
        self._values = 0

    def add_ioc(self, digest: str, ioc: Ioc, tier: str) -> int:
        """The number of an IOC file in the plan."""
        if len(self.iocs) >= MAX_IOCS:
            raise InputError("plan_too_large", f"a plan holds at most {MAX_IOCS} IOC files", "split the task")
        name = printable(ioc.short_description or ioc.id, 120)
        self.iocs.append({"digest": digest, "id": printable(ioc.id, 120), "name": name, "tier": tier})
        return len(self.iocs) - 1

    def term(self, term: Term) -> int:
        known = self._terms.get(term.name)
        if known is None:
            known = self._terms[term.name] = (len(self._terms), term)
        return known[0]

    def test(self, term: Term, test: Test, exact_case: bool) -> int:
        row = [self.term(term), test[0], test[1], int(exact_case)]
        key = json.dumps(row)
        number = self._tests.get(key)
        if number is None:
            number = self._tests[key] = len(self._test_rows)
            self._test_rows.append(row)
            if test[0] == "matches":
                self._steps += len(test[1]["program"])
                self.count(self._steps, MAX_PATTERN_STEPS, "steps of patterns")
            self.count(number, MAX_TESTS, "tests")
        return number

    def predicate(self, document: str, formula: Any) -> int:
        self.count(len(self.predicates) + 1, MAX_TESTS, "predicates")
        self.predicates.append([document, formula])
        return len(self.predicates) - 1

    def branch(self, ioc: int, formula: Any) -> None:
        self.branches.append([ioc, formula])

    def more_nodes(self, number: int) -> None:
        """Make room for a formula with so many leaves. Raises InputError ``plan_too_large``."""
        self._nodes += number
        self.count(self._nodes, MAX_LEAVES, "leaves of formulas")

    def unusable(self, ioc: int, what: str, reason: str) -> None:
        if len(self._unusable) < MAX_UNUSABLE:
            self._unusable[(ioc, what, reason)] = None

    @staticmethod
    def count(number: int, limit: int, what: str) -> None:
        if number > limit:
            raise InputError(
                "plan_too_large", f"the plan would hold more than {limit} {what}", "split the task"
            )

    def value_set(
        self, ioc: int, term: Term, operation: str, exact_case: bool, with_sizes: bool, more: int
    ) -> ValueSet:
        """The set that ``more`` values go to; the caller adds them, their sizes and ids."""
        self._values += more
        if self._values > MAX_SET_VALUES:
            self.count(self._values, MAX_SET_VALUES, "values")
        key = (ioc, self.term(term), operation, exact_case, with_sizes)
        found = self._sets.get(key)
        if found is None:
            found = self._sets[key] = ValueSet(
                ioc, key[1], operation, exact_case, sizes=[] if with_sizes else None
            )
        return found

    def to_bytes(self) -> bytes:
        """Canonical ASCII JSON: sorted keys, no spaces."""
        plan = {
            "plan_version": PLAN_VERSION,
            "binding": self.binding,
            "iocs": self.iocs,
            "terms": [
                {
                    "document": term.document,
                    "field": term.field,
                    "type": term.type,
                    "systems": sorted(term.collectors),
                }
                for _, term in self._terms.values()
            ],
            "tests": self._test_rows,
            "predicates": self.predicates,
            "branches": self.branches,
            "sets": [entry.as_dict() for entry in self._sets.values()],
            "unusable": [list(row) for row in self._unusable],
        }
        data = json.dumps(plan, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode("ascii")
        self.count(len(data), MAX_PLAN_BYTES, "bytes")
        return data
