"""What a manager says of a device that has said nothing itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .base import Job


def own_status(
    job: Job, device_id: str, state: str, error: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """A state the device has not said itself, in the shape of status.json; without a time, so said once."""
    return {
        "device_id": device_id,
        "run": job.run,
        "state": state,
        "updated_at": None,
        "started_at": None,
        "finished_at": None,
        "files_seen": 0,
        "bytes_hashed": 0,
        "matches": 0,
        "results_bytes": 0,
        "progress": None,
        "skipped": {},
        "not_evaluated": [],
        "error": dict(error) if error else None,
    }
