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

from . import TYPE_CHECKING
from .logic import Judge, View, tests_of
from .plan import Junction, PlanError
from .prefilter import FILES, HASH_FIELDS, MD5, NAME_FIELDS, SHA1, SHA256, SIZE, path_fields
from .prepared import Document, Prepared
from .records import Record
from .values import read_int

if TYPE_CHECKING:
    from typing import Any, Mapping, Sequence

    from .plan import HostFormula, Plan

__all__ = ["HASH_FIELDS", "MD5", "SHA1", "SHA256", "Evaluator", "Finish", "Hit", "HostMatch", "path_fields"]

#: Items kept per predicate for joining documents; the first ones are enough to prove a match.
MAX_KEPT_ITEMS = 100


class Hit(Record):
    """One item alone proves one IOC file, by these indicator items."""

    ioc_digest: str
    tier: str
    item_ids: tuple[str, ...]
    document: str
    ioc_index: int


class HostMatch(Record):
    """Several items together prove one IOC file: ``parts`` are (document, item as fed, item ids)."""

    ioc_digest: str
    tier: str
    parts: tuple[tuple[str, Mapping[str, Any], tuple[str, ...]], ...]
    ioc_index: int


class Finish(Record):
    """What the whole host showed.

    ``matches``: across documents (those of a single item were given by ``feed``). ``not_evaluated``:
    (term or document, reason). ``outcomes``: digest of each IOC file -> "match" | "no_match" | "unknown".
    """

    matches: list[HostMatch]
    not_evaluated: list[tuple[str, str]]
    outcomes: dict[str, str]


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
        self._windows = system == "windows"
        self._prepared = Prepared(plan, system)
        self._not_evaluated = dict(self._prepared.not_evaluated)
        self._doubtful = set(self._prepared.doubtful)
        self._kept: dict[int, list[tuple[dict[str, Any], tuple[str, ...]]]] = {}
        self._matched: set[int] = set()
        self._set_attributes()

    def _set_attributes(self) -> None:
        prefilter, plan = self._prepared.prefilter, self.plan
        self.documents = frozenset(self._prepared.documents)
        files = self._prepared.documents.get(FILES, Document(Judge({})))
        fields = {slot.field for slot in files.indexes}
        if any(group.sizes is not None for group in self._prepared.groups):
            fields.add(SIZE)
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
        self._early_slots = [slot for slot in files.anchor_slots if slot.field in NAME_FIELDS]
        self._hash_fields_of = {
            number: [
                field
                for field in HASH_FIELDS
                if any(plan.terms[plan.tests[test].term].field == field for test in tests_of(formula))
            ]
            for number, formula in self._prepared.formulas.items()
            if plan.predicates[number][0] == FILES
        }

    # --------------------------------------------------------------------------------------------- judging

    def needs_item(self, name: str, path: str, size: int | None = None) -> bool:
        """Could this file be (part of) a match whatever its hashes are? May say yes too often, never no."""
        prefilter = self._prepared.prefilter
        if prefilter.always or prefilter.wants_size(size) or name.casefold() in self.exact_names:
            return True
        if not prefilter.entries:
            return False
        view = View(path_fields(name, path, self._windows), self._prepared.documents[FILES].indexes)
        return any(entry in prefilter.entries for slot in self._early_slots for entry in view.passed(slot))

    def hash_mask(self, item: Mapping[str, Any]) -> int:
        """Algorithms whose digests could still change what ``feed`` says of this FileItem."""
        document = self._prepared.documents.get(FILES)
        if document is None:
            return 0
        view = View(item, document.indexes)
        mask = 0
        for number in self._candidates(document, view, []):
            if document.judge.judge(self._prepared.formulas[number], view) is None:
                for field in self._hash_fields_of[number]:
                    if item.get(field) is None:
                        mask |= HASH_FIELDS[field]
        return mask

    def _candidates(self, document: Document, view: View, entries: list[int]) -> list[int]:
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
        known = self._prepared.documents.get(document)
        if known is None:
            return ()
        view = View(item, known.indexes)
        hits: list[Hit] = []
        entries: list[int] = []
        for number in self._candidates(known, view, entries):
            formula = self._prepared.formulas[number]
            if known.judge.judge(formula, view) is not True:
                continue
            proof = known.judge.proof(formula, view)
            for ioc in self._prepared.alone.get(number, ()):
                hits.append(self._hit(ioc, proof, document, self._prepared.acting[number]))
            self._keep(number, item, proof)
        for entry in sorted(entries):
            place = bisect_right(self._prepared.group_starts, entry) - 1
            group, position = self._prepared.groups[place], entry - self._prepared.group_starts[place]
            if group.sizes is None or read_int(item.get(SIZE)) == group.sizes[position]:
                term = self.plan.terms[group.term]
                acts = group.operation == "hash" and term.document == FILES and term.field == "Sha256sum"
                hits.append(self._hit(group.ioc, group.item_ids(position), document, acts))
        return hits

    def _hit(self, ioc: int, proof: tuple[str, ...], document: str, acts: bool) -> Hit:
        self._matched.add(ioc)
        entry = self.plan.iocs[ioc]
        return Hit(entry.digest, entry.tier if acts else "hunt", proof, document, ioc)

    def _keep(self, number: int, item: Mapping[str, Any], proof: tuple[str, ...]) -> None:
        if number not in self._prepared.joined:
            return
        kept = self._kept.setdefault(number, [])
        if len(kept) < MAX_KEPT_ITEMS:
            kept.append((dict(item), proof))

    def acts_on(self, sha256: str) -> bool:
        """Does an actionable IOC file of the plan name this SHA-256 (hex)? Only then may one act on it."""
        try:
            return bytes.fromhex(sha256) in self._prepared.acting_digests
        except ValueError:
            return False

    # ------------------------------------------------------------------------------------------- finishing

    def unavailable(self, what: str, reason: str) -> None:
        """Record that a document ("PortItem") or term could not be collected: it is not evaluated."""
        self._not_evaluated[(what, reason)] = None
        for ioc, term in self._prepared.terms_by_ioc():
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
        for ioc, formula in self._prepared.host:
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
