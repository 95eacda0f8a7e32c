"""How a walk works: plain values, apart from the worker processes so that a walk without them stays light."""

from __future__ import annotations

from . import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable

    from .folderscan import Tally
    from .walk import Frame

    OnTally = Callable[[Tally], None]
    #: Called several times a second with the frames that are not done; True stops the walk.
    Tick = Callable[[Callable[[], list[Frame]]], bool]

#: How long a worker works on one batch before it reports.
BATCH_SECONDS = 0.1


class WorkerDiedError(Exception):
    """A worker ended without an answer (killed, out of memory)."""


class Settings:
    """How a walk works; plain values."""

    def __init__(
        self,
        excluded: Callable[[str], str | None],
        max_hash_bytes: int | None = None,
        cpu_percent: int = 100,
        prunes: list[str] | None = None,
        pieces: int = 1,
        alone_seconds: float = 0.0,
    ) -> None:
        """``prunes``: all that ``excluded`` excludes, if it is a list of folders and find may do the walk;
        ``pieces`` of it for each worker. ``alone_seconds``: how long the walk goes on in this process before
        workers are made for it."""
        self.excluded = excluded
        self.max_hash_bytes = max_hash_bytes
        self.cpu_percent = cpu_percent
        self.prunes = prunes
        self.pieces = pieces
        self.alone_seconds = alone_seconds
