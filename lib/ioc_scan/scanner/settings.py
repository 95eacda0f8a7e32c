"""How a walk works: plain values, apart from the worker processes so that a walk without them stays light."""

from __future__ import annotations

from . import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable

#: How long a worker works on one batch before it reports.
BATCH_SECONDS = 0.1


class WorkerDiedError(Exception):
    """A worker ended without an answer (killed, out of memory)."""


class Settings:
    """How workers work; plain values."""

    def __init__(
        self,
        excluded: Callable[[str], str | None],
        max_hash_bytes: int | None = None,
        cpu_percent: int = 100,
        polite: bool = False,
        prunes: list[str] | None = None,
    ) -> None:
        """``prunes``: all that ``excluded`` excludes, if it is a list of folders and find may do the walk."""
        self.excluded = excluded
        self.max_hash_bytes = max_hash_bytes
        self.cpu_percent = cpu_percent
        self.polite = polite
        self.prunes = prunes
