"""Jobs on their way to devices: noted in the store first, then published and delivered, as often as it takes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from ioc_scan.clock import to_iso
from ioc_scan.devices.base import Capability, DeviceManager, Job
from ioc_scan.errors import IocScanError, NotFoundError, RefusedError
from ioc_scan.retention import PROFILES, TaskFacts, ends_at
from ioc_scan.scanner.plan import load_plan
from ioc_scan.service.context import Context
from ioc_scan.service.people import Actor
from ioc_scan.service.policies import MODES
from ioc_scan.service.rollout import choose_canaries, first_start, start_times
from ioc_scan.service.targeting import Aim
from ioc_scan.store.event_types import EventType
from ioc_scan.store.transaction import Transaction

#: Where a task's settings say how it stands with its canary devices (widening.py).
CANARY = "canary"


def begin_run(
    context: Context, tx: Transaction, task: dict[str, Any], run: int, aims: Sequence[Aim], actor: Actor
) -> None:
    """Note a new run: its devices, its scan jobs, its start. An earlier run's open jobs are taken back."""
    now = context.clock()
    task_id = task["task_id"]
    for job in tx.jobs.open("scan", task_id):
        tx.withdrawals.request(job["job_id"], job["spec"]["device_ids"], now)
    started = {"state": "running", "run": run, "last_start_at": now}
    if task["first_start_at"] is None:
        started["first_start_at"] = now
    tx.tasks.update(task_id, **started)
    devices = _by_manager(tx, task_id, run, aims, now)
    first = _canaries(task, run, aims)
    if first is None:
        create_scan_jobs(context, tx, task | started, run, devices)
    else:
        since = to_iso(first_start(task["settings"], now))
        tx.tasks.update(task_id, settings=task["settings"] | {CANARY: first | {"since": since}})
        create_scan_jobs(context, tx, task | started, run, first["devices"], canary=True)
        data = {"run": run, "devices": sum(len(ids) for ids in first["devices"].values())}
        tx.events.add(EventType.CANARY_WAITING, detection_id=task["detection_id"], task_id=task_id, data=data)
    not_after = end_of_life(task | started)
    tx.events.add(
        EventType.TASK_STARTED,
        detection_id=task["detection_id"],
        task_id=task_id,
        actor=actor.name,
        data={"run": run, "devices": sum(len(aim.devices) for aim in aims), "not_after": to_iso(not_after)},
    )


def _canaries(task: dict[str, Any], run: int, aims: Sequence[Aim]) -> dict[str, Any] | None:
    """Where a run begins with canary devices: until one with this very plan has passed, each does."""
    number = int(task["settings"].get("canary_devices") or 0)
    known = task["settings"].get(CANARY) or {}
    passed = known.get("state") == "passed" and known.get("plan_digest") == task["plan_digest"]
    if not number or passed:
        return None
    devices = choose_canaries(aims, number)
    if not devices:
        return None
    return {"state": "waiting", "run": run, "plan_digest": task["plan_digest"], "devices": devices}


def create_scan_jobs(
    context: Context,
    tx: Transaction,
    task: dict[str, Any],
    run: int,
    devices: Mapping[str, Sequence[str]],
    canary: bool = False,
) -> None:
    """Note the scan jobs of a run: one per manager and moment of start. Canary devices start without a spread."""
    now = context.clock()
    task_id, settings = task["task_id"], task["settings"]
    not_after = end_of_life(task)
    times = {
        manager: [(first_start(settings, now), list(ids))]
        if canary
        else start_times(settings, task_id, run, ids, now)
        for manager, ids in devices.items()
    }
    jobs = [(manager, begin, ids) for manager, starts in times.items() for begin, ids in starts]
    for index, (manager, begin, device_ids) in enumerate(jobs):
        tx.jobs.create(
            {
                "job_id": f"{task_id}.r{run}.{'c' if canary else ''}{index}",
                "task_id": task_id,
                "run": run,
                "kind": "scan",
                "manager": manager,
                "created_at": now,
                "not_before": min(begin, not_after - timedelta(seconds=1)),
                "not_after": not_after,
                "spec": {
                    "device_ids": device_ids,
                    "plan_digest": task["plan_digest"],
                    "settings": scan_settings(settings),
                },
            }
        )


def _by_manager(
    tx: Transaction, task_id: str, run: int, aims: Sequence[Aim], now: datetime
) -> dict[str, list[str]]:
    """Aim the run at its devices; one in two groups is scanned once and has the lower response mode."""
    found: dict[str, dict[str, None]] = {}
    for aim in sorted(aims, key=lambda aim: MODES.index(aim.response_mode)):
        pairs = [(device.id, device.tags) for device in aim.devices]
        tx.task_devices.target(task_id, run, aim.manager, aim.group, pairs, now=now)
        found.setdefault(aim.manager, {}).update((device.id, None) for device in aim.devices)
    tx.task_devices.drop_earlier(task_id, run)  # left out since, or gone from their groups
    return {manager: list(ids) for manager, ids in found.items() if ids}


def end_of_life(task: dict[str, Any]) -> datetime:
    """When the task's lifetime is over, by its profile (retention.py)."""
    facts = TaskFacts(
        task_id=task["task_id"],
        managers=(),
        state=task["state"],
        created_at=task["created_at"],
        last_start_at=task["last_start_at"],
        profile=task["profile"] if task["profile"] in PROFILES else "",
    )
    return ends_at(facts)


def scan_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The part of a task's settings that travels with a scan job."""
    names = ("scope", "roots", "idle_only", "idle_max_wait_hours", "cpu_percent")
    return {name: settings[name] for name in names if name in settings}


def push_jobs(context: Context, task_id: str | None = None, budget_seconds: float | None = None) -> None:
    """Publish what was not published yet, and deliver every open job once more. Errors stay with their manager.

    Within a budget those whose turn is longest ago come first; no job is begun when it is used up.
    """
    deadline = None if budget_seconds is None else time.monotonic() + budget_seconds
    with context.store.reading() as tx:
        jobs = tx.jobs.open(task_id=task_id)
    failing: dict[str, IocScanError] = {}
    asked: set[str] = set()
    for job in jobs:
        if deadline is not None and time.monotonic() > deadline:
            break
        asked.add(job["manager"])
        if job["manager"] in failing:
            continue
        try:
            _push(context, job)
        except IocScanError as error:
            never = isinstance(error, (RefusedError, NotFoundError)) and error.code != "manager_unknown"
            if never:
                _give_up(context, job, error)
            else:  # tried again in the next round
                failing[job["manager"]] = error
    note_managers(context, asked, failing)


def _push(context: Context, job: dict[str, Any]) -> None:
    manager = context.manager(job["manager"])
    if not (job["cursor"] or {}).get("published"):
        _publish(context, manager, job)
        with context.store.transaction() as tx:
            # A look may have moved the cursor meanwhile: keep where it is.
            current = tx.jobs.get(job["job_id"])
            if current is not None:
                poll = (current["cursor"] or {}).get("poll")
                tx.jobs.save_cursor(job["job_id"], {"published": True, "poll": poll}, now=context.clock())
            tx.events.add(
                EventType.JOB_PUBLISHED,
                task_id=job["task_id"],
                manager=job["manager"],
                data={
                    "job_id": job["job_id"],
                    "kind": job["kind"],
                    "devices": len(job["spec"]["device_ids"]),
                },
            )
    # Nothing is deleted while the kill switch is on; undoing stays possible.
    if job["kind"] in ("respond", "purge") and not job["spec"].get("dry_run") and context.stopped:
        return
    try:
        manager.deliver(job["job_id"])
    except NotFoundError as error:
        if error.code != "job_unknown":
            raise
        _publish(context, manager, job)  # the manager lost its memory, not the store
        manager.deliver(job["job_id"])


def _publish(context: Context, manager: DeviceManager, job: dict[str, Any]) -> None:
    """Hand the job over. Devices the manager does not know (any more) fail alone, not the others with them."""
    try:
        manager.publish(_as_job(context, job, manager))
        return
    except NotFoundError as error:
        if error.code != "device_unknown":
            raise
    known = {device.id for group in manager.groups() for device in manager.devices(group.name)}
    wanted = job["spec"]["device_ids"]
    kept = [device for device in wanted if device in known]
    if job["kind"] == "scan":
        gone = [
            {
                "task_id": job["task_id"],
                "manager": job["manager"],
                "device_id": device,
                "run": job["run"],
                "state": "failed",
                "error_code": "device_unknown",
                "error_message": "the device manager does not know this device any more",
            }
            for device in wanted
            if device not in known
        ]
        with context.store.transaction() as tx:
            tx.task_devices.apply_states(gone, now=context.clock())
    if not kept:
        raise NotFoundError("device_unknown", "the device manager knows none of the devices any more")
    whole = _as_job(context, job, manager)
    items = {device: of_device for device, of_device in whole.items.items() if device in known}
    manager.publish(replace(whole, device_ids=tuple(kept), items=items))


def _as_job(context: Context, row: dict[str, Any], manager: DeviceManager) -> Job:
    spec = row["spec"]
    plan, iocs = None, {}
    with context.store.reading() as tx:
        if spec.get("plan_digest"):
            plan = tx.plans.get(spec["plan_digest"])
        if plan is not None and row["task_id"] and Capability.IOC_FILES in manager.caps:
            named = [tx.ioc_files.get(ioc.digest) for ioc in load_plan(plan).iocs]
            iocs = {file["digest"]: file["content"] for file in named if file is not None}
    return Job(
        id=row["job_id"],
        kind=row["kind"],
        task_id=row["task_id"] or row["job_id"],
        run=row["run"] or 0,
        device_ids=tuple(spec["device_ids"]),
        not_before=row["not_before"],
        not_after=row["not_after"],
        plan=plan,
        plan_digest=spec.get("plan_digest"),
        settings=spec.get("settings", {}),
        items=spec.get("items", {}),
        dry_run=bool(spec.get("dry_run")),
        iocs=iocs,
    )


def _give_up(context: Context, job: dict[str, Any], error: IocScanError) -> None:
    """The manager will never take this job (expired, withdrawn, unknown device): say so and close it."""
    with context.store.transaction() as tx:
        tx.jobs.set_state(job["job_id"], "closed", now=context.clock())
        tx.events.add(
            EventType.JOB_DELIVERY_FAILED,
            task_id=job["task_id"],
            manager=job["manager"],
            data={"job_id": job["job_id"], "code": error.code, "message": error.message},
        )


def note_managers(context: Context, asked: set[str], failing: dict[str, IocScanError]) -> None:
    """Record that a manager stopped answering, or answers again: once for each change."""
    for name in sorted(asked):
        flag = f"manager_unreachable:{name}"
        error = failing.get(name)
        with context.store.transaction() as tx:
            was = tx.flags.get(flag)
            if error is not None and was != error.code:
                tx.flags.set(flag, error.code, now=context.clock())
                data = {"code": error.code, "message": error.message}
                tx.events.add(EventType.MANAGER_UNREACHABLE, manager=name, data=data)
            elif error is None and was is not None:
                tx.flags.set(flag, None, now=context.clock())
                tx.events.add(EventType.MANAGER_RECOVERED, manager=name)
