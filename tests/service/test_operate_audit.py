"""The audit trail: whole or not, exported, and its head sent elsewhere when something is about to be removed."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from ioc_scan.devices.base import Online
from ioc_scan.errors import InputError
from ioc_scan.service import audit, collection, restores
from ioc_scan.service.context import Context
from ioc_scan.store.events import GENESIS, event_digest
from sqlalchemy import text

from .test_responses import scanned
from .world import World, events


@pytest.fixture
def syslog(tmp_path: Path, town: World) -> Iterator[socket.socket]:
    address = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(address))
        server.settimeout(2)
        town.config["audit"] = {"syslog_address": str(address)}
        yield server


def heads_due(context: Context) -> list[dict[str, object]]:
    return [
        row["payload"]
        for row in collection.collect_results(context)["due"]
        if row["trigger"] == "ioc_scan.audit_head"
    ]


def test_a_response_sends_the_head_by_trigger_and_syslog_before_it_acts(
    town: World, syslog: socket.socket
) -> None:
    with town.context() as context:
        task_id = scanned(town, context, "auto")
        assert heads_due(context) == []
        town.respond(context, task_id)
        message = syslog.recv(2000).decode()
        assert message.startswith("<85>ioc_scan: audit_head=") and f"task_id={task_id}" in message
        (payload,) = heads_due(context)
        head = f"{payload['event_id']}:{payload['digest']}"
        assert head in message and payload["step"] == "respond"
        (claimed,) = events(context, "response_claimed")
        assert claimed["event_id"] == payload["event_id"]
        assert events(context, "object_quarantined")[0]["event_id"] > payload["event_id"]
        answer = audit.verify_audit(context, heads=[head, f"audit_head={head}"])
        assert answer["ok"] and answer["heads_checked"] == 2


def test_a_dry_run_destroys_nothing_and_sends_nothing(town: World, syslog: socket.socket) -> None:
    syslog.settimeout(0.2)
    with town.context() as context:
        town.respond(context, scanned(town, context, "auto"), dry_run=True)
        assert heads_due(context) == []
    with pytest.raises(TimeoutError):
        syslog.recv(2000)


def test_a_restore_is_told_as_well(
    town: World, syslog: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restores, "SHORT_WAIT_SECONDS", 0)
    with town.context() as context:
        task_id = scanned(town, context, "auto")
        town.respond(context, task_id)
        syslog.recv(2000)
        with context.store.reading() as tx:
            held = tx.quarantine.list()[0]
        town.manager.online[held["device_id"]] = Online.NO
        restores.restore_object(context, held["quarantine_id"], account="alice")
        assert b"step=restore" in syslog.recv(2000)


def test_without_syslog_the_response_goes_on(town: World) -> None:
    town.config["audit"] = {"syslog_address": "/nowhere/log"}
    with town.context() as context:
        assert town.respond(context, scanned(town, context, "auto"))["claimed"] == 2


def _tamper(town: World, context: Context, statement: str) -> None:
    with context.store.transaction() as tx:
        triggers = tx.connection.execute(
            text("SELECT name FROM sqlite_master WHERE type='trigger' AND tbl_name='events'")
        ).scalars()
        for name in list(triggers):
            tx.connection.execute(text(f"DROP TRIGGER {name}"))
        tx.connection.execute(text(statement))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET actor='mallory' WHERE event_id=3",
        "DELETE FROM events WHERE event_id=3",
        "UPDATE events SET digest=(SELECT digest FROM events WHERE event_id=2) WHERE event_id=3",
    ],
)
def test_a_changed_or_removed_event_shows(town: World, statement: str) -> None:
    with town.context() as context:
        scanned(town, context)
        assert audit.verify_audit(context)["ok"]
        _tamper(town, context, statement)
        answer = audit.verify_audit(context)
        assert (
            not answer["ok"] and answer["first_bad_event"] == 3 and "BROKEN at event 3" in answer["message"]
        )


def test_a_trail_cut_at_its_end_shows_against_a_head_kept_elsewhere(town: World) -> None:
    with town.context() as context:
        scanned(town, context)
        head = audit.verify_audit(context)["head"]
        last = int(head.split(":")[0])
        _tamper(town, context, f"DELETE FROM events WHERE event_id > {last - 2}")
        assert audit.verify_audit(context)["ok"]
        assert audit.verify_audit(context, heads=[head])["first_bad_event"] == last - 1


@pytest.mark.parametrize("head", ["", "1", "1:abc", "x:" + "0" * 64, "1:" + "G" * 64])
def test_what_is_no_head_is_refused(town: World, head: str) -> None:
    with town.context() as context, pytest.raises(InputError) as caught:
        audit.verify_audit(context, heads=[head])
    assert caught.value.code == "audit_head_invalid"


def test_an_export_can_be_verified_by_anybody(town: World) -> None:
    with town.context() as context:
        scanned(town, context)
        answer = audit.export_audit(context, account="alice")
        digest = GENESIS
        lines = [json.loads(line) for line in Path(answer["path"]).read_text().splitlines()]
        for row in lines:
            row["at"] = datetime.fromisoformat(row["at"])
            digest = event_digest(digest, row)
            assert row["digest"] == digest
        assert answer["head"] == f"{lines[-1]['event_id']}:{digest}" and answer["events"] == len(lines)
        assert events(context, "audit_exported")[0]["actor"] == "alice"


def test_an_export_by_detection_holds_its_tasks(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context)
        town.task_for(context, b"another object" * 100, 2)
        detection = events(context, "task_created", task_id=task_id)[0]["detection_id"]
        answer = audit.export_audit(context, detection_id=detection, account="alice")
        rows = [json.loads(line) for line in Path(answer["path"]).read_text().splitlines()]
        kinds = {row["type"] for row in rows}
        assert {"detection_received", "task_created", "device_done", "match_found"} <= kinds
        assert {row["task_id"] for row in rows} <= {task_id, None}
        assert {row["detection_id"] for row in rows} <= {detection, None}
