"""The compiled plan of a task as a device reads it: checked before use, never trusted to be well formed.

A plan is canonical JSON that the control side wrote (``ioc_scan.openioc.plan``). It holds every IOC file of a
task, compiled: no XML, no parser and no table of terms is needed here. Its members:

``plan_version``  1                ``binding``  "item" or "host": how the IOC files were read
``iocs``          [{"digest", "id", "name", "tier"}]
``terms``         [{"document", "field", "type", "systems": [systems with a collector]}]
``tests``         [[term, operation, value, exact case 0|1]]           see :mod:`.conditions`
``predicates``    [[document, formula]]   a formula is said of ONE item: {"and": [...]}, {"or": [...]}, or a
                  leaf [test, negated 0|1, id of the indicator item]
``branches``      [[ioc, formula over predicate numbers]]   said of the whole host: a number, {"and"}, {"or"}
``sets``          many alike, in short: each value is a branch of its own
                  [{"ioc", "term", "operation", "exact_case", "values" or "digests", "sizes", "ids"}]
                  with ``sizes``, AND(SizeInBytes is, hash is) on one file
``unusable``      [[ioc, what, reason]]   indicator items that could not be compiled: unknown, never "clean"
"""

from __future__ import annotations

import binascii
import hashlib

from . import TYPE_CHECKING
from .conditions import OPERATIONS, TEXT_OPERATIONS
from .errors import ScannerError
from .jsontext import loads
from .records import Record

if TYPE_CHECKING:
    from typing import Any, NoReturn, Sequence, Union

    Formula = Union["Leaf", "Junction"]
    HostFormula = Union[int, "Junction"]

PLAN_VERSION = 1
MAX_PLAN_BYTES = 128 * 1024 * 1024
MAX_IOCS = 1000
MAX_TESTS = 400000
MAX_SET_VALUES = 2000000
MAX_FORMULA_DEPTH = 40
MAX_FORMULA_NODES = 1000000
MAX_TEXT_CHARS = 32 * 1024
TIERS = ("actionable", "hunt")
BINDINGS = ("item", "host")
_HASH_LENGTHS = {"md5": 16, "sha1": 20, "sha256": 32}
_HEX = frozenset("0123456789abcdef")
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class PlanError(ScannerError):
    """The plan cannot be used: not JSON, another version, beyond a bound, or not of the agreed shape."""


class PlanIoc(Record):
    """One IOC file of the plan."""

    digest: str  #: SHA-256 of the IOC file, lower hex
    ioc_id: str
    name: str
    tier: str  #: "actionable" or "hunt"


class Term(Record):
    document: str
    field: str
    type: str
    systems: frozenset[str]


class Test(Record):
    term: int
    operation: str
    value: Any
    exact_case: bool


class Leaf(Record):
    test: int
    negated: bool
    item_id: str


class Junction(Record):
    """AND or OR of formulas; at host level its leaves are predicate numbers."""

    all: bool
    parts: tuple[Any, ...]


class Group:
    """One entry of ``sets``: values that each are a branch, with the ids of the items that say so."""

    __slots__ = ("_ids", "exact_case", "ids_each", "ioc", "operation", "sizes", "term", "values")

    def __init__(
        self,
        ioc: int,
        term: int,
        operation: str,
        exact_case: bool,
        values: Sequence[Any],
        sizes: list[int] | None,
        ids: Any,
    ) -> None:
        self.ioc = ioc
        self.term = term
        self.operation = operation
        self.exact_case = exact_case
        self.values = values
        self.sizes = sizes
        self.ids_each = 2 if sizes is not None else 1
        self._ids = ids

    def item_ids(self, position: int) -> tuple[str, ...]:
        places = range(position * self.ids_each, (position + 1) * self.ids_each)
        if isinstance(self._ids, bytes):
            return tuple(_uuid_text(self._ids[16 * place : 16 * place + 16]) for place in places)
        return tuple(self._ids[place] for place in places)


def _uuid_text(raw: bytes) -> str:
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


class Plan:
    """A loaded plan. ``iocs`` in the order they were compiled; ``documents`` any of them names."""

    def __init__(self) -> None:
        self.digest = ""
        self.binding = "item"
        self.iocs: list[PlanIoc] = []
        self.terms: list[Term] = []
        self.tests: list[Test] = []
        self.predicates: list[tuple[str, Formula]] = []
        self.branches: list[tuple[int, HostFormula]] = []
        self.groups: list[Group] = []
        self.unusable: list[tuple[int, str, str]] = []

    @property
    def documents(self) -> frozenset[str]:
        return frozenset(term.document for term in self.terms)


def load_plan(data: bytes) -> Plan:
    """Read and check a plan. Raises PlanError (``plan_bound``, ``_not_json``, ``_version``, ``_shape``)."""
    if len(data) > MAX_PLAN_BYTES:
        raise PlanError("plan_bound", f"the plan has more than {MAX_PLAN_BYTES} bytes")
    try:
        document = loads(data.decode("ascii"))
    except (ValueError, RecursionError):
        raise PlanError("plan_not_json", "the plan is not ASCII JSON") from None
    if not isinstance(document, dict) or document.get("plan_version") != PLAN_VERSION:
        raise PlanError("plan_version", f"the plan is not of version {PLAN_VERSION}", "update the scanner")
    loader = _Loader(document)
    loader.plan.digest = hashlib.sha256(data).hexdigest()
    return loader.load()


def _refuse(what: str) -> NoReturn:
    raise PlanError("plan_shape", "the plan is malformed: " + what)


class _Loader:
    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.plan = Plan()
        self.nodes = 0

    def load(self) -> Plan:
        plan = self.plan
        plan.binding = str(self.document.get("binding"))
        if plan.binding not in BINDINGS:
            _refuse("binding")
        for entry in self.rows("iocs", MAX_IOCS):
            plan.iocs.append(self.ioc(entry))
        for entry in self.rows("terms", MAX_TESTS):
            plan.terms.append(self.term(entry))
        for entry in self.rows("tests", MAX_TESTS):
            plan.tests.append(self.test(entry))
        for entry in self.rows("predicates", MAX_TESTS):
            if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
                _refuse("predicates")
            plan.predicates.append((entry[0], self.formula(entry[1], entry[0], 0)))
        for entry in self.rows("branches", MAX_TESTS):
            if not (isinstance(entry, list) and len(entry) == 2):
                _refuse("branches")
            plan.branches.append((self.number(entry[0], plan.iocs), self.host_formula(entry[1], 0)))
        values = 0
        for entry in self.rows("sets", MAX_TESTS):
            plan.groups.append(self.group(entry))
            values += len(plan.groups[-1].values)
            if values > MAX_SET_VALUES:
                raise PlanError("plan_bound", f"the plan has more than {MAX_SET_VALUES} values in sets")
        for entry in self.rows("unusable", MAX_TESTS):
            if not (isinstance(entry, list) and len(entry) == 3 and self.texts(entry[1:])):
                _refuse("unusable")
            plan.unusable.append((self.number(entry[0], plan.iocs), entry[1], entry[2]))
        return plan

    def rows(self, name: str, limit: int) -> list[Any]:
        rows = self.document.get(name)
        if not isinstance(rows, list):
            _refuse(name)
        if len(rows) > limit:
            raise PlanError("plan_bound", f"the plan has more than {limit} {name}")
        return rows

    @staticmethod
    def texts(values: object) -> bool:
        return isinstance(values, list) and all(
            isinstance(text, str) and len(text) <= MAX_TEXT_CHARS for text in values
        )

    @staticmethod
    def number(value: object, rows: Sequence[Any]) -> int:
        if type(value) is not int or not 0 <= value < len(rows):
            _refuse("a number that names nothing")
        return value

    def ioc(self, entry: Any) -> PlanIoc:
        if not isinstance(entry, dict) or not self.texts(
            [entry.get(name) for name in ("digest", "id", "name", "tier")]
        ):
            _refuse("iocs")
        if len(entry["digest"]) != 64 or set(entry["digest"]) - _HEX or entry["tier"] not in TIERS:
            _refuse("iocs")
        return PlanIoc(entry["digest"], entry["id"], entry["name"], entry["tier"])

    def term(self, entry: Any) -> Term:
        if not isinstance(entry, dict) or not self.texts(
            [entry.get(name) for name in ("document", "field", "type")]
        ):
            _refuse("terms")
        if not self.texts(entry.get("systems")):
            _refuse("terms")
        return Term(entry["document"], entry["field"], entry["type"], frozenset(entry["systems"]))

    def test(self, entry: Any) -> Test:
        if not (isinstance(entry, list) and len(entry) == 4):
            _refuse("tests")
        term, operation, value, exact_case = entry
        self.number(term, self.plan.terms)
        if operation not in OPERATIONS or exact_case not in (0, 1) or not self.value_fits(operation, value):
            _refuse("tests")
        if operation == "hash":
            value = self.digest(value, self.plan.terms[term].type)
        return Test(term, operation, value, bool(exact_case))

    def value_fits(self, operation: str, value: Any) -> bool:
        if operation == "matches":
            from .automaton import check_program  # few plans have patterns

            return (
                isinstance(value, dict)
                and self.texts([value.get("literal")])
                and check_program(value.get("program"))
            )
        if operation == "range":
            return (
                isinstance(value, list)
                and len(value) == 2
                and all(end is None or type(end) in (int, float) for end in value)
            )
        if operation == "ip_range":
            return isinstance(value, list) and len(value) == 3 and all(type(end) is int for end in value)
        if operation == "bool":
            return isinstance(value, bool)
        return isinstance(value, str) and 0 < len(value) <= MAX_TEXT_CHARS

    @staticmethod
    def digest(value: Any, kind: str) -> bytes:
        try:
            raw = bytes.fromhex(value)
        except (TypeError, ValueError):
            _refuse("a digest")
        if len(raw) != _HASH_LENGTHS.get(kind):
            _refuse("a digest")
        return raw

    def formula(self, entry: Any, document: str, depth: int) -> Formula:
        if isinstance(entry, list):
            if len(entry) != 3 or entry[1] not in (0, 1) or not isinstance(entry[2], str):
                _refuse("a leaf")
            test = self.number(entry[0], self.plan.tests)
            if self.plan.terms[self.plan.tests[test].term].document != document:
                _refuse("a leaf of another document")
            return Leaf(test, bool(entry[1]), entry[2])
        every, parts = self.junction(entry, depth)
        return Junction(every, tuple(self.formula(part, document, depth + 1) for part in parts))

    def host_formula(self, entry: Any, depth: int) -> HostFormula:
        if isinstance(entry, int):
            return self.number(entry, self.plan.predicates)
        every, parts = self.junction(entry, depth)
        return Junction(every, tuple(self.host_formula(part, depth + 1) for part in parts))

    def junction(self, entry: Any, depth: int) -> tuple[bool, list[Any]]:
        if not (isinstance(entry, dict) and len(entry) == 1):
            _refuse("a formula")
        name, parts = next(iter(entry.items()))
        if name not in ("and", "or") or not isinstance(parts, list) or not parts:
            _refuse("a formula")
        self.nodes += len(parts)
        if depth > MAX_FORMULA_DEPTH or self.nodes > MAX_FORMULA_NODES:
            raise PlanError("plan_bound", "a formula of the plan is too deep or too long")
        return name == "and", parts

    def group(self, entry: Any) -> Group:
        if not isinstance(entry, dict):
            _refuse("sets")
        ioc = self.number(entry.get("ioc"), self.plan.iocs)
        term = self.number(entry.get("term"), self.plan.terms)
        operation, sizes, exact_case = entry.get("operation"), entry.get("sizes"), entry.get("exact_case")
        if exact_case not in (0, 1):
            _refuse("sets")
        values: Sequence[Any]
        if operation == "hash":
            values = self.packed(entry.pop("digests", None), _HASH_LENGTHS.get(self.plan.terms[term].type, 0))
        elif operation in TEXT_OPERATIONS and operation != "matches" and self.texts(entry.get("values")):
            values = entry["values"]
        else:
            _refuse("sets")
        if sizes is not None and not (
            operation == "hash"
            and self.plan.terms[term].document == "FileItem"
            and isinstance(sizes, list)
            and len(sizes) == len(values)
            and all(type(size) is int for size in sizes)
        ):
            _refuse("sizes")
        ids = entry.pop("ids", None)  # long texts are let go as they are read
        wanted = len(values) * (1 if sizes is None else 2)
        if isinstance(ids, str):
            ids = self.unpack(ids)
            fits = len(ids) == 16 * wanted
        else:
            fits = isinstance(ids, list) and self.texts(ids) and len(ids) == wanted
        if not values or not fits:
            _refuse("sets")
        return Group(ioc, term, operation, bool(exact_case), values, sizes, ids)

    def packed(self, text: object, length: int) -> list[bytes]:
        raw = self.unpack(text)
        if not length or len(raw) % length:
            _refuse("digests")
        return [raw[at : at + length] for at in range(0, len(raw), length)]

    @staticmethod
    def unpack(text: object) -> bytes:
        if not isinstance(text, str):
            _refuse("base64")
        try:
            raw = text.encode("ascii")
            body = raw.rstrip(b"=")
            if len(raw) % 4 or len(raw) - len(body) > 2 or body.translate(None, _BASE64):
                _refuse("base64")
            return binascii.a2b_base64(raw)
        except ValueError:
            _refuse("base64")
