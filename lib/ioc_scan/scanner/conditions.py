"""What a test compares: the form a value is brought to, and the index that finds all tests a value passes.

Hundreds of thousands of tests on one field cost about as much as one: equal texts, digests, addresses and
numbers are looked up, beginnings and ends by their length, parts of a text through its groups of letters.
"""

from __future__ import annotations

from . import TYPE_CHECKING
from .records import Record
from .values import (
    ip_number,
    read_bool,
    read_float,
    read_hex,
    read_int,
    read_ip,
    read_moment,
    read_span,
    read_text,
)

if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Sequence, Tuple, Union

    from .automaton import Automaton

    #: An entry is the number of a test or of a group in a set; several under one value form a tuple.
    Entries = Union[int, Tuple[int, ...]]

TEXT_OPERATIONS = frozenset({"eq", "contains", "starts", "ends", "matches"})
OPERATIONS = TEXT_OPERATIONS | {"range", "hash", "ip", "ip_range", "bool"}
_GRAM = 4
#: Up to here, asking one after the other is quicker than looking up groups of letters.
_FEW_NEEDLES = 24


class Slot(Record):
    """A field in one form: what an index belongs to. ``folded``: case does not matter."""

    field: str
    kind: str
    form: str


def slot_of(field: str, kind: str, operation: str, exact_case: bool) -> Slot:
    """Where a test looks up its value."""
    if operation == "matches":
        return Slot(field, kind, "text")
    if operation in TEXT_OPERATIONS:
        return Slot(field, kind, "text" if exact_case else "folded")
    return Slot(field, kind, {"range": "number", "ip_range": "ip_number"}.get(operation, operation))


def _text(kind: str, value: Any) -> str | None:
    if kind == "ip":
        return read_ip(value) or read_text(value)
    if kind in ("md5", "sha1", "sha256"):
        return read_hex(value)
    return read_text(value)


def _folded(kind: str, value: Any) -> str | None:
    text = _text(kind, value)
    return None if text is None else text.casefold()


def _number(kind: str, value: Any) -> float | None:
    if kind == "int":
        return read_int(value)
    if kind == "float":
        return read_float(value)
    if kind == "duration":
        return read_span(value)
    moment = read_moment(value)
    return None if moment is None else moment[0]


def _digest(kind: str, value: Any) -> bytes | None:
    if isinstance(value, bytes):
        return value
    try:
        return bytes.fromhex(value)
    except (TypeError, ValueError):
        return None


def _ip_number(kind: str, value: Any) -> tuple[int, int] | None:
    text = read_ip(value)
    return None if text is None else ip_number(text)


_FORMS: dict[str, Callable[[str, Any], Any]] = {
    "text": _text,
    "folded": _folded,
    "number": _number,
    "hash": _digest,
    "ip": lambda kind, value: read_ip(value),
    "ip_number": _ip_number,
    "bool": lambda kind, value: read_bool(value),
}


def bring_to_form(slot: Slot, value: Any) -> Any:
    """The value as the slot's index compares it, or None if it cannot be read so (unknown)."""
    return _FORMS[slot.form](slot.kind, value)


def _join(table: dict[Any, Entries], key: Any, entry: int) -> None:
    present = table.setdefault(key, entry)
    if present is not entry and present != entry:
        table[key] = ((present,) if isinstance(present, int) else present) + (entry,)


def _spill(found: set[int], entries: Entries | None) -> None:
    if entries is None:
        return
    if isinstance(entries, int):
        found.add(entries)
    else:
        found.update(entries)


class Needles:
    """Which of many texts lie in a text. Each is filed under its rarest group of letters."""

    def __init__(self) -> None:
        self._all: list[tuple[str, int]] = []
        self._short: list[tuple[str, int]] = []
        self._grams: dict[str, list[tuple[str, int]]] = {}
        self._ready = True

    def add(self, needle: str, entry: int) -> None:
        self._all.append((needle, entry))
        self._ready = False

    def _prepare(self) -> None:
        self._ready = True
        self._grams = {}
        self._short = self._all
        if len(self._all) <= _FEW_NEEDLES:
            return
        self._short = [pair for pair in self._all if len(pair[0]) < _GRAM]
        long = [pair for pair in self._all if len(pair[0]) >= _GRAM]
        uses: dict[str, int] = {}
        for needle, _ in long:
            for at in range(len(needle) - _GRAM + 1):
                gram = needle[at : at + _GRAM]
                uses[gram] = uses.get(gram, 0) + 1
        for needle, entry in long:
            grams = [needle[at : at + _GRAM] for at in range(len(needle) - _GRAM + 1)]
            rarest = min(grams, key=lambda gram: (len(self._grams.get(gram, ())), uses[gram]))
            self._grams.setdefault(rarest, []).append((needle, entry))

    def find(self, text: str, found: set[int]) -> None:
        if not self._ready:
            self._prepare()
        for needle, entry in self._short:
            if needle in text:
                found.add(entry)
        grams = self._grams
        if grams:
            for gram in {text[at : at + _GRAM] for at in range(len(text) - _GRAM + 1)} & grams.keys():
                for needle, entry in grams[gram]:
                    if needle in text:
                        found.add(entry)


class Index:
    """All tests on one slot: ``passed(value)`` gives the entries of those that hold."""

    def __init__(self) -> None:
        self.exact: dict[Any, Entries] = {}
        self._ends: dict[tuple[str, int], dict[str, Entries]] = {}
        self._needles = Needles()
        self._has_needles = False
        self._ranges: list[tuple[Any, Any, int]] = []
        self._patterns: list[tuple[str, Automaton, int]] = []

    def add(self, operation: str, value: Any, entry: int) -> None:
        if operation == "range":
            low, high = value
            if low is not None and low == high:
                _join(self.exact, low, entry)
            else:
                self._ranges.append((low, high, entry))
        elif operation == "ip_range":
            self._ranges.append(((value[0], value[1]), (value[0], value[2]), entry))
        elif operation == "contains":
            self._has_needles = True
            self._needles.add(value, entry)
        elif operation in ("starts", "ends"):
            _join(self._ends.setdefault((operation, len(value)), {}), value, entry)
        elif operation == "matches":
            from .automaton import Automaton  # few plans have patterns

            self._patterns.append((value["literal"], Automaton(value["program"]), entry))
        else:
            _join(self.exact, value, entry)

    def add_many(self, values: Sequence[Any], first_entry: int) -> None:
        """Values to be equal to, numbered from ``first_entry``; quick for very many."""
        numbered = dict(zip(values, range(first_entry, first_entry + len(values))))
        if self.exact or len(numbered) < len(values):
            for offset, value in enumerate(values):
                _join(self.exact, value, first_entry + offset)
        else:
            self.exact = numbered

    def passed(self, value: Any, found: set[int]) -> None:
        """Add the entries of all tests that hold for a value in this slot's form."""
        _spill(found, self.exact.get(value))
        for (operation, length), table in self._ends.items():
            if length <= len(value):
                _spill(
                    found,
                    table.get(value[:length] if operation == "starts" else value[len(value) - length :]),
                )
        if self._has_needles:
            self._needles.find(value, found)
        for low, high, entry in self._ranges:
            if (low is None or low <= value) and (high is None or value <= high):
                found.add(entry)
        if self._patterns:
            folded = value.casefold()
            for literal, automaton, entry in self._patterns:
                if literal in folded and automaton.search(value):
                    found.add(entry)


def any_passes(index: Index, values: Iterable[Any]) -> set[int]:
    """Entries of the tests that any of the values passes."""
    found: set[int] = set()
    for value in values:
        index.passed(value, found)
    return found
