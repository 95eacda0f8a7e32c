"""Who may let a response act, on what, and what is left alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from ioc_scan.devices.base import Online
from ioc_scan.errors import RefusedError
from ioc_scan.service import collection, lifetimes, responses, tasks
from ioc_scan.service.context import Context
from sqlalchemy import text

from .world import RULE, World, events, matches, sample, states


def scanned(town: World, context: Context, mode: str = "ask", **policy: Any) -> str:
    """A task whose object lies on ws01 and ws02."""
    context.config["threat_response_policies"][0] |= {
        "run_ioc_scan_on": [{"group": "workstations", "response_mode": mode}],
        **policy,
    }
    for device in ("ws01", "ws02"):
        town.manager.files[device].setdefault("/a.exe", sample())
    task_id = town.task_for(context, sample())["task_id"]
    town.scan(context, task_id)
    return str(task_id)


def approvals(context: Context, task_id: str) -> list[dict[str, Any]]:
    with context.store.reading() as tx:
        return list(tx.approvals.list(task_id))


# -- modes


def test_report_mode_tells_and_touches_nothing(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context, "report")
        answer = town.respond(context, task_id)
        assert (answer["claimed"], answer["asked"]) == (0, 0) and "reported" in answer["message"]
        assert states(context, task_id) == ["reported", "reported"]
        assert town.manager.acted == []


def test_ask_mode_asks_once_and_waits_for_a_person(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context)
        answer = town.respond(context, task_id)
        assert (answer["claimed"], answer["asked"]) == (0, 2)
        assert town.respond(context, task_id)["asked"] == 0
        assert len(approvals(context, task_id)) == 1
        assert town.manager.acted == []
        round_ = collection.collect_results(context)
        assert [due["trigger"] for due in round_["due"]].count("ioc_scan.approval_needed") == 1

        answer = town.respond(context, task_id, account="alice")
        assert answer["outcomes"] == {"quarantined": 2}
        assert states(context, task_id) == ["quarantined", "quarantined"]
        (approval,) = approvals(context, task_id)
        assert (approval["state"], approval["decided_by"]) == ("approved", "alice")
        (event,) = events(context, "approval_approved")
        assert event["actor"] == "alice" and event["data"]["matches"] == 2


def test_auto_mode_acts(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context, "auto")
        answer = town.respond(context, task_id)
        assert answer["mode"] == "auto" and answer["outcomes"] == {"quarantined": 2}
        with context.store.reading() as tx:
            held = tx.quarantine.list(task_id=task_id)
        assert {row["device_id"] for row in held} == {"ws01", "ws02"}
        assert all(row["expires_at"] == town.clock() + timedelta(days=30) for row in held)


def test_a_policy_without_quarantine_only_reports(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context, "auto", on_detection={"quarantine": False})
        for account in (RULE, "alice"):
            assert town.respond(context, task_id, account=account)["claimed"] == 0
        assert town.manager.acted == []


def test_a_part_of_the_matches_can_be_approved(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context)
        town.respond(context, task_id)
        assert town.respond(context, task_id, account="alice", devices=["ws02"])["claimed"] == 1
        assert town.manager.acted == [("ws02", "/a.exe")]
        assert approvals(context, task_id)[0]["state"] == "open"
        (left,) = matches(context, task_id, response_state="awaiting_approval")
        assert town.respond(context, task_id, account="alice", match_ids=[left["match_id"]])["claimed"] == 1
        assert approvals(context, task_id)[0]["state"] == "approved"


def test_matches_named_that_cannot_be_acted_on_are_said(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context)
        answer = town.respond(context, task_id, account="alice", match_ids=["nothing-like-it"])
        assert answer["claimed"] == 0
        assert answer["held"] == [{"reason": "not_due", "matches": 1}] and "not_due" in answer["message"]


# -- who


@pytest.mark.parametrize(
    ("account", "chat_user"),
    [("stanley", None), (None, None), ("None", "None"), ("", ""), ("svc_bot", None)],
)
def test_services_and_strangers_never_approve(
    town: World, account: str | None, chat_user: str | None
) -> None:
    town.config["system_users"] = ["stanley", "svc_bot"]
    with town.context() as context:
        task_id = scanned(town, context)
        answer = responses.respond(context, task_id, account=account, chat_user=chat_user)
        assert answer["claimed"] == 0 and answer["asked"] == 2
        assert town.manager.acted == []


@pytest.mark.parametrize("chat_user", ["U_STRANGER", "alice", "stanley"])
def test_a_chat_user_counts_only_where_config_maps_him(town: World, chat_user: str) -> None:
    """Through chat the account is the bot's, whatever rights that has."""
    town.config["chat_identities"] = {"U024BE7LH": "alice", "U_BOT": "stanley"}
    with town.context() as context:
        task_id = scanned(town, context)
        with pytest.raises(RefusedError) as caught:
            responses.respond(context, task_id, account="chatbot", chat_user=chat_user)
        assert caught.value.code == "person_needed"
        assert f"st2 run ioc_scan.respond task_id={task_id}" in caught.value.hint
        with pytest.raises(RefusedError):
            responses.respond(context, task_id, account="chatbot", chat_user="U_BOT")
        with pytest.raises(RefusedError):
            tasks.delete_task(context, task_id, account="chatbot", chat_user=chat_user)
        assert town.manager.acted == []
        answer = responses.respond(context, task_id, account="chatbot", chat_user="U024BE7LH")
        assert answer["claimed"] == 2
        (event,) = events(context, "approval_approved")
        assert (event["actor"], event["data"]["chat_user"]) == ("alice", "U024BE7LH")


def test_a_workflow_run_by_a_person_approves_nothing(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context)
        assert town.respond(context, task_id, account="alice", by_policy=True)["asked"] == 2
        assert town.respond(context, task_id, account="alice", by_policy=True)["claimed"] == 0
        assert town.manager.acted == []


# -- expiry


def test_nothing_is_approved_after_the_question_expired(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context)
        town.respond(context, task_id)
        town.clock.ahead(hours=24)
        answer = town.respond(context, task_id, account="alice")
        assert answer["claimed"] == 0
        assert approvals(context, task_id)[0]["state"] == "expired"
        assert states(context, task_id) == ["rejected", "rejected"]
        assert "approval_expired" in {event["data"]["alert"] for event in events(context, "alert_raised")}
        town.respond(context, task_id)
        assert town.manager.acted == []
        # a person who names a match decides anew
        first = matches(context, task_id)[0]["match_id"]
        assert town.respond(context, task_id, account="alice", match_ids=[first])["claimed"] == 1


def test_one_second_before_it_expires_it_counts(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context)
        town.respond(context, task_id)
        town.clock.ahead(hours=23, minutes=59, seconds=59)
        assert town.respond(context, task_id, account="alice")["claimed"] == 2


def test_prune_closes_questions_nobody_answered(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context)
        town.respond(context, task_id)
        town.clock.ahead(hours=24)
        assert lifetimes.prune(context)["approvals_expired"] == 1
        assert states(context, task_id) == ["rejected", "rejected"]


def test_the_same_file_found_again_is_one_question(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context)
        town.respond(context, task_id)
        town.clock.ahead(hours=5)
        town.task_for(context, sample(), 2)
        town.scan(context, task_id, new_run=True)
        assert len(matches(context, task_id)) == 4  # apart by run
        assert town.respond(context, task_id)["asked"] == 0
        assert len(approvals(context, task_id)) == 1
        assert town.respond(context, task_id, account="alice")["outcomes"] == {"quarantined": 2}
        assert len(town.manager.acted) == 2
        assert approvals(context, task_id)[0]["state"] == "approved"
        assert town.respond(context, task_id, account="alice")["claimed"] == 0


# -- what is never touched


def test_a_match_without_sha256_is_never_acted_on(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context, "auto")
        with context.store.transaction() as tx:
            tx.connection.execute(text("UPDATE matches SET sha256 = NULL"))
        ids = [row["match_id"] for row in matches(context, task_id)]
        for options in ({}, {"account": "alice"}, {"account": "alice", "match_ids": ids}, {"dry_run": True}):
            assert town.respond(context, task_id, **options)["claimed"] == 0
        assert town.manager.acted == []


def test_a_hunt_match_is_never_acted_on(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context, "auto")
        with context.store.transaction() as tx:
            tx.connection.execute(text("UPDATE matches SET tier = 'hunt'"))
        ids = [row["match_id"] for row in matches(context, task_id)]
        for options in ({}, {"account": "alice"}, {"account": "alice", "match_ids": ids}, {"dry_run": True}):
            assert town.respond(context, task_id, **options)["claimed"] == 0
        assert town.manager.acted == []
        round_ = collection.collect_results(context)
        assert "ioc_scan.response_due" not in [due["trigger"] for due in round_["due"]]


def test_a_device_known_to_be_away_is_not_sent_to_and_not_forgotten(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context, "auto")
        town.manager.online["ws02"] = Online.NO
        answer = town.respond(context, task_id)
        assert answer["claimed"] == 1
        assert {"reason": "device_away", "matches": 1} in answer["held"]
        town.clock.ahead(minutes=20)
        due = collection.collect_results(context)["due"]
        assert "ioc_scan.response_due" not in [row["trigger"] for row in due]
        town.manager.online["ws02"] = Online.YES
        due = collection.collect_results(context)["due"]
        assert "ioc_scan.response_due" in [row["trigger"] for row in due]
        assert town.respond(context, task_id)["outcomes"] == {"quarantined": 1}


def test_a_device_that_vanished_after_the_claim_is_tried_again(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context, "auto")
        town.manager.online["ws02"] = Online.UNKNOWN
        assert town.respond(context, task_id)["claimed"] == 2
        assert states(context, task_id) == ["claimed", "quarantined"]
        town.clock.ahead(minutes=16)
        collection.collect_results(context)
        assert states(context, task_id) == ["none", "quarantined"]
        (done,) = events(context, "response_done")
        assert done["data"]["quarantined"] == 1
        town.manager.online["ws02"] = Online.YES
        assert town.respond(context, task_id)["outcomes"] == {"quarantined": 1}


def test_a_claim_nobody_ever_answered_is_set_free(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context, "auto")
        town.manager.slow = {"ws01", "ws02"}
        assert town.respond(context, task_id)["claimed"] == 2
        town.clock.ahead(minutes=21)
        collection.collect_results(context)
        assert states(context, task_id) == ["none", "none"]
        assert len(events(context, "response_failed")) == 1


def test_a_response_of_an_ended_task_is_refused(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context, "auto")
        tasks.delete_task(context, task_id, account="alice")
        for account in (RULE, "alice"):
            with pytest.raises(RefusedError) as caught:
                town.respond(context, task_id, account=account)
            assert caught.value.code == "task_ended" and "deleted" in caught.value.message
        assert town.manager.acted == []


# -- dry run


@pytest.mark.parametrize("account", [RULE, "alice"])
def test_a_dry_run_takes_the_same_way_and_changes_nothing(town: World, account: str) -> None:
    with town.context() as context:
        task_id = scanned(town, context)
        answer = town.respond(context, task_id, account=account, dry_run=True)
        assert answer["dry_run"] and answer["outcomes"] == {"would_quarantine": 2}
        assert "Dry run" in answer["message"]
        assert states(context, task_id) == ["none", "none"]
        assert town.manager.files["ws01"] and town.manager.files["ws02"]
        assert approvals(context, task_id) == []
        with context.store.reading() as tx:
            assert tx.responses.acted()["files"] == 0
            assert tx.quarantine.list() == []
        assert town.respond(context, task_id, account="alice")["outcomes"] == {"quarantined": 2}


def test_two_responders_claim_disjoint_matches(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context, "auto")
        taken: list[int] = []
        deliver = town.manager.deliver

        def meanwhile(job_id: str, device_ids: Any = None) -> None:
            """A second responder comes after the claim of the first and before anything was done."""
            town.manager.deliver = deliver
            with town.context() as second:
                taken.append(town.respond(second, task_id)["claimed"])
                taken.append(town.respond(second, task_id, account="alice")["claimed"])
            deliver(job_id, device_ids)

        town.manager.deliver = meanwhile
        assert town.respond(context, task_id)["claimed"] == 2
        assert taken == [0, 0]
        assert sorted(town.manager.acted) == [("ws01", "/a.exe"), ("ws02", "/a.exe")]
