"""The table of terms (``terms.tsv``): type, number of values, and which collector answers a term where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SYSTEMS = ("linux", "windows", "macos")
PROFILES = ("generic", "kaspersky")
TYPES = frozenset({"string", "int", "float", "date", "duration", "bool", "ip", "md5", "sha1", "sha256"})
HASH_TYPES = {"md5": 32, "sha1": 40, "sha256": 64}
NUMBER_TYPES = frozenset({"int", "float", "date", "duration"})

_TABLE = Path(__file__).with_name("terms.tsv")


@dataclass(frozen=True)
class Term:
    """``name`` is document/field; ``collectors``: system -> the scanner's collector, where there is one."""

    name: str
    type: str
    many: bool
    collectors: Mapping[str, str]
    kaspersky: bool

    @property
    def document(self) -> str:
        return self.name.partition("/")[0]

    @property
    def field(self) -> str:
        return self.name.partition("/")[2]


@cache
def all_terms() -> Mapping[str, Term]:
    """Every term of the table by name, in its order."""
    rows = [
        line.split("\t")
        for line in _TABLE.read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    terms = {}
    for name, kind, values, *systems, kaspersky in rows[1:]:
        collectors = {
            system: collector for system, collector in zip(SYSTEMS, systems, strict=True) if collector != "-"
        }
        terms[name] = Term(name, kind, values == "many", collectors, kaspersky == "yes")
    return terms


@cache
def _by_folded_name() -> Mapping[str, Term]:
    return {name.casefold(): term for name, term in all_terms().items()}


def find_term(search: str) -> Term | None:
    """The term an indicator item means; upper and lower case, and spaces around, are forgiven."""
    return all_terms().get(search) or _by_folded_name().get(search.strip().casefold())


def term_type(search: str) -> str | None:
    """The type of a term, None for an unknown one."""
    term = find_term(search)
    return term.type if term else None
