"""Collects what a plan holds, each test and term once, and writes it as canonical JSON."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from ioc_scan.errors import InputError
from ioc_scan.openioc.content import Test
from ioc_scan.openioc.model import Ioc
from ioc_scan.openioc.terms import Term
from ioc_scan.scanner.plan import (
    MAX_FORMULA_NODES,
    MAX_IOCS,
    MAX_PLAN_BYTES,
    MAX_SET_VALUES,
    MAX_TESTS,
    PLAN_VERSION,
)
from ioc_scan.text import printable

#: Reasons kept per IOC file; the first ones show what is wrong.
MAX_UNUSABLE = 1000


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

    def add_id(self, identifier: str) -> None:
        if self.text_ids is None:
            raw = _uuid_bytes(identifier)
            if raw is not None:
                self.packed_ids += raw
                return
            self.text_ids = [
                _uuid_text(self.packed_ids[at : at + 16]) for at in range(0, len(self.packed_ids), 16)
            ]
        self.text_ids.append(identifier)

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


def _uuid_bytes(text: str) -> bytes | None:
    """The 16 bytes of a UUID in its usual spelling (lower case, dashes), so that it can be given back."""
    if (
        len(text) != 36
        or text[8] != "-"
        or text[13] != "-"
        or text[18] != "-"
        or text[23] != "-"
        or text != text.lower()
    ):
        return None
    try:
        raw = bytes.fromhex(text.replace("-", ""))
    except ValueError:
        return None
    return raw if len(raw) == 16 else None


def _uuid_text(raw: bytes | bytearray) -> str:
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


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
            self.count(number, MAX_TESTS, "tests")
        return number

    def predicate(self, document: str, formula: Any) -> int:
        self.count(len(self.predicates) + 1, MAX_TESTS, "predicates")
        self.predicates.append([document, formula])
        return len(self.predicates) - 1

    def branch(self, ioc: int, formula: Any) -> None:
        self.branches.append([ioc, formula])

    def node(self) -> None:
        """One more node of a formula; the device refuses plans beyond its bound."""
        self._nodes += 1
        self.count(self._nodes, MAX_FORMULA_NODES, "nodes")

    def unusable(self, ioc: int, what: str, reason: str) -> None:
        if len(self._unusable) < MAX_UNUSABLE:
            self._unusable[(ioc, what, reason)] = None

    @staticmethod
    def count(number: int, limit: int, what: str) -> None:
        if number > limit:
            raise InputError(
                "plan_too_large", f"the plan would hold more than {limit} {what}", "split the task"
            )

    def value_set(self, ioc: int, term: Term, operation: str, exact_case: bool, with_sizes: bool) -> ValueSet:
        """The set one more value goes to; the caller adds the value, its size and its ids."""
        self._values += 1
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
