"""Looking: lists and details, as rows for playbooks and as a table for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ioc_scan.clock import to_iso
from ioc_scan.devices.base import Device
from ioc_scan.errors import InputError, IocScanError, NotFoundError
from ioc_scan.reports import tables
from ioc_scan.reports.tables import Column
from ioc_scan.service.chat import CHAT_WIDTH, chat_lines, chat_table
from ioc_scan.service.context import Context
from ioc_scan.service.publishing import end_of_life
from ioc_scan.store.event_types import ALL_EVENT_TYPES
from ioc_scan.store.states import LIVE_STATES
from ioc_scan.text import printable

#: Tables in an answer are read in a terminal and in chat: this wide, whatever runs the action.
TABLE_WIDTH = 110

Row = dict[str, Any]


def list_tasks(
    context: Context, state: str | None = None, limit: int | None = None, offset: int | None = None
) -> Row:
    """Tasks newest first, each with coverage, matches and what waits."""
    states = None if state in (None, "any") else LIVE_STATES if state == "live" else {state}
    with context.store.reading() as tx:
        tasks = tx.tasks.list(states, limit=limit or 50, offset=offset or 0)
        total = sum(n for name, n in tx.tasks.counts().items() if states is None or name in states)
    rows = [_task_row(task) for task in tasks]
    columns = [
        Column("task_id", "task", fixed=True),
        Column("name", "object", keep="start"),
        Column("state", "state", fixed=True),
        Column("coverage", "answered", fixed=True),
        Column("matches", "matches", fixed=True),
        Column("quarantined", "quarantined", fixed=True),
        Column("waiting", "to approve", fixed=True),
        Column("failed", "failed", fixed=True),
    ]
    step = "st2 run ioc_scan.get_task task_id=TASK"
    if any(row["waiting"] for row in rows):
        step = "st2 run ioc_scan.respond task_id=TASK dry_run=true shows what an approval would touch"
    return page(rows, columns, total, step, "no tasks")


def _task_row(task: Row) -> Row:
    coverage = task["coverage"] or {}
    states = _match_states(task)
    return {
        "task_id": task["task_id"],
        "name": task["name"],
        "state": task["state"],
        "end_reason": task["end_reason"],
        "policy": task["policy_name"],
        "run": task["run"],
        "detections": task["detections_count"],
        "coverage": f"{coverage.get('answered', 0)}/{coverage.get('targeted', 0)}",
        "targeted": coverage.get("targeted", 0),
        "answered": coverage.get("answered", 0),
        "matched": coverage.get("matched", 0),
        "failed": coverage.get("failed", 0),
        "matches": states.total(),
        "quarantined": states["quarantined"],
        "waiting": states["awaiting_approval"],
        "created_at": _iso(task["created_at"]),
        "ends_at": _iso(task["ended_at"] or end_of_life(task)),
    }


def _match_states(task: Row) -> Counter[str]:
    """How many matches of the task are in which response state."""
    states: Counter[str] = Counter()
    for of_tier in (task["match_counts"] or {}).values():
        states.update(of_tier)
    return states


def get_task(context: Context, task_id: str) -> Row:
    """Everything about one task. Raises NotFoundError ``task_not_found`` (a pruned one: its summary is named)."""
    data = task_data(context, task_id)
    task, coverage = data["task"], data["coverage"]
    parts = ("reached", "answered", "matched", "clean", "failed", "never_seen", "waiting_idle")
    pairs = [
        ("task", task["task_id"]),
        ("object", task["name"]),
        ("state", f"{task['state']} {task['end_reason'] or ''}".strip()),
        ("run", task["run"]),
        ("policy", task["policy_name"]),
        ("groups", ", ".join(f"{group['group']} ({group['response_mode']})" for group in data["groups"])),
        ("ends", task["expires_at"]),
        ("coverage", f"{coverage['targeted']} targeted: " + ", ".join(f"{coverage[p]} {p}" for p in parts)),
        ("matches", _match_states(task).total()),
    ]
    columns: list[Column | str] = [
        Column("device_id", "device", fixed=True),
        "group",
        "state",
        Column("files_seen", "files", fixed=True),
        Column("matches", "matches", fixed=True),
        "error_code",
    ]
    table = (
        tables.render_pairs(pairs, TABLE_WIDTH)
        + "\n\n"
        + tables.render(data["devices"], columns, TABLE_WIDTH, empty="no devices")
    )
    return {
        "task": task,
        "coverage": coverage,
        "devices": data["devices"],
        "iocs": [{key: ioc[key] for key in ("tier", "digest")} for ioc in data["iocs"]],
        "detections": [row["detection_id"] for row in data["detections"]],
        "table": table,
        "chat": chat_lines(tables.render_pairs(pairs, CHAT_WIDTH)),
        "next_step": f"st2 run ioc_scan.get_results task_id={task_id}",
    }


def task_data(context: Context, task_id: str, device_limit: int = 500) -> Row:
    """The rows of one task as plain data with times as text: for get_task and for reports."""
    with context.store.reading() as tx:
        task = tx.tasks.get(task_id)
        if task is None:
            summary = tx.task_summaries.get(task_id)
            known = (
                f"It was {summary['state']} at {_iso(summary['ended_at'])} and is pruned." if summary else ""
            )
            raise NotFoundError(
                "task_not_found",
                f"there is no task {printable(task_id, 80)}. {known}".strip(),
                "list_tasks shows all.",
            )
        iocs = [tx.ioc_files.get(digest) for _, digest in tx.tasks.iocs(task_id)]
        detections = [tx.detections.get(row["detection_id"]) for row in tx.tasks.detections(task_id)]
        data = {
            "task": task | {"expires_at": task["ended_at"] or end_of_life(task)},
            "groups": tx.task_groups.list(task_id),
            "detections": [row for row in detections if row],
            "iocs": [row for row in iocs if row],
            "coverage": tx.task_devices.coverage(task_id),
            "devices": tx.task_devices.list(task_id, limit=device_limit),
            "matches": tx.matches.list(task_id, limit=1000),
            "responses": tx.responses.list(task_id, limit=200),
            "approvals": tx.approvals.list(task_id, limit=200),
            "quarantine": tx.quarantine.list(task_id=task_id, limit=500),
            "events": tx.events.list(task_id=task_id, limit=500),
        }
    told = plain(data)
    assert isinstance(told, dict)
    return told


def get_results(
    context: Context,
    task_id: str,
    run: int | None = None,
    device: str | None = None,
    tier: str | None = None,
    limit: int | None = None,
    offset: int | None = None,
) -> Row:
    """Matches, oldest first, with their proof and what became of them."""
    with context.store.reading() as tx:
        if tx.tasks.get(task_id) is None:
            raise NotFoundError(
                "task_not_found", f"there is no task {printable(task_id, 80)}", "list_tasks shows all."
            )
        matches = tx.matches.list(
            task_id, run=run, device_id=device, tier=tier, limit=limit or 50, offset=offset or 0
        )
        if device is None:
            counts = tx.matches.counts(task_id, run=run)
            total = counts["matches"] if tier is None else counts["by_tier"].get(tier, 0)
        else:
            total = len(tx.matches.list(task_id, run=run, device_id=device, tier=tier, limit=100_000))
    kept = [
        "match_id",
        "device_id",
        "manager",
        "group",
        "run",
        "tier",
        "document",
        "path",
        "sha256",
        "size",
        "proof",
        "found_at",
        "response_state",
        "response_code",
        "response_message",
        "quarantine_id",
    ]
    rows = [plain({name: row[name] for name in kept}) for row in matches]
    columns = [
        Column("match_id", "match", fixed=True),
        Column("device_id", "device"),
        "tier",
        Column("path", "path", keep="end"),
        Column("response_state", "response"),
    ]
    return page(rows, columns, total, f"st2 run ioc_scan.render_report task_id={task_id}", "no matches")


def list_events(
    context: Context,
    task_id: str | None = None,
    detection_id: str | None = None,
    type: str | None = None,
    limit: int | None = None,
    offset: int | None = None,
) -> Row:
    """The audit trail, newest first. Raises InputError ``event_type_unknown``."""
    if type is not None and type not in ALL_EVENT_TYPES:
        raise InputError(
            "event_type_unknown",
            f"there is no event type {printable(type, 60)}",
            ", ".join(sorted(ALL_EVENT_TYPES)),
        )
    with context.store.reading() as tx:
        events = tx.events.list(
            task_id=task_id,
            detection_id=detection_id,
            types=None if type is None else [type],
            limit=limit or 50,
            offset=offset or 0,
        )
    rows = [plain(row) for row in events]
    for row in rows:
        row["what"] = ", ".join(
            f"{key}={value}" for key, value in row["data"].items() if value not in (None, "")
        )
    columns = [
        Column("at", "when", fixed=True),
        Column("type", "event", fixed=True),
        "device_id",
        "actor",
        Column("what", "what"),
    ]
    return page(rows, columns, len(rows), "", "no events")


def list_devices(
    context: Context, group: str | None = None, limit: int | None = None, offset: int | None = None
) -> Row:
    """Devices by manager and group. A manager that cannot be asked shows as one row with its error."""
    rows = [row for name in context.managers for row in _devices_of(context, name, group)]
    if group is not None and not rows:
        raise NotFoundError("group_unknown", f"no device manager has a group named {printable(group, 80)!r}")
    columns = [
        "manager",
        "group",
        Column("device_id", "device", fixed=True),
        "os",
        "online",
        "tags",
        "problem",
    ]
    shown = rows[offset or 0 : (offset or 0) + (limit or 50)]
    return page(shown, columns, len(rows), "", "no devices: name them under `device_managers`")


def _devices_of(context: Context, name: str, group: str | None) -> list[Row]:
    try:
        manager = context.manager(name)
        return [
            _device_row(name, device)
            for known in manager.groups()
            if group is None or group in (known.name, f"{name}/{known.name}")
            for device in manager.devices(known.name)
        ]
    except IocScanError as error:
        return [
            {"manager": name, "group": group, "device_id": None, "problem": f"{error.code}: {error.message}"}
        ]


def _device_row(manager: str, device: Device) -> Row:
    return {
        "manager": manager,
        "group": device.group,
        "device_id": device.id,
        "os": device.os,
        "online": device.online.value,
        "tags": ", ".join(device.tags),
        "problem": None,
    }


def list_quarantine(
    context: Context,
    device: str | None = None,
    state: str | None = None,
    limit: int | None = None,
    offset: int | None = None,
) -> Row:
    """Quarantined objects, newest first."""
    states = None if state == "any" else {state or "quarantined"}
    with context.store.reading() as tx:
        found = tx.quarantine.list(device_id=device, states=states, limit=limit or 50, offset=offset or 0)
    rows = [plain(row) for row in found]
    columns = [
        Column("device_id", "device", fixed=True),
        Column("quarantine_id", "id", fixed=True),
        Column("path", "path", keep="end"),
        "state",
        Column("expires_at", "until", fixed=True),
    ]
    step = "st2 run ioc_scan.restore_object device_id=DEVICE quarantine_id=ID"
    return page(rows, columns, len(rows), step, "nothing in quarantine")


def page(rows: Sequence[Row], columns: Sequence[Any], total: int, step: str, empty: str) -> Row:
    """A list as every list action answers it: rows, a table for terminals, and the same made safe for chat."""
    return {
        "rows": list(rows),
        "total": total,
        "table": tables.render(rows, columns, TABLE_WIDTH, empty=empty),
        "chat": chat_table(rows, columns, total, empty),
        "next_step": step,
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else to_iso(moment)


def plain(value: Any) -> Any:
    """Rows as JSON can carry them: times as text, bytes left out."""
    if isinstance(value, datetime):
        return to_iso(value)
    if isinstance(value, dict):
        return {
            key: plain(child) for key, child in value.items() if not isinstance(child, (bytes, memoryview))
        }
    if isinstance(value, (list, tuple)):
        return [plain(child) for child in value]
    return value
