"""Outcomes of response and restore jobs, object by object. Each is stored once, with its event."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from ioc_scan.devices.base import DeviceEvent, EventKind
from ioc_scan.service.announcing import announce
from ioc_scan.service.context import Context
from ioc_scan.store.event_types import EventType
from ioc_scan.store.transaction import Transaction

_EVENTS = {
    "quarantined": EventType.OBJECT_QUARANTINED,
    "would_quarantine": EventType.OBJECT_WOULD_QUARANTINE,
    "refused": EventType.OBJECT_REFUSED,
    "missing": EventType.OBJECT_MISSING,
    "changed": EventType.OBJECT_CHANGED,
    "failed": EventType.OBJECT_FAILED,
}
#: Findings of one critical area that go into the audit trail; the numbers count all of them.
MAX_FINDINGS = 20
#: The words of responses.counts and of the trigger response_done.
OUTCOMES = tuple(_EVENTS)
_OVER = frozenset({"done", "failed", "cancelled", "expired", "refused"})


def store_response(context: Context, tx: Transaction, job: dict[str, Any], event: DeviceEvent) -> None:
    """What a device did with one object."""
    data = event.data
    outcome = "quarantined" if data["outcome"] == "already_quarantined" else data["outcome"]
    match = tx.matches.get(data["match_id"])
    if match is None:
        return
    if job["spec"].get("dry_run"):
        _note_dry_run(tx, job, match, outcome, data)
        return
    if match["response_state"] != "claimed" or match["response_id"] != job["response_id"]:
        return  # told before, or no longer this response's
    now = context.clock()
    if outcome == "refused" and data["code"] == "expired":
        _set_free(context, tx, job, [match])
        return
    tx.matches.set_response(
        match["match_id"],
        outcome,
        now=now,
        response_id=job["response_id"],
        code=data["code"] or None,
        message=data["message"] or None,
        quarantine_id=data["quarantine_id"],
    )
    if outcome == "quarantined" and data["quarantine_id"]:
        note_quarantined(tx, job, event.device_id, match, data["quarantine_id"], now)
    record(tx, job, event.device_id, match, outcome, data)


def note_quarantined(
    tx: Transaction,
    job: dict[str, Any],
    device_id: str,
    match: dict[str, Any],
    quarantine_id: str,
    now: datetime,
) -> None:
    """An object is in quarantine on a device, and can be restored from there."""
    tx.quarantine.add(
        {
            "quarantine_id": quarantine_id,
            "manager": job["manager"],
            "device_id": device_id,
            "task_id": match["task_id"],
            "match_id": match["match_id"],
            "sha256": match["sha256"],
            "size": match["size"] or 0,
            "path": match["path"] or "",
            "path_b64": match["path_b64"] or "",
            "quarantined_at": now,
            "expires_at": now + timedelta(days=job["spec"]["settings"]["quarantine_days"]),
        }
    )


def _note_dry_run(
    tx: Transaction, job: dict[str, Any], match: dict[str, Any], outcome: str, data: Any
) -> None:
    response = tx.responses.get(job["response_id"])
    if response is None or match["match_id"] in response["counts"].get("told", []):
        return
    counts = dict(response["counts"])
    counts["told"] = [*counts.get("told", []), match["match_id"]]
    counts[outcome] = counts.get(outcome, 0) + 1
    tx.responses.note(job["response_id"], counts)
    record(tx, job, match["device_id"], match, outcome, data)


def record(
    tx: Transaction, job: dict[str, Any], device_id: str, match: dict[str, Any], outcome: str, data: Any
) -> None:
    """The events of one object's outcome."""
    facts = {
        "response_id": job["response_id"],
        "match_id": match["match_id"],
        "sha256": match["sha256"],
        "quarantine_id": data["quarantine_id"],
        "code": data["code"],
        "message": data["message"],
        "dry_run": bool(job["spec"].get("dry_run")),
    }
    where = {"task_id": match["task_id"], "manager": job["manager"], "device_id": device_id}
    tx.events.add(_EVENTS[outcome], data=facts, **where)
    for process in data["terminated"]:
        tx.events.add(
            EventType.PROCESS_TERMINATED, data={"pid": process["pid"], "match_id": match["match_id"]}, **where
        )


def store_restored(context: Context, tx: Transaction, job: dict[str, Any], event: DeviceEvent) -> None:
    """What became of one object that was to be put back, or deleted at the end of its term."""
    data = event.data
    rows = tx.quarantine.get(data["quarantine_id"], job["manager"], event.device_id)
    if not rows or rows[0]["state"] != "quarantined":
        return
    row, now = rows[0], context.clock()
    where = {"task_id": row["task_id"], "manager": job["manager"], "device_id": event.device_id}
    facts = {"quarantine_id": row["quarantine_id"], "sha256": row["sha256"], "code": data["code"]}
    if job["kind"] == "purge":
        if data["outcome"] in ("purged", "missing"):
            tx.quarantine.set_state(row["quarantine_id"], job["manager"], event.device_id, "expired", now=now)
            tx.events.add(EventType.QUARANTINE_EXPIRED, data=facts, **where)
        return
    if data["outcome"] == "restored":
        actor = job["spec"].get("actor")
        tx.quarantine.set_state(
            row["quarantine_id"], job["manager"], event.device_id, "restored", now=now, restored_by=actor
        )
        if row["match_id"]:
            tx.matches.set_response(row["match_id"], "restored", now=now)
        tx.events.add(EventType.OBJECT_RESTORED, actor=actor, data=facts, **where)
    else:
        tx.events.add(EventType.RESTORE_FAILED, data={**facts, "message": data["message"]}, **where)
    _take_away(context, tx, job)


def store_area(tx: Transaction, job: dict[str, Any], event: DeviceEvent) -> None:
    """What a device says of one area: scanned, refused or unsupported, and what was found."""
    data = event.data
    facts = {name: data[name] for name in ("area", "state", "reason", "looked_at", "counts")}
    tx.events.add(
        EventType.CRITICAL_AREA_REPORTED,
        task_id=job["spec"].get("of_task"),
        manager=job["manager"],
        device_id=event.device_id,
        data={**facts, "findings": data["findings"][:MAX_FINDINGS]},
    )


def store_job_state(context: Context, tx: Transaction, job: dict[str, Any], event: DeviceEvent) -> None:
    """A respond job that a device ended: objects it said nothing of were not acted on, and say why."""
    if event.kind is EventKind.HELD:
        state, error = "failed", dict(event.data)
    else:
        state, error = event.data["state"], event.data.get("error") or {}
    if state not in _OVER:
        return
    now = context.clock()
    if job["kind"] == "respond" and not job["spec"].get("dry_run"):
        if state == "expired":  # the device did not come in time: nothing was done, and it is due again
            told_of = [item["match_id"] for item in job["spec"]["items"].get(event.device_id, [])]
            rows = [match for match_id in told_of if (match := tx.matches.get(match_id)) is not None]
            _set_free(context, tx, job, rows)
            return
        for item in job["spec"]["items"].get(event.device_id, []):
            match = tx.matches.get(item["match_id"])
            if (
                match is None
                or match["response_state"] != "claimed"
                or match["response_id"] != job["response_id"]
            ):
                continue
            told: dict[str, Any] = {
                "quarantine_id": None,
                "code": error.get("code") or f"job_{state}",
                "message": error.get("message") or "the device ended the job without a word on this object",
                "terminated": [],
            }
            tx.matches.set_response(
                match["match_id"],
                "failed",
                now=now,
                response_id=job["response_id"],
                code=told["code"],
                message=told["message"],
            )
            record(tx, job, event.device_id, match, "failed", told)
    elif job["kind"] in ("restore", "purge", "critical_areas"):
        _take_away(context, tx, job)


def _set_free(context: Context, tx: Transaction, job: dict[str, Any], matches: list[dict[str, Any]]) -> None:
    """Matches a response's time ran out for are due again; the response does not wait for them."""
    free = [
        match["match_id"]
        for match in matches
        if match["response_state"] == "claimed" and match["response_id"] == job["response_id"]
    ]
    response = tx.responses.get(job["response_id"])
    if not free or response is None:
        return
    for match_id in free:
        tx.matches.set_response(match_id, "none", now=context.clock(), response_id=job["response_id"])
    counts = response["counts"] | {"set_free": response["counts"].get("set_free", 0) + len(free)}
    tx.responses.note(job["response_id"], counts)
    data = {
        "response_id": job["response_id"],
        "matches": len(free),
        "match_ids": free[:20],
        "reason": "expired",
    }
    tx.events.add(EventType.CLAIM_RELEASED, task_id=job["task_id"], manager=job["manager"], data=data)


def _take_away(context: Context, tx: Transaction, job: dict[str, Any]) -> None:
    """Such a job belongs to no task whose end would remove it; it is for one device, which has answered."""
    tx.withdrawals.request(job["job_id"], job["spec"]["device_ids"], context.clock())


def finish_responses(context: Context, tx: Transaction, task: dict[str, Any]) -> None:
    """End the running responses of a task that have nothing left to wait for, and announce them."""
    now = context.clock()
    for response in tx.responses.list(task["task_id"], "running"):
        counts = _counts(tx, response)
        asked = response["counts"].get("asked", 0)
        free = counts.get("set_free", 0)
        if sum(counts.get(outcome, 0) for outcome in OUTCOMES) + free < asked:
            continue
        state = "failed" if asked and counts.get("failed", 0) + free == asked else "done"
        tx.responses.finish(response["response_id"], state, counts=counts, now=now)
        for job in tx.jobs.open(response_id=response["response_id"]):
            tx.jobs.set_state(job["job_id"], "closed", now=now)
        numbers = {outcome: counts.get(outcome, 0) for outcome in OUTCOMES}
        tx.events.add(
            EventType.RESPONSE_DONE if state == "done" else EventType.RESPONSE_FAILED,
            task_id=task["task_id"],
            actor=response["actor"],
            data={"response_id": response["response_id"], "dry_run": response["dry_run"], **numbers},
        )
        announce(
            tx,
            "response_done",
            task,
            response["response_id"],
            now,
            response_id=response["response_id"],
            state=state,
            dry_run=response["dry_run"],
            matches=asked,
            **numbers,
        )


def _counts(tx: Transaction, response: dict[str, Any]) -> dict[str, Any]:
    """Outcomes by kind. Those of a dry run were noted as they came; the others stand with the matches."""
    counts = dict(response["counts"])
    if not response["dry_run"]:
        rows = tx.matches.list(response_id=response["response_id"], limit=100_000)
        for outcome in OUTCOMES:
            counts[outcome] = sum(row["response_state"] == outcome for row in rows)
        counts["quarantined"] += sum(row["response_state"] == "restored" for row in rows)
    return counts
