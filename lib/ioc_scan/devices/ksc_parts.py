"""What this side remembers of the tasks it has on the server: one file per job, written before the server is asked.

A part is one task there: one IOC file for one group, or for one list of devices. Its name is unique and ours, so
that a task whose id was lost in a crash is found again by its name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ..scanner.protocol import write_json_atomic
from .private import ensure_private_folder

NAME_PREFIX = "ioc_scan "
#: Twice the longest life of a task (retention.py).
KEEP_IOCS = timedelta(days=60)


@dataclass
class Part:
    """``task_id`` None: not created yet, as far as we know. ``started``: RunTask was answered."""

    name: str
    ioc_digest: str
    tier: str
    devices: list[str]
    group_id: int | None = None
    task_id: str | None = None
    started: bool = False


@dataclass
class Record:
    """Everything of one job. ``retired``: its tasks were deleted on the server, and that was confirmed."""

    job_id: str
    respond: bool
    not_after: str
    kind: str
    parts: list[Part] = field(default_factory=list)
    retired: bool = False
    #: Devices that were at work when a response's tasks were deleted: what they did is not known.
    cut_off: list[str] = field(default_factory=list)
    #: Devices that had finished by then; whether they quarantined anything, events tell.
    finished: list[str] = field(default_factory=list)
    trouble: str = ""

    def covered(self) -> set[str]:
        return {device for part in self.parts for device in part.devices}


class Records:
    """The folder of records."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, job_id: str) -> Record | None:
        try:
            raw: dict[str, Any] = json.loads((self.folder / f"{job_id}.json").read_bytes())
        except FileNotFoundError:
            return None
        return Record(**{**raw, "parts": [Part(**part) for part in raw["parts"]]})

    def put(self, record: Record) -> None:
        ensure_private_folder(self.folder)
        write_json_atomic(self.folder / f"{record.job_id}.json", asdict(record))

    def remove(self, job_id: str) -> None:
        (self.folder / f"{job_id}.json").unlink(missing_ok=True)

    def all(self) -> Iterable[Record]:
        for path in sorted(self.folder.glob("*.json")):
            record = self.get(path.name[: -len(".json")])
            if record is not None:
                yield record


def forget_old_iocs(folder: Path, now: datetime) -> None:
    """Remove IOC files that were published longer ago than any task lives."""
    for path in folder.glob("*.ioc"):
        try:
            if path.stat().st_mtime < (now - KEEP_IOCS).timestamp():
                path.unlink()
        except FileNotFoundError:  # another process was first
            continue


def part_name(job_id: str, number: int, tier: str) -> str:
    """At most 100 characters: the prefix 9, a job id 80, the rest 8."""
    return f"{NAME_PREFIX}{job_id} {tier[0]}{number}"
