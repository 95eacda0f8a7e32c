"""Key/value store with StackStorm's string semantics. Standard library only: it runs in the children too."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

PAGE_LIMIT = 100  # StackStorm's default api.max_page_size: list_values never returns more


class KeyValuePair(NamedTuple):
    """One stored value, with its full name."""

    name: str
    value: str


class KeyValues:
    """The values of one state folder. A connection per call, so threads and processes can share it."""

    def __init__(self, path: str) -> None:
        self.path = path

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        if not os.path.isdir(os.path.dirname(self.path)):
            raise OSError(f"no datastore at {self.path}")
        connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        try:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS key_values (name TEXT PRIMARY KEY, value TEXT, expires_at REAL)"
            )
            yield connection
        finally:
            connection.close()

    def get(self, name: str) -> str | None:
        """The value, or None where there is none or its time to live is over."""
        with self._open() as connection:
            row = connection.execute(
                "SELECT value FROM key_values WHERE name = ? AND (expires_at IS NULL OR expires_at > ?)",
                (name, time.time()),
            ).fetchone()
        return row[0] if row else None

    def set(self, name: str, value: object, ttl_seconds: float | None = None) -> None:
        """Store ``str(value)``: None becomes the text ``None``, as in StackStorm."""
        with self._open() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO key_values VALUES (?, ?, ?)",
                (name, str(value), time.time() + ttl_seconds if ttl_seconds else None),
            )

    def delete(self, name: str) -> bool:
        with self._open() as connection:
            return connection.execute("DELETE FROM key_values WHERE name = ?", (name,)).rowcount > 0

    def list(self, prefix: str, limit: int, offset: int) -> list[KeyValuePair]:
        with self._open() as connection:
            rows = connection.execute(
                "SELECT name, value FROM key_values WHERE substr(name, 1, length(?)) = ?"
                " AND (expires_at IS NULL OR expires_at > ?) ORDER BY name LIMIT ? OFFSET ?",
                (prefix, prefix, time.time(), limit, offset),
            ).fetchall()
        return [KeyValuePair(*row) for row in rows]


class ValueService:
    """``get_value`` and its kin as StackStorm gives them to actions and sensors.

    Names are local to ``pack.Class:`` unless ``local=False``. ``get_value`` answers None both for "no
    value" and for "no datastore", ``list_values`` and ``set_value`` raise: so does StackStorm. ``encrypt``
    is accepted and stores plain text.
    """

    def __init__(self, path: str, pack: str, class_name: str) -> None:
        self._values = KeyValues(path)
        self._prefix = f"{pack}.{class_name}:"

    def _name(self, name: str, local: bool, scope: str = "system") -> str:
        if scope != "system":
            raise ValueError(f"Scope {scope} is unsupported.")
        return self._prefix + name if local else name

    def list_values(
        self, local: bool = True, prefix: str | None = None, limit: int | None = None, offset: int | None = 0
    ) -> list[KeyValuePair]:
        full = (self._prefix if local else "") + (prefix or "")
        return self._values.list(full, min(limit or PAGE_LIMIT, PAGE_LIMIT), offset or 0)

    def get_value(
        self, name: str, local: bool = True, scope: str = "system", decrypt: bool = False
    ) -> str | None:
        full = self._name(name, local, scope)
        try:
            return self._values.get(full)
        except (OSError, sqlite3.Error):
            return None

    def set_value(
        self,
        name: str,
        value: Any,
        ttl: float | None = None,
        local: bool = True,
        scope: str = "system",
        encrypt: bool = False,
    ) -> bool:
        self._values.set(self._name(name, local, scope), value, ttl)
        return True

    def delete_value(self, name: str, local: bool = True, scope: str = "system") -> bool:
        full = self._name(name, local, scope)
        try:
            return self._values.delete(full)
        except (OSError, sqlite3.Error):
            return False
