"""Which files are worth a second look, worked out from the plan before the walk begins.

Each formula about files gets an anchor: something that must hold whenever the formula does, as cheap as there
is. A name or a part of the path is asked before hashing, a size decides whether to hash at all, and only a
formula that offers nothing else makes every file a candidate.
"""

from __future__ import annotations

from . import TYPE_CHECKING
from .conditions import TEXT_OPERATIONS
from .logic import tests_of
from .plan import Leaf
from .records import Record

if TYPE_CHECKING:
    from typing import Any, Iterable

    from .plan import Formula, Plan

FILES, SIZE = "FileItem", "SizeInBytes"
MD5, SHA1, SHA256 = 1, 2, 4
#: item field -> bit of the hash algorithm in every mask
HASH_FIELDS = {"Md5sum": MD5, "Sha1sum": SHA1, "Sha256sum": SHA256}
#: Fields a walk knows from a name and a path alone.
NAME_FIELDS = frozenset({"FileName", "FullPath", "FilePath", "FileExtension"})
EARLY_FIELDS = NAME_FIELDS | {SIZE}

_ALWAYS = 1000
_LATE = 50  # what a name, a path and a size do not tell
_TEXT_COST = {"eq": 1, "starts": 3, "ends": 3, "contains": 4, "matches": 6}


def path_fields(name: str, path: str, windows: bool) -> dict[str, str]:
    """FileItem fields that a name and a full path tell: FileName, FullPath, FilePath (the folder, without a
    separator at its end) and FileExtension (after the last dot, without it; "" if there is none)."""
    separator = "\\" if windows else "/"
    folder = path.rpartition(separator)[0]
    stem, dot, extension = name.rpartition(".")
    return {
        "FileName": name,
        "FullPath": path,
        "FilePath": folder or separator,
        "FileExtension": extension if dot and stem else "",
    }


class Anchor(Record):
    """Tests of which one must hold; ``cost`` _ALWAYS: nothing is sure, ask every item."""

    cost: int
    tests: tuple[int, ...]


NO_ANCHOR = Anchor(_ALWAYS, ())


def find_anchor(formula: Formula, plan: Plan) -> Anchor:
    """The cheapest set of tests of which at least one holds whenever the formula does."""
    if isinstance(formula, Leaf):
        if formula.negated:
            return NO_ANCHOR
        return Anchor(_cost(plan, formula.test), (formula.test,))
    anchors = [find_anchor(part, plan) for part in formula.parts]
    if formula.all:
        return min(anchors, key=lambda anchor: (anchor.cost, len(anchor.tests)))
    cost = max(anchor.cost for anchor in anchors)
    if cost >= _ALWAYS:
        return NO_ANCHOR
    return Anchor(cost, tuple(dict.fromkeys(test for anchor in anchors for test in anchor.tests)))


def _cost(plan: Plan, number: int) -> int:
    test = plan.tests[number]
    term = plan.terms[test.term]
    if term.document != FILES:
        return _TEXT_COST.get(test.operation, 2)
    if term.field in HASH_FIELDS and test.operation in ("hash", *TEXT_OPERATIONS):
        return 20  # has to be read from the disk first
    if term.field not in EARLY_FIELDS:
        return _LATE
    if test.operation == "range":
        return 2 if test.value[0] == test.value[1] else 8
    return _TEXT_COST.get(test.operation, 2) + (0 if term.field == "FileName" else 1)


class Prefilter:
    """What a walk asks of a plan; the attributes are those of the evaluator."""

    def __init__(self) -> None:
        self.any_size_mask = 0
        self.size_masks: dict[int, int] = {}
        self.ranged_masks: list[tuple[int, int, int]] = []
        self.exact_names: set[str] = set()
        self.needs_path = False
        self.always = False
        #: index entries on name, path and extension that make a file a candidate, beyond exact_names
        self.entries: set[int] = set()
        self.sizes: set[int] = set()
        self.size_ranges: list[tuple[int, int]] = []

    @property
    def asks_more(self) -> bool:
        return bool(self.always or self.entries or self.sizes or self.size_ranges)

    def add_text(self, field: str, entry: int) -> None:
        self.entries.add(entry)
        self.needs_path = self.needs_path or field in ("FullPath", "FilePath")

    def add_size(self, size: int, mask: int) -> None:
        self.size_masks[size] = self.size_masks.get(size, 0) | mask

    def add(self, formula: Formula, plan: Plan) -> None:
        """Take one formula about a file into account."""
        anchor = find_anchor(formula, plan)
        mask = 0
        for number in tests_of(formula):
            mask |= HASH_FIELDS.get(plan.terms[plan.tests[number].term].field, 0)
        hashed = _needs_digest(formula, plan)
        if anchor.cost >= _LATE:
            self.always = True
            return
        for number in anchor.tests:
            test = plan.tests[number]
            field = plan.terms[test.term].field
            if field in HASH_FIELDS:
                self.any_size_mask |= mask  # all the formula names: a second digest may be asked as well
                if test.operation != "hash":  # a part of a digest: the digest is in no list
                    self.always = True
            elif test.operation == "range":
                self._add_sizes(test.value, mask if hashed else 0, hashed)
            elif field == "FileName" and test.operation == "eq":
                self.exact_names.add(test.value.casefold())
            else:
                self.add_text(field, number)

    def _add_sizes(self, value: Any, mask: int, hashed: bool) -> None:
        low, high = value
        if low is not None and low == high:
            if hashed:
                self.add_size(low, mask)
            else:
                self.sizes.add(low)
            return
        low, high = max(0, low or 0), 2**64 if high is None else high
        if hashed:
            self.ranged_masks.append((low, high, mask))
        else:
            self.size_ranges.append((low, high))

    def wants_size(self, size: int | None) -> bool:
        """Could a file be a candidate by its size alone? An unknown size could."""
        if not self.sizes and not self.size_ranges:
            return False
        return (
            size is None or size in self.sizes or any(low <= size <= high for low, high in self.size_ranges)
        )


def _needs_digest(formula: Formula, plan: Plan) -> bool:
    """Is a whole digest, listed in the plan, part of every way the formula can be true?"""
    if isinstance(formula, Leaf):
        test = plan.tests[formula.test]
        return not formula.negated and test.operation == "hash" and plan.terms[test.term].field in HASH_FIELDS
    found: Iterable[bool] = (_needs_digest(part, plan) for part in formula.parts)
    return any(found) if formula.all else all(found)
