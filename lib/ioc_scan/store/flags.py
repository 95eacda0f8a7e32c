"""Small named values of the whole installation: kill switch, cursors of sources, times of last runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import select

from .base import Namespace, Row
from .tables import flags


class Flags(Namespace):
    """``tx.flags``"""

    def set(self, name: str, value: Any, *, now: datetime, actor: str | None = None) -> None:
        """Set a value (plain JSON data)."""
        row = {"value": value, "updated_at": now, "updated_by": actor}
        statement = self._insert(flags).values(name=name, **row)
        self._connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=row))

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or ``default`` where none was set."""
        row = self.row(name)
        return default if row is None else row["value"]

    def row(self, name: str) -> Row | None:
        """name, value, updated_at, updated_by; or None."""
        return self._one(select(flags).where(flags.c.name == name))
