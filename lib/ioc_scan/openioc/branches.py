"""From the logic of an IOC file to branches of a plan; what can never hold is left out."""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

from ioc_scan.errors import InputError
from ioc_scan.openioc.content import ContentError, build_test
from ioc_scan.openioc.model import Indicator, Item, Node
from ioc_scan.openioc.plan_builder import PlanBuilder
from ioc_scan.openioc.terms import HASH_TYPES, NUMBER_TYPES, Term, find_term
from ioc_scan.text import printable

#: Branches one AND may be distributed into.
MAX_BRANCHES = 4096

#: Regular expressions of one file: each costs a search per item. All 893 public files together have 134.
MAX_PATTERNS = 500

#: Operations whose positive items go to value sets.
SET_OPERATIONS = frozenset({"eq", "contains", "starts", "ends", "hash"})


class _Leaf(NamedTuple):
    document: str
    formula: list[Any]


class _Junction(NamedTuple):
    every: bool
    parts: list[_Tree]


_Tree = _Leaf | _Junction


class BranchCompiler:
    """Adds the branches of one IOC file to a plan."""

    def __init__(self, builder: PlanBuilder, ioc: int) -> None:
        self.builder = builder
        self.ioc = ioc
        self.patterns = 0

    def add(self, node: Node) -> None:
        """Add a node whose truth makes the IOC file match."""
        if isinstance(node, Item):
            self._add_item(node)
        elif node.operator == "OR" or len(node.children) == 1:
            for child in node.children:
                self.add(child)
        elif self.builder.binding == "host" or not self._add_sized_hash(node):
            tree = self._tree(node)
            if tree is not None:
                self.builder.branch(self.ioc, self._host(tree))

    # -------------------------------------------------------------------------------------- value sets

    def _add_item(self, item: Item) -> None:
        prepared = self._test(item)
        if prepared is None:
            return
        term, (operation, value), exact_case = prepared
        if item.negate or operation not in SET_OPERATIONS:
            self.builder.branch(
                self.ioc, self._predicate(self._leaf(item, term, (operation, value), exact_case))
            )
            return
        entry = self.builder.value_set(self.ioc, term, operation, exact_case, False, 1)
        if operation == "hash":
            entry.digests += bytes.fromhex(value)
        else:
            entry.values.append(value)
        entry.add_ids([item_label(item)])

    def _add_sized_hash(self, node: Indicator) -> bool:
        """AND(SizeInBytes is N, hash is X), the shape nearly every generated file has."""
        if len(node.children) != 2 or not all(
            isinstance(child, Item) and not child.negate for child in node.children
        ):
            return False
        first, second = node.children
        assert isinstance(first, Item) and isinstance(second, Item)
        if "FileItem/SizeInBytes" not in (first.search, second.search):
            return False
        sized, hashed = (first, second) if first.search == "FileItem/SizeInBytes" else (second, first)
        size, digest = self._test(sized), self._test(hashed)
        if size is None or digest is None:
            return size is None or digest is None
        if (
            size[1][0] != "range"
            or size[1][1][0] != size[1][1][1]
            or digest[1][0] != "hash"
            or digest[0].document != "FileItem"
        ):
            return False
        ids = [item_label(first), item_label(second)]
        self.add_sized_hashes(digest[0], [size[1][1][0]], bytes.fromhex(digest[1][1]), ids)
        return True

    def add_sized_hashes(self, term: Term, sizes: list[int], digests: bytes, ids: list[str]) -> None:
        """Many of AND(SizeInBytes is, hash is): two ids each, in the order of the file."""
        entry = self.builder.value_set(self.ioc, term, "hash", False, True, len(sizes))
        assert entry.sizes is not None
        entry.sizes += sizes
        entry.digests += digests
        entry.add_ids(ids)

    # ------------------------------------------------------------------------------------------- trees

    def _test(self, item: Item) -> tuple[Term, tuple[str, Any], bool] | None:
        """Term, test and whether case matters; None, and noted, if the item cannot be evaluated anywhere."""
        term = find_term(item.search)
        if term is None:
            self.builder.unusable(self.ioc, printable(item.search or "(no term)", 200), "unknown term")
            return None
        if item.condition == "matches":
            self.patterns += 1
            check_patterns(self.patterns)
        try:
            test = build_test(term.name, term.type, item.condition, item.content, item.preserve_case)
        except ContentError as error:
            self.builder.unusable(self.ioc, term.name, printable(f"{error.code}: {error}", 300))
            return None
        # case is a matter of text: of digests, addresses and numbers it says nothing
        exact = (
            item.preserve_case
            and term.type not in HASH_TYPES
            and term.type not in NUMBER_TYPES | {"ip", "bool"}
        )
        return term, test, exact

    def _leaf(self, item: Item, term: Term, test: tuple[str, Any], exact_case: bool) -> _Leaf:
        number = self.builder.test(term, test, exact_case)
        return _Leaf(term.document, [number, int(item.negate), item_label(item)])

    def _tree(self, node: Node) -> _Tree | None:
        """The node without what can never hold; None if nothing is left. Depth is bounded by the reader."""
        if isinstance(node, Item):
            prepared = self._test(node)
            return None if prepared is None else self._leaf(node, *prepared)
        parts = [self._tree(child) for child in node.children]
        kept = [part for part in parts if part is not None]
        every = node.operator == "AND"
        if not kept or (every and len(kept) < len(parts)):
            return None
        return kept[0] if len(kept) == 1 else _Junction(every, kept)

    def _predicate(self, tree: _Tree) -> int:
        # a part shared by many branches is written out in each: counted before it is made
        self.builder.more_nodes(_size(tree))
        return self.builder.predicate(next(iter(_documents(tree))), _formula(tree))

    def _host(self, tree: _Tree) -> Any:
        """The formula over predicates that says of the host what the tree says."""
        documents = _documents(tree)
        if len(documents) == 1 and (self.builder.binding == "item" or isinstance(tree, _Leaf)):
            return self._predicate(tree)
        assert isinstance(tree, _Junction)
        if self.builder.binding == "host":
            return _join(tree.every, [self._host(part) for part in tree.parts])
        parts = _merge(tree)
        if not tree.every:
            return _join(False, [self._host(part) for part in parts])
        shared = [part for part in parts if len(_documents(part)) > 1 and _meets_others(part, parts)]
        if not shared:
            return _join(True, [self._host(part) for part in parts])
        bound = frozenset().union(*(_documents(part) for part in shared))
        involved = [part for part in parts if _documents(part) & bound]
        apart = [part for part in parts if not _documents(part) & bound]
        alternatives = [self._joined(branch) for branch in _distribute(_Junction(True, involved))]
        return _join(True, [_join(False, alternatives), *(self._host(part) for part in apart)])

    def _joined(self, branch: dict[str, list[_Tree]]) -> Any:
        return _join(True, [self._predicate(_and(trees)) for trees in branch.values()])


def check_patterns(number: int) -> None:
    """Raises InputError ``too_many_patterns`` beyond ``MAX_PATTERNS``."""
    if number > MAX_PATTERNS:
        raise InputError(
            "too_many_patterns", f"the file has more than {MAX_PATTERNS} items with matches", "split the file"
        )


def item_label(item: Item) -> str:
    """How a proof names the item: its id, or where it stands."""
    return item.id or f"line {item.line}"


def _join(every: bool, parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else {"and" if every else "or": parts}


def _and(trees: list[_Tree]) -> _Tree:
    return trees[0] if len(trees) == 1 else _Junction(True, trees)


def _size(tree: _Tree) -> int:
    return 1 if isinstance(tree, _Leaf) else sum(_size(part) for part in tree.parts)


def _formula(tree: _Tree) -> Any:
    if isinstance(tree, _Leaf):
        return tree.formula
    return {"and" if tree.every else "or": [_formula(part) for part in tree.parts]}


def _documents(tree: _Tree) -> frozenset[str]:
    if isinstance(tree, _Leaf):
        return frozenset((tree.document,))
    return frozenset().union(*(_documents(part) for part in tree.parts))


def _merge(tree: _Junction) -> list[_Tree]:
    """The parts of a junction with those of one document put together, in the order of their first one."""
    groups: dict[str, list[_Tree]] = {}
    order: list[tuple[str | None, _Tree]] = []
    for part in tree.parts:
        documents = _documents(part)
        if len(documents) > 1:
            order.append((None, part))
            continue
        (document,) = documents
        if document not in groups:
            groups[document] = []
            order.append((document, part))
        groups[document].append(part)
    return [
        part
        if document is None
        else groups[document][0]
        if len(groups[document]) == 1
        else _Junction(tree.every, groups[document])
        for document, part in order
    ]


def _meets_others(part: _Tree, parts: list[_Tree]) -> bool:
    mine = _documents(part)
    return any(other is not part and _documents(other) & mine for other in parts)


def _distribute(tree: _Tree) -> list[dict[str, list[_Tree]]]:
    """The tree as alternatives, each saying one thing of one item per document. Raises InputError."""
    documents = _documents(tree)
    if len(documents) == 1:
        return [{next(iter(documents)): [tree]}]
    assert isinstance(tree, _Junction)
    choices = [_distribute(part) for part in _merge(tree)]
    if not tree.every:
        result = [branch for choice in choices for branch in choice]
        _check_branches(len(result))
        return result
    total = 1
    for choice in choices:
        total *= len(choice)
        _check_branches(total)
    result = []
    for combination in product(*choices):
        joined: dict[str, list[_Tree]] = {}
        for branch in combination:
            for document, trees in branch.items():
                joined.setdefault(document, []).extend(trees)
        result.append(joined)
    return result


def _check_branches(number: int) -> None:
    if number > MAX_BRANCHES:
        raise InputError(
            "too_many_branches",
            f"an AND over several documents with nested ORs needs more than {MAX_BRANCHES} branches",
            "write the alternatives out, or keep what is said of one document in one Indicator",
        )
