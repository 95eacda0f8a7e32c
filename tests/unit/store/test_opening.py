"""Opening the store where something is wrong: a clear code and what to do, never a stack trace."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from ioc_scan.errors import StoreError
from ioc_scan.store import Store, location, schema

from tests.fixtures.postgres import PostgresServer

from .conftest import Clock

REPOSITORY = Path(__file__).resolve().parents[3]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    path.mkdir(mode=0o700)
    return path


def refused(url: str, **options: object) -> StoreError:
    with pytest.raises(StoreError) as caught:
        Store.open(url, **({"allow_temporary": True} | options)).close()  # type: ignore[arg-type]
    assert caught.value.hint, "every refusal says what to do"
    return caught.value


def test_a_store_opens_twice_and_keeps_what_was_written(empty_url: str, clock: Clock) -> None:
    with Store.open(empty_url, clock=clock, allow_temporary=True) as store, store.transaction() as tx:
        tx.flags.set("greeting", {"text": "hello"}, now=clock())
    with Store.open(empty_url, clock=clock, allow_temporary=True) as store, store.reading() as tx:
        assert tx.flags.get("greeting") == {"text": "hello"}
        assert store.describe()["schema"] == schema.SCHEMA_REVISION


def test_the_file_and_its_companions_are_private(folder: Path, clock: Clock) -> None:
    os.umask(0)
    try:
        with Store.open(f"sqlite:///{folder}/x.db", clock=clock, allow_temporary=True) as store:
            with store.transaction() as tx:
                tx.flags.set("a", 1, now=clock())
            files = sorted(folder.iterdir())
            assert [file.name for file in files] == ["x.db", "x.db-shm", "x.db-wal"]
            assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    finally:
        os.umask(0o022)


def test_a_missing_folder_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    error = refused(f"sqlite:///{tmp_path}/absent/x.db")
    assert error.code == "store_folder_missing"
    assert "install -d -m 0700" in error.hint and str(tmp_path / "absent") in error.message


def test_the_folder_is_created_on_request_and_only_the_last_part(tmp_path: Path) -> None:
    Store.open(f"sqlite:///{tmp_path}/new/x.db", allow_temporary=True, create_folder=True).close()
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert refused(f"sqlite:///{tmp_path}/a/b/x.db", create_folder=True).code == "store_folder_missing"


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o777])
def test_a_folder_others_may_enter_is_refused(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    error = refused(f"sqlite:///{folder}/x.db")
    assert (error.code, error.hint) == ("store_folder_open", f"chmod 0700 {folder}")


def test_a_folder_under_one_that_others_may_change_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(location, "_TEMPORARY", ())
    (tmp_path / "open" / "store").mkdir(parents=True)
    (tmp_path / "open" / "store").chmod(0o700)
    (tmp_path / "open").chmod(0o777)
    error = refused(f"sqlite:///{tmp_path}/open/store/x.db", allow_temporary=False)
    assert error.code == "store_folder_open" and str(tmp_path / "open") in error.message
    (tmp_path / "open").chmod(0o755)
    Store.open(f"sqlite:///{tmp_path}/open/store/x.db").close()


@as_root
def test_a_folder_or_file_of_another_user_is_refused(folder: Path) -> None:
    os.chown(folder, 65534, 65534)
    assert refused(f"sqlite:///{folder}/x.db").code == "store_wrong_owner"
    os.chown(folder, 0, 0)
    (folder / "x.db").touch(0o600)
    os.chown(folder / "x.db", 65534, 65534)
    assert refused(f"sqlite:///{folder}/x.db").code == "store_wrong_owner"


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_file_others_may_read_is_refused(folder: Path, mode: int) -> None:
    (folder / "x.db").touch()
    (folder / "x.db").chmod(mode)
    assert refused(f"sqlite:///{folder}/x.db").code == "store_file_open"


def test_a_file_without_the_owners_write_bit_is_refused(folder: Path) -> None:
    Store.open(f"sqlite:///{folder}/x.db", allow_temporary=True).close()
    (folder / "x.db").chmod(0o400)
    error = refused(f"sqlite:///{folder}/x.db")
    assert error.code == "store_read_only" and "chmod" in error.hint


def test_a_link_in_place_of_the_file_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "x.db").symlink_to(tmp_path / "elsewhere.db")
    assert refused(f"sqlite:///{folder}/x.db").code == "store_not_a_file"
    assert not (tmp_path / "elsewhere.db").exists()


@as_root
def test_an_unwritable_folder_is_refused_for_an_ordinary_user(tmp_path: Path) -> None:
    """In a process of its own: root may write everywhere, so the test has to stop being root."""
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[2])\n"
        "from ioc_scan.store import Store; from ioc_scan.errors import StoreError\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: Store.open(f'sqlite:///{sys.argv[1]}/x.db', allow_temporary=True)\n"
        "except StoreError as error: print(error.code)\n"
    )
    folder = Path("/var/tmp") / f"ioc-scan-test-{os.getpid()}"
    folder.mkdir(mode=0o500)
    try:
        os.chown(folder, 65534, 65534)
        arguments = [sys.executable, "-c", code, str(folder), str(REPOSITORY / "lib")]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "store_not_writable"
    finally:
        folder.rmdir()


def test_a_file_that_is_no_database_is_refused_and_left_alone(folder: Path) -> None:
    content = b"not a database, but long enough to be looked at" * 100
    (folder / "x.db").write_bytes(content)
    (folder / "x.db").chmod(0o600)
    assert refused(f"sqlite:///{folder}/x.db").code == "store_damaged"
    assert (folder / "x.db").read_bytes() == content


def test_temporary_folders_are_refused_unless_allowed() -> None:
    for top in ("/tmp", "/var/tmp"):
        assert refused(f"sqlite:///{top}/store/x.db", allow_temporary=False).code == "store_in_temporary"


def test_a_link_into_a_temporary_folder_is_seen_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setattr(location, "_TEMPORARY", (str(tmp_path / "real"),))
    assert refused(f"sqlite:///{tmp_path}/link/x.db", allow_temporary=False).code == "store_in_temporary"


def test_the_pack_folder_is_refused_even_through_a_link(tmp_path: Path) -> None:
    assert refused(f"sqlite:///{REPOSITORY}/data/x.db").code == "store_in_pack"
    (tmp_path / "link").symlink_to(REPOSITORY)
    assert refused(f"sqlite:///{tmp_path}/link/data/x.db").code == "store_in_pack"
    (tmp_path / "pack" / "data").mkdir(parents=True, mode=0o700)
    error = refused(f"sqlite:///{tmp_path}/pack/data/x.db", forbidden_folder=tmp_path / "pack")
    assert error.code == "store_in_pack"


@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "mysql://u:geheim@h/d", "sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory",
     "postgresql://u:geheim@h", "sqlite:////x.db:geheim@[", "postgresql+asyncpg://u:geheim@h/d"],
)  # fmt: skip
def test_urls_that_are_no_store_are_refused_without_showing_a_password(url: str) -> None:
    error = refused(url)
    assert error.code.startswith("store_")
    assert "geheim" not in str(error)


def test_a_relative_path_is_refused() -> None:
    assert refused("sqlite:///data/x.db").code == "store_path_relative"


def test_a_store_from_a_newer_version_is_refused_and_unchanged(empty_url: str, clock: Clock) -> None:
    with Store.open(empty_url, clock=clock, allow_temporary=True) as store, store.transaction() as tx:
        tx.connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    error = refused(empty_url)
    assert error.code == "store_newer" and "9999" in error.message


def test_an_unreachable_server_is_said_plainly(tmp_path: Path) -> None:
    for url in (
        "postgresql+psycopg://u:geheim@127.0.0.1:1/d",
        f"postgresql+psycopg://u:geheim@/d?host={tmp_path}",
        "postgresql+psycopg://u:geheim@no-such-host.invalid/d",
    ):
        error = refused(url)
        assert error.code == "store_unreachable", error
        assert "geheim" not in str(error)


def test_a_missing_database_or_role_is_said_plainly(postgres_server: PostgresServer) -> None:
    assert refused(postgres_server.url("absent")).code == "store_unreachable"
    other = postgres_server.url().replace("postgres@", "stranger@")
    assert refused(other).code == "store_unreachable"


def test_a_user_without_rights_is_told_what_it_needs(postgres_server: PostgresServer) -> None:
    name = postgres_server.new_database()
    postgres_server.execute("CREATE ROLE guest LOGIN")
    try:
        error = refused(postgres_server.url(name).replace("postgres@", "guest@"))
        assert error.code == "store_no_right" and "owner" in error.hint
    finally:
        postgres_server.drop_database(name)
        postgres_server.execute("DROP ROLE guest")


def test_a_standby_or_read_only_server_is_said_plainly(postgres_server: PostgresServer) -> None:
    name = postgres_server.new_database()
    postgres_server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        assert refused(postgres_server.url(name)).code == "store_read_only"
    finally:
        postgres_server.drop_database(name)


def test_a_full_disk_is_said_plainly_and_loses_nothing(folder: Path, clock: Clock) -> None:
    with Store.open(f"sqlite:///{folder}/x.db", clock=clock, allow_temporary=True) as store:
        with store.transaction() as tx:
            tx.flags.set("before", 1, now=clock())
        with pytest.raises(StoreError) as caught, store.transaction() as tx:
            pages = tx.connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            tx.connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            tx.flags.set("large", "x" * 1_000_000, now=clock())
        assert caught.value.code == "store_disk_full"
        with store.reading() as tx:
            assert tx.flags.get("before") == 1 and tx.flags.get("large") is None


@as_root
@pytest.mark.root
def test_a_really_full_disk_is_said_plainly_and_loses_nothing(tmp_path: Path, clock: Clock) -> None:
    mount = tmp_path / "small"
    mount.mkdir(mode=0o700)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "none", mount], check=False)
    if made.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with Store.open(f"sqlite:///{mount}/x.db", clock=clock, allow_temporary=True) as store:
            with store.transaction() as tx:
                tx.flags.set("before", 1, now=clock())
            with pytest.raises(StoreError) as caught, store.transaction() as tx:
                tx.flags.set("large", "x" * 4_000_000, now=clock())
            assert caught.value.code == "store_disk_full"
            with store.reading() as tx:
                assert tx.flags.get("before") == 1 and tx.flags.get("large") is None
        subprocess.run(["mount", "-o", "remount,ro", mount], check=True)
        assert refused(f"sqlite:///{mount}/x.db").code in ("store_not_writable", "store_read_only")
    finally:
        subprocess.run(["umount", "-l", mount], check=True)


def test_a_writer_that_hangs_makes_others_busy_not_stuck(url: str, clock: Clock) -> None:
    with (
        Store.open(url, clock=clock, allow_temporary=True) as first,
        Store.open(url, clock=clock, allow_temporary=True, busy_timeout_seconds=0.3) as second,
    ):
        with first.transaction() as tx:
            tx.flags.set("mine", 1, now=clock())
            with pytest.raises(StoreError) as caught, second.transaction():
                pass
            assert caught.value.code == "store_busy"
            with second.reading() as reader:  # readers do not wait, and see what was confirmed before
                assert reader.flags.get("mine") is None
        with second.transaction() as tx:
            assert tx.flags.get("mine") == 1


def test_a_transaction_within_a_transaction_fails_at_once(url: str, clock: Clock) -> None:
    with Store.open(url, clock=clock, allow_temporary=True) as store:
        with pytest.raises(RuntimeError, match="wait for itself"), store.transaction(), store.transaction():
            pass
        with store.transaction() as tx, store.reading() as reader:
            tx.flags.set("a", 1, now=clock())
            assert reader.flags.get("a") is None


def test_a_mistake_in_a_statement_is_not_taken_for_a_lost_server(url: str, clock: Clock) -> None:
    with Store.open(url, clock=clock, allow_temporary=True) as store:
        with pytest.raises(StoreError) as caught, store.reading() as tx:
            tx.connection.exec_driver_sql("SELECT no_such_column FROM flags")
        assert caught.value.code == "store_failed" and "no_such_column" in caught.value.message


def test_an_error_in_the_block_undoes_all_of_it(url: str, clock: Clock) -> None:
    with Store.open(url, clock=clock, allow_temporary=True) as store:
        with pytest.raises(KeyError), store.transaction() as tx:
            tx.flags.set("half", 1, now=clock())
            raise KeyError("something else went wrong")
        with store.reading() as tx:
            assert tx.flags.get("half") is None


def test_a_reader_cannot_write(url: str, clock: Clock) -> None:
    with (
        Store.open(url, clock=clock, allow_temporary=True) as store,
        pytest.raises(StoreError) as caught,
        store.reading() as tx,
    ):
        tx.flags.set("a", 1, now=clock())
    assert caught.value.code == "store_read_only"


def test_a_damaged_file_is_said_plainly(folder: Path, clock: Clock) -> None:
    path = folder / "x.db"
    with (
        Store.open(f"sqlite:///{path}", clock=clock, allow_temporary=True) as store,
        store.transaction() as tx,
    ):
        for number in range(200):
            tx.flags.set(f"flag-{number}", "x" * 500, now=clock())
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(path.read_bytes())
    data[200:100_000] = os.urandom(99_800)
    path.write_bytes(data)
    assert refused(f"sqlite:///{path}").code == "store_damaged"


def test_a_server_that_cuts_the_connection_costs_one_transaction(
    postgres_server: PostgresServer, clock: Clock
) -> None:
    name = postgres_server.new_database()
    cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    try:
        with Store.open(postgres_server.url(name), clock=clock) as store:
            with pytest.raises(StoreError) as caught, store.transaction() as tx:
                tx.flags.set("half", 1, now=clock())
                postgres_server.execute(cut)
                tx.flags.set("half", 2, now=clock())
            assert caught.value.code == "store_unreachable"
            postgres_server.execute(cut)  # and again while nothing is open
            with store.transaction() as tx:
                assert tx.flags.get("half") is None
                tx.flags.set("whole", 1, now=clock())
            with store.reading() as tx:
                assert tx.flags.get("whole") == 1
    finally:
        postgres_server.drop_database(name)
