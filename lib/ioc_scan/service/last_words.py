"""What a device quarantined before its response was taken back, and could not say in time.

A device that goes away half way through a response leaves its matches without an outcome; their claims end, and so
may the task. When it is back it gives the job up and says what it left in quarantine: that is the truth, however late.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from ioc_scan.devices.base import LeftBehind
from ioc_scan.service.outcomes import note_quarantined, record
from ioc_scan.store.transaction import Transaction
from ioc_scan.text import printable

Row = dict[str, Any]


def store_last_words(tx: Transaction, job: Row, left: Iterable[LeftBehind], now: datetime) -> None:
    """Take in what withdrawn devices told. Only about what this job asked of that device; told again: no change."""
    for told in left:
        match = _match(tx, job, told)
        if match is None or tx.quarantine.get(told.quarantine_id, job["manager"], told.device_id):
            continue
        note_quarantined(tx, job, told.device_id, match, told.quarantine_id, now)
        about = {
            "quarantine_id": told.quarantine_id,
            "code": "told_late",
            "message": "the device said so when the response was taken back",
        }
        tx.matches.set_response(  # not if a later response has the match by now: it will find the object missing
            told.match_id, "quarantined", now=now, response_id=job["response_id"], **about
        )
        record(tx, job, told.device_id, match, "quarantined", about | {"terminated": []})


def _match(tx: Transaction, job: Row, told: LeftBehind) -> Row | None:
    """The match this is about, or what the job said of it if its row is pruned; None: the device makes it up."""
    items = job["spec"].get("items", {}).get(told.device_id, ())
    item = next((item for item in items if item["match_id"] == told.match_id), None)
    if job["kind"] != "respond" or item is None or item["sha256"] != told.sha256:
        return None
    match = tx.matches.get(told.match_id)
    return match or item | {"task_id": job["task_id"], "path": _shown(item["path_b64"])}


def _shown(path_b64: str) -> str:
    try:
        return printable(os.fsdecode(base64.b64decode(path_b64)))
    except binascii.Error:
        return ""
