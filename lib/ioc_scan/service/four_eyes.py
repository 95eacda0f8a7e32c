"""Four eyes: what one person approved waits for another one's word. Accounts count, not chat names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ioc_scan.service.approvals import open_approval
from ioc_scan.service.context import Context
from ioc_scan.service.people import Actor
from ioc_scan.service.sorting import Sorted
from ioc_scan.store.event_types import EventType
from ioc_scan.store.transaction import Transaction

SECOND_PERSON = "second_person_needed"
Row = dict[str, Any]


def agreed(
    context: Context, tx: Transaction, task_id: str, subjects: Sequence[str], actor: Actor, about: Row
) -> frozenset[str]:
    """What another account has approved already; the rest of the subjects is noted as this account's word.

    Subjects are ids of matches, or what a person is asked about otherwise. A first word holds as long as a question
    does (``approval_ttl_hours``), and is used up when it is agreed to. ``about`` goes into the event of a new word.
    """
    now = int(context.clock().timestamp())
    words = {k: v for k, v in tx.flags.get(_flag(task_id), {}).items() if v["until_epoch"] > now}
    taken = {
        subject for subject in subjects if words.get(subject, {}).get("account", actor.name) != actor.name
    }
    until = now + context.config["response"]["approval_ttl_hours"] * 3600
    new = [subject for subject in subjects if subject not in words]
    words |= {subject: {"account": actor.name, "until_epoch": until} for subject in new}
    kept = {subject: word for subject, word in words.items() if subject not in taken}
    tx.flags.set(_flag(task_id), kept, now=context.clock(), actor=actor.name)
    if new:
        data = about | {"chat_user": actor.chat_user}
        tx.events.add(EventType.APPROVAL_SECONDED, task_id=task_id, actor=actor.name, data=data)
    return frozenset(taken)


def wait_for_second(context: Context, tx: Transaction, task: Row, plan: Sorted, actor: Actor) -> None:
    """Leave in ``plan.act`` what another account has approved already; note the rest as this account's word."""
    ids = [row["match_id"] for row in plan.act]
    about = {"matches": len(ids), "match_ids": ids[:20]}
    taken = agreed(context, tx, task["task_id"], ids, actor, about)
    first = [row for row in plan.act if row["match_id"] not in taken]
    unasked = [row for row in first if row["response_state"] != "awaiting_approval"]
    if unasked:
        tx.matches.move(
            [row["match_id"] for row in unasked], {row["response_state"] for row in unasked}, "none"
        )
        open_approval(context, tx, task, unasked, "four_eyes")
    plan.hold(SECOND_PERSON, first)
    plan.act = [row for row in plan.act if row["match_id"] in taken]


def forget(context: Context, tx: Transaction, task_id: str, match_ids: Iterable[str]) -> None:
    """A rejection takes first words back."""
    words = tx.flags.get(_flag(task_id), {})
    gone = set(match_ids)
    if gone & set(words):
        kept = {match_id: word for match_id, word in words.items() if match_id not in gone}
        tx.flags.set(_flag(task_id), kept, now=context.clock())


def _flag(task_id: str) -> str:
    return f"first_word:{task_id}"
