"""Hashes no response may touch again."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select

from .base import Namespace, Rows
from .tables import exemptions


class Exemptions(Namespace):
    """``tx.exemptions``, by SHA-256 in lower hex."""

    def add(self, sha256: str, *, created_by: str, reason: str, now: datetime) -> bool:
        """False if it was exempt already."""
        row = {"sha256": sha256.lower(), "created_at": now, "created_by": created_by, "reason": reason}
        return self._connection.execute(self._insert(exemptions).on_conflict_do_nothing(), row).rowcount > 0

    def remove(self, sha256: str) -> bool:
        """False if it was not exempt."""
        query = exemptions.delete().where(exemptions.c.sha256 == sha256.lower())
        return self._connection.execute(query).rowcount > 0

    def is_exempt(self, sha256: str) -> bool:
        query = select(exemptions.c.sha256).where(exemptions.c.sha256 == sha256.lower())
        return self._connection.execute(query).first() is not None

    def list(self, limit: int = 100, offset: int = 0) -> Rows:
        """Newest first."""
        query = select(exemptions).order_by(exemptions.c.created_at.desc(), exemptions.c.sha256)
        return self._all(query.limit(limit).offset(offset))
