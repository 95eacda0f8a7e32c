"""Undo: a quarantined object goes back to where it was, and its hash is exempt from then on."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from ioc_scan.errors import DeviceError, InputError, NotFoundError, RefusedError
from ioc_scan.scanner.protocol import ACTING_JOB_SECONDS
from ioc_scan.service import rights
from ioc_scan.service.collecting import collect
from ioc_scan.service.context import Context
from ioc_scan.service.names import new_id
from ioc_scan.service.people import Actor
from ioc_scan.service.publishing import push_jobs
from ioc_scan.service.responses import SHORT_WAIT_SECONDS
from ioc_scan.service.sealing import seal, send
from ioc_scan.store.event_types import EventType
from ioc_scan.text import printable


def restore_object(
    context: Context,
    quarantine_id: str,
    device_id: str | None = None,
    manager: str | None = None,
    account: str | None = None,
    chat_user: str | None = None,
) -> dict[str, Any]:
    """Ask the device to put the object back. The exemption holds at once, before the file is there again.

    Raises RefusedError ``person_needed``, ``not_in_quarantine``; DeviceError ``restore_failed`` where the device
    did not put it back, which leaves it in quarantine; NotFoundError ``quarantine_unknown``;
    InputError ``manager_ambiguous`` where several devices or managers know that id.
    """
    actor = Actor.of(context, account, chat_user)
    named = f"device_id={device_id} " if device_id else ""
    command = f"st2 run ioc_scan.restore_object {named}quarantine_id={quarantine_id}"
    actor.must_be_person("restore an object", command)
    row = _find(context, device_id, quarantine_id, manager)
    device_id = row["device_id"]
    rights.require(context, actor, "restore", _group(context, row), task_id=row["task_id"], command=command)
    now = context.clock()
    job_id = new_id("restore", now)
    with context.store.transaction() as tx:
        exempted = tx.exemptions.add(
            row["sha256"], created_by=actor.name, reason=f"restored on {device_id}", now=now
        )
        tx.jobs.create(
            {
                "job_id": job_id,
                "task_id": None,
                "run": 0,
                "kind": "restore",
                "manager": row["manager"],
                "created_at": now,
                "not_before": now,
                "not_after": now + timedelta(seconds=ACTING_JOB_SECONDS),
                "spec": {
                    "device_ids": [device_id],
                    "settings": {},
                    "items": {device_id: [{"quarantine_id": quarantine_id, "target_path_b64": None}]},
                    "actor": actor.name,
                    "of_task": row["task_id"],
                },
            }
        )
        where = {
            "task_id": row["task_id"],
            "manager": row["manager"],
            "device_id": device_id,
            "actor": actor.name,
        }
        data = {"quarantine_id": quarantine_id, "sha256": row["sha256"], "job_id": job_id}
        tx.events.add(EventType.RESTORE_REQUESTED, data=data, **where)
        if exempted:
            tx.events.add(EventType.EXEMPTION_ADDED, data={"sha256": row["sha256"]}, **where)
        head = seal(tx, "restore", task_id=row["task_id"])
    send(context, head)
    push_jobs(context)
    state = _wait(context, row, job_id)
    return {
        "device_id": device_id,
        "quarantine_id": quarantine_id,
        "state": state,
        "sha256": row["sha256"],
        "message": _MESSAGES[state],
        "next_step": f"st2 run ioc_scan.list_quarantine state=any device={device_id}",
    }


_MESSAGES = {
    "restored": "The object is back where it was; its hash is exempt from further responses.",
    "restoring": "The device has not answered yet; it will restore the object within 15 minutes or not at all.",
}


def _group(context: Context, row: dict[str, Any]) -> list[tuple[str, str]]:
    """The device group of a quarantined object, as far as its match is still kept."""
    with context.store.reading() as tx:
        match = tx.matches.get(row["match_id"]) if row["match_id"] else None
    return [(row["manager"], match["group"] if match else "")]


def _find(context: Context, device_id: str | None, quarantine_id: str, manager: str | None) -> dict[str, Any]:
    with context.store.reading() as tx:
        rows = tx.quarantine.get(quarantine_id, manager, device_id)
    if not rows:
        raise NotFoundError(
            "quarantine_unknown",
            f"{f'device {printable(device_id, 80)} holds no' if device_id else 'no device holds an'} object "
            f"{printable(quarantine_id, 128)}",
            "st2 run ioc_scan.list_quarantine shows what is held.",
        )
    if len(rows) > 1:
        names = ", ".join(sorted(f"{row['manager']}/{row['device_id']}" for row in rows))
        raise InputError(
            "manager_ambiguous",
            f"several devices have it: {names}",
            "Give `device_id` and `manager` as well.",
        )
    if rows[0]["state"] != "quarantined":
        raise RefusedError("not_in_quarantine", f"the object is {rows[0]['state']}, not in quarantine")
    return rows[0]


def _wait(context: Context, row: dict[str, Any], job_id: str) -> str:
    deadline = time.monotonic() + SHORT_WAIT_SECONDS
    while True:
        collect(context, row["task_id"], budget_seconds=SHORT_WAIT_SECONDS)
        with context.store.reading() as tx:
            now = tx.quarantine.get(row["quarantine_id"], row["manager"], row["device_id"])[0]
            job = tx.jobs.get(job_id)
        if now["state"] == "restored":
            return "restored"
        if job is None or job["state"] != "open":
            raise DeviceError(
                "restore_failed",
                f"the device did not restore the object, it is still in quarantine: {_reason(context, row)}",
                "Put right what it says, and restore again.",
            )
        if time.monotonic() > deadline:
            return "restoring"
        time.sleep(0.2)


def _reason(context: Context, row: dict[str, Any]) -> str:
    """What the device said last of putting this object back."""
    with context.store.reading() as tx:
        failures = tx.events.list(types=[EventType.RESTORE_FAILED], device_id=row["device_id"], limit=100)
    said = [event["data"] for event in failures if event["data"]["quarantine_id"] == row["quarantine_id"]]
    return str(said[0]["message"]) if said else "it gave no reason"
