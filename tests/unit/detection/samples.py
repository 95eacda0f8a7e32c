"""Small reports made here, for tests that need one thing to be just so."""

from __future__ import annotations

import io
import json
from typing import Any

from ioc_scan.detection.guard import GuardPolicy, Triage, classify
from ioc_scan.detection.normalize import normalize_report

TARGET_SHA256 = "b" * 64
TARGET = {
    "name": "x.exe",
    "size": 5,
    "md5": "a" * 32,
    "sha1": "c" * 40,
    "sha256": TARGET_SHA256,
    "type": "PE32 executable",
}


def report(**changes: Any) -> dict[str, Any]:
    """A malicious CAPE 2.4 report with nothing but a target."""
    return {
        "info": {"version": "2.4-CAPE", "started": "2024-01-01 09:00:00", "ended": "2024-01-01 09:05:00"},
        "malscore": 10.0,
        "target": {"category": "file", "file": dict(TARGET)},
        **changes,
    }


def normalize(content: dict[str, Any] | bytes, **options: Any) -> dict[str, Any]:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return normalize_report(io.BytesIO(data), instance="lab", **options)


def triage(content: dict[str, Any], **policy: Any) -> Triage:
    return classify(normalize(content), GuardPolicy(**policy))


def behavior(**summary: list[Any]) -> dict[str, Any]:
    return {"behavior": {"summary": summary}}


def dropped(
    path: str, sha256: str = "d" * 64, type_: str = "PE32 executable", size: int = 10, **more: Any
) -> dict[str, Any]:
    return {
        "sha256": sha256,
        "guest_paths": [path],
        "name": [path.rsplit("\\", 1)[-1]],
        "type": type_,
        "size": size,
        **more,
    }


def codes(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["reason"].partition(":")[0] for entry in entries]


def only(triage_: Triage, **wanted: Any) -> dict[str, Any]:
    """The one entry of any tier whose fields are as given."""
    entries = triage_.actionable + triage_.hunt + triage_.suppressed
    found = [entry for entry in entries if all(entry.get(key) == value for key, value in wanted.items())]
    assert len(found) == 1, found
    return found[0]
