"""Older stores with data open under this code, on both databases; a failed migration changes nothing."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from ioc_scan.errors import StoreError
from ioc_scan.retention import plan_retention
from ioc_scan.store import Store, schema
from ioc_scan.store.tables import metadata
from sqlalchemy import Connection, LargeBinary, MetaData, Table, create_engine, insert, inspect, select
from sqlalchemy.engine import make_url

from .conftest import Clock

DUMPS = sorted((Path(__file__).parent / "data").glob("store_*.sql"))


def test_the_code_names_the_newest_migration() -> None:
    scripts = ScriptDirectory(str(schema.MIGRATIONS))
    assert scripts.get_current_head() == schema.SCHEMA_REVISION
    assert len(scripts.get_heads()) == 1


def test_every_released_migration_has_a_dump() -> None:
    revisions = {script.revision for script in ScriptDirectory(str(schema.MIGRATIONS)).walk_revisions()}
    assert {path.stem.removeprefix("store_") for path in DUMPS} == revisions


def test_the_migrations_make_the_tables_the_code_uses(store: Store) -> None:
    with store.reading() as tx:
        differences = compare_metadata(MigrationContext.configure(tx.connection), metadata)
        assert differences == []
        made = inspect(tx.connection)
        for table in metadata.sorted_tables:
            keys = [
                list(key.columns.keys())
                for key in table.constraints
                if key.__visit_name__ == "unique_constraint"
            ]
            unique = [key["column_names"] for key in made.get_unique_constraints(table.name)]
            assert sorted(unique) == sorted(keys), table.name
            assert made.get_pk_constraint(table.name)["constrained_columns"] == list(
                table.primary_key.columns.keys()
            )


def load_sqlite(dump: Path, path: Path) -> None:
    path.touch(0o600)
    with sqlite3.connect(path) as raw:
        raw.executescript(dump.read_text("utf-8"))


def load_postgresql(dump: Path, url: str, work: Path) -> None:
    """The same rows into tables made by the migrations up to the dump's own revision."""
    from alembic import command
    from alembic.config import Config

    load_sqlite(dump, work / "dump.db")
    source, target = create_engine(f"sqlite:///{work}/dump.db"), create_engine(url)
    with source.connect() as old, target.begin() as new:
        config = Config()
        config.set_main_option("script_location", str(schema.MIGRATIONS))
        config.attributes["connection"] = new
        command.upgrade(config, dump.stem.removeprefix("store_"))
        held = MetaData()
        held.reflect(new)
        new.exec_driver_sql("SET LOCAL session_replication_role = replica")
        for table in held.sorted_tables:
            if table.name != "alembic_version":
                copy_rows(old, new, table)
        new.exec_driver_sql("SELECT setval('outbox_outbox_id_seq', (SELECT max(outbox_id) FROM outbox))")
    source.dispose()
    target.dispose()


def copy_rows(old: Connection, new: Connection, table: Table) -> None:
    kinds = {column.name: type(column.type).__name__ for column in table.columns}
    names = ", ".join(f'"{name}"' for name in kinds)
    for row in old.exec_driver_sql(f'SELECT {names} FROM "{table.name}"').mappings():
        values: dict[str, Any] = {}
        for name, value in row.items():
            if value is not None and kinds[name] == "BOOLEAN":
                value = bool(value)
            elif value is not None and kinds[name] == "TIMESTAMP":
                value = f"{value}+00:00"
            elif isinstance(value, str) and isinstance(table.c[name].type, LargeBinary):
                value = value.encode()
            values[name] = value
        new.execute(insert(table), values)


@pytest.fixture(params=DUMPS, ids=lambda path: path.stem)
def older(request: pytest.FixtureRequest, empty_url: str, database: str, tmp_path: Path) -> Iterator[str]:
    """The url of a store that an older version filled."""
    if database == "sqlite":
        load_sqlite(request.param, Path(make_url(empty_url).database or ""))
    else:
        load_postgresql(request.param, empty_url, tmp_path)
    yield empty_url


def test_an_older_store_opens_with_all_its_data_and_works_on(older: str, clock: Clock) -> None:
    with Store.open(older, clock=clock, allow_temporary=True) as store:
        assert store.describe()["schema"] == schema.SCHEMA_REVISION
        with store.transaction() as tx:
            detection = tx.detections.get("cape:main:1")
            assert (
                detection is not None and detection["revision"] == 2 and detection["document"]["tlp"] == "red"
            )
            assert [row["revision"] for row in tx.detections.revisions("cape:main:1")] == [1]
            assert tx.fetches.get("cape:main:3")["message"] == "cut \\x00 off"  # type: ignore[index]
            task = tx.tasks.get("task-1")
            assert task is not None and (task["state"], task["run"], task["settings"]) == (
                "running",
                2,
                {"scope": "critical"},
            )
            ((tier, digest),) = tx.tasks.iocs("task-1")
            assert tx.ioc_files.get(digest)["content"] == b"<ioc/>\x00\xff" and tier == "actionable"  # type: ignore[index]
            assert tx.plans.get(task["plan_digest"]) == b"{}"
            assert tx.task_devices.coverage("task-1") == task["coverage"]
            assert task["coverage"]["targeted"] == 2 and task["coverage"]["matched"] == 1
            assert task["match_counts"] == tx.matches.tally("task-1")
            assert task["match_counts"] == {"actionable": {"none": 1, "quarantined": 1}}
            assert [row["coverage"]["targeted"] for row in tx.tasks.runs("task-1")] == [2]
            matches = tx.matches.list("task-1")
            assert sorted(row["st_ino"] for row in matches) == [2**64 - 2, 2**64 - 1]
            assert {row["response_state"] for row in matches} == {"none", "quarantined"}
            assert tx.responses.acted() == {"files": 1, "devices": 1}
            assert tx.quarantine.get("q1")[0]["match_id"] in {row["match_id"] for row in matches}
            assert tx.approvals.list(state="open")[0]["match_ids"] == ["m"]
            assert tx.exemptions.is_exempt("ef" * 32)
            assert [row["job_id"] for row in tx.jobs.open()] == ["j1"]
            assert tx.withdrawals.open()[0]["pending"] == ["ws02"]
            assert tx.events.verify() is None and len(tx.events.list()) >= 3
            assert tx.outbox.due()[0]["payload"] == {"task_id": "task-1"}
            assert tx.flags.get("kill_switch", "unset") is False
            assert tx.task_summaries.get("task-2")["state"] == "cancelled"  # type: ignore[index]
            assert len(tx.tasks.retention_facts()) == 2
            assert (
                plan_retention(tx.tasks.retention_facts(), clock.ahead(days=8)).expire[0].task_id == "task-1"
            )
        with store.transaction() as tx:
            assert len(tx.matches.claim("task-1", None, "r2", clock())) == 1
            assert tx.outbox.add("t", {}, dedupe_key="k2", now=clock())
            tx.events.add("task_expired", task_id="task-1")
            assert tx.events.verify() is None
        with pytest.raises(StoreError), store.transaction() as tx:
            tx.connection.exec_driver_sql("DELETE FROM events")


def add_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Pretend that a next version of the pack brings one more migration."""
    folder = tmp_path / "migrations"
    shutil.copytree(schema.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    header = f"revision = 'next'\ndown_revision = '{schema.SCHEMA_REVISION}'\n"
    (folder / "versions" / "next.py").write_text(
        f"import sqlalchemy as sa\nfrom alembic import op\n{header}\ndef upgrade():\n{body}\n"
    )
    monkeypatch.setattr(schema, "MIGRATIONS", folder)
    monkeypatch.setattr(schema, "SCHEMA_REVISION", "next")


def test_the_next_migration_runs_once_and_keeps_the_data(
    older: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_migration(tmp_path, monkeypatch, "    op.add_column('flags', sa.Column('note', sa.Text()))")
    for _ in range(2):
        with Store.open(older, allow_temporary=True) as store, store.reading() as tx:
            assert tx.connection.exec_driver_sql("SELECT note FROM flags").all() == [(None,)]
            assert tx.flags.get("kill_switch", "unset") is False
            assert store.describe()["schema"] == "next"


def test_a_migration_that_fails_half_way_changes_nothing(
    older: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = "    op.drop_table('acted_files')\n    op.execute('SELECT no_such_column FROM flags')"
    with monkeypatch.context() as patch:
        add_migration(tmp_path, patch, body)
        with pytest.raises(StoreError):
            Store.open(older, allow_temporary=True)
    with Store.open(older, allow_temporary=True) as store, store.reading() as tx:
        assert store.describe()["schema"] == schema.SCHEMA_REVISION
        assert tx.responses.acted()["files"] == 1


def test_an_up_to_date_store_is_opened_without_the_migration_tool(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store.open(url, allow_temporary=True).close()
    monkeypatch.setattr(schema, "migrate", lambda connection: pytest.fail("migrated again"))
    Store.open(url, allow_temporary=True).close()


def test_a_database_of_somebody_else_is_left_alone(empty_url: str, database: str) -> None:
    """Tables with our names but no schema version: refused, not overwritten."""
    engine = create_engine(empty_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE tasks (id INTEGER)")
        connection.exec_driver_sql("INSERT INTO tasks VALUES (7)")
    if database == "sqlite":
        Path(make_url(empty_url).database or "").chmod(0o600)
    with pytest.raises(StoreError) as caught:
        Store.open(empty_url, allow_temporary=True)
    assert caught.value.code == "store_not_ours"
    with engine.connect() as connection:
        held = MetaData()
        held.reflect(connection)
        assert set(held.tables) == {"tasks"}
        assert connection.execute(select(held.tables["tasks"])).all() == [(7,)]
    engine.dispose()
