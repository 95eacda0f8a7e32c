"""The schema's version, and bringing a database to it. Alembic is loaded only when there is work for it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from ..errors import StoreError
from ..text import printable
from .tables import metadata

#: The newest migration under migrations/versions; a test holds the two together.
SCHEMA_REVISION = "0002"
MIGRATIONS = Path(__file__).with_name("migrations")


def current_revision(connection: Connection) -> str | None:
    """The schema version the database holds; None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def migrate(connection: Connection) -> None:
    """Bring the database to this code's schema, inside the caller's exclusive transaction: all or nothing."""
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    held = current_revision(connection)
    if held is None and set(inspect(connection).get_table_names()) & set(metadata.tables):
        raise StoreError(
            "store_not_ours",
            "the database holds tables with the pack's names that the pack did not make",
            "give the pack a database (or PostgreSQL schema) of its own",
        )
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if held is not None and held not in known:
        raise StoreError(
            "store_newer",
            f"the store has schema {printable(held, 40)}, which this version of the pack does not know",
            "install the pack version that wrote it (or a newer one); downgrading is not supported",
        )
    command.upgrade(config, "head")
