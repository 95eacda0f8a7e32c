"""A scan of this machine without a spool: for the command line."""

from __future__ import annotations

import os
import time

from . import TYPE_CHECKING
from .errors import ScannerError
from .filescan import scan_files
from .names import shown_path
from .questions import Questions
from .scanjob import Judge
from .scope import Scope
from .settings import Settings
from .system import system_name

if TYPE_CHECKING:
    from typing import Any, Callable

    from .plan import Plan
    from .walk import Frame

    #: share of the walk (0..1), files seen, matches: several times a second
    OnProgress = Callable[[float, int, int], None]

#: A scan that takes no longer needs no workers.
_ALONE_SECONDS = 0.5
_SHOW_SECONDS = 0.2


class _Screen:
    """Results that go to a function instead of a file."""

    def __init__(self, on_line: Callable[[dict[str, Any]], None]) -> None:
        self.known: set[str] = set()
        self.matches = 0
        self.status: dict[str, Any] = {}
        self._on_line = on_line

    @property
    def results(self) -> _Screen:
        return self

    def append(self, line: dict[str, Any], durable: bool = False) -> None:
        if line["type"] == "match":
            self.known.add(f"{line['ioc']} {line['item_key']}")
            self.matches += 1
            self._on_line(line)

    def name_skip(self, path: str, reason: str) -> None:
        """Skips are only counted here."""


def scan_here(
    plan: Plan,
    settings: dict[str, Any],
    on_line: Callable[[dict[str, Any]], None],
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Scan with the settings of a scan job; every match goes to ``on_line``. The summary line.

    Raises ScannerError ``root_missing``, OSError.
    """
    begin = time.monotonic()
    for root in settings.get("roots", []):
        if not os.path.isdir(root):
            raise ScannerError("root_missing", shown_path(root) + " is not a folder that can be scanned")
    scope = Scope(settings, None, [])
    screen = _Screen(on_line)
    judge = Judge(screen, plan, system_name())
    for folder, reason in scope.not_evaluated:
        judge.evaluator.unavailable(folder, reason)
    questions = Questions([judge.evaluator])
    if judge.evaluator.documents - {"FileItem"}:
        from .collect import collect_documents

        collect_documents([judge])
    if questions.about_files:
        how = Settings(
            scope.excluded,
            settings.get("max_hash_bytes"),
            settings.get("cpu_percent", 100),
            prunes=scope.prunes(),
            alone_seconds=_ALONE_SECONDS,
        )
        workers = settings.get("threads", min(2, os.cpu_count() or 1))
        tick = _tick(scope.roots, screen, on_progress)
        scan_files(scope.frames(), questions, how, workers, judge.take, tick)
    judge.finish()
    status = screen.status
    return {
        "type": "summary",
        "files": status["files_seen"],
        "bytes_hashed": status["bytes_hashed"],
        "seconds": round(time.monotonic() - begin, 3),
        "matches": screen.matches,
        "not_evaluated": status["not_evaluated"],
        "skipped": [
            {"reason": reason, "count": count} for reason, count in sorted(status["skipped"].items())
        ],
    }


def _tick(
    roots: list[str], screen: _Screen, on_progress: OnProgress | None
) -> Callable[[Callable[[], list[Frame]]], bool]:
    """What a walk calls several times a second; it never says stop."""
    if on_progress is None:
        return lambda pending: False
    from .progress import Progress

    progress = Progress(roots)

    shown = 0.0

    def tick(pending: Callable[[], list[Frame]]) -> bool:
        nonlocal shown
        if (
            time.monotonic() - shown >= _SHOW_SECONDS
        ):  # it is asked far more often, after every block of a file
            shown = time.monotonic()
            on_progress(progress.share(pending()), screen.status.get("files_seen", 0), screen.matches)
        return False

    return tick
