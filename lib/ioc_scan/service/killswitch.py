"""The kill switch: a file, so that it works when no action does, and an action for everybody else.

The action also sets a flag in the store, for the other hosts of an installation with several.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

from ioc_scan.clock import to_iso
from ioc_scan.errors import StoreError
from ioc_scan.service import rights
from ioc_scan.service.context import STOP_FILE, STOP_FLAG, Context
from ioc_scan.service.ending import hear_out, withdraw_ended
from ioc_scan.service.people import Actor
from ioc_scan.store.event_types import EventType
from ioc_scan.text import printable

#: Whether the file STOP was there at the last round.
STOP_SEEN_FLAG = "stop_file_seen"


def kill_switch(
    context: Context,
    switch: str | None = None,
    reason: str | None = None,
    account: str | None = None,
    chat_user: str | None = None,
) -> dict[str, Any]:
    """stop, go or show. Stopping takes running response jobs away from their devices as well.

    Anybody with a StackStorm account may stop, from chat those in ``chat_identities``; only a person with the
    right may let responses run again (RefusedError ``person_needed``, ``right_missing``).
    """
    actor = Actor.of(context, account, chat_user)
    path = context.folder / STOP_FILE
    note = ""
    if switch == "stop":
        if actor.chat_user is not None:
            actor.must_be_person("stop responses from chat", "st2 run ioc_scan.kill_switch switch=stop")
        note = _stop(context, path, actor, reason)
    elif switch == "go":
        actor.must_be_person("let responses run again", "st2 run ioc_scan.kill_switch switch=go")
        rights.require(context, actor, "go")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        _record(context, EventType.KILL_SWITCH_OFF, actor, reason)
    stopped = context.stopped
    return {
        "stopped": stopped,
        "file": str(path),
        "note": note,
        "message": "All responses are stopped." if stopped else "Responses may run.",
        "next_step": f"st2 run ioc_scan.kill_switch switch={'go' if stopped else 'stop'}",
    }


def _stop(context: Context, path: os.PathLike[str], actor: Actor, reason: str | None) -> str:
    """File and flag: one that cannot be set is said, and raised only where neither can."""
    note = ""
    line = f"{to_iso(context.clock())} {actor.name}: {printable(reason or '', 200)}\n"
    try:
        _write(path, line)
    except StoreError as error:
        note = f"{error.code}: {error.message}"
    try:
        _record(context, EventType.KILL_SWITCH_ON, actor, reason)
        take_back(context)
    except StoreError as error:
        if note:
            raise
        note = f"{error.code}: {error.message}"
    return note


def _write(path: os.PathLike[str], text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise StoreError(
            "stop_not_written",
            f"{os.fspath(path)}: {error.strerror}",
            "Create the file by hand: it stops all responses.",
        ) from error


def _record(context: Context, kind: EventType, actor: Actor, reason: str | None) -> None:
    stopped = kind is EventType.KILL_SWITCH_ON
    with context.store.transaction() as tx:
        tx.flags.set(STOP_FLAG, stopped, now=context.clock(), actor=actor.name)
        data = {"reason": printable(reason or "", 200), "chat_user": actor.chat_user}
        tx.events.add(kind, actor=actor.name, data=data)


def notice(context: Context) -> None:
    """For the file that somebody made by hand: say so once, and take the respond jobs back."""
    with context.store.transaction() as tx:
        known = tx.flags.get(STOP_SEEN_FLAG, False)
        if context.stopped_by_file != known:
            tx.flags.set(STOP_SEEN_FLAG, not known, now=context.clock())
            if not known:
                tx.events.add(EventType.STOP_REQUESTED, data={"file": STOP_FILE})
    if context.stopped:
        take_back(context)


def take_back(context: Context) -> None:
    """Respond jobs that devices have not begun, or are working on, go away; devices look between two steps."""
    hear_out(context)
    now = context.clock()
    with context.store.transaction() as tx:
        for job in tx.jobs.open("respond"):
            if not job["spec"].get("dry_run"):
                tx.withdrawals.request(job["job_id"], job["spec"]["device_ids"], now)
    withdraw_ended(context)
