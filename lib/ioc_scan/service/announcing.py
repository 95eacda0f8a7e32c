"""Triggers for playbook authors and for our own rules: noted in the outbox with the work they tell of.

Payloads hold ids, numbers and fixed words only; their schemas are in ``sensors/sandbox_detections.yaml``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ioc_scan.store.transaction import Transaction


def announce(
    tx: Transaction, name: str, task: dict[str, Any], key: str, now: datetime, **payload: Any
) -> bool:
    """Note the trigger ``ioc_scan.<name>`` about a task, once per ``key``; trace tag is its first detection."""
    body = {"task_id": task["task_id"], "detection_id": task["detection_id"], **payload}
    return tx.outbox.add(
        f"ioc_scan.{name}",
        body,
        dedupe_key=f"{name}:{task['task_id']}:{key}",
        now=now,
        trace_tag=task["detection_id"],
    )
