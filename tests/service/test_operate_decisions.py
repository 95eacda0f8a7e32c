"""A person's no, a question put again, and four eyes."""

from __future__ import annotations

import pytest
from ioc_scan.errors import IocScanError, NotFoundError, RefusedError
from ioc_scan.service import collection, decisions, lifetimes, tasks
from ioc_scan.service.context import Context

from .test_responses import approvals, scanned
from .world import World, events, matches, states


def asked(town: World, context: Context) -> str:
    task_id = scanned(town, context)
    town.respond(context, task_id)
    return task_id


def states_of_approvals(context: Context, task_id: str) -> list[str]:
    return sorted(row["state"] for row in approvals(context, task_id))


def test_a_no_leaves_the_object_alone_and_closes_the_question(town: World) -> None:
    with town.context() as context:
        task_id = asked(town, context)
        answer = decisions.reject_matches(context, task_id, reason="our own tool", account="alice")
        assert (answer["rejected"], answer["approvals_closed"]) == (2, 1)
        assert states(context, task_id) == ["rejected", "rejected"]
        (approval,) = approvals(context, task_id)
        assert (approval["state"], approval["decided_by"]) == ("rejected", "alice")
        (event,) = events(context, "approval_rejected")
        assert event["data"]["reason"] == "our own tool" and len(event["data"]["digests"]) == 1
        town.respond(context, task_id)
        town.respond(context, task_id, account="alice")
        assert town.manager.acted == []


def test_one_device_at_a_time_and_the_question_stays_open_until_all_are_answered(town: World) -> None:
    with town.context() as context:
        task_id = asked(town, context)
        decisions.reject_matches(context, task_id, devices=["ws01"], account="alice")
        assert states(context, task_id) == ["awaiting_approval", "rejected"]
        assert states_of_approvals(context, task_id) == ["open"]
        town.respond(context, task_id, account="bob", devices=["*"])
        assert states(context, task_id) == ["quarantined", "rejected"]
        assert town.manager.acted == [("ws02", "/a.exe")]
        assert states_of_approvals(context, task_id) == ["approved"]


def test_reopened_the_question_is_put_and_announced_again(town: World) -> None:
    with town.context() as context:
        task_id = asked(town, context)
        decisions.reject_matches(context, task_id, account="alice")
        assert decisions.reopen_approvals(context, task_id, account="bob")["reopened"] == 2
        assert states_of_approvals(context, task_id) == ["open", "rejected"]
        due = [row["trigger"] for row in collection.collect_results(context)["due"]]
        assert due.count("ioc_scan.approval_needed") == 2
        assert events(context, "approval_reopened")[0]["actor"] == "bob"
        assert town.respond(context, task_id, account="alice")["outcomes"] == {"quarantined": 2}


def test_an_expired_question_can_be_reopened_while_the_task_lives(town: World) -> None:
    with town.context() as context:
        task_id = asked(town, context)
        town.clock.ahead(hours=24)
        lifetimes.prune(context)
        assert states_of_approvals(context, task_id) == ["expired"]
        decisions.reopen_approvals(context, task_id, account="alice")
        (still_open,) = [row for row in approvals(context, task_id) if row["state"] == "open"]
        assert still_open["expires_at"] > town.clock()
        tasks.delete_task(context, task_id, account="alice")
        with pytest.raises(RefusedError) as caught:
            decisions.reopen_approvals(context, task_id, account="alice")
        assert caught.value.code == "task_ended"


def test_nothing_to_decide_is_said(town: World) -> None:
    with town.context() as context:
        task_id = asked(town, context)
        with pytest.raises(NotFoundError) as caught:
            decisions.reopen_approvals(context, task_id, account="alice")
        assert caught.value.code == "nothing_to_reopen"
        town.respond(context, task_id, account="alice")
        with pytest.raises(NotFoundError) as caught:
            decisions.reject_matches(context, task_id, account="alice")
        assert caught.value.code == "nothing_to_reject"
        assert states(context, task_id) == ["quarantined", "quarantined"]


@pytest.mark.parametrize("who", [{"account": "stanley"}, {}, {"account": "bot", "chat_user": "U_STRANGER"}])
def test_only_people_decide(town: World, who: dict[str, str]) -> None:
    with town.context() as context:
        task_id = asked(town, context)
        for decide in (decisions.reject_matches, decisions.reopen_approvals):
            with pytest.raises(RefusedError) as caught:
                decide(context, task_id, **who)
            assert caught.value.code == "person_needed"
        assert states(context, task_id) == ["awaiting_approval"] * 2


def test_the_list_says_about_what_until_when_and_who(town: World) -> None:
    with town.context() as context:
        task_id = asked(town, context)
        page = decisions.list_approvals(context, state="open")
        (row,) = page["rows"]
        assert (row["matches"], row["devices"], row["task_id"]) == (2, "ws01, ws02", task_id)
        assert row["sha256"] == [matches(context, task_id, tier="actionable")[0]["sha256"]]
        assert row["ioc_digest"] and row["expires_at"].endswith("Z")
        town.respond(context, task_id, account="alice")
        assert decisions.list_approvals(context, state="open")["rows"] == []
        assert decisions.list_approvals(context, state="any")["rows"][0]["decided_by"] == "alice"


# -- four eyes


@pytest.fixture
def strict(town: World) -> World:
    town.config["response"] = {"four_eyes": True}
    town.config["chat_identities"] = {"U_ALICE": "alice", "U_BOB": "bob"}
    return town


def test_one_word_is_not_enough_and_the_same_account_twice_is_one_word(strict: World) -> None:
    with strict.context() as context:
        task_id = asked(strict, context)
        for who in ({"account": "alice"}, {"account": "alice"}, {"account": "bot", "chat_user": "U_ALICE"}):
            answer = strict.respond(context, task_id, **who)
            assert answer["claimed"] == 0 and "second person" in answer["message"]
        assert strict.manager.acted == [] and states_of_approvals(context, task_id) == ["open"]
        assert [event["actor"] for event in events(context, "approval_seconded")] == ["alice"]
        assert strict.respond(context, task_id, account="bot", chat_user="U_BOB")["outcomes"] == {
            "quarantined": 2
        }
        (approval,) = approvals(context, task_id)
        assert (approval["state"], approval["decided_by"], approval["chat_user"]) == (
            "approved",
            "bob",
            "U_BOB",
        )


def test_the_second_acts_only_on_what_the_first_allowed(strict: World) -> None:
    with strict.context() as context:
        task_id = asked(strict, context)
        strict.respond(context, task_id, account="alice", devices=["ws01"])
        assert strict.respond(context, task_id, account="bob")["claimed"] == 1
        assert strict.manager.acted == [("ws01", "/a.exe")]
        assert strict.respond(context, task_id, account="alice")["claimed"] == 1
        assert states(context, task_id) == ["quarantined", "quarantined"]


def test_a_first_word_ends_with_its_time_and_with_a_no(strict: World) -> None:
    with strict.context() as context:
        task_id = asked(strict, context)
        strict.respond(context, task_id, account="alice")
        strict.clock.ahead(hours=24)
        strict.respond(context, task_id)  # the question expires
        decisions.reopen_approvals(context, task_id, account="alice")
        assert strict.respond(context, task_id, account="bob")["claimed"] == 0
        decisions.reject_matches(context, task_id, account="alice")
        decisions.reopen_approvals(context, task_id, account="alice")
        assert strict.respond(context, task_id, account="alice")["claimed"] == 0
        assert strict.manager.acted == []


def test_a_dry_run_and_an_automatic_response_need_no_second(strict: World) -> None:
    with strict.context() as context:
        task_id = scanned(strict, context, "auto")
        assert strict.respond(context, task_id, account="alice", dry_run=True)["outcomes"] == {
            "would_quarantine": 2
        }
        assert strict.respond(context, task_id)["outcomes"] == {"quarantined": 2}


def test_strangers_in_chat_never_count(strict: World) -> None:
    with strict.context() as context:
        task_id = asked(strict, context)
        strict.respond(context, task_id, account="alice")
        with pytest.raises(IocScanError):
            strict.respond(context, task_id, account="bot", chat_user="U_STRANGER")
        assert strict.manager.acted == []
