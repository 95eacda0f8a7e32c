"""What would stop the manager from working: the server's version, the account's rights, the templates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..errors import IocScanError
from . import ksc_template
from .base import DEVICE_ID, Problem
from .ksc_groups import Tree
from .ksc_parts import NAME_PREFIX
from .size import beyond

if TYPE_CHECKING:
    from .ksc import KscManager

OLDEST_VERSION = (13, 2)
COMFORTABLE_DEVICES = 10_000
#: Warn before the server's own limit makes new tasks impossible.
NEARLY_FULL = 90


def problems_of(manager: KscManager) -> list[Problem]:
    """Every check is made; those that need an answer of the server end with the first that gets none."""
    found: list[Problem] = []
    for record in manager.records():
        if record.trouble:
            message = f"the tasks of job {record.job_id} are still to be deleted: {record.trouble}"
            found.append(
                Problem("ksc_withdrawal_pending", message, "it is tried again each round", fatal=False)
            )
    try:
        manager.check_memory()
    except IocScanError as error:
        found.append(Problem(error.code, error.message, error.hint))
    try:
        found += _version(manager)
    except IocScanError as error:
        return [*found, Problem(error.code, error.message, error.hint)]
    for check in (_devices, _tasks, _templates, _events):
        found += _tried(manager, check)
    return found


def _tried(manager: KscManager, check: Callable[[KscManager], Iterator[Problem]]) -> list[Problem]:
    found: list[Problem] = []
    try:
        found.extend(check(manager))
    except IocScanError as error:
        found.append(Problem(error.code, error.message, error.hint))
    return found


def _version(manager: KscManager) -> Iterator[Problem]:
    text, numbers = manager.ksc.version()
    if numbers[:2] < OLDEST_VERSION:
        yield Problem(
            "ksc_version",
            f"the server's version is {text or 'not told'}, 13.2 is the oldest supported",
            "update Kaspersky Security Center",
        )


def _devices(manager: KscManager) -> Iterator[Problem]:
    tree = Tree.read(manager.ksc)
    rows = manager.ksc.hosts(tree.subtree(tree.root))
    hint = "several entries of a part of the groups each, with accounts that see no more than that"
    yield from beyond(len(rows), COMFORTABLE_DEVICES, "all of their events are read each round", hint)
    odd = sum(not DEVICE_ID.fullmatch(str(row.get("KLHST_WKS_HOSTNAME"))) for row in rows)
    if odd:
        yield Problem(
            "ksc_device_ids", f"{odd} devices have ids the pack cannot use and are left out", fatal=False
        )
    if not rows:
        yield Problem(
            "ksc_no_devices",
            "the account sees no device",
            "give it the right to read the groups it is meant for",
            fatal=False,
        )


def _tasks(manager: KscManager) -> Iterator[Problem]:
    learned = manager.templates.learned()
    tasks = manager.ksc.tasks(learned["kind"] if learned else None)
    own = [task for task in tasks if str(task["name"]).startswith(NAME_PREFIX)]
    if learned and len(tasks) >= NEARLY_FULL:
        yield Problem(
            "ksc_group_nearly_full",
            f"the server holds {len(tasks)} IOC Scan tasks of at most 100, {len(own)} of them ours",
            "delete tasks that are no longer needed",
            fatal=False,
        )


def _templates(manager: KscManager) -> Iterator[Problem]:
    learned = manager.templates.learned()
    if learned is None:
        yield Problem(
            "ksc_template_unknown",
            "the template tasks were not learned: no scan can start",
            "st2 run ioc_scan.learn_ksc_template",
        )
        return
    for role in ("report", "respond"):
        try:
            ksc_template.check(learned[role], manager.templates.now(learned[role]))
        except IocScanError as error:
            needed = role == "report" or manager.may_respond
            yield Problem(error.code, f"{role}: {error.message}", error.hint, fatal=needed)
    if manager.may_respond and learned["respond"]["aim"]["kind"] != "devices":
        yield Problem(
            "ksc_cannot_aim",
            "the responding template is a group task: responses will be refused",
            "aim it at one managed device, and learn it again",
            fatal=False,
        )


def _events(manager: KscManager) -> Iterator[Problem]:
    if manager.found_event is None:
        yield Problem(
            "ksc_event_unknown",
            "no event of found IOCs is configured: tasks run, and what they find is not seen",
            "name it under `events.ioc_found`; docs/kaspersky.md says how to learn its id",
            fatal=False,
        )
        return
    if manager.may_respond and manager.quarantined_event is None:
        yield Problem(
            "ksc_response_unconfirmed",
            "no event that confirms a quarantine is configured: responses will be refused",
            "name it under `events.quarantined`",
            fatal=False,
        )
    manager.ksc.events_after(2**53, [manager.found_event.type], ["event_db_id"], most=1)
