"""What is wrong, doubtful or too broad in an IOC file: problems with stable codes, lines and hints.

Errors are what makes a group useless or the file unusable; harmless deviations that real files have are
warnings. The codes and their meaning: :mod:`ioc_scan.openioc.problem_codes`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ioc_scan.errors import InputError
from ioc_scan.openioc.breadth import broad_reason
from ioc_scan.openioc.content import ContentError, build_test
from ioc_scan.openioc.contradictions import find_contradictions
from ioc_scan.openioc.model import Indicator, Ioc, Item, Node, Problem
from ioc_scan.openioc.pattern_syntax import PatternError
from ioc_scan.openioc.patterns import repeats_repetitions
from ioc_scan.openioc.plan import compile_document
from ioc_scan.openioc.problem_codes import problem
from ioc_scan.openioc.terms import NUMBER_TYPES, PROFILES, SYSTEMS, TYPES, Term, find_term
from ioc_scan.scanner.logic import proving_digests
from ioc_scan.scanner.plan import Plan, load_plan
from ioc_scan.scanner.values import read_moment
from ioc_scan.text import printable

#: Problems of one code after which only the number of the others is given.
MAX_PER_CODE = 50
#: Items after which a file is slow to read for people and tools; public files reach 1,252.
MANY_ITEMS = 20_000

#: After these nothing else is said of a file.
_TOO_MUCH = ("plan_too_large", "too_many_patterns")

_TYPES_OF_CONTENT = {
    "string": {"string", "xs:string", ""},
    "ip": {"ip", "string", ""},
    "int": {"int", "integer", "uint64", "string", ""},
    "bool": {"bool", "boolean", "string", ""},
    "float": {"float", "double", "int", "string", ""},
    "date": {"date", "datetime", "string", ""},
}


def lint(ioc: Ioc, profile: str = "generic", systems: Sequence[str] = SYSTEMS) -> list[Problem]:
    """All problems of a document, by line, those the reader noted among them.

    ``profile``: "generic" (the standard) or "kaspersky" (its terms and rules too).
    ``systems``: where the file is meant to be used; a term that nothing collects on any of them is a warning.
    """
    if profile not in PROFILES:
        raise InputError(
            "unknown_profile", f"profile {printable(profile, 40)} is not known", " or ".join(PROFILES)
        )
    linter = _Linter(profile, systems)
    linter.problems.extend(ioc.notes)
    linter.document(ioc)
    plan = linter.plan(ioc)
    if plan is None and linter.problems[-1].code in _TOO_MUCH:
        return _bounded(linter.problems)  # judging each item would take as long as compiling does
    for node in ioc.nodes():
        if isinstance(node, Item):
            linter.item(node)
        else:
            linter.indicator(node)
    linter.problems.extend(find_contradictions(ioc.roots))
    for root in ioc.roots:
        linter.breadth(root)
    linter.usable(ioc, plan)
    return _bounded(sorted(linter.problems, key=lambda entry: entry.line))


def is_actionable(ioc: Ioc) -> bool:
    """Is every match of this document proved by a SHA-256? Only then may a response act on it."""
    try:
        plan = load_plan(compile_document(ioc))
    except InputError:
        return False
    terms = [plan.terms[group.term] for group in plan.groups]
    sets = all(term.document == "FileItem" and term.field == "Sha256sum" for term in terms) and all(
        group.operation == "hash" for group in plan.groups
    )
    branches = all(
        isinstance(formula, int) and proving_digests(plan.predicates[formula][1], plan) is not None
        for _, formula in plan.branches
    )
    return sets and branches and bool(plan.groups or plan.branches)


def _bounded(problems: list[Problem]) -> list[Problem]:
    counts: dict[str, int] = {}
    shown = []
    for entry in problems:
        counts[entry.code] = counts.get(entry.code, 0) + 1
        if counts[entry.code] <= MAX_PER_CODE:
            shown.append(entry)
    for code, count in counts.items():
        if count > MAX_PER_CODE:
            shown.append(problem("more_of_the_same", 0, f"{count - MAX_PER_CODE} more of {code}"))
    return shown


class _Linter:
    def __init__(self, profile: str, systems: Sequence[str]) -> None:
        self.profile = profile
        self.systems = systems
        self.problems: list[Problem] = []
        self.ids: dict[str, int] = {}

    def add(self, code: str, line: int, message: str, hint: str = "") -> None:
        self.problems.append(problem(code, line, message, hint))

    def document(self, ioc: Ioc) -> None:
        for name in ("last_modified", "published_date", "authored_date"):
            value = getattr(ioc, name)
            if value is not None and read_moment(value) is None:
                self.add(
                    "bad_date", 0, f"{name.replace('_', '-')} is not a date", "write 2026-01-31T12:00:00Z"
                )
        for parameter in ioc.parameters:
            if not parameter.ref_id:
                self.add("parameter_reference", parameter.line, "a parameter refers to nothing")
        known = {node.id for node in ioc.nodes()} | {ioc.id}
        for parameter in ioc.parameters:
            if parameter.ref_id and parameter.ref_id not in known:
                self.add(
                    "parameter_reference", parameter.line, "a parameter refers to an id that is not there"
                )

    def indicator(self, node: Indicator) -> None:
        self.identifier(node)
        if not node.children:
            self.add("indicator_empty", node.line, "the Indicator is empty; it never holds", "remove it")
        seen: dict[tuple[object, ...], int] = {}
        for child in node.children:
            if isinstance(child, Item):
                key = (child.search, child.condition, child.content, child.negate, child.preserve_case)
                if key in seen:
                    self.add(
                        "item_repeated",
                        child.line,
                        f"the item says the same as that of line {seen[key]}",
                        "remove one",
                    )
                seen.setdefault(key, child.line)

    def identifier(self, node: Node) -> None:
        if node.id:
            if node.id in self.ids:
                shown = printable(node.id, 60)
                self.add(
                    "duplicate_id",
                    node.line,
                    f"id {shown} is also that of line {self.ids[node.id]}",
                    "give each its own",
                )
            self.ids.setdefault(node.id, node.line)

    def item(self, item: Item) -> None:
        self.identifier(item)
        term = find_term(item.search)
        if term is None:
            self.add(
                "unknown_term",
                item.line,
                f"{printable(item.search or '(none)', 120)} is not a known term; it is not evaluated",
                "docs/terms.md lists the terms",
            )
            return
        self.term(item, term)
        self.content(item, term)

    def term(self, item: Item, term: Term) -> None:
        if item.search != term.name:
            self.add(
                "term_spelling",
                item.line,
                f"{printable(item.search, 120)} is read as {term.name}",
                f"write {term.name}",
            )
        if item.document != term.document:
            message = (
                f"document is {printable(item.document or '(none)', 60)}, the term belongs to {term.document}"
            )
            self.add("document_mismatch", item.line, message, "the term decides")
        if self.profile == "kaspersky" and not term.kaspersky:
            self.add(
                "term_unsupported",
                item.line,
                f"{term.name} is not among the terms Kaspersky's scan shows",
                "it gives no match there",
            )
        elif not any(system in term.collectors for system in self.systems):
            where = ", ".join(self.systems)
            self.add(
                "term_unsupported",
                item.line,
                f"nothing collects {term.name} on {where}",
                "the item is not evaluated there",
            )

    def content(self, item: Item, term: Term) -> None:
        try:
            build_test(term.name, term.type, item.condition, item.content, item.preserve_case)
        except ContentError as error:
            self.add(error.code, item.line, str(error), error.hint)
            return
        if item.preserve_case and term.type in NUMBER_TYPES | {"bool", "ip", "md5", "sha1", "sha256"}:
            self.add(
                "preserve_case_type", item.line, f"preserve-case says nothing about {term.type}", "remove it"
            )
        kind = item.content_type.strip().lower()
        if kind not in _TYPES_OF_CONTENT.get(term.type, {term.type, "string", ""}):
            known = "" if kind in TYPES else ", which is not a known type"
            self.add(
                "content_type_name",
                item.line,
                f"Content has type {printable(kind, 40)}, the term is {term.type}{known}",
            )
        if term.type == "string" and item.condition != "matches" and item.content != item.content.strip():
            self.add(
                "content_spaces",
                item.line,
                "the content begins or ends with white space, which is compared too",
                "remove it",
            )
        if (
            term.type == "date"
            and not item.content.strip().rstrip("]").upper().endswith("Z")
            and "+" not in item.content
        ):
            self.add(
                "date_zone",
                item.line,
                "the date names no time zone; it is read as UTC",
                "write it with Z at the end",
            )
        if item.condition == "matches":
            try:
                nested = repeats_repetitions(item.content)
            except PatternError:
                nested = False
            if nested:
                message = "a repetition holds another one: linear here, but tools without RE2 may hang on it"
                self.add("pattern_nested", item.line, message, "write it without nested * or +")

    def breadth(self, node: Node) -> None:
        """Branches joined by OR are judged one by one: the broadest decides what a file matches."""
        if isinstance(node, Indicator) and (node.operator == "OR" or len(node.children) == 1):
            for child in node.children:
                self.breadth(child)
            return
        reason = broad_reason(node)
        if reason:
            self.add(
                "over_broad", node.line, reason, "it may be reported, never acted on; add what is special"
            )

    def plan(self, ioc: Ioc) -> Plan | None:
        try:
            return load_plan(compile_document(ioc))
        except InputError as error:
            self.add(error.code, 0, error.message, error.hint)
            return None

    def usable(self, ioc: Ioc, plan: Plan | None) -> None:
        count = sum(1 for _ in ioc.items())
        if count > MANY_ITEMS:
            self.add("many_items", 0, f"the file has {count} indicator items", "split it")
        if plan is None or plan.groups or plan.branches:
            return
        if any(find_term(item.search) is None for item in ioc.items()):
            self.add("nothing_to_evaluate", 0, "what the file says is all on terms that are not known here")
        else:
            self.add("never_matches", 0, "no indicator item of the file can be evaluated; it never matches")


def lint_collection(documents: Sequence[tuple[str, int]]) -> list[tuple[int, Problem]]:
    """Problems between the files of one task: (index, problem). ``documents``: id and bytes of each."""
    found = []
    seen: dict[str, int] = {}
    total = 0
    for index, (identifier, size) in enumerate(documents):
        if identifier in seen:
            message = f"the document id is also that of file {seen[identifier] + 1}"
            found.append((index, problem("duplicate_document_id", 1, message, "ids are unique in a task")))
        seen.setdefault(identifier, index)
        total += size
        if total > MAX_COLLECTION_BYTES >= total - size:
            message = f"the files together have more than {MAX_COLLECTION_BYTES} bytes"
            found.append((index, problem("collection_too_large", 0, message, "split the task")))
    return found


#: Kaspersky's limit for the IOC files of one task.
MAX_COLLECTION_BYTES = 10 * 1024 * 1024
