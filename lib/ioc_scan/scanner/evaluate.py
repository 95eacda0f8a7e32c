"""Judges items of a device against a plan: which indicator items hold, and which IOC files they prove.

Meaning: in an AND, everything said about one document must hold on ONE item; documents join on the host.
Values are three-valued: a missing field or one that no collector answers is unknown, NOT unknown is unknown,
and only "true" matches.

How a walk over files uses it, cheapest question first::

    mask = evaluator.any_size_mask | evaluator.size_masks.get(size, 0)       # + ranged_masks
    wanted = name.casefold() in evaluator.exact_names or (
        evaluator.asks_more and evaluator.needs_item(name, path, size))
    if wanted:                       # name, path, ... could make it a candidate
        item = {"FileName": name, "FullPath": path, "SizeInBytes": size, ...}
        mask |= evaluator.hash_mask(item)    # hashes that could still change the outcome of this item
    if mask: digests = hash the file once with the algorithms in mask
    if wanted or any(digest in evaluator.digests for digest in digests):
        hits = evaluator.feed("FileItem", item with "Sha256sum": hex, ...)
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, Mapping, NamedTuple, Sequence

from .conditions import Index, Slot, slot_of
from .logic import Judge, View, predicates_of, proving_digests, prune, prune_host, tests_of
from .plan import Formula, Group, HostFormula, Junction, Plan, PlanError
from .prefilter import HASH_FIELDS, NO_ANCHOR, Prefilter, find_anchor
from .values import read_int

__all__ = ["HASH_FIELDS", "MD5", "SHA1", "SHA256", "Evaluator", "Finish", "Hit", "HostMatch", "path_fields"]

MD5, SHA1, SHA256 = 1, 2, 4
#: Items kept per predicate for joining documents; the first ones are enough to prove a match.
MAX_KEPT_ITEMS = 100
_FILES = "FileItem"
_SIZE = "SizeInBytes"


class Hit(NamedTuple):
    """One item alone proves one IOC file, by these indicator items."""

    ioc_digest: str
    tier: str
    item_ids: tuple[str, ...]
    document: str
    ioc_index: int


class HostMatch(NamedTuple):
    """Several items together prove one IOC file: ``parts`` are (document, item as fed, item ids)."""

    ioc_digest: str
    tier: str
    parts: tuple[tuple[str, Mapping[str, Any], tuple[str, ...]], ...]
    ioc_index: int


class Finish(NamedTuple):
    """What the whole host showed.

    ``matches``: across documents (those of a single item were given by ``feed``). ``not_evaluated``:
    (term or document, reason). ``outcomes``: digest of each IOC file -> "match" | "no_match" | "unknown".
    """

    matches: list[HostMatch]
    not_evaluated: list[tuple[str, str]]
    outcomes: dict[str, str]


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


class _Document:
    """What the plan says of one document: its indexes, and which formulas a passed test concerns."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.indexes: dict[Slot, Index] = {}
        self.anchor_slots: dict[Slot, None] = {}
        self.by_test: dict[int, list[int]] = {}
        self.always: list[int] = []


class Evaluator:
    """Judges items one by one. Read-only attributes for the file walk:

    ``documents``     documents that any usable indicator names, on this system
    ``file_fields``   FileItem fields any indicator names ("Created" ... tell the walk what to fill in)
    ``any_size_mask`` hash algorithms wanted for every file (MD5=1, SHA1=2, SHA256=4)
    ``size_masks``    {size: algorithms wanted for files of exactly this size}
    ``ranged_masks``  [(lowest size, highest size, algorithms)]
    ``digests``       container of the raw digests (bytes, 16, 20 or 32 long) that the plan names
    ``exact_names``   casefolded file names that make a file a candidate whatever its hashes
    ``asks_more``     False: ``needs_item`` adds nothing to ``exact_names`` and need not be called
    ``needs_path``    False: ``needs_item`` does not look at the path, "" may be passed
    """

    documents: frozenset[str]
    file_fields: frozenset[str]
    any_size_mask: int
    size_masks: dict[int, int]
    ranged_masks: list[tuple[int, int, int]]
    digests: Any
    exact_names: frozenset[str]
    asks_more: bool
    needs_path: bool

    def __init__(self, plan: Plan, system: str | None) -> None:
        """``system``: "linux", "windows" or "macos": it decides which terms have a collector. None: all count
        as collected, the items fed say what there is."""
        self.plan = plan
        self._system = system
        self._windows = system == "windows"
        self._usable = [system is None or system in term.systems for term in plan.terms]
        self._slots = {
            number: slot_of(
                plan.terms[test.term].field, plan.terms[test.term].type, test.operation, test.exact_case
            )
            for number, test in enumerate(plan.tests)
        }
        self._documents: dict[str, _Document] = {}
        self._prefilter = Prefilter()
        self._groups: list[Group] = []
        self._group_starts: list[int] = []
        self._formulas: dict[int, Formula] = {}
        #: predicate -> IOC files it proves alone, and those it proves together with others
        self._alone: dict[int, list[int]] = {}
        self._host: list[tuple[int, HostFormula]] = []
        self._acting: dict[int, bool] = {}
        self._acting_digests: set[bytes] = set()
        self._not_evaluated: dict[tuple[str, str], None] = {}
        self._doubtful: set[int] = set()
        self._kept: dict[int, list[tuple[dict[str, Any], tuple[str, ...]]]] = {}
        self._matched: set[int] = set()
        self._note_what_cannot_be_evaluated()
        self._add_branches()
        self._add_groups()
        self._joined = frozenset(number for _, formula in self._host for number in predicates_of(formula))
        self._set_attributes()

    # ------------------------------------------------------------------------------------------- preparing

    def _test_is_usable(self, number: int) -> bool:
        return self._usable[self.plan.tests[number].term]

    def _note_what_cannot_be_evaluated(self) -> None:
        plan = self.plan
        for ioc, what, reason in plan.unusable:
            self._doubtful.add(ioc)
            self._not_evaluated[(what, reason)] = None
        for ioc, term in self._terms_by_ioc():
            if not self._usable[term]:
                self._doubtful.add(ioc)
                name = plan.terms[term].document + "/" + plan.terms[term].field
                self._not_evaluated[(name, "no collector on " + str(self._system))] = None

    def _terms_by_ioc(self) -> list[tuple[int, int]]:
        plan = self.plan
        pairs: dict[tuple[int, int], None] = {}
        for ioc, formula in plan.branches:
            for number in predicates_of(formula):
                for test in tests_of(plan.predicates[number][1]):
                    pairs[(ioc, plan.tests[test].term)] = None
        for group in plan.groups:
            pairs[(group.ioc, group.term)] = None
        return list(pairs)

    def _document(self, name: str) -> _Document:
        document = self._documents.get(name)
        if document is None:
            document = self._documents[name] = _Document(Judge(self._slots))
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
                if number not in self._formulas:
                    self._formulas[number] = pruned[number]
                    self._add_predicate(number)
            if isinstance(host, int):
                self._alone.setdefault(host, []).append(ioc)
                self._add_acting(ioc, host)
            else:
                self._host.append((ioc, host))

    def _add_acting(self, ioc: int, number: int) -> None:
        digests = proving_digests(self._formulas[number], self.plan)
        self._acting[number] = digests is not None
        if digests is not None and self.plan.iocs[ioc].tier == "actionable":
            self._acting_digests.update(digests)

    def _add_predicate(self, number: int) -> None:
        plan, formula = self.plan, self._formulas[number]
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
        if name == _FILES:
            self._prefilter.add(formula, plan)

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
            self._groups.append(group)
            self._group_starts.append(entry)
            if group.operation == "hash":
                index.add_many(group.values, entry)
            else:
                for offset, value in enumerate(group.values):
                    index.add(
                        group.operation, _folded(value, group.operation, group.exact_case), entry + offset
                    )
            if term.document == _FILES:
                self._add_file_group(group, term.field, entry)
            entry += len(group.values)

    def _add_file_group(self, group: Group, field: str, entry: int) -> None:
        prefilter = self._prefilter
        if field in HASH_FIELDS and group.operation == "hash":
            mask = HASH_FIELDS[field]
            if group.sizes is None:
                prefilter.any_size_mask |= mask
            else:
                for size in group.sizes:
                    prefilter.add_size(size, mask)
            if mask == SHA256 and self.plan.iocs[group.ioc].tier == "actionable":
                self._acting_digests.update(group.values)
        elif field == "FileName" and group.operation == "eq":
            prefilter.exact_names.update(value.casefold() for value in group.values)
        elif field in ("FileName", "FullPath", "FilePath", "FileExtension"):
            for offset in range(len(group.values)):
                prefilter.add_text(field, entry + offset)
        else:
            if field in HASH_FIELDS:
                prefilter.any_size_mask |= HASH_FIELDS[field]
            prefilter.always = True

    def _set_attributes(self) -> None:
        prefilter, plan = self._prefilter, self.plan
        self.documents = frozenset(self._documents)
        files = self._documents.get(_FILES, _Document(Judge({})))
        fields = {slot.field for slot in files.indexes}
        if any(group.sizes is not None for group in self._groups):
            fields.add(_SIZE)
        self.file_fields = frozenset(fields)
        self.any_size_mask = prefilter.any_size_mask
        self.size_masks = prefilter.size_masks
        self.ranged_masks = prefilter.ranged_masks
        tables = [
            index.exact
            for slot, index in files.indexes.items()
            if slot.form == "hash" and slot.field in HASH_FIELDS
        ]
        self.digests = (
            tables[0] if len(tables) == 1 else frozenset(digest for table in tables for digest in table)
        )
        self.exact_names = frozenset(prefilter.exact_names)
        self.asks_more = prefilter.asks_more
        self.needs_path = prefilter.needs_path
        self._early_slots = [
            slot
            for slot in files.anchor_slots
            if slot.field in ("FileName", "FullPath", "FilePath", "FileExtension")
        ]
        self._hash_fields_of = {
            number: [
                field
                for field in HASH_FIELDS
                if any(plan.terms[plan.tests[test].term].field == field for test in tests_of(formula))
            ]
            for number, formula in self._formulas.items()
            if plan.predicates[number][0] == _FILES
        }

    # --------------------------------------------------------------------------------------------- judging

    def needs_item(self, name: str, path: str, size: int | None = None) -> bool:
        """Could this file be (part of) a match whatever its hashes are? May say yes too often, never no."""
        prefilter = self._prefilter
        if prefilter.always or prefilter.wants_size(size) or name.casefold() in self.exact_names:
            return True
        if not prefilter.entries:
            return False
        view = View(path_fields(name, path, self._windows), self._documents[_FILES].indexes)
        return any(entry in prefilter.entries for slot in self._early_slots for entry in view.passed(slot))

    def hash_mask(self, item: Mapping[str, Any]) -> int:
        """Algorithms whose digests could still change what ``feed`` says of this FileItem."""
        document = self._documents.get(_FILES)
        if document is None:
            return 0
        view = View(item, document.indexes)
        mask = 0
        for number in self._candidates(document, view, []):
            if document.judge.judge(self._formulas[number], view) is None:
                for field in self._hash_fields_of[number]:
                    if item.get(field) is None:
                        mask |= HASH_FIELDS[field]
        return mask

    def _candidates(self, document: _Document, view: View, entries: list[int]) -> list[int]:
        """Predicates that may hold for an item; entries of groups that do are added to ``entries``."""
        found: set[int] = set(document.always)
        first_group = len(self.plan.tests)
        for slot in document.anchor_slots:
            for entry in view.passed(slot):
                if entry >= first_group:
                    entries.append(entry)
                else:
                    found.update(document.by_test[entry])
        return sorted(found)

    def feed(self, document: str, item: Mapping[str, Any]) -> Sequence[Hit]:
        """Judge one item. Keys are terms without the document ("SizeInBytes", "StringList/string").

        A value is text, a number, a bool, or a list of them (multi-valued); None or absent is unknown.
        Moments are ISO 8601 text or seconds since 1970, both UTC. What proves an IOC file only together with
        other items is kept for ``finish``.
        """
        known = self._documents.get(document)
        if known is None:
            return ()
        view = View(item, known.indexes)
        hits: list[Hit] = []
        entries: list[int] = []
        for number in self._candidates(known, view, entries):
            formula = self._formulas[number]
            if known.judge.judge(formula, view) is not True:
                continue
            proof = known.judge.proof(formula, view)
            for ioc in self._alone.get(number, ()):
                hits.append(self._hit(ioc, proof, document, self._acting[number]))
            self._keep(number, item, proof)
        for entry in sorted(entries):
            place = bisect_right(self._group_starts, entry) - 1
            group, position = self._groups[place], entry - self._group_starts[place]
            if group.sizes is None or read_int(item.get(_SIZE)) == group.sizes[position]:
                term = self.plan.terms[group.term]
                acts = group.operation == "hash" and term.document == _FILES and term.field == "Sha256sum"
                hits.append(self._hit(group.ioc, group.item_ids(position), document, acts))
        return hits

    def _hit(self, ioc: int, proof: tuple[str, ...], document: str, acts: bool) -> Hit:
        self._matched.add(ioc)
        entry = self.plan.iocs[ioc]
        return Hit(entry.digest, entry.tier if acts else "hunt", proof, document, ioc)

    def _keep(self, number: int, item: Mapping[str, Any], proof: tuple[str, ...]) -> None:
        if number not in self._joined:
            return
        kept = self._kept.setdefault(number, [])
        if len(kept) < MAX_KEPT_ITEMS:
            kept.append((dict(item), proof))

    def acts_on(self, sha256: str) -> bool:
        """Does an actionable IOC file of the plan name this SHA-256 (hex)? Only then may one act on it."""
        try:
            return bytes.fromhex(sha256) in self._acting_digests
        except ValueError:
            return False

    # ------------------------------------------------------------------------------------------- finishing

    def unavailable(self, what: str, reason: str) -> None:
        """Record that a document ("PortItem") or term could not be collected: it is not evaluated."""
        self._not_evaluated[(what, reason)] = None
        for ioc, term in self._terms_by_ioc():
            entry = self.plan.terms[term]
            if what in (entry.document, entry.document + "/" + entry.field):
                self._doubtful.add(ioc)

    def save_state(self) -> dict[str, Any]:
        """What ``finish`` needs of the items fed so far, JSON-able; for a checkpoint."""
        return {
            "plan": self.plan.digest,
            "matched": sorted(self._matched),
            "kept": [
                [number, [[item, list(proof)] for item, proof in kept]]
                for number, kept in sorted(self._kept.items())
            ],
        }

    def restore_state(self, state: object) -> None:
        """Go on from ``save_state``. Raises PlanError ``plan_state`` for a state of another plan."""
        try:
            assert isinstance(state, dict) and state["plan"] == self.plan.digest
            matched = {int(ioc) for ioc in state["matched"]}
            kept = {
                int(number): [(dict(item), tuple(str(text) for text in proof)) for item, proof in items]
                for number, items in state["kept"]
            }
            assert all(0 <= ioc < len(self.plan.iocs) for ioc in matched)
        except (AssertionError, KeyError, TypeError, ValueError):
            raise PlanError(
                "plan_state", "the saved state does not belong to this plan", "start the scan afresh"
            ) from None
        self._matched, self._kept = matched, kept

    def finish(self) -> Finish:
        """Join documents across the host; to be called once, after the last item."""
        matches = []
        for ioc, formula in self._host:
            numbers = self._true_predicates(formula)
            if numbers is None:
                continue
            parts = tuple(
                (self.plan.predicates[number][0], item, proof)
                for number in dict.fromkeys(numbers)
                for item, proof in self._kept[number]
            )
            self._matched.add(ioc)
            matches.append(HostMatch(self.plan.iocs[ioc].digest, "hunt", parts, ioc))
        outcomes = {
            entry.digest: "match"
            if number in self._matched
            else "unknown"
            if number in self._doubtful
            else "no_match"
            for number, entry in enumerate(self.plan.iocs)
        }
        return Finish(matches, list(self._not_evaluated), outcomes)

    def _true_predicates(self, formula: HostFormula) -> list[int] | None:
        """The predicates that make a host formula true, or None."""
        if not isinstance(formula, Junction):
            return [formula] if self._kept.get(formula) else None
        parts = [self._true_predicates(part) for part in formula.parts]
        true = [numbers for numbers in parts if numbers is not None]
        if not true or (formula.all and len(true) < len(parts)):
            return None
        return [number for numbers in true for number in numbers]


def _folded(value: Any, operation: str, exact_case: bool) -> Any:
    """A text test without exact case compares casefolded text; its index holds it so."""
    if exact_case or operation not in ("eq", "contains", "starts", "ends"):
        return value
    return value.casefold()
