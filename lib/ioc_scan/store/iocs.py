"""IOC files and scan plans: immutable, known by the SHA-256 of their content."""

from __future__ import annotations

import hashlib
from datetime import datetime

from sqlalchemy import select

from .base import Namespace, Row, Rows
from .tables import ioc_files, plans


class IocFiles(Namespace):
    """``tx.ioc_files``"""

    def put(
        self,
        content: bytes,
        *,
        ioc_id: str,
        detection_id: str,
        tier: str,
        version: str,
        item_count: int,
        now: datetime,
    ) -> tuple[str, bool]:
        """Keep an IOC file; returns its digest and whether it was new (the same bytes are kept once)."""
        digest = hashlib.sha256(content).hexdigest()
        row = {
            "digest": digest,
            "ioc_id": ioc_id,
            "detection_id": detection_id,
            "tier": tier,
            "version": version,
            "content": content,
            "item_count": item_count,
            "created_at": now,
        }
        result = self._connection.execute(self._insert(ioc_files).on_conflict_do_nothing(), row)
        return digest, result.rowcount > 0

    def get(self, digest: str) -> Row | None:
        """The row with ``content``, or None."""
        return self._one(select(ioc_files).where(ioc_files.c.digest == digest))

    def for_detection(self, detection_id: str) -> Rows:
        """All files generated from a detection, with content; actionable before hunt."""
        table = ioc_files
        return self._all(
            select(table)
            .where(table.c.detection_id == detection_id)
            .order_by(table.c.tier, table.c.created_at)
        )


class Plans(Namespace):
    """``tx.plans``"""

    def put(self, content: bytes, *, now: datetime) -> str:
        """Keep a compiled plan; returns its digest."""
        digest = hashlib.sha256(content).hexdigest()
        row = {"digest": digest, "content": content, "created_at": now}
        self._connection.execute(self._insert(plans).on_conflict_do_nothing(), row)
        return digest

    def get(self, digest: str) -> bytes | None:
        """The plan's bytes, or None."""
        return self._connection.execute(select(plans.c.content).where(plans.c.digest == digest)).scalar()
