"""What a response left in quarantine: its last word, told with every withdrawal of it, folder or not.

A device that was away when its response ended has no results any more once the job is taken back; what it
quarantined is still there, and names the job.
"""

from __future__ import annotations

import os
import time
from typing import Any, Sequence

from .errors import ScannerError
from .handover import runner_alive
from .names import decode_path
from .protocol import QUARANTINE_FOLDER
from .quarantine import LIVE_STATES, Quarantine

#: A runner that has just passed its last check before a deletion is done long before this.
_PATIENCE_SECONDS = 2.0
_LOOK_SECONDS = 0.05
_TOLD = ("match_id", "quarantine_id", "sha256", "size")


def left_in_quarantine(spool: str, job_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """By job: the objects it removed that are in quarantine now. Call it after the jobs were taken back."""
    quarantine = Quarantine(os.path.join(spool, QUARANTINE_FOLDER))
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        entries = [
            entry
            for entry in quarantine.entries()
            if entry.get("job_id") in job_ids and entry.get("state") in LIVE_STATES
        ]
        open_ones = any(entry["state"] == "copied" for entry in entries)
        if not open_ones or not runner_alive(spool) or time.monotonic() > deadline:
            break
        time.sleep(_LOOK_SECONDS)
    left: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        if entry["state"] == "quarantined" or object_is_gone(quarantine, entry):
            left.setdefault(entry["job_id"], []).append({name: entry[name] for name in _TOLD})
    return left


def object_is_gone(quarantine: Quarantine, entry: dict[str, Any]) -> bool:
    """Settle an entry that says ``copied``: is its object gone? If it is still in place the entry goes."""
    if _in_place(entry):
        quarantine.remove(entry)
        return False
    quarantine.put({**entry, "state": "quarantined"})
    return True


def _in_place(entry: dict[str, Any]) -> bool:
    from . import machine  # most withdrawals have nothing to settle

    try:
        with machine.pin(decode_path(entry["path_b64"])) as pinned:
            identity = pinned.identity()
    except (ScannerError, OSError):
        return False
    return identity == (entry["device"], entry["inode"])
