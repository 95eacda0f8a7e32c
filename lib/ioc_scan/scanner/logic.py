"""Three-valued logic over one item: True, False, or None for unknown. Only leaves are ever negated.

A leaf on a field the item lacks is unknown, negated or not; AND is false once a part is false, OR true once a
part is true; what then depends on an unknown part is unknown, and unknown is never a match.
"""

from __future__ import annotations

from . import TYPE_CHECKING
from .conditions import any_passes, bring_to_form
from .plan import Junction, Leaf

if TYPE_CHECKING:
    from typing import Any, Callable, Mapping

    from .conditions import Index, Slot
    from .plan import Formula, HostFormula, Plan


class Options:
    """An OR of many plain leaves, kept for look-up: test -> id of the indicator item."""

    __slots__ = ("ids", "slots")

    def __init__(self, leaves: list[Leaf], slots: list[Slot]) -> None:
        self.ids: dict[int, str] = {}
        for leaf in leaves:
            self.ids.setdefault(leaf.test, leaf.item_id)
        self.slots = tuple(dict.fromkeys(slots))


class View:
    """One item as the tests of its document see it; values are read and looked up once."""

    __slots__ = ("_indexes", "_passed", "_values", "item")

    def __init__(self, item: Mapping[str, Any], indexes: dict[Slot, Index]) -> None:
        self.item = item
        self._indexes = indexes
        self._values: dict[Slot, tuple[list[Any], bool]] = {}
        self._passed: dict[Slot, set[int]] = {}

    def values(self, slot: Slot) -> tuple[list[Any], bool]:
        """Known values in the slot's form, and whether any is unknown (a missing field is)."""
        present = self._values.get(slot)
        if present is None:
            raw = self.item.get(slot.field)
            if raw is None:
                present = ([], True)
            else:
                many = raw if isinstance(raw, (list, tuple)) else (raw,)
                read = [None if value is None else bring_to_form(slot, value) for value in many]
                known = [value for value in read if value is not None]
                present = (known, len(known) < len(read))
            self._values[slot] = present
        return present

    def passed(self, slot: Slot) -> set[int]:
        """Entries of the slot's index that any value of the item passes."""
        found = self._passed.get(slot)
        if found is None:
            index = self._indexes.get(slot)
            found = set() if index is None else any_passes(index, self.values(slot)[0])
            self._passed[slot] = found
        return found


class Judge:
    """Judges formulas of one document. ``slots``: test number -> where it looks."""

    def __init__(self, slots: Mapping[int, Slot]) -> None:
        self._slots = slots
        self._options: dict[int, Options] = {}

    def prepare(self, formula: Formula) -> None:
        """Note the long ORs of a formula, so that judging does not walk their leaves. It must live on."""
        if isinstance(formula, Junction):
            leaves = [part for part in formula.parts if isinstance(part, Leaf) and not part.negated]
            if not formula.all and len(leaves) > 8:
                self._options[id(formula)] = Options(leaves, [self._slots[leaf.test] for leaf in leaves])
            for part in formula.parts:
                self.prepare(part)

    def judge(self, formula: Formula, view: View) -> bool | None:
        if isinstance(formula, Leaf):
            slot = self._slots[formula.test]
            _, some_unknown = view.values(slot)
            if formula.test in view.passed(slot):
                return not formula.negated
            return None if some_unknown else formula.negated
        unknown = False
        options = self._options.get(id(formula))
        if options is not None:
            for slot in options.slots:
                if any(entry in options.ids for entry in view.passed(slot)):
                    return True
                unknown = unknown or view.values(slot)[1]
        for part in formula.parts:
            if options is not None and isinstance(part, Leaf) and not part.negated:
                continue
            value = self.judge(part, view)
            if value is None:
                unknown = True
            elif value is not formula.all:
                return value
        return None if unknown else formula.all

    def proof(self, formula: Formula, view: View) -> tuple[str, ...]:
        """Ids of the items that make a true formula true: all of an AND, the first true part of an OR."""
        if isinstance(formula, Leaf):
            return (formula.item_id,)
        if formula.all:
            return tuple(
                dict.fromkeys(item_id for part in formula.parts for item_id in self.proof(part, view))
            )
        for part in formula.parts:
            if self.judge(part, view):
                return self.proof(part, view)
        return ()


def prune(formula: Formula, usable: Callable[[int], bool]) -> Formula | None:
    """The formula without what can never be true because a test is not usable; None if nothing is left."""
    if isinstance(formula, Leaf):
        return formula if usable(formula.test) else None
    parts = [prune(part, usable) for part in formula.parts]
    kept = [part for part in parts if part is not None]
    if not kept or (formula.all and len(kept) < len(parts)):
        return None
    if len(kept) == len(parts) and all(new is old for new, old in zip(kept, formula.parts)):
        return formula
    return kept[0] if len(kept) == 1 else Junction(formula.all, tuple(kept))


def prune_host(formula: HostFormula, usable: Callable[[int], bool]) -> HostFormula | None:
    """:func:`prune` over predicates."""
    if isinstance(formula, int):
        return formula if usable(formula) else None
    parts = [prune_host(part, usable) for part in formula.parts]
    kept = [part for part in parts if part is not None]
    if not kept or (formula.all and len(kept) < len(parts)):
        return None
    return kept[0] if len(kept) == 1 else Junction(formula.all, tuple(kept))


def predicates_of(formula: HostFormula) -> list[int]:
    """Predicate numbers of a host formula, in order."""
    if isinstance(formula, int):
        return [formula]
    return [number for part in formula.parts for number in predicates_of(part)]


def tests_of(formula: Formula) -> list[int]:
    """Test numbers of a formula, in order."""
    if isinstance(formula, Leaf):
        return [formula.test]
    return [test for part in formula.parts for test in tests_of(part)]


def proving_digests(formula: Formula, plan: Plan, algorithm: str = "sha256") -> frozenset[bytes] | None:
    """If the formula can only be true of a file with one of certain digests: those; else None.

    This is what makes a match fit to act on: everything else about a file can be shared by an innocent one.
    """
    if isinstance(formula, Leaf):
        test = plan.tests[formula.test]
        term = plan.terms[test.term]
        if (
            not formula.negated
            and test.operation == "hash"
            and term.type == algorithm
            and term.document == "FileItem"
        ):
            return frozenset((test.value,))
        return None
    parts = [proving_digests(part, plan, algorithm) for part in formula.parts]
    if formula.all:
        return next((part for part in parts if part is not None), None)
    if any(part is None for part in parts):
        return None
    return frozenset().union(*(part for part in parts if part is not None))
