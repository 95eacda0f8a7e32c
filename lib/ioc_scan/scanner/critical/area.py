"""One critical area while it is looked at: its state and findings, and what the looking may use."""

from __future__ import annotations

import json
from typing import Any, Callable

from ..documents.base import IDENTITY
from ..evaluate import Evaluator, Hit
from ..names import printable
from ..system import system_name

STATES = ("scanned", "refused", "unsupported")
#: "match": an IOC file says so; "suspicious": hardly ever innocent; "note": worth knowing, often innocent.
SEVERITIES = ("match", "suspicious", "note")
#: Findings listed of one area; further ones are counted.
MAX_FINDINGS = 200
MAX_TEXT_CHARS = 1000
#: Of all findings of a line: a device manager takes no longer lines.
MAX_LINE_BYTES = 200 * 1024


class StopError(Exception):
    """The looking was stopped from outside."""


class Context:
    """What looking at areas needs to know. ``evaluator``: of the task's plan, None without one.

    ``root``: the device is this folder tree, not the machine. ``baseline``: file that keeps what boot sectors
    looked like, None: nothing is kept. ``accept_boot_sectors``: what they look like now is right.
    """

    def __init__(
        self,
        evaluator: Evaluator | None = None,
        root: str | None = None,
        baseline: str | None = None,
        accept_boot_sectors: bool = False,
        max_hash_bytes: int | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.evaluator = evaluator
        self.root = root
        self.baseline = baseline
        self.accept_boot_sectors = accept_boot_sectors
        self.max_hash_bytes = max_hash_bytes
        self.system = system_name()
        self._stop = stop

    def go_on(self) -> None:
        """To be called often. Raises StopError."""
        if self._stop():
            raise StopError()


class Area:
    """State, reason and findings of one area."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = "scanned"
        self.looked_at = 0
        self._reasons: list[str] = []
        self._findings: list[dict[str, Any]] = []
        self._counts = dict.fromkeys(SEVERITIES, 0)

    def say(self, reason: str) -> None:
        """Something the reader must know of what was not looked at."""
        if reason not in self._reasons:
            self._reasons.append(reason)

    def refuse(self, reason: str) -> None:
        """Part of the area may not be looked at by this user; what was seen is still reported."""
        self.state = "refused"
        self.say(reason)

    def unsupported(self, reason: str) -> None:
        self.state = "unsupported"
        self.say(reason)

    def find(self, code: str, severity: str, what: str, detail: str = "", **more: Any) -> None:
        """Add a finding. ``what`` names the thing, ``detail`` says what is odd; both come from outside."""
        self._counts[severity] += 1
        finding: dict[str, Any] = {
            "code": code,
            "severity": severity,
            "what": printable(what[:MAX_TEXT_CHARS])[:MAX_TEXT_CHARS],
            "detail": printable(detail[:MAX_TEXT_CHARS])[:MAX_TEXT_CHARS],
        }
        finding.update((name, value) for name, value in more.items() if value is not None)
        self._findings.append(finding)
        if len(self._findings) > 2 * MAX_FINDINGS:
            self._findings = self._kept()

    def match(self, hit: Hit, what: str, item: dict[str, Any], **more: Any) -> None:
        """Add a finding that an IOC file of the task names."""
        name = item.get("FileName") or item.get("name") or what
        detail = f"{hit.document}: {name}"
        self.find("ioc_match", "match", what, detail, ioc=hit.ioc_digest, proof=list(hit.item_ids), **more)

    def _kept(self) -> list[dict[str, Any]]:
        """The gravest findings first, in the order they were made."""
        ordered = sorted(self._findings, key=lambda finding: SEVERITIES.index(finding["severity"]))
        return ordered[:MAX_FINDINGS]

    def _fitting(self) -> list[dict[str, Any]]:
        room = MAX_LINE_BYTES
        fitting = []
        for finding in self._kept():
            room -= len(json.dumps(finding))
            if room < 0:
                break
            fitting.append(finding)
        return fitting

    def line(self, seconds: float) -> dict[str, Any]:
        """The result line."""
        return {
            "type": "area",
            "area": self.name,
            "state": self.state,
            "reason": "; ".join(self._reasons)[:MAX_TEXT_CHARS],
            "looked_at": self.looked_at,
            "seconds": round(seconds, 3),
            "counts": dict(self._counts),
            "findings": self._fitting(),
        }


def plain(item: dict[str, Any]) -> dict[str, Any]:
    """An item without what only its collector needs."""
    return {name: value for name, value in item.items() if name != IDENTITY}
