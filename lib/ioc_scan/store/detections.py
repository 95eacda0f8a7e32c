"""Detections, their revisions, and what was decided about them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import select, update

from ..clock import from_iso
from ..errors import RefusedError
from .base import Names, Namespace, Row, Rows, chunks
from .tables import detection_revisions, detections
from .types import dump_json

#: What a detection can lead to.
DECISIONS = frozenset({"task", "no_policy", "below_threshold", "hunt_only", "nothing_to_do", "known_good"})


class Detections(Namespace):
    """``tx.detections``"""

    def put(
        self, detection: dict[str, Any], *, source_name: str, now: datetime, degraded: bool = False
    ) -> tuple[Literal["new", "same", "revision"], int]:
        """Take in a detection in normal form; returns what it was, and its revision (1 for the first).

        ``same``: nothing is written. ``revision``: the content differs, the older one moves to the
        revisions, the decision and task stay as they are. A detection id belongs to the channel that
        brought it first: another one is refused (RefusedError ``detection_of_other_source``).
        """
        detection_id = detection["detection_id"]
        digest = hashlib.sha256(dump_json(detection).encode("ascii")).hexdigest()
        known = self.get(detection_id)
        if known is not None and known["source_name"] != source_name:
            raise RefusedError(
                "detection_of_other_source",
                f"{detection_id} came through {known['source_name']} before, now through {source_name}",
                "give each source its own instance name",
            )
        if known is not None and known["content_digest"] == digest:
            return "same", known["revision"]
        row = self._row(detection, digest, source_name, now, degraded)
        if known is None:
            self._connection.execute(detections.insert(), row | {"revision": 1})
            return "new", 1
        self._connection.execute(
            detection_revisions.insert(),
            {
                key: known[key]
                for key in ("detection_id", "revision", "content_digest", "received_at", "document")
            },
        )
        revision = known["revision"] + 1
        changed = row | {"revision": revision}
        self._connection.execute(
            update(detections).where(detections.c.detection_id == detection_id).values(**changed)
        )
        return "revision", revision

    @staticmethod
    def _row(detection: dict[str, Any], digest: str, source_name: str, now: datetime, degraded: bool) -> Row:
        source, verdict, target = detection["source"], detection["verdict"], detection.get("target") or {}
        return {
            "detection_id": detection["detection_id"],
            "source_name": source_name,
            "product": source["product"],
            "instance": source["instance"],
            "report_id": source["report_id"],
            "object_sha256": (target.get("hashes") or {}).get("SHA-256"),
            "verdict_result": verdict["result"],
            "score": verdict.get("score"),
            "families": verdict.get("families") or [],
            "detected_at": from_iso(detection["detected_at"]),
            "received_at": now,
            "content_digest": digest,
            "degraded": bool(degraded or detection.get("degraded")),
            "document": detection,
        }

    def get(self, detection_id: str) -> Row | None:
        """The newest revision with its whole ``document``, or None."""
        return self._one(select(detections).where(detections.c.detection_id == detection_id))

    def list(
        self,
        limit: int = 100,
        offset: int = 0,
        since: datetime | None = None,
        *,
        undecided: bool = False,
        object_sha256: str | None = None,
    ) -> Rows:
        """Newest first, without ``document``; ``since`` is the earliest time of receipt.

        ``undecided``: only those nothing was decided about, oldest first (work left over by a crash).
        """
        columns = [column for column in detections.c if column.name != "document"]
        query = select(*columns).limit(limit).offset(offset)
        if undecided:
            query = query.where(detections.c.decision.is_(None)).order_by(
                detections.c.received_at, detections.c.detection_id
            )
        else:
            query = query.order_by(detections.c.received_at.desc(), detections.c.detection_id)
        if since is not None:
            query = query.where(detections.c.received_at >= since)
        if object_sha256 is not None:
            query = query.where(detections.c.object_sha256 == object_sha256)
        return self._all(query)

    def revisions(self, detection_id: str) -> Rows:
        """The older ones, oldest first: detection_id, revision, content_digest, received_at, document."""
        table = detection_revisions
        return self._all(select(table).where(table.c.detection_id == detection_id).order_by(table.c.revision))

    def decide(
        self,
        detection_id: str,
        decision: str,
        *,
        policy_name: str | None = None,
        task_id: str | None = None,
        reason: str = "",
    ) -> None:
        """Record what the detection leads to (one of DECISIONS) and why. The last word counts."""
        if decision not in DECISIONS:
            raise ValueError(f"unknown decision {decision!r}")
        self._connection.execute(
            update(detections)
            .where(detections.c.detection_id == detection_id)
            .values(decision=decision, policy_name=policy_name, task_id=task_id, reason=reason)
        )

    def missing(self, detection_ids: Sequence[str]) -> Names:
        """Those of the ids the store does not know, in the order given."""
        known: set[str] = set()
        for part in chunks(list(detection_ids)):
            known.update(
                self._connection.execute(
                    select(detections.c.detection_id).where(detections.c.detection_id.in_(part))
                ).scalars()
            )
        return [name for name in detection_ids if name not in known]
