"""Responding to matches: the only way to a deletion. Every path to it goes through :func:`respond`.

A response claims its matches, counts them against the limits and notes its jobs in one transaction; only
then anything reaches a device, which judges again. What may not be done at once is asked for or held, and said.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from ioc_scan.errors import RefusedError
from ioc_scan.scanner.protocol import ACTING_JOB_SECONDS
from ioc_scan.service.announcing import announce
from ioc_scan.service.collecting import collect
from ioc_scan.service.context import Context
from ioc_scan.service.limits import room_left
from ioc_scan.service.names import new_id
from ioc_scan.service.people import Actor
from ioc_scan.service.publishing import push_jobs
from ioc_scan.service.targeting import mode_of
from ioc_scan.service.tasks import live_task
from ioc_scan.store.event_types import EventType
from ioc_scan.store.transaction import Transaction

#: An action waits this long for devices that answer at once; workflows look again later.
SHORT_WAIT_SECONDS = 4.0
_RULE_STATES = ("none",)
_PERSON_STATES = ("none", "awaiting_approval", "reported", "failed")
#: A person who names matches may also act on what was rejected or let go before.
_NAMED_STATES = (*_PERSON_STATES, "rejected", "changed", "refused")

Row = dict[str, Any]


@dataclass
class Sorted:
    """Matches by what becomes of them now. ``held`` explains, for people."""

    act: list[Row] = field(default_factory=list)
    ask: list[Row] = field(default_factory=list)
    report: list[Row] = field(default_factory=list)
    exempt: list[Row] = field(default_factory=list)
    waiting: list[Row] = field(default_factory=list)
    held: list[dict[str, Any]] = field(default_factory=list)
    why_ask: str = "mode_ask"

    def hold(self, reason: str, rows: Sequence[Row], **facts: Any) -> None:
        if rows:
            self.held.append({"reason": reason, "matches": len(rows), **facts})


def respond(
    context: Context,
    task_id: str,
    match_ids: Sequence[str] | None = None,
    devices: Sequence[str] | None = None,
    dry_run: bool | None = None,
    account: str | None = None,
    chat_user: str | None = None,
) -> dict[str, Any]:
    """Act on, ask about or report the matches of a live task that are due.

    Run by a rule it follows the response mode of each device; run by a person it is the approval. A dry run
    goes the same way to the devices, claims nothing and changes nothing there.
    Raises RefusedError ``task_ended``, ``responses_stopped``, ``person_needed``; NotFoundError ``task_not_found``.
    """
    actor = Actor.of(context, account, chat_user)
    if actor.chat_user is not None and not actor.person:
        actor.must_be_person("respond", f"st2 run ioc_scan.respond task_id={task_id}")
    task = live_task(context, task_id)
    if context.stopped and not dry_run:
        _refuse_stopped(context, task, actor)
    now = context.clock()
    response_id = new_id("resp", now)
    with context.store.transaction() as tx:
        current = tx.tasks.get(task_id)
        assert current is not None and current["ended_at"] is None
        plan = _sort(context, tx, current, actor, match_ids, devices, bool(dry_run))
        claimed = plan.act
        if not dry_run:
            claimed = tx.matches.claim(
                task_id, [row["match_id"] for row in plan.act], response_id, now, from_states=_NAMED_STATES
            )
            _settle_rest(context, tx, current, plan, actor)
            _record_approvals(tx, current, claimed, actor)
        if claimed:
            _open_response(context, tx, current, claimed, response_id, actor, bool(dry_run))
    if claimed:
        push_jobs(context, task_id)
        _wait_shortly(context, task_id, response_id)
    return _answer(context, task_id, response_id if claimed else None, plan, claimed, bool(dry_run))


def _refuse_stopped(context: Context, task: Row, actor: Actor) -> None:
    with context.store.transaction() as tx:
        tx.events.add(
            EventType.RESPONSE_REFUSED,
            task_id=task["task_id"],
            actor=actor.name,
            data={"reason": "kill switch"},
        )
    raise RefusedError(
        "responses_stopped",
        "the kill switch is on: no response runs",
        "st2 run ioc_scan.kill_switch switch=go lets responses run again.",
    )


def _sort(
    context: Context,
    tx: Transaction,
    task: Row,
    actor: Actor,
    match_ids: Sequence[str] | None,
    devices: Sequence[str] | None,
    dry_run: bool,
) -> Sorted:
    """Put every due match into one heap. Reads only, so that a dry run sees exactly what would happen."""
    states = _RULE_STATES if not actor.person else _NAMED_STATES if match_ids else _PERSON_STATES
    rows = tx.matches.list(task["task_id"], tier="actionable", response_state=states, limit=100_000)
    rows = [
        row
        for row in rows
        if row["sha256"]
        and (not match_ids or row["match_id"] in match_ids)
        and (not devices or row["device_id"] in devices)
    ]
    plan = Sorted()
    rows, plan.exempt = _split(rows, lambda row: not tx.exemptions.is_exempt(row["sha256"]))
    plan.hold("exempt_hash", plan.exempt)
    if not task["settings"]["on_detection"].get("quarantine", True):
        plan.report = rows
        plan.hold("policy_reports_only", rows)
        return plan
    if actor.person or dry_run:
        plan.act = rows
    else:
        _by_mode(context, tx, task, rows, plan)
    _hold_greedy_devices(context, plan)
    return plan


def _by_mode(context: Context, tx: Transaction, task: Row, rows: Sequence[Row], plan: Sorted) -> None:
    groups = tx.task_groups.list(task["task_id"])
    tags = {
        (row["manager"], row["device_id"]): row
        for row in tx.task_devices.list(task["task_id"], limit=1_000_000)
    }
    auto: list[Row] = []
    for row in rows:
        device = tags.get((row["manager"], row["device_id"]))
        mode = mode_of(groups, device, task["settings"]) if device else "report"
        {"report": plan.report, "ask": plan.ask, "auto": auto}[mode].append(row)
    if auto:
        _gate_auto(context, tx, task, auto, plan)


def _gate_auto(context: Context, tx: Transaction, task: Row, rows: list[Row], plan: Sorted) -> None:
    """auto acts within the limits, on objects that are rare, after enough devices have answered; else it asks."""
    settings = context.config["response"]
    coverage = tx.task_devices.coverage(task["task_id"])
    reached = max(coverage["reached"], 1)
    if coverage["answered"] * 100 < settings["min_answered_percent"] * reached:
        plan.waiting = rows
        plan.hold("waiting_for_answers", rows, answered=coverage["answered"], reached=coverage["reached"])
        return
    common = [
        row for row in rows if tx.matches.devices_with(row["sha256"]) > settings["ask_when_seen_on_more_than"]
    ]
    if common:
        plan.why_ask = "seen_on_many_devices"
        plan.ask += common
        plan.hold("seen_on_many_devices", common)
        rows = [row for row in rows if row not in common]
    source = tx.detections.get(task["detection_id"])
    room = room_left(tx, settings, task, source["source_name"] if source else "", context.clock())
    if len(rows) > room.files:
        plan.why_ask = "limit_reached"
        plan.ask += rows[room.files :]
        plan.hold("limit_reached", rows[room.files :], limit=room.limit)
        rows = rows[: room.files]
    plan.act += rows


def _hold_greedy_devices(context: Context, plan: Sorted) -> None:
    """A device with more matches than one response may touch there holds itself, and nobody else."""
    most = context.config["response"]["max_files_per_device"]
    by_device: dict[tuple[str, str], list[Row]] = {}
    for row in plan.act:
        by_device.setdefault((row["manager"], row["device_id"]), []).append(row)
    for (_, device_id), rows in by_device.items():
        if len(rows) > most:
            plan.act = [row for row in plan.act if row not in rows]
            plan.waiting += rows
            plan.hold("too_many_on_device", rows, device=device_id, limit=most)


def _settle_rest(context: Context, tx: Transaction, task: Row, plan: Sorted, actor: Actor) -> None:
    now = context.clock()
    tx.matches.move([row["match_id"] for row in plan.report], _RULE_STATES, "reported")
    for row in plan.exempt:
        tx.matches.set_response(
            row["match_id"],
            "refused",
            now=now,
            code="exempt_hash",
            message="this hash was restored and is exempt",
        )
    asked = [row for row in plan.ask if row["response_state"] == "none"]
    if asked:
        _open_approval(context, tx, task, asked, plan.why_ask)
    for entry in plan.held:
        if entry["reason"] in ("limit_reached", "too_many_on_device"):
            tx.events.add(EventType.LIMIT_REACHED, task_id=task["task_id"], actor=actor.name, data=entry)


def _open_approval(context: Context, tx: Transaction, task: Row, rows: Sequence[Row], reason: str) -> None:
    now = context.clock()
    approval_id = new_id("appr", now)
    expires_at = now + timedelta(hours=context.config["response"]["approval_ttl_hours"])
    ids = [row["match_id"] for row in rows]
    devices = {(row["manager"], row["device_id"]) for row in rows}
    tx.approvals.open(
        approval_id=approval_id,
        task_id=task["task_id"],
        match_ids=ids,
        requested_at=now,
        expires_at=expires_at,
        ioc_digest=rows[0]["ioc_digest"],
        reason=reason,
    )
    tx.matches.move(ids, _RULE_STATES, "awaiting_approval")
    tx.events.add(
        EventType.APPROVAL_OPENED,
        task_id=task["task_id"],
        data={"approval_id": approval_id, "matches": len(ids), "devices": len(devices), "reason": reason},
    )
    announce(
        tx,
        "approval_needed",
        task,
        approval_id,
        now,
        approval_id=approval_id,
        matches=len(ids),
        devices=len(devices),
        reason=reason,
        expires_at_epoch=int(expires_at.timestamp()),
    )


def _record_approvals(tx: Transaction, task: Row, claimed: Sequence[Row], actor: Actor) -> None:
    """A person's response answers the open questions about its matches."""
    if not actor.person or not claimed:
        return
    taken = {row["match_id"] for row in claimed}
    for approval in tx.approvals.list(task["task_id"], "open"):
        if not taken & set(approval["match_ids"]):
            continue
        left = tx.matches.list(match_ids=approval["match_ids"], response_state="awaiting_approval", limit=1)
        if not left:
            tx.approvals.decide(
                approval["approval_id"],
                "approved",
                decided_by=actor.name,
                now=tx.now(),
                chat_user=actor.chat_user,
            )
    tx.events.add(
        EventType.APPROVAL_APPROVED,
        task_id=task["task_id"],
        actor=actor.name,
        data={
            "matches": len(taken),
            "chat_user": actor.chat_user,
            "digests": sorted({r["sha256"] for r in claimed}),
        },
    )


def _open_response(
    context: Context,
    tx: Transaction,
    task: Row,
    rows: Sequence[Row],
    response_id: str,
    actor: Actor,
    dry_run: bool,
) -> None:
    """Note the response and one job per manager. The store knows of it before any device does."""
    now = context.clock()
    settings = context.config["response"]
    tx.responses.create(
        response_id=response_id,
        task_id=task["task_id"],
        actor=actor.name,
        requested_at=now,
        dry_run=dry_run,
        counts={"asked": len(rows)},
    )
    for index, (manager, items) in enumerate(_items(rows).items()):
        tx.jobs.create(
            {
                "job_id": f"{response_id}.{index}",
                "task_id": task["task_id"],
                "run": task["run"],
                "kind": "respond",
                "manager": manager,
                "created_at": now,
                "not_before": now,
                "not_after": now + timedelta(seconds=ACTING_JOB_SECONDS),
                "response_id": response_id,
                "spec": {
                    "device_ids": sorted(items),
                    "plan_digest": task["plan_digest"],
                    "settings": {
                        "terminate_processes": bool(
                            task["settings"]["on_detection"].get("terminate_processes")
                        ),
                        "max_items": settings["max_files_per_device"],
                        "quarantine_days": settings["quarantine_days"],
                    },
                    "items": items,
                    "dry_run": dry_run,
                },
            }
        )
    tx.events.add(
        EventType.RESPONSE_CLAIMED,
        detection_id=task["detection_id"],
        task_id=task["task_id"],
        actor=actor.name,
        data={"response_id": response_id, "matches": len(rows), "dry_run": dry_run},
    )


def _items(rows: Iterable[Row]) -> dict[str, dict[str, list[Row]]]:
    """What goes to each device of each manager: the exact object, never only its name."""
    found: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        item = {
            "match_id": row["match_id"],
            "path_b64": row["path_b64"],
            "sha256": row["sha256"],
            "size": row["size"],
            "device": row["st_dev"],
            "inode": row["st_ino"],
        }
        found.setdefault(row["manager"], {}).setdefault(row["device_id"], []).append(item)
    return found


def _wait_shortly(context: Context, task_id: str, response_id: str) -> None:
    deadline = time.monotonic() + SHORT_WAIT_SECONDS
    while time.monotonic() < deadline:
        collect(context, task_id, budget_seconds=SHORT_WAIT_SECONDS)
        with context.store.reading() as tx:
            response = tx.responses.get(response_id)
        if response is None or response["state"] != "running":
            return
        time.sleep(0.2)


def _split(rows: Iterable[Row], keep: Any) -> tuple[list[Row], list[Row]]:
    kept: list[Row] = []
    other: list[Row] = []
    for row in rows:
        (kept if keep(row) else other).append(row)
    return kept, other


def _answer(
    context: Context,
    task_id: str,
    response_id: str | None,
    plan: Sorted,
    claimed: Sequence[Row],
    dry_run: bool,
) -> dict[str, Any]:
    outcomes: dict[str, int] = {}
    if response_id is not None:
        with context.store.reading() as tx:
            response = tx.responses.get(response_id)
            if response is not None and response["state"] == "running" and not dry_run:
                rows = tx.matches.list(response_id=response_id, limit=100_000)
                for row in rows:
                    outcomes[row["response_state"]] = outcomes.get(row["response_state"], 0) + 1
            elif response is not None:
                outcomes = {
                    k: v for k, v in response["counts"].items() if isinstance(v, int) and v and k != "asked"
                }
    mode = "auto" if claimed else "ask" if plan.ask else "report"
    done = ", ".join(f"{number} {name}" for name, number in sorted(outcomes.items())) or "no answer yet"
    if claimed:
        message = f"{'Dry run: ' if dry_run else ''}{len(claimed)} objects on their devices: {done}."
        step = f"st2 run ioc_scan.get_results task_id={task_id}"
    elif plan.ask:
        message = f"{len(plan.ask)} matches wait for a person to approve."
        step = f"st2 run ioc_scan.respond task_id={task_id} dry_run=true, then without dry_run to approve"
    elif plan.held:
        message = (
            "Nothing done: " + ", ".join(f"{entry['matches']} {entry['reason']}" for entry in plan.held) + "."
        )
        step = f"st2 run ioc_scan.get_task task_id={task_id}"
    elif plan.report:
        message = f"{len(plan.report)} matches reported; the policy does not respond."
        step = f"st2 run ioc_scan.get_results task_id={task_id}"
    else:
        message = "Nothing is due."
        step = f"st2 run ioc_scan.get_results task_id={task_id}"
    return {
        "task_id": task_id,
        "response_id": response_id,
        "mode": mode,
        "claimed": len(claimed),
        "asked": len(plan.ask),
        "held": plan.held,
        "outcomes": outcomes,
        "dry_run": dry_run,
        "message": message,
        "next_step": step,
    }
