"""A detection joins the live task of its object, and may raise what that task does.

Else whoever reports an object first, trusted for nothing, would decide for the task's whole life that nothing
is done about it. Nothing is ever lowered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ioc_scan.openioc.plan import compile_plan
from ioc_scan.service.context import Context
from ioc_scan.service.policies import MODES, lower_mode, task_settings
from ioc_scan.service.publishing import CANARY
from ioc_scan.service.targeting import Aim
from ioc_scan.store.event_types import EventType
from ioc_scan.store.transaction import Transaction

Iocs = Sequence[tuple[str, str]]


def join(
    context: Context,
    tx: Transaction,
    task: dict[str, Any],
    detection_id: str,
    iocs: Iocs,
    policy: dict[str, Any],
    aims: Sequence[Aim],
) -> None:
    """Count the detection; add the actionable IOC file the task lacks, raise response modes."""
    task_id = task["task_id"]
    data = {"detections": task["detections_count"] + 1}
    tx.events.add(EventType.TASK_REDETECTED, detection_id=detection_id, task_id=task_id, data=data)
    known = dict(tx.tasks.iocs(task_id))
    better = "actionable" not in known and "actionable" in dict(iocs)
    modes = {(row["manager"], row["group"]): row["response_mode"] for row in tx.task_groups.list(task_id)}
    raised = dict(modes)
    for aim in aims:
        place, mode = (aim.manager, aim.group), aim.response_mode
        if place in modes:
            raised[place] = max(modes[place], mode, key=MODES.index)
        elif better:
            raised[place] = mode
    if raised == modes and not better:
        return
    tx.task_groups.set(task_id, [(*place, mode) for place, mode in raised.items()])
    if better:
        _take_over(context, tx, task, {**known, **dict(iocs)}, policy)
    groups = [{"group": group, "response_mode": mode} for (_, group), mode in sorted(raised.items())]
    tx.events.add(
        EventType.TASK_CONFIGURED,
        detection_id=detection_id,
        task_id=task_id,
        data={"policy": policy["name"], "groups": groups, "actionable_added": better},
    )


def _take_over(
    context: Context, tx: Transaction, task: dict[str, Any], iocs: dict[str, str], policy: dict[str, Any]
) -> None:
    """The task carries on with the IOC files and settings of a detection that may be acted on."""
    old, new = task["settings"], task_settings(policy)
    new["exclude_devices"] = sorted({*(old.get("exclude_devices") or []), *new["exclude_devices"]})
    ceilings = dict(old.get("tag_ceilings") or {})
    for tag, mode in new["tag_ceilings"].items():
        ceilings[tag] = lower_mode(mode, ceilings.get(tag, mode))
    new["tag_ceilings"] = ceilings
    if CANARY in old:  # how its run stands does not change by it
        new[CANARY] = old[CANARY]
    tx.tasks.set_iocs(task["task_id"], sorted(iocs.items()))
    plan = compile_plan([(content(tx, digest), tier) for tier, digest in sorted(iocs.items())])
    plan_digest = tx.plans.put(plan, now=context.clock())
    tx.tasks.update(task["task_id"], plan_digest=plan_digest, settings=new, policy_name=policy["name"])


def content(tx: Transaction, digest: str) -> bytes:
    """A stored IOC file."""
    row = tx.ioc_files.get(digest)
    assert row is not None  # stored before anything refers to it, and immutable
    return bytes(row["content"])


def plan_changed(tx: Transaction, task: dict[str, Any]) -> bool:
    """Whether the task's present run still scans with an older plan."""
    jobs = [job for job in tx.jobs.for_task(task["task_id"], "scan") if job["run"] == task["run"]]
    return any(job["spec"]["plan_digest"] != task["plan_digest"] for job in jobs)
