"""The audit trail is a chain: verified here, and exported as lines that carry their digests."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ioc_scan.errors import InputError
from ioc_scan.service import outputs, rights
from ioc_scan.service.context import Context
from ioc_scan.service.people import Actor
from ioc_scan.store.event_types import EventType
from ioc_scan.store.transaction import Transaction
from ioc_scan.text import printable

_HEAD = re.compile(r"(\d{1,18}):([0-9a-f]{64})", re.ASCII)
_PAGE = 2000


def verify_audit(context: Context, heads: Sequence[str] | None = None) -> dict[str, Any]:
    """Recompute the whole chain, and look for every given head (``EVENT_ID:DIGEST``) in it.

    Raises InputError ``audit_head_invalid``. ``first_bad_event`` is the first that is changed, missing or
    not what a head says.
    """
    wanted = [_parse(head) for head in heads or ()]
    with context.store.reading() as tx:
        bad = [tx.events.verify(head) for head in wanted] or [tx.events.verify()]
        last_id, digest = tx.events.head()
        oldest = tx.events.list(newest_first=False, limit=1)
    first_bad = min((event_id for event_id in bad if event_id is not None), default=None)
    kept = last_id - oldest[0]["event_id"] + 1 if oldest else 0
    if first_bad is None:
        message = f"The trail is whole: {kept} events, {len(wanted)} given heads found in it."
        step = f"Keep this head elsewhere: {last_id}:{digest}"
    else:
        message = f"The trail is BROKEN at event {first_bad}: it was changed, removed or cut off there."
        step = (
            "Keep the store as it is, export it (ioc_scan.export_audit), and find out who could write to it."
        )
    return {
        "ok": first_bad is None,
        "first_bad_event": first_bad,
        "events": kept,
        "head": f"{last_id}:{digest}",
        "heads_checked": len(wanted),
        "message": message,
        "next_step": step,
    }


def _parse(head: str) -> tuple[int, str]:
    found = _HEAD.fullmatch(head.strip().removeprefix("audit_head="))
    if found is None:
        raise InputError(
            "audit_head_invalid",
            f"{printable(head, 80)} is no head of an audit trail",
            "EVENT_ID:DIGEST, as the trigger ioc_scan.audit_head and syslog carry it.",
        )
    return int(found[1]), found[2]


def export_audit(
    context: Context,
    task_id: str | None = None,
    detection_id: str | None = None,
    account: str | None = None,
    chat_user: str | None = None,
) -> dict[str, Any]:
    """Write events as JSON lines, oldest first, with their digests: all, or those of a task or detection.

    The events of a detection hold those of the tasks it led to. Raises RefusedError ``right_missing``.
    """
    actor = Actor.of(context, account, chat_user)
    rights.require(context, actor, "export", task_id=task_id)
    wanted = _wanted(context, task_id, detection_id)
    with context.store.reading() as tx:
        lines = [_line(row) for row in _in_order(tx, wanted)]
        event_id, digest = tx.events.head()
    content = b"".join(lines)
    name = f"audit-{context.clock():%Y%m%d-%H%M%S}.jsonl"
    path = outputs.write(outputs.folder(context, outputs.EXPORTS), name, content)
    with context.store.transaction() as tx:
        data = {"events": len(lines), "head": f"{event_id}:{digest}"}
        tx.events.add(
            EventType.AUDIT_EXPORTED, task_id=task_id, detection_id=detection_id, actor=actor.name, data=data
        )
    return {
        "path": str(path),
        "sha256": hashlib.sha256(content).hexdigest(),
        "events": len(lines),
        "head": f"{event_id}:{digest}",
        "message": f"{len(lines)} events written to {path}.",
        "chat": f"{len(lines)} events written to {path}.",
        "next_step": f"st2 run ioc_scan.verify_audit heads={event_id}:{digest}",
    }


def _wanted(context: Context, task_id: str | None, detection_id: str | None) -> tuple[set[str], str | None]:
    tasks = {task_id} if task_id else set()
    if detection_id is not None:
        with context.store.reading() as tx:
            row = tx.detections.get(detection_id)
        if row is not None and row["task_id"]:
            tasks.add(row["task_id"])
    return tasks, detection_id


def _line(row: dict[str, Any]) -> bytes:
    """The time to the microsecond, as the digest was made over it."""
    plain = row | {"at": row["at"].isoformat(timespec="microseconds")}
    return json.dumps(plain, ensure_ascii=True, sort_keys=True).encode("ascii") + b"\n"


def _in_order(tx: Transaction, wanted: tuple[set[str], str | None]) -> Iterator[dict[str, Any]]:
    tasks, detection_id = wanted
    everything = not tasks and detection_id is None
    after = -1
    while True:
        rows = tx.events.list(after_id=after, newest_first=False, limit=_PAGE)
        for row in rows:
            of_detection = detection_id is not None and row["detection_id"] == detection_id
            if everything or of_detection or row["task_id"] in tasks:
                yield row
        if len(rows) < _PAGE:
            return
        after = rows[-1]["event_id"]
