"""Leases: one holder at a time, and free again when the holder died."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select

from .base import Namespace, Row
from .tables import leases


class Leases(Namespace):
    """``tx.leases``"""

    def acquire(self, name: str, holder: str, seconds: float, now: datetime) -> bool:
        """Take the lease or prolong one's own; False while another holds it. Free at its expiry."""
        statement = self._insert(leases).values(
            name=name, holder=holder, expires_at=now + timedelta(seconds=seconds)
        )
        taken = {"holder": statement.excluded.holder, "expires_at": statement.excluded.expires_at}
        result = self._connection.execute(
            statement.on_conflict_do_update(
                index_elements=["name"],
                set_=taken,
                where=(leases.c.holder == holder) | (leases.c.expires_at <= now),
            )
        )
        return result.rowcount > 0

    def release(self, name: str, holder: str) -> bool:
        """Give it back; False if it was not this holder's."""
        query = leases.delete().where(leases.c.name == name, leases.c.holder == holder)
        return self._connection.execute(query).rowcount > 0

    def get(self, name: str) -> Row | None:
        """name, holder, expires_at; or None."""
        return self._one(select(leases).where(leases.c.name == name))
