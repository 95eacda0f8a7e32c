"""Opening the store, and its transactions.

One writer at a time on both databases: SQLite by ``BEGIN IMMEDIATE``, PostgreSQL by an advisory lock that
is taken first and kept to the end. So code inside a transaction may read, decide and write without losing
another's update, limits cannot be passed by two at once, and there is nothing to deadlock on. Readers
neither wait nor block. Keep transactions short: no device, network or file work inside one.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, make_url, text

from ..clock import Clock, system_clock
from ..errors import StoreError
from ..text import printable
from . import location, schema
from .failures import to_store_error
from .transaction import Transaction

#: Seconds a writer waits for the one before it.
BUSY_TIMEOUT_SECONDS = 30
_CONNECT_TIMEOUT_SECONDS = 10
# SQLite has no queue: who comes back at once keeps all others out. So a waiting writer looks often, and
# after a long transaction a writer stays away for a moment.
_POLL_SECONDS = 0.004
_LONG_SECONDS = 0.05
_COURTESY_SECONDS = 0.012
# Any constant will do: it names "the writer of this database" among PostgreSQL's advisory locks.
_WRITER_LOCK = 0x10C5CA9
_POSTGRESQL_WRITE = text(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")
_POSTGRESQL_READ = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")


class Store:
    """The database behind everything. One per process; may be used from several threads."""

    def __init__(self, engine: Engine, clock: Clock, path: Path | None, busy_timeout_seconds: float) -> None:
        self._engine = engine
        self._busy_timeout_seconds = busy_timeout_seconds
        self.clock = clock
        #: The SQLite file, None on PostgreSQL.
        self.path = path
        self._thread = threading.local()

    @classmethod
    def open(
        cls,
        url: str,
        *,
        clock: Clock = system_clock,
        allow_temporary: bool = False,
        create_folder: bool = False,
        forbidden_folder: Path = location.PACK_FOLDER,
        busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS,
    ) -> Store:
        """Open the store at ``url``, creating its tables or bringing them to this version first.

        ``sqlite:////absolute/path/ioc_scan.db`` or ``postgresql+psycopg://user:password@host/name``.
        ``allow_temporary`` permits a SQLite file under /tmp (tests, demo); ``create_folder`` makes the
        file's folder (mode 0700) if only that is missing; no SQLite file may lie under ``forbidden_folder``
        (the pack: an upgrade replaces it).

        Raises :class:`StoreError`, never with the url's password in it: store_bad_url,
        store_path_relative, store_in_pack, store_in_temporary, store_folder_missing, store_folder_open,
        store_file_open, store_wrong_owner, store_not_writable, store_not_a_file, store_read_only,
        store_disk_full, store_damaged, store_busy, store_newer, store_not_ours, store_unreachable,
        store_login_refused, store_no_right, store_failed.
        """
        parsed = _parse(url)
        path: Path | None = None
        if parsed.get_backend_name() == "sqlite":
            path = Path(parsed.database or "")
            location.check_location(
                path,
                allow_temporary=allow_temporary,
                create_folder=create_folder,
                forbidden_folder=forbidden_folder,
            )
            location.create_private(path)
        store = cls(_engine(parsed, busy_timeout_seconds), clock, path, busy_timeout_seconds)
        try:
            store._bring_up_to_date()
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Give the connections back. The store cannot be used afterwards."""
        self._engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A writing transaction: committed when the block ends, rolled back when it raises.

        Waits for other writers (up to 30 s, then ``store_busy``). Database errors come out as
        :class:`StoreError`; other exceptions pass unchanged.
        """
        if getattr(self._thread, "writing", False):
            raise RuntimeError("a transaction within a transaction would wait for itself")
        self._thread.writing = True
        started = time.monotonic()
        try:
            with self._connected(write=True) as connection:
                tx = Transaction(connection, self.clock)
                yield tx
                tx.finish()
        finally:
            self._thread.writing = False
        if self.path is not None and time.monotonic() - started > _LONG_SECONDS:
            time.sleep(_COURTESY_SECONDS)

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """A transaction for reading alone: one consistent picture, never waits for writers."""
        with self._connected(write=False) as connection:
            yield Transaction(connection, self.clock)

    def describe(self) -> dict[str, Any]:
        """For check_setup: ``{"database", "version", "schema", "path", "size_bytes"}``."""
        with self._connected(write=False) as connection:
            revision = schema.current_revision(connection)
            size: Any
            if self.path is not None:
                version = connection.execute(text("SELECT sqlite_version()")).scalar()
                size = self.path.stat().st_size
            else:
                version = connection.execute(text("SHOW server_version")).scalar()
                size = connection.execute(text("SELECT pg_database_size(current_database())")).scalar()
        return {
            "database": self._engine.dialect.name,
            "version": str(version),
            "schema": revision,
            "path": str(self.path) if self.path else None,
            "size_bytes": size,
        }

    def optimize(self) -> None:
        """After large deletions: refresh the planner's statistics and shorten SQLite's log file."""
        if self.path is not None:
            self._pragma("optimize")
            self._pragma("wal_checkpoint(PASSIVE)")
            return
        try:
            with self._engine.begin() as connection:
                connection.execute(text("ANALYZE"))
        except exc.DBAPIError as error:
            raise to_store_error(error) from error

    def _bring_up_to_date(self) -> None:
        if self.path is not None:
            self._keep_log()
        with self._connected(write=False) as connection:
            if schema.current_revision(connection) == schema.SCHEMA_REVISION:
                return
        with self._connected(write=True) as connection:
            # Another process may have migrated while this one waited.
            if schema.current_revision(connection) != schema.SCHEMA_REVISION:
                schema.migrate(connection)

    def _keep_log(self) -> None:
        """Write-ahead logging: kept in the file, so this changes something only once.

        SQLite does not wait its busy time for this one change: of two processes that open a new file at once
        one is told "locked" immediately. So the waiting is done here.
        """
        deadline = time.monotonic() + self._busy_timeout_seconds
        while True:
            try:
                return self._pragma("journal_mode=WAL")
            except StoreError as error:
                if error.code != "store_busy" or time.monotonic() > deadline:
                    raise
            time.sleep(0.02)

    def _pragma(self, command: str) -> None:
        """What SQLite takes outside a transaction only."""
        try:
            raw = self._engine.raw_connection()
            try:
                raw.cursor().execute("PRAGMA query_only=OFF").execute(f"PRAGMA {command}").fetchall()
            finally:
                raw.close()
        except (sqlite3.Error, exc.DBAPIError) as error:
            raise to_store_error(error) from error

    @contextmanager
    def _connected(self, write: bool) -> Iterator[Connection]:
        """A connection in a transaction."""
        try:
            with self._engine.connect() as connection:
                connection.execution_options(ioc_scan_write=write, preserve_rowcount=True)
                with connection.begin():
                    if self.path is None:
                        connection.execute(_POSTGRESQL_WRITE if write else _POSTGRESQL_READ)
                    yield connection
        except (exc.DBAPIError, sqlite3.Error) as error:
            raise to_store_error(error) from error
        except exc.TimeoutError as error:
            raise StoreError(
                "store_busy", "all connections of this process are in use", "try again"
            ) from error


def _parse(url: str) -> URL:
    hint = "sqlite:////var/lib/ioc_scan/ioc_scan.db, or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError):
        raise StoreError("store_bad_url", "the store's url cannot be read", hint) from None
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "postgresql+psycopg") or not parsed.database:
        raise StoreError(
            "store_bad_url", f"not a store the pack knows: {printable(parsed.drivername, 40)}", hint
        )
    if parsed.drivername == "sqlite" and parsed.database.startswith((":memory:", "file:")):
        raise StoreError("store_bad_url", "a store in memory would forget everything", hint)
    return parsed


def _engine(url: URL, busy_timeout_seconds: float) -> Engine:
    if url.get_backend_name() == "postgresql":
        return _postgresql(url, busy_timeout_seconds)
    engine = create_engine(url, connect_args={"timeout": busy_timeout_seconds}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _configure(raw: Any, _: object) -> None:
        raw.isolation_level = None  # the driver's own BEGIN would come too late and be the wrong kind
        cursor = raw.cursor()
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA synchronous=FULL")  # what was confirmed survives a power cut
        cursor.execute("PRAGMA trusted_schema=OFF")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        raw = connection.connection.driver_connection
        assert raw is not None
        if connection.get_execution_options().get("ioc_scan_write", True):
            raw.execute("PRAGMA query_only=OFF")
            _begin_writing(raw, busy_timeout_seconds)
        else:
            raw.execute("PRAGMA query_only=ON")
            raw.execute("BEGIN")

    return engine


def _begin_writing(raw: Any, busy_timeout_seconds: float) -> None:
    """Take the writer's place, or raise "database is locked" when the time is over."""
    deadline = time.monotonic() + busy_timeout_seconds
    raw.execute("PRAGMA busy_timeout=0")
    try:
        while True:
            try:
                raw.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)
    finally:
        raw.execute(f"PRAGMA busy_timeout={int(busy_timeout_seconds * 1000)}")


def _postgresql(url: URL, busy_timeout_seconds: float) -> Engine:
    milliseconds = int(busy_timeout_seconds * 1000)
    # A writer whose machine vanished must not hold the lock for hours.
    options = f"-c lock_timeout={milliseconds} -c idle_in_transaction_session_timeout=120000 -c timezone=UTC"
    arguments: dict[str, Any] = {"options": options, "application_name": f"ioc_scan {os.getpid()}"}
    if "connect_timeout" not in url.query:
        arguments["connect_timeout"] = _CONNECT_TIMEOUT_SECONDS
    return create_engine(url, connect_args=arguments, pool_pre_ping=True, hide_parameters=True)
