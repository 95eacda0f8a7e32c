"""What a plan comes to on one system: indexes, formulas that can hold there, and what a file walk has to ask."""

from __future__ import annotations

from . import TYPE_CHECKING
from .conditions import Index, slot_of
from .logic import Judge, predicates_of, proving_digests, prune, prune_host, tests_of
from .prefilter import FILES, HASH_FIELDS, NAME_FIELDS, NO_ANCHOR, SHA256, Prefilter, find_anchor

if TYPE_CHECKING:
    from typing import Any

    from .conditions import Slot
    from .plan import Formula, Group, HostFormula, Plan


class Document:
    """What the plan says of one document: its indexes, and which formulas a passed test concerns."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.indexes: dict[Slot, Index] = {}
        self.anchor_slots: dict[Slot, None] = {}
        self.by_test: dict[int, list[int]] = {}
        self.always: list[int] = []


class Prepared:
    """Made once per scan; nothing in it changes while items are judged."""

    def __init__(self, plan: Plan, system: str | None) -> None:
        self.plan = plan
        self._system = system
        self._usable = [system is None or system in term.systems for term in plan.terms]
        self._slots = {
            number: slot_of(
                plan.terms[test.term].field, plan.terms[test.term].type, test.operation, test.exact_case
            )
            for number, test in enumerate(plan.tests)
        }
        self.documents: dict[str, Document] = {}
        self.prefilter = Prefilter()
        self.groups: list[Group] = []
        self.group_starts: list[int] = []
        self.formulas: dict[int, Formula] = {}
        #: predicate -> IOC files it proves alone, and those it proves together with others
        self.alone: dict[int, list[int]] = {}
        self.host: list[tuple[int, HostFormula]] = []
        self.acting: dict[int, bool] = {}
        self.acting_digests: set[bytes] = set()
        self.not_evaluated: dict[tuple[str, str], None] = {}
        self.doubtful: set[int] = set()
        self._note_what_cannot_be_evaluated()
        self._add_branches()
        self._add_groups()
        self.joined = frozenset(number for _, formula in self.host for number in predicates_of(formula))

    def _test_is_usable(self, number: int) -> bool:
        return self._usable[self.plan.tests[number].term]

    def _note_what_cannot_be_evaluated(self) -> None:
        plan = self.plan
        for ioc, what, reason in plan.unusable:
            self.doubtful.add(ioc)
            self.not_evaluated[(what, reason)] = None
        for ioc, term in self.terms_by_ioc():
            if not self._usable[term]:
                self.doubtful.add(ioc)
                name = plan.terms[term].document + "/" + plan.terms[term].field
                self.not_evaluated[(name, "no collector on " + str(self._system))] = None

    def terms_by_ioc(self) -> list[tuple[int, int]]:
        plan = self.plan
        pairs: dict[tuple[int, int], None] = {}
        for ioc, formula in plan.branches:
            for number in predicates_of(formula):
                for test in tests_of(plan.predicates[number][1]):
                    pairs[(ioc, plan.tests[test].term)] = None
        for group in plan.groups:
            pairs[(group.ioc, group.term)] = None
        return list(pairs)

    def _document(self, name: str) -> Document:
        document = self.documents.get(name)
        if document is None:
            document = self.documents[name] = Document(Judge(self._slots))
        return document

    def _add_branches(self) -> None:
        plan = self.plan
        pruned = {}
        for number, (_, formula) in enumerate(plan.predicates):
            kept = prune(formula, self._test_is_usable)
            if kept is not None:
                pruned[number] = kept
        for ioc, branch in plan.branches:
            host = prune_host(branch, pruned.__contains__)
            if host is None:
                continue
            for number in predicates_of(host):
                if number not in self.formulas:
                    self.formulas[number] = pruned[number]
                    self._add_predicate(number)
            if isinstance(host, int):
                self.alone.setdefault(host, []).append(ioc)
                self._add_acting(ioc, host)
            else:
                self.host.append((ioc, host))

    def _add_acting(self, ioc: int, number: int) -> None:
        digests = proving_digests(self.formulas[number], self.plan)
        self.acting[number] = digests is not None
        if digests is not None and self.plan.iocs[ioc].tier == "actionable":
            self.acting_digests.update(digests)

    def _add_predicate(self, number: int) -> None:
        plan, formula = self.plan, self.formulas[number]
        name = plan.predicates[number][0]
        document = self._document(name)
        for test_number in set(tests_of(formula)):
            test, slot = plan.tests[test_number], self._slots[test_number]
            index = document.indexes.setdefault(slot, Index())
            if test_number not in document.by_test:
                document.by_test[test_number] = []
                index.add(test.operation, _folded(test.value, test.operation, test.exact_case), test_number)
        document.judge.prepare(formula)
        anchor = find_anchor(formula, plan)
        if anchor is NO_ANCHOR or anchor.cost >= NO_ANCHOR.cost:
            document.always.append(number)
        for test_number in anchor.tests:
            document.by_test[test_number].append(number)
            document.anchor_slots[self._slots[test_number]] = None
        if name == FILES:
            self.prefilter.add(formula, plan)

    def _add_groups(self) -> None:
        plan = self.plan
        entry = len(plan.tests)
        for group in plan.groups:
            term = plan.terms[group.term]
            if not self._usable[group.term]:
                continue
            document = self._document(term.document)
            slot = slot_of(term.field, term.type, group.operation, group.exact_case)
            index = document.indexes.setdefault(slot, Index())
            document.anchor_slots[slot] = None
            self.groups.append(group)
            self.group_starts.append(entry)
            if group.operation == "hash":
                index.add_many(group.values, entry)
            else:
                for offset, value in enumerate(group.values):
                    index.add(
                        group.operation, _folded(value, group.operation, group.exact_case), entry + offset
                    )
            if term.document == FILES:
                self._add_file_group(group, term.field, entry)
            entry += len(group.values)

    def _add_file_group(self, group: Group, field: str, entry: int) -> None:
        prefilter = self.prefilter
        if field in HASH_FIELDS and group.operation == "hash":
            mask = HASH_FIELDS[field]
            if group.sizes is None:
                prefilter.any_size_mask |= mask
            else:
                for size in group.sizes:
                    prefilter.add_size(size, mask)
            if mask == SHA256 and self.plan.iocs[group.ioc].tier == "actionable":
                self.acting_digests.update(group.values)
        elif field == "FileName" and group.operation == "eq":
            prefilter.exact_names.update(value.casefold() for value in group.values)
        elif field in NAME_FIELDS:
            for offset in range(len(group.values)):
                prefilter.add_text(field, entry + offset)
        else:
            if field in HASH_FIELDS:
                prefilter.any_size_mask |= HASH_FIELDS[field]
            prefilter.always = True


def _folded(value: Any, operation: str, exact_case: bool) -> Any:
    """A text test without exact case compares casefolded text; its index holds it so."""
    if exact_case or operation not in ("eq", "contains", "starts", "ends"):
        return value
    return value.casefold()
