"""What lies in quarantine on which device, and until when."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import select, update

from .base import Namespace, Row, Rows
from .states import QUARANTINE_STATES
from .tables import quarantine


class Quarantine(Namespace):
    """``tx.quarantine``: ids are unique per device; state quarantined, restored, deleted, expired."""

    def add(self, row: Row) -> bool:
        """Note an object; False if this device's id is known (nothing changes).

        Wanted: quarantine_id, manager, device_id, sha256, size, path, path_b64, quarantined_at, expires_at;
        may be given: task_id, match_id.
        """
        values = {"task_id": None, "match_id": None, "state": "quarantined"} | row
        return (
            self._connection.execute(self._insert(quarantine).on_conflict_do_nothing(), values).rowcount > 0
        )

    def get(self, quarantine_id: str, manager: str | None = None, device_id: str | None = None) -> Rows:
        """All objects of that id: one, unless several devices use the same id."""
        query = select(quarantine).where(quarantine.c.quarantine_id == quarantine_id)
        if manager is not None:
            query = query.where(quarantine.c.manager == manager)
        if device_id is not None:
            query = query.where(quarantine.c.device_id == device_id)
        return self._all(query.order_by(quarantine.c.manager, quarantine.c.device_id))

    def list(
        self,
        *,
        manager: str | None = None,
        device_id: str | None = None,
        task_id: str | None = None,
        sha256: str | None = None,
        states: Iterable[str] | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> Rows:
        """Newest first."""
        query = select(quarantine).order_by(quarantine.c.quarantined_at.desc(), quarantine.c.quarantine_id)
        wanted = {"manager": manager, "device_id": device_id, "task_id": task_id, "sha256": sha256}
        for name, value in wanted.items():
            if value is not None:
                query = query.where(quarantine.c[name] == value)
        if states is not None:
            query = query.where(quarantine.c.state.in_(sorted(states)))
        return self._all(query.limit(limit).offset(offset))

    def expired(self, now: datetime, limit: int = 1000) -> Rows:
        """Objects still in quarantine whose term is over (at ``expires_at`` it is), oldest first."""
        return self._all(
            select(quarantine)
            .where(quarantine.c.state == "quarantined", quarantine.c.expires_at <= now)
            .order_by(quarantine.c.expires_at, quarantine.c.quarantine_id)
            .limit(limit)
        )

    def set_state(
        self,
        quarantine_id: str,
        manager: str,
        device_id: str,
        state: str,
        *,
        now: datetime,
        restored_by: str | None = None,
    ) -> bool:
        """Restored objects get ``restored_at`` and ``restored_by``. False if unknown."""
        if state not in QUARANTINE_STATES:
            raise ValueError(f"unknown quarantine state {state!r}")
        values: Row = {"state": state}
        if state == "restored":
            values |= {"restored_at": now, "restored_by": restored_by}
        result = self._connection.execute(
            update(quarantine)
            .where(
                quarantine.c.quarantine_id == quarantine_id,
                quarantine.c.manager == manager,
                quarantine.c.device_id == device_id,
            )
            .values(**values)
        )
        return result.rowcount > 0
