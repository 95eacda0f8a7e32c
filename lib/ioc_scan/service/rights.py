"""Who may do what, on which device groups: the part of permissions StackStorm's RBAC cannot know.

RBAC decides which actions an account may run. Here the use cases decide again, by the account's role and by
the groups it answers for (configuration ``rights``); a refusal is an event.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ioc_scan.errors import RefusedError
from ioc_scan.service.context import Context
from ioc_scan.service.people import Actor
from ioc_scan.store.event_types import EventType
from ioc_scan.text import printable

#: What a right allows, as docs/permissions.md shows it.
RIGHTS = {
    "take_in": "take detections in, and generate their IOC files",
    "create": "create tasks",
    "start": "start tasks",
    "follow": "let a response follow its policy, or try it dry",
    "steer": "pause and resume tasks, and change settings without raising any",
    "export": "export IOC files and the audit trail",
    "end": "cancel and delete tasks",
    "respond": "approve, reject and reopen responses",
    "restore": "put quarantined objects back",
    "go": "let responses run again after the kill switch",
    "learn": "say that files are known to be good",
    "raise": "raise a response mode or switch a destructive setting on",
}
_ANALYST = frozenset({"take_in", "create", "start", "follow", "steer", "export"})
#: Looking, and stopping all responses, take no right here.
ROLES = {
    "none": frozenset[str](),
    "viewer": frozenset[str](),
    "machine": frozenset({"take_in", "create", "start"}),
    "analyst": _ANALYST,
    "responder": _ANALYST | {"end", "respond", "restore"},
    "administrator": frozenset(RIGHTS),
}
Group = tuple[str, str]


def role_of(context: Context, actor: Actor) -> tuple[str, tuple[str, ...]]:
    """The role of an account, and the groups it answers for (none named: all).

    Rules and services may do everything that does not take a person. While nobody is listed, everybody is an
    administrator, as without this section; once somebody is, those who are not listed may look.
    """
    settings = context.config["rights"]
    for entry in settings["accounts"]:
        if entry["account"] == actor.name:
            return entry["role"], tuple(entry["groups"])
    if actor.name in context.config["system_users"] and actor.chat_user is None:
        return "administrator", ()
    return settings.get("default_role") or ("viewer" if settings["accounts"] else "administrator"), ()


def require(
    context: Context,
    actor: Actor,
    right: str,
    groups: Iterable[Group] = (),
    *,
    task_id: str | None = None,
    command: str = "",
) -> None:
    """Raises RefusedError ``right_missing``, or ``person_needed`` for a stranger in chat. Not in a transaction."""
    if actor.chat_user is not None:
        actor.must_be_person(RIGHTS[right], command or "the action behind this command, with st2 run")
    role, own = role_of(context, actor)
    beyond = sorted({f"{manager}/{group}" for manager, group in groups if not _covers(own, manager, group)})
    if right in ROLES[role] and not beyond:
        return
    reason = f"group {', '.join(beyond)}" if right in ROLES[role] else f"role {role}"
    with context.store.transaction() as tx:
        data = {"right": right, "role": role, "groups": beyond, "chat_user": actor.chat_user}
        tx.events.add(EventType.RIGHT_REFUSED, task_id=task_id, actor=actor.name, data=data)
    raise RefusedError(
        "right_missing",
        f"{printable(actor.name, 64)} may not {RIGHTS[right]} ({printable(reason, 200)})",
        "Roles and groups stand under `rights` in the configuration; see docs/permissions.md.",
    )


def may_touch(context: Context, actor: Actor, manager: str, group: str) -> bool:
    """Whether the account answers for this group."""
    return _covers(role_of(context, actor)[1], manager, group)


def task_groups(context: Context, task_id: str) -> list[Group]:
    """The groups a task aims at."""
    with context.store.reading() as tx:
        return [(row["manager"], row["group"]) for row in tx.task_groups.list(task_id)]


def _covers(own: tuple[str, ...], manager: str, group: str) -> bool:
    return not own or group in own or f"{manager}/{group}" in own


def unlisted(config: dict[str, Any]) -> str:
    """The role of accounts that are not listed, for check_setup."""
    settings = config["rights"]
    return str(settings.get("default_role") or ("viewer" if settings["accounts"] else "administrator"))
