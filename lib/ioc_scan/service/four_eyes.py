"""Four eyes: what one person approved waits for another one's word. Accounts count, not chat names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ioc_scan.service.approvals import open_approval
from ioc_scan.service.context import Context
from ioc_scan.service.people import Actor
from ioc_scan.service.sorting import Sorted
from ioc_scan.store.event_types import EventType
from ioc_scan.store.transaction import Transaction

SECOND_PERSON = "second_person_needed"
Row = dict[str, Any]


def wait_for_second(context: Context, tx: Transaction, task: Row, plan: Sorted, actor: Actor) -> None:
    """Leave in ``plan.act`` what another account has approved already; note the rest as this account's word.

    A first word holds as long as a question does (``approval_ttl_hours``).
    """
    now = int(context.clock().timestamp())
    flag = _flag(task["task_id"])
    words = {k: v for k, v in tx.flags.get(flag, {}).items() if v["until_epoch"] > now}
    agreed = [r for r in plan.act if words.get(r["match_id"], {}).get("account", actor.name) != actor.name]
    taken = {row["match_id"] for row in agreed}
    first = [row for row in plan.act if row["match_id"] not in taken]
    until = now + context.config["response"]["approval_ttl_hours"] * 3600
    new = [row["match_id"] for row in first if row["match_id"] not in words]
    words |= {match_id: {"account": actor.name, "until_epoch": until} for match_id in new}
    tx.flags.set(
        flag,
        {match_id: word for match_id, word in words.items() if match_id not in taken},
        now=context.clock(),
        actor=actor.name,
    )
    if new:
        data = {"matches": len(new), "match_ids": new[:20], "chat_user": actor.chat_user}
        tx.events.add(EventType.APPROVAL_SECONDED, task_id=task["task_id"], actor=actor.name, data=data)
    unasked = [row for row in first if row["response_state"] != "awaiting_approval"]
    if unasked:
        tx.matches.move(
            [row["match_id"] for row in unasked], {row["response_state"] for row in unasked}, "none"
        )
        open_approval(context, tx, task, unasked, "four_eyes")
    plan.hold(SECOND_PERSON, first)
    plan.act = agreed


def forget(context: Context, tx: Transaction, task_id: str, match_ids: Iterable[str]) -> None:
    """A rejection takes first words back."""
    words = tx.flags.get(_flag(task_id), {})
    gone = set(match_ids)
    if gone & set(words):
        kept = {match_id: word for match_id, word in words.items() if match_id not in gone}
        tx.flags.set(_flag(task_id), kept, now=context.clock())


def _flag(task_id: str) -> str:
    return f"first_word:{task_id}"
