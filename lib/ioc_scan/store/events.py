"""The record of every decision and action: append-only, each row bound to the one before.

``digest`` = SHA-256 over the digest before and the row's own content, so a changed or removed row shows;
that the last rows were cut off shows against a head that was sent elsewhere. The database itself refuses
updates and deletions (triggers of the first migration).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from itertools import takewhile
from typing import Any

from sqlalchemy import delete, select

from ..errors import RefusedError
from .base import Namespace, Row, Rows
from .event_types import EventType, event_type
from .tables import event_anchors, events
from .types import dump_json, safe_data

_TEXTS = ("detection_id", "task_id", "manager", "device_id", "actor")
#: What the digest before the very first event is.
GENESIS = "0" * 64


def event_digest(before: str, row: Row) -> str:
    """The digest of an event row, given the digest of the row before it."""
    at = row["at"].astimezone(timezone.utc).isoformat(timespec="microseconds")
    content = dump_json(
        [before, row["event_id"], at, row["type"], *(row[name] for name in _TEXTS), row["data"]]
    )
    return hashlib.sha256(content.encode("ascii")).hexdigest()


class Events(Namespace):
    """``tx.events``"""

    def add(
        self,
        kind: EventType | str,
        *,
        detection_id: str | None = None,
        task_id: str | None = None,
        manager: str | None = None,
        device_id: str | None = None,
        actor: str | None = None,
        data: dict[str, Any] | None = None,
        at: datetime | None = None,
    ) -> int:
        """Record an event (``at``: now by the store's clock); its id. ValueError for an unknown type."""
        row = {
            "type": kind,
            "detection_id": detection_id,
            "task_id": task_id,
            "manager": manager,
            "device_id": device_id,
            "actor": actor,
            "data": data,
            "at": at,
        }
        return self.add_many([row])[-1]

    def add_many(self, rows: Sequence[Row]) -> Sequence[int]:
        """Record several, in this order: ``type`` and what :meth:`add` takes in each; returns their ids."""
        if not rows:
            return []
        last_id, digest = self.head()
        values = []
        for given in rows:
            last_id += 1
            row: Row = {"event_id": last_id, "type": event_type(given["type"]).value}
            row["at"] = given.get("at") or self._tx.now()
            row |= {name: safe_data(given.get(name)) for name in _TEXTS}
            row["data"] = safe_data(given.get("data") or {})
            digest = row["digest"] = event_digest(digest, row)
            values.append(row)
        self._connection.execute(events.insert(), values)
        return [row["event_id"] for row in values]

    def list(
        self,
        *,
        types: Iterable[EventType | str] | None = None,
        detection_id: str | None = None,
        task_id: str | None = None,
        manager: str | None = None,
        device_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after_id: int | None = None,
        newest_first: bool = True,
        limit: int = 100,
        offset: int = 0,
    ) -> Rows:
        """Events, newest first; ``since`` is included, ``until`` is not; ``after_id`` pages an export."""
        order = events.c.event_id.desc() if newest_first else events.c.event_id
        query = select(events).order_by(order).limit(limit).offset(offset)
        wanted = {
            "detection_id": detection_id,
            "task_id": task_id,
            "manager": manager,
            "device_id": device_id,
        }
        for name, value in wanted.items():
            if value is not None:
                query = query.where(events.c[name] == value)
        if types is not None:
            query = query.where(events.c.type.in_(sorted(event_type(item).value for item in types)))
        if since is not None:
            query = query.where(events.c.at >= since)
        if until is not None:
            query = query.where(events.c.at < until)
        if after_id is not None:
            query = query.where(events.c.event_id > after_id)
        return self._all(query)

    def head(self) -> tuple[int, str]:
        """(id, digest) of the last event; what to send elsewhere. (0, zeros) before the first."""
        query = select(events.c.event_id, events.c.digest).order_by(events.c.event_id.desc()).limit(1)
        row = self._connection.execute(query).first()
        return (row.event_id, row.digest) if row is not None else self._anchor()

    def verify(self, head: tuple[int, str] | None = None, *, up_to: int | None = None) -> int | None:
        """The id of the first event that is changed, missing or out of place; None if all is well.

        ``head``: an (id, digest) that was sent elsewhere earlier; it must still be in the chain. ``up_to``:
        look no further than this event. Reads every event: use it in ``store.reading()``.
        """
        last_id, digest = self._anchor()
        expected = {head[0]: head[1]} if head is not None and head[0] > last_id else {}
        for row in self._in_order(last_id):
            if up_to is not None and row["event_id"] > up_to:
                break
            if row["event_id"] != last_id + 1 or row["digest"] != event_digest(digest, row):
                return last_id + 1
            last_id, digest = row["event_id"], row["digest"]
            if expected.pop(last_id, digest) != digest:
                return last_id
        return last_id + 1 if expected else None

    def _anchor(self) -> tuple[int, str]:
        """Where the chain begins: the newest anchor, or the beginning of all."""
        query = select(event_anchors.c.event_id, event_anchors.c.digest)
        row = self._connection.execute(query.order_by(event_anchors.c.event_id.desc()).limit(1)).first()
        return (row.event_id, row.digest) if row is not None else (0, GENESIS)

    def _in_order(self, after_id: int, page: int = 2000) -> Iterator[Row]:
        while True:
            rows = self.list(after_id=after_id, newest_first=False, limit=page)
            yield from rows
            if len(rows) < page:
                return
            after_id = rows[-1]["event_id"]

    def trim(self, before: datetime, *, actor: str, now: datetime, limit: int = 10_000) -> int:
        """Remove the oldest events (all older than ``before``, at most ``limit``) after they were exported.

        An anchor keeps the chain, and the removal is itself an event. The part that goes must be whole:
        else RefusedError ``audit_broken``. Returns how many were removed; the last event never is.
        """
        last_id, _ = self.head()
        query = select(events).where(events.c.event_id < last_id).order_by(events.c.event_id).limit(limit)
        oldest = list(takewhile(lambda row: row["at"] < before, self._all(query)))
        if not oldest:
            return 0
        end = oldest[-1]
        if self.verify(up_to=end["event_id"]) is not None:
            raise RefusedError(
                "audit_broken", "the events' chain is broken", "export and look before trimming"
            )
        anchor = {"event_id": end["event_id"], "digest": end["digest"], "at": now, "actor": actor}
        self._connection.execute(event_anchors.insert(), anchor)
        self._connection.execute(delete(events).where(events.c.event_id <= end["event_id"]))
        data = {"up_to_event": end["event_id"], "digest": end["digest"], "removed": len(oldest)}
        self.add(EventType.AUDIT_TRIMMED, actor=actor, data=data, at=now)
        return len(oldest)
