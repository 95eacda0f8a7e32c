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

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .plan import Plan

MD5, SHA1, SHA256 = 1, 2, 4
#: item field -> bit of the hash algorithm in every mask
HASH_FIELDS = {"Md5sum": MD5, "Sha1sum": SHA1, "Sha256sum": SHA256}


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

    def __init__(self, plan: Plan, system: str) -> None:
        """``system``: "linux", "windows" or "macos": it decides which terms have a collector."""
        raise NotImplementedError

    def needs_item(self, name: str, path: str, size: int | None = None) -> bool:
        """Could this file be (part of) a match whatever its hashes are? May say yes too often, never no."""
        raise NotImplementedError

    def hash_mask(self, item: Mapping[str, Any]) -> int:
        """Algorithms whose digests could still change what ``feed`` says of this FileItem."""
        raise NotImplementedError

    def feed(self, document: str, item: Mapping[str, Any]) -> Sequence[Hit]:
        """Judge one item. Keys are terms without the document ("SizeInBytes", "StringList/string"); a value is
        text, a number, a bool, or a list of them (multi-valued); None or absent is unknown. Times are ISO 8601
        text in UTC. What proves an IOC file only together with other items is kept for ``finish``.
        """
        raise NotImplementedError

    def unavailable(self, what: str, reason: str) -> None:
        """Record that a document ("PortItem") or term could not be collected; it shows in ``not_evaluated``."""
        raise NotImplementedError

    def save_state(self) -> dict[str, Any]:
        """What ``finish`` needs of the items fed so far, JSON-able; for a checkpoint."""
        raise NotImplementedError

    def restore_state(self, state: object) -> None:
        """Go on from ``save_state``. A state that does not fit the plan is refused (PlanError ``plan_state``)."""
        raise NotImplementedError

    def finish(self) -> Finish:
        """Join documents across the host; to be called once, after the last item."""
        raise NotImplementedError
