"""What a collector is asked, and how it says what it could not answer."""

from __future__ import annotations

import os
from typing import Any, Dict, FrozenSet, Iterable, Mapping

#: Field -> text, number, bool or a list of them. An empty list: known to have no value. Absent: unknown.
Item = Dict[str, Any]
Fields = Mapping[str, FrozenSet[str]]

#: Key of an item under which its identity (a text) travels; no term has this name.
IDENTITY = "_identity"
#: A text of an item is judged up to here: command lines and messages can be megabytes.
MAX_TEXT_CHARS = 64 * 1024


class UnavailableError(Exception):
    """A document cannot be collected here; ``reason`` is told to the people who asked."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Request:
    """The fields of one document that plans name; gaps in the answer are noted here."""

    def __init__(self, fields: Iterable[str], system: str) -> None:
        self.fields = frozenset(fields)
        self.system = system
        #: Field -> why (some of) its values are unknown; "" stands for the whole document.
        self.gaps: dict[str, str] = {}

    def wants(self, *fields: str) -> bool:
        return any(field in self.fields for field in fields)

    def gap(self, field: str, reason: str) -> None:
        """Some values of a field are unknown. Only said if the field was asked for."""
        if not field or field in self.fields:
            self.gaps.setdefault(field, reason)

    def incomplete(self, reason: str) -> None:
        """Some items are missing."""
        self.gap("", reason)


def decode(raw: bytes) -> str:
    """Text of the system as Python reads file names; cut at :data:`MAX_TEXT_CHARS`."""
    return os.fsdecode(raw[: MAX_TEXT_CHARS * 4])[:MAX_TEXT_CHARS]
