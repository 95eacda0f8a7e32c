"""What standalone remembers between runs: executions and key/values, in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

from ioc_scan.errors import NotFoundError, StoreError

from standalone.children.standalone_datastore import KeyValues

DATABASE_NAME = "standalone.db"


class State:
    """The state folder. Several processes may use one at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        path = self.folder / DATABASE_NAME
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=30, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS executions"
                " (number INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, document TEXT NOT NULL)"
            )
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                "state_not_writable", f"{path}: {error}", "Give a folder you may write with --state."
            ) from error
        self._lock = threading.Lock()
        self.values = KeyValues(str(path))

    def save(self, execution: dict[str, Any]) -> None:
        """Add or replace one execution."""
        with self._lock:
            self._connection.execute(
                "INSERT INTO executions (id, document) VALUES (?, ?)"
                " ON CONFLICT (id) DO UPDATE SET document = excluded.document",
                (execution["id"], json.dumps(execution)),
            )

    def executions(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Oldest first; with ``limit`` the newest that many."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT document FROM executions ORDER BY number DESC LIMIT ?",
                (-1 if limit is None else limit,),
            ).fetchall()
        return [json.loads(row[0]) for row in reversed(rows)]

    def execution(self, execution_id: str) -> dict[str, Any]:
        """Raises NotFoundError."""
        with self._lock:
            row = self._connection.execute(
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

    def close(self) -> None:
        with self._lock:
            self._connection.close()
