"""Database errors turned into the pack's words: what is wrong, and what to do about it."""

from __future__ import annotations

from sqlalchemy import exc

from ..errors import StoreError
from ..text import printable

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
     "check host, port, network and that the server runs"),
    ("permission denied", "store_no_right", "the database user lacks a right",
     "make the user owner of the database, or grant it usage and create on its schema"),
)  # fmt: skip


def to_store_error(error: Exception) -> StoreError:
    """The :class:`StoreError` for what SQLAlchemy or a driver raised. Never holds the url or a password."""
    original = getattr(error, "orig", None) or error
    words = str(original).lower()
    if isinstance(error, exc.IntegrityError) and "append-only" not in words:
        return StoreError(
            "store_conflict",
            f"the store refused a row: {printable(str(original).splitlines()[0], 200)}",
            "the row exists already, or what it belongs to is gone",
        )
    for piece, code, meaning, hint in _KNOWN:
        if piece in words:
            return StoreError(code, meaning, hint)
    first = str(original).splitlines()[0] if str(original) else type(original).__name__
    return StoreError(
        "store_failed",
        f"the database reported: {printable(first, 200)}",
        "see the action's log for the whole message",
    )
