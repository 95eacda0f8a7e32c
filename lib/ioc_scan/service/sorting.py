"""Which matches of a task may be acted on now, which are asked about, reported or held. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ioc_scan.devices.base import Online
from ioc_scan.service.context import Context
from ioc_scan.service.limits import device_room, room_left
from ioc_scan.service.prevalence import seen_on_many, there_before
from ioc_scan.service.targeting import mode_of
from ioc_scan.service.widening import standing
from ioc_scan.store.transaction import Transaction

_RULE_STATES = ("none",)
_PERSON_STATES = ("none", "awaiting_approval", "reported", "failed")
#: A person who names matches may also act on what was rejected or let go before.
NAMED_STATES = (*_PERSON_STATES, "rejected", "changed", "refused")
#: The same file, found by another run, is in these hands already.
_IN_HAND = frozenset({"claimed", "quarantined", "restored"})

Row = dict[str, Any]
Device = tuple[str, str]


@dataclass
class Sorted:
    """Matches by what becomes of them now; ``ask`` by the reason for asking. ``held`` explains, for people."""

    act: list[Row] = field(default_factory=list)
    ask: dict[str, list[Row]] = field(default_factory=dict)
    report: list[Row] = field(default_factory=list)
    exempt: list[Row] = field(default_factory=list)
    again: list[Row] = field(default_factory=list)
    held: list[dict[str, Any]] = field(default_factory=list)

    @property
    def asked(self) -> int:
        return sum(len(rows) for rows in self.ask.values())

    def hold(self, reason: str, rows: Collection[Any], **facts: Any) -> None:
        if rows:
            self.held.append({"reason": reason, "matches": len(rows), **facts})


@dataclass(frozen=True)
class Wanted:
    """Who wants what: a person's word is the approval, anything else follows the response modes."""

    person: bool
    dry_run: bool
    match_ids: frozenset[str] = frozenset()
    devices: frozenset[str] = frozenset()
    #: Whether the person answers for a device's (manager, group).
    may_touch: Callable[[str, str], bool] = lambda manager, group: True


def sort_matches(
    context: Context, tx: Transaction, task: Row, wanted: Wanted, online: Mapping[Device, Online]
) -> Sorted:
    """Put every due match into one heap. A dry run sees exactly what would happen."""
    plan = Sorted()
    rows = _due(tx, task, wanted, plan)
    foreign = [row for row in rows if not wanted.may_touch(row["manager"], row["group"])]
    plan.hold("no_right_for_group", foreign)
    rows = [row for row in rows if wanted.may_touch(row["manager"], row["group"])]
    exempt = {digest for digest in {row["sha256"] for row in rows} if tx.exemptions.is_exempt(digest)}
    plan.exempt = [row for row in rows if row["sha256"] in exempt]
    plan.hold("exempt_hash", plan.exempt)
    rows = [row for row in rows if row["sha256"] not in exempt]
    if not task["settings"]["on_detection"].get("quarantine", True):
        plan.report = rows
        plan.hold("policy_reports_only", rows)
        return plan
    if wanted.person or wanted.dry_run:
        plan.act = _within_devices(context, rows, plan)
    else:
        _by_mode(context, tx, task, rows, plan, online)
    away = [row for row in plan.act if online.get(_device(row)) is Online.NO]
    plan.hold("device_away", away)
    plan.act = [row for row in plan.act if online.get(_device(row)) is not Online.NO]
    return plan


def _due(tx: Transaction, task: Row, wanted: Wanted, plan: Sorted) -> list[Row]:
    """Matches somebody may act on, each file once however many runs have found it."""
    asked_too = wanted.person or wanted.dry_run  # trying touches nothing, so it shows what an approval would
    states = _RULE_STATES if not asked_too else NAMED_STATES if wanted.match_ids else _PERSON_STATES
    everything = tx.matches.list(task["task_id"], tier="actionable", limit=1_000_000)
    by_item: dict[tuple[str, str, str], list[Row]] = {}
    for row in everything:
        if row["sha256"]:
            by_item.setdefault((*_device(row), row["item_key"]), []).append(row)
    rows: list[Row] = []
    for twins in by_item.values():
        due = [row for row in twins if row["response_state"] in states and not _taken(row, twins, wanted)]
        if wanted.match_ids:
            due = [row for row in due if row["match_id"] in wanted.match_ids]
        if wanted.devices:
            due = [row for row in due if row["device_id"] in wanted.devices]
        if due:
            # The question that was put is the one that is answered; else the newest finding counts.
            due.sort(key=lambda row: (row["response_state"] == "awaiting_approval", row["run"]))
            rows.append(due[-1])
        chosen = due[-1]["match_id"] if due else None
        plan.again += [
            row
            for row in twins
            if row["response_state"] == "none"
            and row["match_id"] != chosen
            and (chosen is not None or _taken(row, twins, wanted))
        ]
    rows.sort(key=lambda row: (row["found_at"], row["match_id"]))
    plan.hold("not_due", wanted.match_ids - {row["match_id"] for row in rows})
    return rows


def _taken(row: Row, twins: Sequence[Row], wanted: Wanted) -> bool:
    """Whether another run's finding of the same file was acted on since, or is asked about."""
    for twin in twins:
        if twin is row:
            continue
        since = twin["responded_at"] or twin["claimed_at"]
        if twin["response_state"] in _IN_HAND and since is not None and since >= row["found_at"]:
            return True
        if twin["response_state"] == "awaiting_approval" and not (wanted.person or wanted.dry_run):
            return True
    return False


def _by_mode(
    context: Context,
    tx: Transaction,
    task: Row,
    rows: Sequence[Row],
    plan: Sorted,
    online: Mapping[Device, Online],
) -> None:
    groups = tx.task_groups.list(task["task_id"])
    devices = _devices_of(tx, task["task_id"], rows)
    auto: list[Row] = []
    ask: list[Row] = []
    for row in rows:
        device = devices.get(_device(row))
        mode = mode_of(groups, device, task["settings"]) if device else "report"
        {"report": plan.report, "ask": ask, "auto": auto}[mode].append(row)
    _ask(plan, "mode_ask", ask)
    if not auto:
        return
    stand = standing(task)
    if stand == "waiting":
        plan.hold("canary_waiting", auto)
        return
    if stand == "stopped":
        _ask(plan, "canary_stopped", auto)
        plan.hold("canary_stopped", auto)
        return
    percent = context.config["response"]["min_answered_percent"]
    coverage = tx.task_devices.coverage(task["task_id"])
    # Those that can answer: they took the task, or are there and are about to.
    coming = [
        device
        for manager in {group["manager"] for group in groups}
        for device in tx.task_devices.device_ids(task["task_id"], manager, ("pending",))
        if online.get((manager, device)) is Online.YES
    ]
    reachable = max(coverage["reached"] + len(coming), 1)
    if coverage["answered"] * 100 < percent * reachable:
        plan.hold("waiting_for_answers", auto, answered=coverage["answered"], reachable=reachable)
        return
    plan.act = _within_limits(context, tx, task, auto, plan)


def _devices_of(tx: Transaction, task_id: str, rows: Sequence[Row]) -> dict[Device, Row]:
    """What the task knows of the devices of these matches."""
    wanted: dict[str, set[str]] = {}
    for row in rows:
        wanted.setdefault(row["manager"], set()).add(row["device_id"])
    return {
        (manager, device): row
        for manager, names in wanted.items()
        for device, row in tx.task_devices.pick(task_id, manager, names, ("manager", "group", "tags")).items()
    }


def _within_limits(
    context: Context, tx: Transaction, task: Row, rows: Sequence[Row], plan: Sorted
) -> list[Row]:
    """auto acts on objects that are rare, within what every limit leaves; the rest is asked about."""
    settings = context.config["response"]
    now = context.clock()
    kept: list[Row] = []
    for (manager, device_id), of_device in _by_device(rows).items():
        if len(of_device) > device_room(tx, settings, manager, device_id, now):
            _ask(plan, "too_many_on_device", of_device)
            limit = settings["max_files_per_device"]
            plan.hold("too_many_on_device", of_device, device=device_id, limit=limit)
        else:
            kept += of_device
    many = seen_on_many(tx, kept, settings["ask_when_seen_on_more_than"])
    kept = _ask_about(plan, "seen_on_many_devices", kept, many)
    old = there_before(tx, task, kept, settings["ask_when_there_hours_before"])
    kept = _ask_about(plan, "there_before_the_sandbox", kept, old)
    kept.sort(key=lambda row: (row["found_at"], row["match_id"]))
    source = tx.detections.get(task["detection_id"])
    room = room_left(tx, settings, task, source["source_name"] if source else "", now)
    _ask(plan, "limit_reached", kept[room.files :])
    plan.hold("limit_reached", kept[room.files :], limit=room.limit)
    return kept[: room.files]


def _within_devices(context: Context, rows: Sequence[Row], plan: Sorted) -> list[Row]:
    """A device with more matches than one response may touch there holds itself, and nobody else."""
    most = context.config["response"]["max_files_per_device"]
    kept: list[Row] = []
    for (_, device_id), of_device in _by_device(rows).items():
        if len(of_device) > most:
            plan.hold("too_many_on_device", of_device, device=device_id, limit=most)
        else:
            kept += of_device
    return kept


def _ask_about(plan: Sorted, reason: str, rows: Sequence[Row], digests: Collection[str]) -> list[Row]:
    """The rows of these objects are asked about; the others come back."""
    held = [row for row in rows if row["sha256"] in digests]
    _ask(plan, reason, held)
    plan.hold(reason, held)
    return [row for row in rows if row["sha256"] not in digests]


def _ask(plan: Sorted, reason: str, rows: Sequence[Row]) -> None:
    if rows:
        plan.ask.setdefault(reason, []).extend(rows)


def _by_device(rows: Iterable[Row]) -> dict[Device, list[Row]]:
    found: dict[Device, list[Row]] = {}
    for row in rows:
        found.setdefault(_device(row), []).append(row)
    return found


def _device(row: Row) -> Device:
    return row["manager"], row["device_id"]
