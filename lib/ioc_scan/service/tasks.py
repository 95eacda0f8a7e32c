"""Group IOC scan tasks: generated IOC files, one task per object, started on the devices of its groups."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from ioc_scan.detection.guard import Triage
from ioc_scan.errors import RefusedError
from ioc_scan.openioc.generate import generate_iocs
from ioc_scan.openioc.plan import compile_plan
from ioc_scan.service import ending, publishing, rights
from ioc_scan.service.context import Context
from ioc_scan.service.guarding import judge
from ioc_scan.service.intake import stored_detection
from ioc_scan.service.joining import content, join, plan_changed
from ioc_scan.service.live import ended, live_task, not_found
from ioc_scan.service.names import new_id
from ioc_scan.service.people import Actor
from ioc_scan.service.policies import Target, fitting_policy, targets, task_settings
from ioc_scan.service.targeting import resolve
from ioc_scan.service.widening_by_hand import widen_by_hand
from ioc_scan.store.event_types import EventType
from ioc_scan.store.states import LIVE_STATES
from ioc_scan.store.transaction import Transaction
from ioc_scan.text import printable

#: Rule types that look plausible, so that the refusal can name them.
OTHER_RULE_TYPES = {
    "yara": "YARA",
    "sigma": "Sigma",
    "snort": "Snort",
    "suricata": "Suricata",
    "stix": "STIX",
}
_RULE_MARKS = (
    (re.compile(r"^\s*(?:(?:private|global)\s+)*rule\s+\w+", re.MULTILINE), "YARA"),
    (re.compile(r"^(?:detection|logsource)\s*:", re.MULTILINE), "Sigma"),
    (re.compile(r"^\s*(?:alert|drop|reject|pass|log)\s+\w+\s+\S+\s+\S+\s+(?:->|<>)", re.MULTILINE), "Snort"),
    (re.compile(r'"spec_version"\s*:|^\s*\[(?:file|domain-name|ipv4-addr|url):', re.MULTILINE), "STIX"),
)
_MESSAGES = {
    "below_threshold": "The verdict is below the threshold: recorded, nothing runs.",
    "nothing_to_do": "Every indicator was suppressed: recorded, nothing runs.",
    "no_policy": "No threat response policy fits: recorded, nothing runs.",
    "known_good": "The object is on the known-good list: recorded, nothing runs.",
}
_REASONS = {
    "task": "A policy fits, and there are objects a response may act on.",
    "hunt_only": "A policy fits; what was found may be looked for, but nothing may be acted on.",
}


def generate_ioc(context: Context, detection_id: str) -> dict[str, Any]:
    """Generate, store and compile the IOC files of a stored detection. The same detection, the same bytes."""
    row = stored_detection(context, detection_id)
    triage = judge(context, row["document"], row["source_name"])
    version = context.config["ioc_version"]
    files = generate_iocs(triage, row["document"], version=version)
    now = context.clock()
    with context.store.transaction() as tx:
        for file in files:
            _, new = tx.ioc_files.put(
                file.content,
                ioc_id=file.ioc_id,
                detection_id=detection_id,
                tier=file.tier,
                version=version,
                item_count=file.item_count,
                now=now,
            )
            if new:
                data = {
                    "tier": file.tier,
                    "digest": file.digest,
                    "items": file.item_count,
                    "dropped": file.dropped,
                }
                tx.events.add(EventType.IOC_GENERATED, detection_id=detection_id, data=data)
        plan_digest = None
        if files:
            plan = compile_plan([(file.content, file.tier) for file in files])
            plan_digest = tx.plans.put(plan, now=now)
    iocs = [
        {"tier": file.tier, "digest": file.digest, "items": file.item_count, "dropped": file.dropped}
        for file in files
    ]
    return {"detection_id": detection_id, "iocs": iocs, "plan_digest": plan_digest}


def create_task(
    context: Context,
    detection_id: str,
    custom_ioc: str | None = None,
    rule_type: str | None = None,
    account: str | None = None,
    chat_user: str | None = None,
) -> dict[str, Any]:
    """Decide what a detection leads to, and create or join the task of its object.

    Raises RefusedError ``custom_ioc_refused`` and ``rule_type_refused``: as in the original, tasks take
    generated IOC files only; ``right_missing``. Called from within (no account), no right is asked for.
    """
    if account is not None:
        rights.require(context, Actor.of(context, account, chat_user), "create")
    _refuse_custom(custom_ioc, rule_type)
    row = stored_detection(context, detection_id)
    if (counted := _counted_before(context, row)) is not None:
        return counted
    source = context.source_entry(row["source_name"])
    triage = judge(context, row["document"], row["source_name"])
    if not triage.starts_task:
        decision = triage.reason if triage.reason in _MESSAGES else "nothing_to_do"
        return _decide(context, detection_id, decision)
    policy = fitting_policy(
        context.config["threat_response_policies"], row["source_name"], row["score"], row["families"]
    )
    if policy is None:
        return _decide(context, detection_id, "no_policy")
    if not triage.actionable and not policy["hunt"]:
        return _decide(context, detection_id, "nothing_to_do", policy["name"])
    return _create(context, row, triage, policy, targets(policy, source))


def _counted_before(context: Context, row: dict[str, Any]) -> dict[str, Any] | None:
    """One detection leads to one task: told twice after that task's end (a restart does that), to none."""
    if row["task_id"] is None:
        return None
    with context.store.reading() as tx:
        task = tx.tasks.get(row["task_id"])
    if task is not None and task["state"] in LIVE_STATES:
        return None
    return {
        "detection_id": row["detection_id"],
        "decision": row["decision"],
        "task_id": row["task_id"],
        "created": False,
        "start": False,
        "policy": row["policy_name"],
        "devices": 0,
        "message": f"This detection was dealt with by task {row['task_id']}, which has ended.",
    }


def _create(
    context: Context, row: dict[str, Any], triage: Triage, policy: dict[str, Any], aims: list[Target]
) -> dict[str, Any]:
    detection_id = row["detection_id"]
    wanted = ("actionable", "hunt") if policy["hunt"] else ("actionable",)
    generated = {entry["tier"]: entry["digest"] for entry in generate_ioc(context, detection_id)["iocs"]}
    iocs = [(tier, generated[tier]) for tier in wanted if tier in generated]
    if not iocs:
        return _decide(context, detection_id, "nothing_to_do", policy["name"])
    resolved = resolve(context, aims, policy["exclude_devices"])
    now = context.clock()
    decision = "task" if triage.actionable else "hunt_only"
    with context.store.transaction() as tx:
        contents = [(content(tx, digest), tier) for tier, digest in iocs]
        task, created = tx.tasks.create_or_get(
            {
                "task_id": new_id("ioc", now),
                "name": _task_name(row),
                "live_object": _object_key(row),
                "object_sha256": row["object_sha256"],
                "detection_id": detection_id,
                "policy_name": policy["name"],
                "profile": context.config["lifetime_profile"],
                "created_at": now,
                "settings": task_settings(policy),
            }
        )
        task_id = task["task_id"]
        fresh = tx.tasks.add_detection(task_id, detection_id, now)
        if created:
            tx.tasks.set_iocs(task_id, iocs)
            tx.tasks.update(task_id, plan_digest=tx.plans.put(compile_plan(contents), now=now))
            tx.task_groups.set(task_id, [(aim.manager, aim.group, aim.response_mode) for aim in resolved])
            _record_creation(tx, task, policy, aims, [device for aim in resolved for device in aim.excluded])
        elif fresh:
            join(context, tx, task, detection_id, iocs, policy, resolved)
        why = _REASONS[decision]
        tx.detections.decide(detection_id, decision, policy_name=policy["name"], task_id=task_id, reason=why)
        if fresh:
            tx.events.add(
                EventType.DETECTION_DECIDED,
                detection_id=detection_id,
                task_id=task_id,
                data={"decision": decision, "policy": policy["name"]},
            )
        outgrown = not created and plan_changed(tx, tx.tasks.get(task_id) or task)
    start, why = _start_wanted(context, task, created, fresh, outgrown)
    verb = "created" if created else "joined"
    return {
        "detection_id": detection_id,
        "decision": decision,
        "task_id": task_id,
        "created": created,
        "start": start,
        "policy": policy["name"],
        "devices": sum(len(aim.devices) for aim in resolved),
        "message": f"Task {task_id} {verb} by policy {policy['name']}; {why}.",
    }


def _record_creation(
    tx: Transaction, task: dict[str, Any], policy: dict[str, Any], aims: list[Target], excluded: list[str]
) -> None:
    task_id, detection_id = task["task_id"], task["detection_id"]
    groups = [{"group": aim.group, "response_mode": aim.response_mode} for aim in aims]
    data = {"policy": policy["name"], "groups": groups, "settings": task["settings"]}
    tx.events.add(EventType.TASK_CREATED, detection_id=detection_id, task_id=task_id, data=data)
    for aim in aims:
        if aim.capped:
            tx.events.add(
                EventType.TRUST_CEILING_APPLIED,
                detection_id=detection_id,
                task_id=task_id,
                data={"group": aim.group, "response_mode": aim.response_mode},
            )
    for device in excluded:
        tx.events.add(
            EventType.DEVICE_EXCLUDED,
            task_id=task_id,
            device_id=device,
            data={"reason": "excluded by policy"},
        )


def _start_wanted(
    context: Context, task: dict[str, Any], created: bool, fresh: bool, outgrown: bool
) -> tuple[bool, str]:
    """Whether this detection starts the task now, and why (not)."""
    if task["settings"].get("start") == "manual":
        return False, "it waits for a person to start it"
    if created or task["run"] == 0:
        return True, "it starts now"
    if outgrown:
        return True, "it starts anew with what this detection adds"
    if not fresh:
        return False, "this detection was counted before"
    if _too_soon(context, task):
        return False, f"its last run began less than {context.config['redetection_min_hours']} hours ago"
    return True, "the re-detection starts a new run"


def _too_soon(context: Context, task: dict[str, Any]) -> bool:
    """Whether the last run began so recently that nobody but a person starts another."""
    pause = timedelta(hours=context.config["redetection_min_hours"])
    return task["last_start_at"] is not None and context.clock() - task["last_start_at"] < pause


def start_task(
    context: Context,
    task_id: str,
    new_run: bool | None = None,
    account: str | None = None,
    chat_user: str | None = None,
    widen: bool | None = None,
) -> dict[str, Any]:
    """Begin a run: aim at the devices, publish one job per manager, deliver. Safe to repeat.

    With ``new_run`` another run begins: after one that is over (for rules: and ``redetection_min_hours`` after
    its start), and after that time in place of one still under way, which ends. Otherwise the present run is
    delivered again, so that two detections at once, or a repeated call, start one run.
    ``widen`` is a person's word that the present run goes on past its canary devices.
    Raises NotFoundError ``task_not_found``, RefusedError ``task_ended``, ``nothing_to_widen``, ``person_needed``.
    """
    task = live_task(context, task_id)
    actor = Actor.of(context, account, chat_user)
    groups = _task_groups(context, task_id)
    places = [(group["manager"], group["group"]) for group in groups]
    command = f"st2 run ioc_scan.start_task task_id={task_id}"
    rights.require(context, actor, "start", places, task_id=task_id, command=command)
    if widen:
        return widen_by_hand(context, task, actor, places)
    aims = resolve(
        context,
        [Target(f"{group['manager']}/{group['group']}", group["response_mode"]) for group in groups],
        task["settings"].get("exclude_devices") or [],
    )
    with context.store.transaction() as tx:
        current = tx.tasks.get(task_id)
        if current is None or current["state"] not in LIVE_STATES:
            raise ended(current or task)
        at_once = actor.person and current["state"] != "running"
        due = at_once or not _too_soon(context, current) or plan_changed(tx, current)
        again = bool(new_run) and due
        started = current["run"] == 0 or again
        run = current["run"] + started
        if started:
            publishing.begin_run(context, tx, current, run, aims, actor)
    if run > 1:
        ending.withdraw_ended(context, task_id)  # the earlier run's jobs go first
    publishing.push_jobs(context, task_id)
    return {
        "task_id": task_id,
        "run": run,
        "started": started,
        "devices": sum(len(aim.devices) for aim in aims),
        "message": f"Run {run} of task {task_id} {'started' if started else 'was under way already'}.",
        "next_step": f"st2 run ioc_scan.get_coverage task_id={task_id}",
    }


def delete_task(
    context: Context, task_id: str, account: str | None = None, chat_user: str | None = None
) -> dict[str, Any]:
    """End a live task as ``deleted`` and take it from every device. Repeat to retry the withdrawals."""
    actor = Actor.of(context, account, chat_user)
    command = f"st2 run ioc_scan.delete_task task_id={task_id}"
    rights.require(
        context, actor, "end", rights.task_groups(context, task_id), task_id=task_id, command=command
    )
    ending.hear_out(context, task_id)
    with context.store.transaction() as tx:
        task = tx.tasks.get(task_id)
        if task is None:
            raise not_found(task_id)
        if task["state"] in LIVE_STATES:
            ending.end_task(context, tx, task, "deleted", f"deleted by {actor.name}", actor.name)
    withdrawn, pending = ending.withdraw_ended(context, task_id)
    with context.store.reading() as tx:
        task = tx.tasks.get(task_id) or task
    return {
        "task_id": task_id,
        "state": task["state"],
        "withdrawn": withdrawn,
        "pending": pending,
        "message": f"Task {task_id} is {task['state']}; {ending.taken_back(withdrawn, pending)}.",
        "next_step": "st2 run ioc_scan.list_tasks",
    }


def _task_groups(context: Context, task_id: str) -> list[dict[str, Any]]:
    with context.store.reading() as tx:
        return tx.task_groups.list(task_id)


def _object_key(row: dict[str, Any]) -> str:
    """What makes two detections one object: the target's SHA-256, else its best other identity."""
    if row["object_sha256"]:
        return str(row["object_sha256"])
    target = row["document"]["target"]
    hashes = target.get("hashes", {})
    for algorithm in ("SHA-1", "MD5"):
        if algorithm in hashes:
            return f"{algorithm.lower()}:{hashes[algorithm]}"
    return f"url:{target.get('url', row['detection_id'])}"


def _task_name(row: dict[str, Any]) -> str:
    """For people: family or verdict, and the object's short digest. Never a file name: malware chose that."""
    families = [printable(family, 40) for family in row["families"][:1]]
    label = families[0] if families else str(row["verdict_result"])
    return f"{label} {(row['object_sha256'] or row['detection_id'])[:12]}"


def _decide(context: Context, detection_id: str, decision: str, policy: str | None = None) -> dict[str, Any]:
    message = _MESSAGES[decision]
    with context.store.transaction() as tx:
        before = tx.detections.get(detection_id)
        tx.detections.decide(detection_id, decision, policy_name=policy, reason=message)
        if before is None or before["decision"] != decision:
            data = {"decision": decision, "policy": policy}
            tx.events.add(EventType.DETECTION_DECIDED, detection_id=detection_id, data=data)
    return {
        "detection_id": detection_id,
        "decision": decision,
        "task_id": None,
        "created": False,
        "start": False,
        "policy": policy,
        "devices": 0,
        "message": message,
    }


def _refuse_custom(custom_ioc: str | None, rule_type: str | None) -> None:
    kind = (rule_type or "openioc").strip().lower()
    text = (custom_ioc or "").strip()[:4000]
    named = OTHER_RULE_TYPES.get(kind)
    if named is None and not text.startswith("<"):
        named = next((name for mark, name in _RULE_MARKS if mark.search(text)), None)
    if named or kind != "openioc":
        raise RefusedError(
            "rule_type_refused",
            f"{named or printable(kind, 40)} rules cannot be used in a task: only OpenIOC",
            "IOC files of a task are generated from its detection.",
        )
    if custom_ioc:
        raise RefusedError(
            "custom_ioc_refused",
            "a custom IOC file cannot be used in a task: its IOC files are generated from the detection",
            "Scan one machine with your own file: python -m ioc_scan scan --ioc FILE --root DIR",
        )
