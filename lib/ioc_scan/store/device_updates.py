"""Taking in what devices say of themselves: one statement, which holds what may follow what."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import and_, bindparam, case, func, literal, or_, update

from .base import Row
from .states import DEVICE_OUTCOMES, DEVICE_STATES, SIGNS_OF_LIFE
from .tables import task_devices

_FIELDS = (
    "files_seen",
    "bytes_hashed",
    "matches",
    "progress",
    "not_evaluated",
    "skipped",
    "error_code",
    "error_message",
    "finished_at",
    "job_id",
)


def parameters(row: Row, now: datetime) -> Row:
    """One device's state as the parameters of :func:`statement`. Raises ValueError for an unknown state."""
    state = row["state"]
    if state not in DEVICE_STATES or state == "withdrawn":
        raise ValueError(f"unknown device state {state!r}")
    ended = state in DEVICE_OUTCOMES
    seen = state in SIGNS_OF_LIFE or bool(row.get("files_seen") or row.get("seen"))
    values = {
        "b_task_id": row["task_id"],
        "b_manager": row["manager"],
        "b_device_id": row["device_id"],
        "b_run": row["run"],
        "b_state": state,
        "b_outcome": state if ended else None,
        "b_seen": seen,
        "b_ended": ended,
        "b_now": now,
    }
    for name in _FIELDS:
        values[f"b_{name}"] = row.get(name)
    if ended and values["b_finished_at"] is None:
        values["b_finished_at"] = now
    return values


def statement() -> Any:
    """An UPDATE of one device of a run, for as many parameters as there are devices."""
    table = task_devices
    new_state = bindparam("b_state", type_=table.c.state.type)
    seen = bindparam("b_seen", type_=table.c.reached.type)
    values: dict[str, Any] = {
        name: func.coalesce(bindparam(f"b_{name}", type_=table.c[name].type), table.c[name])
        for name in _FIELDS
    }
    values |= {
        "state": new_state,
        "outcome": func.coalesce(bindparam("b_outcome", type_=table.c.outcome.type), table.c.outcome),
        "updated_at": bindparam("b_now", type_=table.c.updated_at.type),
        "reached": case((seen, literal(True)), else_=table.c.reached),
        "ever_seen": case((seen, literal(True)), else_=table.c.ever_seen),
    }
    not_ended = table.c.outcome.is_(None)
    failed_before = and_(table.c.outcome == "failed", bindparam("b_ended", type_=table.c.reached.type))
    return (
        update(table)
        .where(
            table.c.task_id == bindparam("b_task_id"),
            table.c.manager == bindparam("b_manager"),
            table.c.device_id == bindparam("b_device_id"),
            table.c.run == bindparam("b_run"),
            table.c.state != "withdrawn",
            or_(not_ended, failed_before),
        )
        .values(values)
    )
