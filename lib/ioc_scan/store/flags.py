"""Small named values of the whole installation: kill switch, cursors of sources, times of last runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import delete, select

from .base import Namespace, Row
from .tables import flags


class Flags(Namespace):
    """``tx.flags``"""

    def set(self, name: str, value: Any, *, now: datetime, actor: str | None = None) -> None:
        """Set a value (plain JSON data)."""
        row = {"value": value, "updated_at": now, "updated_by": actor}
        statement = self._insert(flags).values(name=name, **row)
        self._connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=row))

    def forget(self, prefix: str, before: datetime, limit: int = 1000) -> int:
        """Remove what begins so and was last set before a time, at most ``limit``; how many were."""
        old = (
            select(flags.c.name)
            .where(flags.c.name.startswith(prefix, autoescape=True), flags.c.updated_at < before)
            .limit(limit)
        )
        return self._connection.execute(delete(flags).where(flags.c.name.in_(old))).rowcount

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or ``default`` where none was set."""
        row = self.row(name)
        return default if row is None else row["value"]

    def row(self, name: str) -> Row | None:
        """name, value, updated_at, updated_by; or None."""
        return self._one(select(flags).where(flags.c.name == name))
