"""Matches: stored once however often they are delivered, and claimed by one response only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, select, update

from .base import Names, Namespace, Row, Rows, chunks
from .states import COUNTED_RESPONSE_STATES, RESPONSE_STATES
from .tables import acted_files, detections, matches, tasks

_OPTIONAL = ("path", "path_b64", "sha256", "size", "st_dev", "st_ino")


def match_id_of(row: Row) -> str:
    """The id of a match: the same item of the same run always has the same."""
    parts = (
        row["task_id"],
        str(row["run"]),
        row["manager"],
        row["device_id"],
        row["item_key"],
        row["ioc_digest"],
    )
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


class Matches(Namespace):
    """``tx.matches``"""

    def add(self, rows: Sequence[Row]) -> Names:
        """Store matches; returns the ids of those that were new, in the order given.

        Wanted in each: task_id, run, manager, device_id, group, item_key, ioc_digest, tier, document, item,
        proof, found_at; may be given: path, path_b64, sha256, size, st_dev, st_ino. match_id is made here.
        """
        by_id: dict[str, Row] = {}
        for row in rows:
            values: Row = dict.fromkeys(_OPTIONAL) | row
            values["match_id"] = match_id_of(row)
            values["response_state"] = "none"
            by_id.setdefault(values["match_id"], values)
        known: set[str] = set()
        for part in chunks(list(by_id)):
            known.update(
                self._connection.execute(
                    select(matches.c.match_id).where(matches.c.match_id.in_(part))
                ).scalars()
            )
        fresh = [values for match_id, values in by_id.items() if match_id not in known]
        if fresh:
            self._connection.execute(matches.insert(), fresh)
            self._tx.counts_changed.update(values["task_id"] for values in fresh)
        return [values["match_id"] for values in fresh]

    def get(self, match_id: str) -> Row | None:
        return self._one(select(matches).where(matches.c.match_id == match_id))

    def list(
        self,
        task_id: str | None = None,
        *,
        run: int | None = None,
        manager: str | None = None,
        device_id: str | None = None,
        tier: str | None = None,
        response_state: str | Iterable[str] | None = None,
        response_id: str | None = None,
        match_ids: Sequence[str] | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> Rows:
        """Oldest first. ``match_ids`` (at most 500) picks those alone."""
        query = select(matches).order_by(matches.c.found_at, matches.c.match_id)
        wanted = {
            "task_id": task_id,
            "run": run,
            "manager": manager,
            "device_id": device_id,
            "tier": tier,
            "response_id": response_id,
        }
        for name, value in wanted.items():
            if value is not None:
                query = query.where(matches.c[name] == value)
        if response_state is not None:
            states = [response_state] if isinstance(response_state, str) else sorted(response_state)
            query = query.where(matches.c.response_state.in_(states))
        if match_ids is not None:
            query = query.where(matches.c.match_id.in_(list(match_ids)[:500]))
        return self._all(query.limit(limit).offset(offset))

    def claim(
        self,
        task_id: str,
        match_ids: Iterable[str] | None,
        response_id: str,
        now: datetime,
        from_states: Iterable[str] = ("none",),
        limit: int | None = None,
    ) -> Rows:
        """Take matches for a response, so that no other acts on them; returns those taken, oldest first.

        Only matches of the actionable tier, in one of ``from_states``, of this task (``match_ids`` None:
        all of them; ``limit``: at most so many). What another caller took before is left out. Each taken
        file counts against the blast limits from now on (``tx.responses.acted``): count before claiming,
        in the same transaction, and no two callers can pass a limit together.
        """
        query = (
            select(matches)
            .where(
                matches.c.task_id == task_id,
                matches.c.tier == "actionable",
                matches.c.response_state.in_(sorted(set(from_states))),
            )
            .order_by(matches.c.found_at, matches.c.match_id)
        )
        if match_ids is None:
            rows = self._all(query if limit is None else query.limit(limit))
        else:
            rows = []
            for part in chunks(sorted(set(match_ids))):
                rows += self._all(query.where(matches.c.match_id.in_(part)))
            rows.sort(key=lambda row: (row["found_at"], row["match_id"]))
            rows = rows[:limit]
        claimed = {"response_state": "claimed", "response_id": response_id, "claimed_at": now}
        for part in chunks([row["match_id"] for row in rows]):
            self._connection.execute(update(matches).where(matches.c.match_id.in_(part)).values(**claimed))
        if rows:
            self._tx.counts_changed.add(task_id)
        self._count_as_acted(task_id, rows, response_id, now)
        return [row | claimed for row in rows]

    def _count_as_acted(self, task_id: str, rows: Sequence[Row], response_id: str, now: datetime) -> None:
        if not rows:
            return
        origin = self._connection.execute(
            select(tasks.c.object_sha256, detections.c.source_name)
            .join_from(tasks, detections, detections.c.detection_id == tasks.c.detection_id, isouter=True)
            .where(tasks.c.task_id == task_id)
        ).one()
        values = [
            {
                "match_id": row["match_id"],
                "response_id": response_id,
                "task_id": task_id,
                "source_name": origin.source_name or "",
                "object_sha256": origin.object_sha256,
                "manager": row["manager"],
                "device_id": row["device_id"],
                "claimed_at": now,
                "counts": True,
            }
            for row in rows
        ]
        statement = self._insert(acted_files)
        again = {name: statement.excluded[name] for name in ("response_id", "claimed_at", "counts")}
        self._connection.execute(
            statement.on_conflict_do_update(index_elements=["match_id"], set_=again), values
        )

    def set_response(
        self,
        match_id: str,
        state: str,
        *,
        now: datetime,
        response_id: str | None = None,
        code: str | None = None,
        message: str | None = None,
        quarantine_id: str | None = None,
    ) -> bool:
        """Record how far the response to a match came (RESPONSE_STATES in states.py).

        With ``response_id`` only if the match is still that response's own; False if it is not, or unknown.
        A state that means "not touched" gives its place under the blast limits back.
        """
        _check_state(state)
        query = update(matches).where(matches.c.match_id == match_id)
        if response_id is not None:
            query = query.where(matches.c.response_id == response_id)
        values: dict[str, Any] = {
            "response_state": state,
            "response_code": code,
            "response_message": message,
            "responded_at": now,
        }
        if quarantine_id is not None:
            values["quarantine_id"] = quarantine_id
        if self._connection.execute(query.values(**values)).rowcount == 0:
            return False
        self._tx.changed_matches.add(match_id)
        self._connection.execute(
            update(acted_files)
            .where(acted_files.c.match_id == match_id)
            .values(counts=state in COUNTED_RESPONSE_STATES)
        )
        return True

    def move(self, match_ids: Sequence[str], from_states: Iterable[str], to_state: str) -> int:
        """Set many from one of ``from_states`` to another state (asking, rejecting); returns how many."""
        _check_state(to_state)
        moved = 0
        for part in chunks(list(match_ids)):
            moved += self._connection.execute(
                update(matches)
                .where(matches.c.match_id.in_(part), matches.c.response_state.in_(sorted(set(from_states))))
                .values(response_state=to_state)
            ).rowcount
        self._tx.changed_matches.update(match_ids if moved else ())
        return moved

    def release_stale(self, claimed_before: datetime, limit: int = 1000) -> Names:
        """Set matches free whose response never answered: claimed at or before; returns their ids.

        They go back to ``none`` and still count under the blast limits: they may have been acted on.
        Choose a moment past the life of respond jobs (15 minutes), so that none can act any more.
        """
        query = (
            select(matches.c.match_id)
            .where(matches.c.response_state == "claimed", matches.c.claimed_at <= claimed_before)
            .order_by(matches.c.claimed_at, matches.c.match_id)
            .limit(limit)
        )
        ids = list(self._connection.execute(query).scalars())
        statement = (
            update(matches).where(matches.c.match_id == bindparam("b_match_id")).values(response_state="none")
        )
        if ids:
            self._connection.execute(statement, [{"b_match_id": match_id} for match_id in ids])
        self._tx.changed_matches.update(ids)
        return ids

    def tasks_of(self, match_ids: Sequence[str]) -> set[str]:
        """The tasks these matches are of."""
        found: set[str] = set()
        for part in chunks(match_ids):
            query = select(matches.c.task_id).where(matches.c.match_id.in_(part)).distinct()
            found.update(self._connection.execute(query).scalars())
        return found

    def tally(self, task_id: str) -> dict[str, dict[str, int]]:
        """Counted now: ``{tier: {response_state: n}}``. ``tasks.match_counts`` holds the same, kept at commit."""
        # Grouped in the order of an index, so that counting sorts nothing.
        kinds = (matches.c.tier, matches.c.response_state)
        query = select(*kinds, func.count().label("number")).where(matches.c.task_id == task_id)
        found: dict[str, dict[str, int]] = {}
        for row in self._connection.execute(query.group_by(*kinds)):
            found.setdefault(row.tier, {})[row.response_state] = row.number
        return found

    def store_counts(self, task_ids: Sequence[str]) -> None:
        """Write the numbers of matches beside each task, as its coverage is. Called at commit."""
        for task_id in task_ids:
            self._connection.execute(
                update(tasks).where(tasks.c.task_id == task_id).values(match_counts=self.tally(task_id))
            )

    def counts(self, task_id: str, *, run: int | None = None) -> dict[str, Any]:
        """``{"matches", "devices", "by_tier": {tier: n}, "by_response_state": {state: n}}`` of a task."""
        where = [matches.c.task_id == task_id]
        if run is not None:
            where.append(matches.c.run == run)
        query = (
            select(matches.c.tier, matches.c.response_state, func.count().label("number"))
            .where(*where)
            .group_by(matches.c.tier, matches.c.response_state)
        )
        by_tier: dict[str, int] = {}
        by_state: dict[str, int] = {}
        for row in self._connection.execute(query):
            by_tier[row.tier] = by_tier.get(row.tier, 0) + row.number
            by_state[row.response_state] = by_state.get(row.response_state, 0) + row.number
        pairs = select(matches.c.manager, matches.c.device_id).where(*where).distinct().subquery()
        devices = self._connection.execute(select(func.count()).select_from(pairs)).scalar_one()
        return {
            "matches": sum(by_tier.values()),
            "devices": devices,
            "by_tier": by_tier,
            "by_response_state": by_state,
        }

    def due(self, task_id: str, limit: int = 1000) -> Rows:
        """Actionable matches nobody acted on, asked about or reported: match_id, manager, group, device_id."""
        columns = (matches.c.match_id, matches.c.manager, matches.c.group, matches.c.device_id)
        where = (
            matches.c.task_id == task_id,
            matches.c.tier == "actionable",
            matches.c.response_state == "none",
        )
        order = (matches.c.found_at, matches.c.match_id)
        return self._all(select(*columns).where(*where).order_by(*order).limit(limit))

    def devices_with(self, sha256: str) -> int:
        """On how many devices an object of this SHA-256 was matched, over all tasks still kept."""
        pairs = (
            select(matches.c.manager, matches.c.device_id)
            .where(matches.c.sha256 == sha256)
            .distinct()
            .subquery()
        )
        return self._connection.execute(select(func.count()).select_from(pairs)).scalar_one()


def _check_state(state: str) -> None:
    if state not in RESPONSE_STATES:
        raise ValueError(f"unknown response state {state!r}")
