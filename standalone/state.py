"""What standalone remembers between runs: executions and key/values, in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ioc_scan.errors import NotFoundError, StoreError

from standalone.children.standalone_datastore import KeyValues

DATABASE_NAME = "standalone.db"


class State:
    """The state folder. Several threads and processes may use one at once. Raises StoreError if it cannot."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._path = self.folder / DATABASE_NAME
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._not_writable(error) from error
        with self._open() as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS executions"
                " (number INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, document TEXT NOT NULL)"
            )
        self.values = KeyValues(str(self._path))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self._path, timeout=30, isolation_level=None)
            try:
                yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise self._not_writable(error) from error

    def _not_writable(self, error: Exception) -> StoreError:
        hint = "Give a folder you may write with --state."
        return StoreError("state_not_writable", f"{self._path}: {error}", hint)

    def save(self, execution: dict[str, Any]) -> None:
        """Add or replace one execution."""
        with self._open() as connection:
            connection.execute(
                "INSERT INTO executions (id, document) VALUES (?, ?)"
                " ON CONFLICT (id) DO UPDATE SET document = excluded.document",
                (execution["id"], json.dumps(execution)),
            )

    def executions(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Oldest first; with ``limit`` the newest that many."""
        with self._open() as connection:
            rows = connection.execute(
                "SELECT document FROM executions ORDER BY number DESC LIMIT ?",
                (-1 if limit is None else limit,),
            ).fetchall()
        return [json.loads(row[0]) for row in reversed(rows)]

    def execution(self, execution_id: str) -> dict[str, Any]:
        """Raises NotFoundError."""
        with self._open() as connection:
            row = connection.execute(
                "SELECT document FROM executions WHERE id = ?", (execution_id,)
            ).fetchone()
        if row is None:
            raise NotFoundError(
                "execution_unknown",
                f'Execution with id "{execution_id}" not found.',
                "See: python -m standalone execution list",
            )
        found: dict[str, Any] = json.loads(row[0])
        return found
