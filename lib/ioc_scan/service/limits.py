"""The blast limits: how many more files a response may act on, counted cumulatively before it claims any."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ioc_scan.store.transaction import Transaction


@dataclass(frozen=True)
class Room:
    """``files`` more may be acted on; ``limit`` is the name of the limit that allows the fewest."""

    files: int
    limit: str


def room_left(
    tx: Transaction, settings: dict[str, Any], task: dict[str, Any], source_name: str, now: datetime
) -> Room:
    """Compare what was acted on or claimed so far with every limit of the configuration's ``response``."""
    day, hour = now - timedelta(days=1), now - timedelta(hours=1)
    acted = tx.responses.acted
    counted = {
        "max_files_per_task": acted(task_id=task["task_id"]),
        "max_files_per_source_per_day": acted(source_name=source_name, since=day),
        "max_files_per_hour": acted(since=hour),
        "max_files_per_day": acted(since=day),
    }
    if task["object_sha256"]:
        counted["max_files_per_object"] = acted(object_sha256=task["object_sha256"])
    rooms = [Room(max(settings[name] - count["files"], 0), name) for name, count in counted.items()]
    return min(rooms, key=lambda room: room.files)


def device_room(
    tx: Transaction, settings: dict[str, Any], manager: str, device_id: str, now: datetime
) -> int:
    """How many more files may be acted on on one device within a day."""
    acted = tx.responses.acted(manager=manager, device_id=device_id, since=now - timedelta(days=1))
    return max(int(settings["max_files_per_device"]) - acted["files"], 0)
