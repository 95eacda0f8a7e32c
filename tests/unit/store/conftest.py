"""Every store test runs twice: on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ioc_scan.store import Store

from tests.fixtures.postgres import PostgresServer, postgres_server

__all__ = ["postgres_server"]

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=timezone.utc)


class Clock:
    """A clock that stands still until told otherwise."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def ahead(self, **parts: float) -> datetime:
        self.now += timedelta(**parts)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store's file with the tables in place, to be copied: quicker than migrating for each test."""
    folder = tmp_path_factory.mktemp("template")
    Store.open(f"sqlite:///{folder}/template.db", allow_temporary=True).close()
    return folder / "template.db"


@pytest.fixture(scope="session")
def postgres_database(postgres_server: PostgresServer) -> str:
    """A database with the tables in place, emptied before each test."""
    name = postgres_server.new_database()
    Store.open(postgres_server.url(name)).close()
    return name


#: Replica: the triggers that keep events append-only, and foreign keys, look away.
EMPTY_ALL_TABLES = """
DO $$ DECLARE name text; used boolean; BEGIN
    SET LOCAL session_replication_role = replica;
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version' LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %I)', name) INTO used;
        IF used THEN EXECUTE format('DELETE FROM %I', name); END IF;
    END LOOP;
END $$
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def empty_url(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The url of a store that does not exist yet."""
    if database == "sqlite":
        folder = tmp_path / "store"
        folder.mkdir(mode=0o700)
        yield f"sqlite:///{folder}/ioc_scan.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.new_database()
    yield server.url(name)
    server.drop_database(name)


@pytest.fixture
def url(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The url of an empty store with its tables; processes of a test may share it."""
    if database == "sqlite":
        empty: str = request.getfixturevalue("empty_url")
        path = Path(empty.removeprefix("sqlite:///"))
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        path.chmod(0o600)
        return empty
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name: str = request.getfixturevalue("postgres_database")
    server.execute(EMPTY_ALL_TABLES, name)
    return server.url(name)


@pytest.fixture
def store(url: str, clock: Clock) -> Iterator[Store]:
    with Store.open(url, clock=clock, allow_temporary=True) as opened:
        yield opened
