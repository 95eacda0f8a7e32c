"""Objects that are more likely somebody's software than malware: on many devices, or there long before.

What a policy would remove by itself is asked about instead. Devices are taken at their word here, as it can
only turn a removal into a question.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from ioc_scan.clock import from_iso
from ioc_scan.store.transaction import Transaction

Row = dict[str, Any]
#: When a file came to be where it is. The inode's change cannot be set back by who wrote the file; Windows has none.
_SINCE = ("Changed", "Created")


def seen_on_many(tx: Transaction, rows: Iterable[Row], most: int) -> set[str]:
    """The digests among ``rows`` that were found on more devices than ``most``."""
    return {digest for digest in _digests(rows) if tx.matches.devices_with(digest) > most}


def there_before(tx: Transaction, task: Row, rows: Sequence[Row], hours: int) -> set[str]:
    """The digests among ``rows`` that lay on a device more than ``hours`` before the sandbox saw the object."""
    detection = tx.detections.get(task["detection_id"])
    if detection is None:
        return set()
    before = _seen_at(detection) - timedelta(hours=hours)
    old = [row for row in rows if (since := _since(row["item"])) is not None and since < before]
    return set(_digests(old))


def _digests(rows: Iterable[Row]) -> set[str]:
    return {row["sha256"] for row in rows}


def _seen_at(detection: Row) -> datetime:
    """When the analysis began; a report without a believable time is as old as its arrival."""
    received: datetime = detection["received_at"]
    seen: datetime = detection["detected_at"]
    with suppress(KeyError, ValueError, TypeError):
        seen = min(seen, from_iso(detection["document"]["analysis_started"]))
    return seen if timedelta(0) <= received - seen <= timedelta(days=3650) else received


def _since(item: Mapping[str, Any]) -> datetime | None:
    for name in _SINCE:
        with suppress(KeyError, ValueError, TypeError, AttributeError):
            return from_iso(item[name])
    return None
