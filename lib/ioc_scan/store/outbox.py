"""Triggers to be injected into StackStorm: noted with the work they tell of, injected at least once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select, update

from .base import Namespace, Rows
from .tables import outbox


class Outbox(Namespace):
    """``tx.outbox``"""

    def add(
        self,
        trigger: str,
        payload: dict[str, Any],
        *,
        dedupe_key: str,
        now: datetime,
        trace_tag: str | None = None,
    ) -> bool:
        """Note a trigger; False if one with this ``dedupe_key`` was noted before, injected or not."""
        row = {
            "trigger": trigger,
            "payload": payload,
            "trace_tag": trace_tag,
            "dedupe_key": dedupe_key,
            "created_at": now,
        }
        statement = self._insert(outbox).on_conflict_do_nothing(index_elements=["dedupe_key"])
        return self._connection.execute(statement, row).rowcount > 0

    def due(self, limit: int = 50) -> Rows:
        """Not yet injected, oldest first."""
        query = select(outbox).where(outbox.c.injected_at.is_(None)).order_by(outbox.c.outbox_id)
        return self._all(query.limit(limit))

    def mark_injected(self, outbox_ids: Sequence[int], now: datetime) -> None:
        """After StackStorm took them."""
        self._connection.execute(
            update(outbox).where(outbox.c.outbox_id.in_(list(outbox_ids))).values(injected_at=now)
        )
