"""A job that looks at the critical areas of a device and writes one line for each."""

from __future__ import annotations

import os
import time
from typing import Any, Callable, Sequence

from ..evaluate import Evaluator
from ..jobfolder import CancelledError, JobFolder
from ..plan import Plan
from ..polite import Budget
from ..spool import Spool
from ..system import system_name
from . import AREAS, Context, StopError, scan_area

BASELINE_FILE = "boot_sectors.json"
_LOOK_SECONDS = 0.2


def look(
    context: Context, on_line: Callable[[dict[str, Any]], None], known: Sequence[str] = ()
) -> dict[str, Any]:
    """Look at all areas but those ``known`` already; each line goes to ``on_line``. The summary line."""
    begin = time.monotonic()
    states = {}
    counts: dict[str, int] = {}
    for name in AREAS:
        if name in known:
            continue
        line = scan_area(name, context)
        states[name] = line["state"]
        for severity, count in line["counts"].items():
            counts[severity] = counts.get(severity, 0) + count
        on_line(line)
    seconds = round(time.monotonic() - begin, 3)
    return {"type": "summary", "areas": states, "findings": counts, "seconds": seconds}


class CriticalAreas:
    """One job of kind ``critical_areas``."""

    def __init__(
        self, folder: JobFolder, spool: Spool, plan: Plan | None, stopping: Callable[[], bool]
    ) -> None:
        self._folder = folder
        self._stopping = stopping
        self._looked = 0.0
        settings = folder.job.get("settings", {})
        percent = settings.get("cpu_percent", 100)
        self._budget = Budget(percent) if percent < 100 else None
        self._context = Context(
            evaluator=None if plan is None else Evaluator(plan, system_name()),
            root=None if spool.root in (None, os.sep) else spool.root,
            baseline=os.path.join(spool.path, BASELINE_FILE),
            accept_boot_sectors=bool(settings.get("accept_boot_sectors", False)),
            max_hash_bytes=settings.get("max_hash_bytes"),
            stop=self._stop,
        )

    def _stop(self) -> bool:
        """Raises CancelledError, WithdrawnError."""
        if self._budget is not None:
            self._budget.keep()
        now = time.monotonic()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            if self._folder.control() == "cancel":
                raise CancelledError()
            self._folder.write_status()
        return self._stopping()

    def run(self) -> bool:
        """False: told to stop in between, to go on later with the areas that are left.

        Raises CancelledError, WithdrawnError, OSError, ScannerError.
        """
        results = self._folder.results
        known = [name for name in AREAS if f"area {name}" in results.known]

        def on_line(line: dict[str, Any]) -> None:
            results.append(line, durable=True)
            if line["state"] != "scanned":
                entry = {
                    "what": "critical area " + line["area"],
                    "reason": f"{line['state']}: {line['reason']}",
                }
                self._folder.status["not_evaluated"].append(entry)
            done = sum(f"area {name}" in results.known for name in AREAS)
            self._folder.status["progress"] = round(done / len(AREAS), 2)

        try:
            summary = look(self._context, on_line, known)
        except StopError:
            return False
        results.append(summary, durable=True)
        return True
