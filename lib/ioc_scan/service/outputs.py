"""Files for people and other systems, below the store's folder: reports and exports."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ioc_scan.clock import to_iso
from ioc_scan.errors import InputError, NotFoundError, StoreError
from ioc_scan.openioc import export
from ioc_scan.openioc.explain import describe_item, explain
from ioc_scan.openioc.reader import read_ioc
from ioc_scan.reports import csv_text, json_text
from ioc_scan.reports.html import render_overview, render_task
from ioc_scan.service import rights
from ioc_scan.service.context import Context
from ioc_scan.service.guarding import judge
from ioc_scan.service.people import Actor
from ioc_scan.service.views import list_tasks, task_data
from ioc_scan.store.event_types import EventType
from ioc_scan.text import printable

REPORTS, EXPORTS = "reports", "exports"


#: What a line of the CSV of a task holds: one match. Cells that a spreadsheet would run are neutralised.
_MATCH_COLUMNS = [
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
    "found_at",
    "response_state",
    "response_code",
    "response_message",
    "quarantine_id",
]
_TASK_COLUMNS = [
    "task_id",
    "name",
    "state",
    "end_reason",
    "policy",
    "run",
    "detections",
    "targeted",
    "answered",
    "matched",
    "failed",
    "matches",
    "quarantined",
    "waiting",
    "created_at",
    "ends_at",
]


def render_report(
    context: Context,
    task_id: str | None = None,
    format: str | None = None,
) -> dict[str, Any]:
    """Write the report of one task, or the overview of all, as one HTML, CSV or JSON file. Returns its path."""
    kind = format or "html"
    text = _overview_as(context, kind) if task_id is None else _task_as(context, task_id, kind)
    content = text.encode("utf-8")
    path = write(folder(context, REPORTS), f"{task_id or 'overview'}.{kind}", content)
    message = f"The report is at {path}."  # a path of our own making: nothing in it to be defanged
    return {"path": str(path), "bytes": len(content), "message": message, "chat": message}


def _task_as(context: Context, task_id: str, kind: str) -> str:
    data = report_data(context, task_id)
    if kind == "csv":
        return csv_text.render(data["matches"], _MATCH_COLUMNS)
    return json_text.render(data) if kind == "json" else render_task(data)


def _overview_as(context: Context, kind: str) -> str:
    if kind == "csv":
        return csv_text.render(list_tasks(context, limit=500)["rows"], _TASK_COLUMNS)
    data = _overview(context)
    return json_text.render(data) if kind == "json" else render_overview(data)


def report_data(context: Context, task_id: str) -> dict[str, Any]:
    """Everything the report of a task shows, as reports/html.py documents it."""
    data = task_data(context, task_id)
    with context.store.reading() as tx:
        contents = [(tier, digest, tx.ioc_files.get(digest)) for tier, digest in tx.tasks.iocs(task_id)]
    iocs = []
    for tier, digest, row in contents:
        ioc = read_ioc(bytes(row["content"])) if row else None
        iocs.append(
            {
                "tier": tier,
                "digest": digest,
                "explain": explain(ioc) if ioc else [],
                "items": {item.id: describe_item(item) for item in ioc.items() if item.id} if ioc else {},
            }
        )
    first = next(
        (row for row in data["detections"] if row["detection_id"] == data["task"]["detection_id"]), None
    )
    triage: dict[str, Any] = {}
    if first is not None:
        with contextlib.suppress(NotFoundError):  # the source is configured no more: the rest is still told
            tiers = judge(context, first["document"], first["source_name"])
            triage = {"actionable": tiers.actionable, "hunt": tiers.hunt, "suppressed": tiers.suppressed}
            triage |= {name: first["document"].get(name, {}) for name in ("losses", "not_listed")}
    for row in data["detections"]:
        row["link"] = row["document"]["source"].get("report_url")
    hosts = {urlsplit(entry["url"]).hostname for entry in context.config["sources"] if entry.get("url")}
    return {
        **data,
        "iocs": iocs,
        "triage": triage,
        "link_hosts": sorted(host for host in hosts if host),
        "generated_at": to_iso(context.clock()),
    }


def _overview(context: Context) -> dict[str, Any]:
    page = list_tasks(context, limit=500)
    tasks = []
    for row in page["rows"]:
        report = f"{row['task_id']}.html"
        exists = (context.folder / REPORTS / report).exists()
        with context.store.reading() as tx:
            coverage = tx.task_devices.coverage(row["task_id"])
        tasks.append(
            {
                **row,
                "coverage": coverage,
                "ended_at": None,
                "awaiting_approval": row["waiting"],
                "report": report if exists else None,
            }
        )
    return {"tasks": tasks, "totals": {"tasks": page["total"]}, "generated_at": to_iso(context.clock())}


def export_iocs(
    context: Context,
    task_id: str | None = None,
    detection_id: str | None = None,
    account: str | None = None,
    chat_user: str | None = None,
) -> dict[str, Any]:
    """Write the IOC files of a task or a detection as .ioc, as STIX 2.1 and as a zip with manifest and digests.

    Raises InputError ``export_what`` unless exactly one is named, NotFoundError ``no_iocs``.
    """
    if (task_id is None) == (detection_id is None):
        raise InputError(
            "export_what", "name either a task or a detection", "task_id=... or detection_id=..."
        )
    actor = Actor.of(context, account, chat_user)
    rights.require(context, actor, "export", task_id=task_id)
    with context.store.reading() as tx:
        if task_id is not None:
            rows = [tx.ioc_files.get(digest) for _, digest in tx.tasks.iocs(task_id)]
        else:
            rows = list(tx.ioc_files.for_detection(str(detection_id)))
    files = [(bytes(row["content"]), str(row["tier"])) for row in rows if row]
    if not files:
        raise NotFoundError(
            "no_iocs",
            f"{printable(task_id or detection_id, 200)} has no IOC files",
            "st2 run ioc_scan.generate_ioc detection_id=... generates them.",
        )
    name = task_id or "detection-" + hashlib.sha256(str(detection_id).encode()).hexdigest()[:16]
    target = folder(context, EXPORTS) / name
    _private(target)
    about = {"task_id": task_id} if task_id else {"detection_id": str(detection_id)}
    exported = export.export_iocs(files, about=about)
    written = []
    for file_name, content in {**exported.files, "iocs.zip": exported.archive}.items():
        write(target, file_name, content)
        written.append(
            {"name": file_name, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        )
    with context.store.transaction() as tx:
        tx.events.add(
            EventType.IOC_EXPORTED,
            task_id=task_id,
            detection_id=detection_id,
            actor=actor.name,
            data={"files": len(written)},
        )
    return {
        "folder": str(target),
        "files": written,
        "message": f"{len(written)} files written to {target}.",
    }


def folder(context: Context, name: str) -> Path:
    """A private folder below the store's, made where it is missing. Raises StoreError ``output_not_written``."""
    path = context.folder / name
    _private(path)
    return path


def _private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            "output_not_written", f"{folder}: {error.strerror}", "The store's folder must be writable."
        ) from error


def write(folder: Path, name: str, content: bytes) -> Path:
    """Whole or not at all, and never through a link somebody placed there."""
    path, part = folder / name, folder / f".{name}.part"
    try:
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        os.replace(part, path)
    except OSError as error:
        raise StoreError(
            "output_not_written", f"{path}: {error.strerror}", "Free space or check rights."
        ) from error
    return path
