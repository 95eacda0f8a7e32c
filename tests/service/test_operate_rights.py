"""Roles and device groups, whatever StackStorm's own permissions say."""

from __future__ import annotations

from typing import Any

import pytest
from ioc_scan.errors import ConfigError, RefusedError
from ioc_scan.service import (
    audit,
    configuring,
    decisions,
    killswitch,
    outputs,
    responses,
    restores,
    rights,
    steering,
    tasks,
)
from ioc_scan.service.context import Context
from ioc_scan.service.people import Actor

from .test_responses import scanned
from .world import World, events, states

ROLES = sorted(set(rights.ROLES) - {"none"})


@pytest.fixture
def staffed(town: World) -> World:
    """One account for each role, named like it, and one that answers for the servers only."""
    accounts = [{"account": role, "role": role} for role in ROLES]
    accounts.append({"account": "server_admin", "role": "administrator", "groups": ["servers"]})
    town.config["rights"] = {"accounts": accounts}
    return town


def tried(use_case: Any, context: Context, *given: Any, **named: Any) -> str:
    """What a use case answers: a refusal's code, or that it was let through."""
    try:
        use_case(context, *given, **named)
    except RefusedError as error:
        return error.code
    return "let through"


ALLOWED = {
    "create": {"machine", "analyst", "responder", "administrator"},
    "start": {"machine", "analyst", "responder", "administrator"},
    "pause": {"analyst", "responder", "administrator"},
    "configure": {"analyst", "responder", "administrator"},
    "raise": {"administrator"},
    "export": {"analyst", "responder", "administrator"},
    "dry_run": {"analyst", "responder", "administrator"},
    "respond": {"responder", "administrator"},
    "reject": {"responder", "administrator"},
    "cancel": {"responder", "administrator"},
    "delete": {"responder", "administrator"},
    "go": {"administrator"},
}


@pytest.mark.parametrize("role", [*ROLES, "nobody_listed"])
def test_each_role_may_do_exactly_this(staffed: World, role: str) -> None:
    who = {"account": role}
    with staffed.context() as context:
        task_id = scanned(staffed, context)
        detection = events(context, "task_created")[0]["detection_id"]
        configure = configuring.configure_task
        answers = {
            "create": tried(tasks.create_task, context, detection, **who),
            "start": tried(tasks.start_task, context, task_id, **who),
            "pause": tried(steering.pause_task, context, task_id, **who),
            "configure": tried(configure, context, task_id, cpu_percent=7, **who),
            "raise": tried(configure, context, task_id, response_mode="auto", **who),
            "export": tried(audit.export_audit, context, task_id, **who),
            "dry_run": tried(responses.respond, context, task_id, dry_run=True, **who),
            "go": tried(killswitch.kill_switch, context, "go", **who),
            "reject": tried(decisions.reject_matches, context, task_id, devices=["ws01"], **who),
            "respond": tried(responses.respond, context, task_id, **who),
            "cancel": tried(steering.cancel_task, context, task_id, **who),
            "delete": tried(tasks.delete_task, context, task_id, **who),
        }
        let = {what for what, answer in answers.items() if answer in ("let through", "task_not_running")}
        assert let == {what for what, roles in ALLOWED.items() if role in roles}
        refused = set(answers) - let
        assert all(answers[what] in ("right_missing", "person_needed") for what in refused)
        assert staffed.manager.acted == [("ws02", "/a.exe")] * ("respond" in let) or "dry_run" in let


def test_a_refusal_is_an_event_and_says_where_roles_stand(staffed: World) -> None:
    with staffed.context() as context:
        task_id = scanned(staffed, context)
        with pytest.raises(RefusedError) as caught:
            staffed.respond(context, task_id, account="viewer")
        assert caught.value.code == "right_missing" and "`rights`" in caught.value.hint
        (event,) = events(context, "right_refused")
        assert (event["actor"], event["task_id"]) == ("viewer", task_id)
        assert event["data"]["right"] == "respond" and event["data"]["role"] == "viewer"
        assert staffed.manager.acted == []


def test_who_answers_for_other_groups_cannot_touch_these_devices(staffed: World) -> None:
    with staffed.context() as context:
        task_id = scanned(staffed, context)
        answer = staffed.respond(context, task_id, account="server_admin")
        assert answer["claimed"] == 0 and answer["held"][0]["reason"] == "no_right_for_group"
        assert tried(tasks.delete_task, context, task_id, account="server_admin") == "right_missing"
        assert tried(steering.cancel_task, context, task_id, account="server_admin") == "right_missing"
        assert states(context, task_id) == ["none", "none"]
        staffed.respond(context, task_id, account="administrator")
        with context.store.reading() as tx:
            held = tx.quarantine.list(task_id=task_id)[0]
        refused = tried(restores.restore_object, context, held["quarantine_id"], account="server_admin")
        assert refused == "right_missing"
        assert "local/workstations" in events(context, "right_refused")[0]["data"]["groups"]


def test_rules_go_on_as_before(staffed: World) -> None:
    with staffed.context() as context:
        task_id = scanned(staffed, context, "auto")
        assert staffed.respond(context, task_id)["outcomes"] == {"quarantined": 2}


def test_the_machine_account_is_never_a_person(staffed: World) -> None:
    with staffed.context() as context:
        assert not Actor.of(context, "machine", None).person
        task_id = scanned(staffed, context)
        assert tried(decisions.reject_matches, context, task_id, account="machine") == "person_needed"


def test_while_nobody_is_listed_people_may_do_all(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context)
        assert town.respond(context, task_id, account="anyone")["outcomes"] == {"quarantined": 2}


def test_the_default_role_is_for_those_not_listed(town: World) -> None:
    town.config["rights"] = {"default_role": "analyst"}
    with town.context() as context:
        task_id = scanned(town, context)
        assert tried(outputs.export_iocs, context, task_id, account="anyone") == "let through"
        assert tried(responses.respond, context, task_id, account="anyone") == "right_missing"


def test_in_chat_the_role_is_that_of_the_mapped_account(staffed: World) -> None:
    staffed.config["chat_identities"] = {
        "U_R": "responder",
        "U_V": "viewer",
        "U_M": "machine",
        "U_S": "stanley",
    }
    with staffed.context() as context:
        task_id = scanned(staffed, context)
        found = {
            user: tried(steering.pause_task, context, task_id, account="administrator", chat_user=user)
            for user in ("U_R", "U_V", "U_M", "U_S", "U_STRANGER")
        }
        assert found == {
            "U_R": "task_not_running",
            "U_V": "right_missing",
            "U_M": "person_needed",
            "U_S": "person_needed",
            "U_STRANGER": "person_needed",
        }


def test_an_account_listed_twice_is_refused(town: World) -> None:
    entry = {"account": "alice", "role": "viewer"}
    town.config["rights"] = {"accounts": [entry, entry | {"role": "administrator"}]}
    with pytest.raises(ConfigError, match="alice"), town.context():
        pass
