"""configure_task: the settings of a task that may change while it lives. Its IOC files never do.

Lowering takes one right, raising another: a response mode up, a destructive setting on, a left-out device
back in. No response mode goes above the ceiling of the source that reported the object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ioc_scan.errors import InputError, NotFoundError, RefusedError
from ioc_scan.scanner.protocol import is_absolute
from ioc_scan.service import rights, rollout
from ioc_scan.service.context import Context
from ioc_scan.service.live import ended, live_task
from ioc_scan.service.people import Actor
from ioc_scan.service.policies import MODES
from ioc_scan.store.event_types import EventType
from ioc_scan.store.states import LIVE_STATES
from ioc_scan.store.transaction import Transaction
from ioc_scan.text import printable

_START = ("start", "start_window", "start_time_zone", "start_period_hours")
_SCAN = ("scope", "roots", "idle_only", "idle_max_wait_hours", "cpu_percent", *_START)
_RESPONSE = ("quarantine", "terminate_processes")
Row = dict[str, Any]


def configure_task(
    context: Context,
    task_id: str,
    response_mode: str | None = None,
    group: str | None = None,
    quarantine: bool | None = None,
    terminate_processes: bool | None = None,
    exclude_devices: Sequence[str] | None = None,
    scope: str | None = None,
    roots: Sequence[str] | None = None,
    idle_only: bool | None = None,
    idle_max_wait_hours: int | None = None,
    cpu_percent: int | None = None,
    start: str | None = None,
    start_window: str | None = None,
    start_time_zone: str | None = None,
    start_period_hours: int | None = None,
    account: str | None = None,
    chat_user: str | None = None,
) -> Row:
    """Change what is given, leave the rest. Responses follow at once; scans with the next run.

    ``response_mode`` is for ``group``, or for every group of the task; ``exclude_devices`` replaces the list.
    Raises RefusedError ``person_needed``, ``right_missing``, ``over_ceiling``, ``task_ended``; InputError
    ``nothing_to_change``, ``roots_needed``, ``start_invalid``, ``group_not_of_task``; NotFoundError ``task_not_found``.
    """
    actor = Actor.of(context, account, chat_user)
    command = f"st2 run ioc_scan.configure_task task_id={task_id}"
    actor.must_be_person("configure a task", command)
    task = live_task(context, task_id)
    given = {
        "scope": scope,
        "roots": roots,
        "idle_only": idle_only,
        "idle_max_wait_hours": idle_max_wait_hours,
        "cpu_percent": cpu_percent,
        "start": start,
        "start_window": start_window,
        "start_time_zone": start_time_zone,
        "start_period_hours": start_period_hours,
        "exclude_devices": exclude_devices,
        "quarantine": quarantine,
        "terminate_processes": terminate_processes,
    }
    wanted = {name: value for name, value in given.items() if value is not None}
    with context.store.reading() as tx:
        groups = tx.task_groups.list(task_id)
        aimed = _aimed(groups, group, task_id) if response_mode is not None else []
        ceiling = _ceiling(context, tx, task_id)
    places = [(row["manager"], row["group"]) for row in groups]
    rights.require(context, actor, "steer", places, task_id=task_id, command=command)
    if _raises(task["settings"], wanted, response_mode, aimed):
        rights.require(context, actor, "raise", places, task_id=task_id, command=command)
    if response_mode is not None and MODES.index(response_mode) > MODES.index(ceiling):
        raise RefusedError(
            "over_ceiling",
            f"response mode {response_mode} is above the ceiling {ceiling} of the source of task {task_id}",
            "Raise `trust` or `max_response_mode` of the source in the configuration first.",
        )
    changed = _store(context, task, wanted, response_mode, aimed, actor)
    return {
        "task_id": task_id,
        "changed": changed,
        "message": f"Task {task_id}: "
        + ", ".join(f"{name} is {_shown(value)}" for name, value in changed.items()),
        "next_step": f"st2 run ioc_scan.start_task task_id={task_id} new_run=true"
        if set(changed) & set(_SCAN)
        else f"st2 run ioc_scan.get_task task_id={task_id}",
    }


def _aimed(groups: Sequence[Row], group: str | None, task_id: str) -> list[Row]:
    aimed = [row for row in groups if group in (None, row["group"], f"{row['manager']}/{row['group']}")]
    if not aimed:
        raise InputError(
            "group_not_of_task",
            f"task {task_id} does not aim at a group {printable(group, 80)!r}",
            "Its groups: " + ", ".join(row["group"] for row in groups),
        )
    return aimed


def _ceiling(context: Context, tx: Transaction, task_id: str) -> str:
    """The highest mode any of the sources that reported the object is trusted with; unknown ones: report."""
    found = ["report"]
    for row in tx.tasks.detections(task_id):
        detection = tx.detections.get(row["detection_id"])
        try:
            source = context.source_entry(detection["source_name"] if detection else "")
        except NotFoundError:
            continue
        if source["trust"] != "hunt":
            found.append(source["max_response_mode"])
    return max(found, key=MODES.index)


def _raises(settings: Row, wanted: Row, mode: str | None, aimed: Sequence[Row]) -> bool:
    present = settings.get("on_detection") or {}
    louder = any(wanted.get(name) and not present.get(name, name == "quarantine") for name in _RESPONSE)
    back_in = "exclude_devices" in wanted and not set(settings.get("exclude_devices") or []) <= set(
        wanted["exclude_devices"]
    )
    higher = mode is not None and any(MODES.index(mode) > MODES.index(row["response_mode"]) for row in aimed)
    return louder or back_in or higher


def _store(
    context: Context, task: Row, wanted: Row, mode: str | None, aimed: Sequence[Row], actor: Actor
) -> Row:
    task_id = task["task_id"]
    with context.store.transaction() as tx:
        current = tx.tasks.get(task_id)
        if current is None or current["state"] not in LIVE_STATES:
            raise ended(current or task)
        settings = dict(current["settings"])
        actions = dict(settings.get("on_detection") or {})
        for name, value in wanted.items():
            (actions if name in _RESPONSE else settings)[name] = value
        settings["on_detection"] = actions
        if settings["scope"] != "custom":
            settings["roots"] = []
        elif not settings.get("roots") or not all(is_absolute(root) for root in settings["roots"]):
            raise InputError(
                "roots_needed", "scope custom needs `roots`, absolute folders", "roots=/srv,/home"
            )
        _check_start(settings)
        changed = {
            name: value
            for name, value in wanted.items()
            if value
            != (current["settings"].get("on_detection") or {}).get(name, current["settings"].get(name))
        }
        if mode is not None and any(row["response_mode"] != mode for row in aimed):
            changed["response_mode"] = mode
        if not changed:
            raise InputError(
                "nothing_to_change",
                f"task {task_id} has these settings already",
                "Name a setting and a new value.",
            )
        tx.tasks.update(task_id, settings=settings)
        if mode is not None:
            _set_mode(tx, task_id, mode, {(row["manager"], row["group"]) for row in aimed})
        data = {"changed": changed, "groups": [row["group"] for row in aimed], "chat_user": actor.chat_user}
        tx.events.add(
            EventType.TASK_CONFIGURED,
            detection_id=task["detection_id"],
            task_id=task_id,
            actor=actor.name,
            data=data,
        )
    return changed


def _check_start(settings: Row) -> None:
    try:
        rollout.check(settings)
    except (ValueError, OSError) as error:
        raise InputError(
            "start_invalid",
            f"these start settings do not go together: {printable(str(error), 200)}",
            "start=window start_window=22:00-06:00 start_time_zone=Europe/Berlin, or start=period start_period_hours=4",
        ) from None


def _set_mode(tx: Transaction, task_id: str, mode: str, places: set[tuple[str, str]]) -> None:
    rows = [(row["manager"], row["group"], str(row["response_mode"])) for row in tx.task_groups.list(task_id)]
    tx.task_groups.set(task_id, [(m, g, mode if (m, g) in places else old) for m, g, old in rows])


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return printable(", ".join(str(part) for part in value) or "empty", 200)
    return printable(str(value).lower() if isinstance(value, bool) else value, 100)
