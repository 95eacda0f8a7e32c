"""Every table of the store. The comment above each says what one row is."""

from __future__ import annotations

from .columns import metadata
from .intake import detection_revisions, detections, fetches, ioc_files, plans
from .responses import acted_files, approvals, exemptions, matches, quarantine, responses
from .tasks import (
    jobs,
    task_detections,
    task_devices,
    task_groups,
    task_iocs,
    task_runs,
    task_summaries,
    tasks,
    withdrawals,
)
from .upkeep import event_anchors, events, flags, leases, outbox

__all__ = [
    "acted_files",
    "approvals",
    "detection_revisions",
    "detections",
    "event_anchors",
    "events",
    "exemptions",
    "fetches",
    "flags",
    "ioc_files",
    "jobs",
    "leases",
    "matches",
    "metadata",
    "outbox",
    "plans",
    "quarantine",
    "responses",
    "task_detections",
    "task_devices",
    "task_groups",
    "task_iocs",
    "task_runs",
    "task_summaries",
    "tasks",
    "withdrawals",
]
