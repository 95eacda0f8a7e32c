"""Database errors turned into the pack's words: what is wrong, and what to do about it."""

from __future__ import annotations

from sqlalchemy import exc

from ..errors import StoreError
from ..text import printable

_NETWORK = "check host, port, network and that the server runs"

# (piece of the driver's message, code, what it means, what to do); the first that fits counts.
_KNOWN = (
    ("readonly database", "store_read_only", "the store's file cannot be written",
     "check the file's mode and owner, and that its file system is not mounted read-only"),
    ("read-only transaction", "store_read_only", "the database takes no writes",
     "connect to the primary server, not to a standby"),
    ("database or disk is full", "store_disk_full", "the disk that holds the store is full",
     "free space on it; nothing that was confirmed is lost"),
    ("no space left on device", "store_disk_full", "the disk that holds the store is full",
     "free space on it; nothing that was confirmed is lost"),
    ("disk i/o error", "store_disk_failing", "the disk that holds the store cannot be read or written",
     "check the disk and the free space"),
    ("database is locked", "store_busy", "another process holds the store for too long",
     "try again; if it stays, look for a hung process that has the store open"),
    ("lock timeout", "store_busy", "another process holds the store for too long",
     "try again; if it stays, look for a hung session in pg_stat_activity"),
    ("file is not a database", "store_damaged", "the store's file is not a database of this pack",
     "restore it from a backup, or move it away to start with an empty one"),
    ("malformed", "store_damaged", "the store's file is damaged",
     "restore it from a backup, or move it away to start with an empty one"),
    ("unable to open database file", "store_not_writable", "the store's file cannot be opened",
     "check that its folder exists and belongs to the user who runs the actions"),
    ("append-only", "store_append_only", "events can be added, never changed or removed",
     "nothing to do: the audit trail protects itself"),
    ("password authentication failed", "store_login_refused", "the database refused the user or password",
     "check user and password of the store's url"),
    ("does not exist", "store_unreachable", "the database, role or relation does not exist",
     "create the database and its owner, and check the store's url"),
    ("connection", "store_unreachable", "the database server cannot be reached",
     _NETWORK),
    ("permission denied", "store_no_right", "the database user lacks a right",
     "make the user owner of the database, or grant it usage and create on its schema"),
)  # fmt: skip


# PostgreSQL's own codes, where it gives one (https://www.postgresql.org/docs/current/errcodes-appendix.html).
_BY_SQLSTATE = {
    "25006": "read-only transaction",
    "28000": "does not exist",
    "28P01": "password authentication failed",
    "3D000": "does not exist",
    "40001": "lock timeout",
    "40P01": "lock timeout",
    "42501": "permission denied",
    "53100": "no space left on device",
    "53300": "connection",
    "55P03": "lock timeout",
    "57P01": "connection",
    "57P02": "connection",
    "57P03": "connection",
    "XX001": "malformed",
}


def to_store_error(error: Exception) -> StoreError:
    """The :class:`StoreError` for what SQLAlchemy or a driver raised. Never holds the url or a password."""
    original = getattr(error, "orig", None) or error
    words = str(original).lower()
    if isinstance(error, exc.IntegrityError) and "append-only" not in words:
        return StoreError(
            "store_conflict",
            f"the store refused a row: {_first_line(original)}",
            "the row exists already, or what it belongs to is gone",
        )
    state = getattr(original, "sqlstate", None)
    if state and "append-only" not in words:
        # The server's code says more than its words, which may quote anything.
        words = _BY_SQLSTATE.get(state, "connection" if state.startswith("08") else "")
    for piece, code, meaning, hint in _KNOWN:
        if piece in words:
            return StoreError(code, meaning, hint)
    if isinstance(error, exc.OperationalError) and hasattr(original, "sqlstate") and state is None:
        # The driver itself gave up: no server answered (name not found, refused, cut off).
        return StoreError(
            "store_unreachable", f"no database server answers: {_first_line(original)}", _NETWORK
        )
    return StoreError(
        "store_failed", f"the database reported: {_first_line(original)}", "see the log for the whole message"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return printable(lines[0] if lines else type(error).__name__, 200)
