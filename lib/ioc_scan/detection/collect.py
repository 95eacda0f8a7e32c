"""Gathers the indicators of one report within bounds; of too many, the important ones are kept."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from ioc_scan.detection.kinds import base_name, is_program

MAX_INDICATORS = 2000
#: Per rank, so that a flood of one kind costs bounded memory before the final cut.
MAX_PER_RANK = 2000

EPOCH = "1970-01-01T00:00:00Z"

Indicator = dict[str, Any]

_ROLE_RANK = {
    "config": 2,
    "persistence": 4,
    "created": 5,
    "resolved": 6,
    "contacted": 7,
    "resolver": 8,
    "payload": 9,
    "executed": 10,
}


def rank(indicator: Indicator) -> int:
    """Lower is kept first: target, source-marked, config, programs, then the rest in a fixed order."""
    if indicator["role"] == "target":
        return 0
    if indicator.get("verdict") == "malicious":
        return 1
    if indicator["role"] in ("dropped", "written"):
        name = indicator.get("path") or indicator.get("name") or ""
        return 3 if is_program(indicator.get("file_type"), base_name(name)) else 11
    return _ROLE_RANK.get(indicator["role"], 12)


class Collector:
    """Add indicators; ``finish`` gives them by rank, then by arrival, and records what was left out."""

    def __init__(self, losses: Counter[str]) -> None:
        self._losses = losses
        self._ranks: dict[int, list[Indicator]] = {}
        self._seen: set[str] = set()
        self.truncated = False

    def add(self, type_: str, role: str, **fields: Any) -> None:
        """``fields`` as in the schema; those that are None or empty are left out."""
        indicator: Indicator = {"type": type_, "role": role}
        indicator.update((name, value) for name, value in fields.items() if value not in (None, "", {}))
        bucket = self._ranks.setdefault(rank(indicator), [])
        if len(bucket) >= MAX_PER_RANK:
            self._drop(indicator)
            return
        identity = {name: value for name, value in indicator.items() if name != "evidence"}
        key = json.dumps(identity, sort_keys=True)
        if key not in self._seen:
            self._seen.add(key)
            bucket.append(indicator)

    def finish(self) -> list[Indicator]:
        ordered = [indicator for number in sorted(self._ranks) for indicator in self._ranks[number]]
        for indicator in ordered[MAX_INDICATORS:]:
            self._drop(indicator)
        return ordered[:MAX_INDICATORS]

    def assemble(
        self,
        *,
        verdict: dict[str, Any],
        target: dict[str, Any],
        detected_at: str | None,
        analysis_started: str | None = None,
        counted: Counter[str] | None = None,
    ) -> dict[str, Any]:
        """The normal form but for ``detection_id`` and ``source``. A missing time is a loss, not a guess."""
        if detected_at is None:
            self._losses["no_time"] += 1
        form: dict[str, Any] = {"verdict": verdict, "target": target, "detected_at": detected_at or EPOCH}
        if analysis_started:
            form["analysis_started"] = analysis_started
        form["indicators"] = self.finish()
        if self.truncated:
            form["truncated"] = True
        if counted:
            form["not_listed"] = dict(sorted(counted.items()))
        if self._losses:
            form["losses"] = dict(sorted(self._losses.items()))
        return form

    def _drop(self, indicator: Indicator) -> None:
        self.truncated = True
        self._losses[f"over_limit_{indicator['role']}"] += 1
