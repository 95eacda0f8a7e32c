"""Rows for store tests, with as little said as the test needs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ioc_scan.store import Transaction

SHA256 = "5eff" * 16


def detection(report_id: str = "1", sha256: str = SHA256, **changes: Any) -> dict[str, Any]:
    return {
        "schema_version": "1.0",
        "detection_id": f"cape:main:{report_id}",
        "source": {"product": "cape", "instance": "main", "report_id": report_id},
        "detected_at": "2026-03-01T11:00:00Z",
        "verdict": {"result": "malicious", "score": 90, "families": ["Emotet"]},
        "target": {"category": "file", "hashes": {"SHA-256": sha256}},
        "indicators": [],
    } | changes


def task(
    tx: Transaction, now: datetime, task_id: str = "task-1", sha256: str = SHA256, **changes: Any
) -> str:
    """A live task with its detection, on group local/workstations; returns its id."""
    row = {
        "task_id": task_id,
        "name": f"IOC Scan {task_id}",
        "object_sha256": sha256,
        "live_object": sha256,
        "detection_id": changes.pop("detection_id", "cape:main:1"),
        "profile": "endpoint_agent",
        "created_at": now,
    }
    created, new = tx.tasks.create_or_get(row | changes)
    assert new and created["task_id"] == task_id
    tx.task_groups.set(task_id, [("local", "workstations", "ask")])
    return task_id


def match(now: datetime, item_key: str = "item-1", task_id: str = "task-1", **changes: Any) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "run": 1,
        "manager": "local",
        "device_id": "ws01",
        "group": "workstations",
        "item_key": item_key,
        "ioc_digest": "d" * 64,
        "tier": "actionable",
        "document": "FileItem",
        "item": {"FullPath": "/home/a/x.exe"},
        "proof": ["i1"],
        "found_at": now,
        "path": "/home/a/x.exe",
        "path_b64": "L2hvbWUvYS94LmV4ZQ==",
        "sha256": SHA256,
        "size": 10,
        "st_dev": 1,
        "st_ino": 2,
    } | changes
