"""Responding to matches: the only way to a deletion. Every path to it goes through :func:`respond`.

A response claims its matches, counts them against the limits and notes its jobs in one transaction; only
then anything reaches a device, which judges again. What may not be done at once is asked for or held, and said.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from ioc_scan.errors import RefusedError
from ioc_scan.scanner.protocol import ACTING_JOB_SECONDS
from ioc_scan.service import critical, rights
from ioc_scan.service.approvals import expire_approvals, open_approval, record_approvals
from ioc_scan.service.collecting import collect
from ioc_scan.service.context import Context
from ioc_scan.service.four_eyes import SECOND_PERSON, wait_for_second
from ioc_scan.service.live import ended, live_task
from ioc_scan.service.names import named_devices, new_id
from ioc_scan.service.people import Actor
from ioc_scan.service.publishing import push_jobs
from ioc_scan.service.sealing import seal, send
from ioc_scan.service.sorting import NAMED_STATES, Sorted, Wanted, sort_matches
from ioc_scan.service.targeting import reachability
from ioc_scan.store.event_types import EventType
from ioc_scan.store.states import LIVE_STATES
from ioc_scan.store.transaction import Transaction

#: An action waits this long for devices that answer at once; workflows look again later.
SHORT_WAIT_SECONDS = 4.0
Row = dict[str, Any]


def respond(
    context: Context,
    task_id: str,
    match_ids: Sequence[str] | None = None,
    devices: Sequence[str] | None = None,
    dry_run: bool | None = None,
    by_policy: bool | None = None,
    account: str | None = None,
    chat_user: str | None = None,
) -> dict[str, Any]:
    """Act on, ask about or report the matches of a live task that are due.

    Run by a rule or with ``by_policy`` (as workflows do, whoever runs them) it follows the response mode of
    each device; else, run by a person, it is the approval. A dry run goes the same way to the devices,
    claims nothing and changes nothing there.
    Raises RefusedError ``task_ended``, ``responses_stopped``, ``person_needed``; NotFoundError ``task_not_found``.
    """
    actor = Actor.of(context, account, chat_user)
    if actor.chat_user is not None and not actor.person:
        actor.must_be_person("respond", f"st2 run ioc_scan.respond task_id={task_id}")
    task = live_task(context, task_id)
    as_person = actor.person and not by_policy
    rights.require(context, actor, "respond" if as_person and not dry_run else "follow", task_id=task_id)
    if context.stopped and not dry_run:
        _refuse_stopped(context, task, actor)
    now = context.clock()
    response_id = new_id("resp", now)
    wanted = Wanted(
        person=as_person,
        dry_run=bool(dry_run),
        match_ids=frozenset(match_ids or ()),
        devices=named_devices(devices),
        may_touch=lambda manager, group: rights.may_touch(context, actor, manager, group),
    )
    head, critical_areas = None, False
    online = reachability(context, _groups(context, task_id))
    with context.store.transaction() as tx:
        current = tx.tasks.get(task_id)
        if current is None or current["state"] not in LIVE_STATES:
            raise ended(current or task)
        if not dry_run:
            expire_approvals(context, tx)  # nothing is approved after its question has expired
        plan = sort_matches(context, tx, current, wanted, online)
        if as_person and not dry_run and context.config["response"]["four_eyes"]:
            wait_for_second(context, tx, current, plan, actor)
        claimed = plan.act
        if not dry_run:
            claimed = tx.matches.claim(
                task_id, [row["match_id"] for row in plan.act], response_id, now, from_states=NAMED_STATES
            )
            _settle_rest(context, tx, current, plan, actor)
            if wanted.person:
                record_approvals(context, tx, current, claimed, actor)
        if claimed:
            _open_response(context, tx, current, claimed, response_id, actor, bool(dry_run))
            if not dry_run:
                critical_areas = bool(current["settings"]["on_detection"].get("critical_areas_scan"))
                if critical_areas:
                    pairs = [(row["manager"], row["device_id"]) for row in claimed]
                    critical.request(context, tx, current, pairs, actor)
                head = seal(tx, "respond", task_id=task_id, detection_id=current["detection_id"])
    if head is not None:
        send(context, head)
    if claimed:
        push_jobs(context, None if critical_areas else task_id)
        _wait_shortly(context, task_id, response_id)
    return _answer(context, task_id, response_id if claimed else None, plan, claimed, bool(dry_run))


def _groups(context: Context, task_id: str) -> list[tuple[str, str]]:
    with context.store.reading() as tx:
        return [(row["manager"], row["group"]) for row in tx.task_groups.list(task_id)]


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


def _settle_rest(context: Context, tx: Transaction, task: Row, plan: Sorted, actor: Actor) -> None:
    now = context.clock()
    tx.matches.move([row["match_id"] for row in plan.report], ("none",), "reported")
    for rows, state, code, message in (
        (plan.exempt, "refused", "exempt_hash", "this hash was restored and is exempt"),
        (
            plan.again,
            "reported",
            "found_again",
            "the same file was found by another run, which has the response",
        ),
    ):
        for row in rows:
            tx.matches.set_response(row["match_id"], state, now=now, code=code, message=message)
    for reason, rows in plan.ask.items():
        open_approval(context, tx, task, rows, reason)
    for entry in plan.held:
        if entry["reason"] in ("limit_reached", "too_many_on_device"):
            tx.events.add(EventType.LIMIT_REACHED, task_id=task["task_id"], actor=actor.name, data=entry)


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
    mode = "auto" if claimed else "ask" if plan.asked else "report"
    done = ", ".join(f"{number} {name}" for name, number in sorted(outcomes.items())) or "no answer yet"
    if claimed:
        message = f"{'Dry run: ' if dry_run else ''}{len(claimed)} objects on their devices: {done}."
        step = f"st2 run ioc_scan.get_results task_id={task_id}"
    elif second := sum(entry["matches"] for entry in plan.held if entry["reason"] == SECOND_PERSON):
        message = f"Your word is noted for {second} matches; a second person has to approve them, too."
        step = f"st2 run ioc_scan.respond task_id={task_id}, by another account"
    elif plan.asked:
        message = f"{plan.asked} matches wait for a person to approve."
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
        "asked": plan.asked,
        "held": plan.held,
        "outcomes": outcomes,
        "dry_run": dry_run,
        "message": message,
        "next_step": step,
    }
