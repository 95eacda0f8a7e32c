"""How far the fetching of each announced report came."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update

from .base import Namespace, Row, Rows
from .tables import fetches


class Fetches(Namespace):
    """``tx.fetches``: states pending (to be tried at ``next_try_at``), fetched, failed (given up)."""

    def failed(
        self,
        detection_id: str,
        *,
        source_name: str,
        report_id: str,
        code: str,
        message: str,
        next_try_at: datetime | None,
        now: datetime,
    ) -> int:
        """Record a failed try; ``next_try_at`` None gives up. Returns the attempts made so far."""
        known = self.get(detection_id)
        attempts = (known["attempts"] if known else 0) + 1
        row = {
            "source_name": source_name,
            "report_id": report_id,
            "attempts": attempts,
            "code": code,
            "message": message,
            "next_try_at": next_try_at,
            "state": "pending" if next_try_at is not None else "failed",
            "updated_at": now,
        }
        self._put(detection_id, row)
        return attempts

    def deferred(
        self,
        detection_id: str,
        *,
        source_name: str,
        report_id: str,
        code: str,
        message: str,
        attempts: int,
        next_try_at: datetime,
        now: datetime,
    ) -> None:
        """Put off to ``next_try_at`` through no fault of the report, which stays at so many attempts."""
        row = {
            "source_name": source_name,
            "report_id": report_id,
            "attempts": attempts,
            "code": code,
            "message": message,
            "next_try_at": next_try_at,
            "state": "pending",
            "updated_at": now,
        }
        self._put(detection_id, row)

    def announced(self, detection_id: str, *, source_name: str, report_id: str, now: datetime) -> bool:
        """Note a report to be fetched at once; True if it was unknown (a known one stays as it is)."""
        row = {
            "detection_id": detection_id,
            "source_name": source_name,
            "report_id": report_id,
            "attempts": 0,
            "next_try_at": now,
            "state": "pending",
            "updated_at": now,
        }
        return self._connection.execute(self._insert(fetches).on_conflict_do_nothing(), row).rowcount > 0

    def _put(self, detection_id: str, row: Row) -> None:
        statement = self._insert(fetches).values(detection_id=detection_id, **row)
        self._connection.execute(statement.on_conflict_do_update(index_elements=["detection_id"], set_=row))

    def succeeded(self, detection_id: str, now: datetime) -> None:
        """The report is in the store; nothing is tried again. No-op where no try had failed."""
        self._connection.execute(
            update(fetches)
            .where(fetches.c.detection_id == detection_id)
            .values(state="fetched", next_try_at=None, code=None, message=None, updated_at=now)
        )

    def due(self, now: datetime, limit: int = 50) -> Rows:
        """Pending ones whose time has come, the longest waiting first."""
        return self._all(
            select(fetches)
            .where(fetches.c.state == "pending", fetches.c.next_try_at <= now)
            .order_by(fetches.c.next_try_at, fetches.c.detection_id)
            .limit(limit)
        )

    def get(self, detection_id: str) -> Row | None:
        return self._one(select(fetches).where(fetches.c.detection_id == detection_id))

    def list(self, state: str | None = None, limit: int = 100, offset: int = 0) -> Rows:
        """Last touched first."""
        query = select(fetches).order_by(fetches.c.updated_at.desc(), fetches.c.detection_id)
        if state is not None:
            query = query.where(fetches.c.state == state)
        return self._all(query.limit(limit).offset(offset))
