"""The lifetime rules, to the second."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ioc_scan.retention import PROFILES, RetentionPlan, TaskFacts, ends_at, plan_retention

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=timezone.utc)
SECOND = timedelta(seconds=1)


def days(number: float) -> timedelta:
    return timedelta(days=number)


def task(
    task_id: str = "t", age: timedelta = timedelta(0), state: str = "completed", **facts: object
) -> TaskFacts:
    """A task created ``age`` ago."""
    return replace(TaskFacts(task_id, ("local",), state, NOW - age), **facts)  # type: ignore[arg-type]


def expired(one: TaskFacts, profile: str = "endpoint_agent") -> bool:
    return [ending.task_id for ending in plan_retention([one], NOW, profile).expire] == [one.task_id]


@pytest.mark.parametrize(
    ("age", "started_ago", "over"),
    [
        (days(7), None, True),  # never started: from creation
        (days(7) - SECOND, None, False),
        (days(7) + SECOND, None, True),
        (days(20), days(7), True),  # started: the creation does not matter
        (days(20), days(7) - SECOND, False),
        (days(20), days(7) + SECOND, True),
        (days(7), days(0), False),  # restarted at the last moment: seven days more
        (days(7) + SECOND, days(7), True),
    ],
)
@pytest.mark.parametrize("state", ["created", "running", "completed"])
def test_an_endpoint_agent_task_ends_7_days_after_its_last_start(
    age: timedelta, started_ago: timedelta | None, over: bool, state: str
) -> None:
    started = None if started_ago is None else NOW - started_ago
    assert expired(task(age=age, state=state, last_start_at=started)) is over


@pytest.mark.parametrize(("age", "over"), [(days(30), True), (days(30) - SECOND, False), (days(31), True)])
@pytest.mark.parametrize("started_ago", [None, days(0), days(29)])
def test_an_endpoint_security_task_ends_30_days_after_creation_whenever_started(
    age: timedelta, over: bool, started_ago: timedelta | None
) -> None:
    started = None if started_ago is None else NOW - started_ago
    assert expired(task(age=age, last_start_at=started), "endpoint_security") is over


def test_a_task_keeps_the_profile_it_was_created_with() -> None:
    old = task(age=days(8), profile="endpoint_security")
    assert not expired(old, "endpoint_agent")
    assert ends_at(old) == old.created_at + days(30)


@pytest.mark.parametrize("state", ["expired", "rotated", "cancelled", "deleted"])
def test_an_ended_task_does_not_end_again_and_takes_no_place(state: str) -> None:
    ended = [task(f"e{number}", days(3), state, ended_at=NOW - days(1)) for number in range(200)]
    plan = plan_retention([*ended, task("live")], NOW)
    assert plan.expire == () and plan.rotate == ()


def test_expiry_says_from_what_it_was_counted_and_alerts_when_matches_wait() -> None:
    plan = plan_retention(
        [task("a", days(9)), task("b", days(8), last_start_at=NOW - days(7), unacted_matches=2)], NOW
    )
    assert [(ending.task_id, ending.reason, ending.alert) for ending in plan.expire] == [
        ("a", "7 days after creation", False),
        ("b", "7 days after last start", True),
    ]


def rotated(tasks: list[TaskFacts], **options: object) -> list[str]:
    random.Random(5).shuffle(tasks)
    return [ending.task_id for ending in plan_retention(tasks, NOW, **options).rotate]  # type: ignore[arg-type]


def many(number: int, **facts: object) -> list[TaskFacts]:
    """Tasks t000 (the oldest), t001, ..., a minute apart."""
    return [task(f"t{index:03}", timedelta(minutes=number - index), **facts) for index in range(number)]  # type: ignore[arg-type]


def test_a_manager_holds_100_tasks_and_the_101st_costs_the_oldest() -> None:
    assert rotated(many(100)) == []
    assert rotated(many(101)) == ["t000"]
    assert rotated(many(103)) == ["t000", "t001", "t002"]


def test_room_is_made_for_tasks_about_to_come() -> None:
    assert rotated(many(100), incoming={"local": 1}) == ["t000"]
    assert rotated(many(99), incoming={"local": 1}) == []
    assert rotated(many(100), incoming={"ssh": 1}) == []


def test_finished_tasks_go_before_running_ones_however_old() -> None:
    tasks = many(101, state="running")
    tasks[70] = replace(tasks[70], state="completed")
    assert rotated(tasks) == ["t070"]
    never_started = many(101, state="created")
    never_started[99] = replace(never_started[99], state="completed")
    assert rotated(never_started) == ["t099"]


def test_a_running_task_that_must_go_raises_an_alert() -> None:
    (ending,) = plan_retention(many(101, state="running"), NOW).rotate
    assert ending.alert and "not finished" in ending.reason and "100" in ending.reason
    (ending,) = plan_retention(many(101), NOW).rotate
    assert not ending.alert


@pytest.mark.parametrize("held", [{"unacted_matches": 1}, {"open_approval": True}])
def test_a_task_with_matches_to_act_on_goes_only_when_no_other_is_left(held: dict[str, object]) -> None:
    tasks = many(101, **held)
    tasks[100] = replace(tasks[100], unacted_matches=0, open_approval=False, state="running")
    assert rotated(list(tasks)) == ["t100"], "the newest, and running: still before one with pending matches"
    all_held = many(101, **held)
    (ending,) = plan_retention(all_held, NOW).rotate
    assert (ending.task_id, ending.alert) == ("t000", True)


def test_what_expires_now_makes_room_first() -> None:
    tasks = many(101)
    tasks[50] = replace(tasks[50], created_at=NOW - days(7))
    plan = plan_retention(tasks, NOW)
    assert [ending.task_id for ending in plan.expire] == ["t050"] and plan.rotate == ()


def test_every_manager_counts_for_itself_and_a_rotated_task_leaves_all() -> None:
    tasks = many(100, managers=("local",))
    tasks += [task(f"s{index:03}", timedelta(hours=2), managers=("ssh",)) for index in range(100)]
    assert rotated(list(tasks)) == []
    tasks.append(task("both", timedelta(hours=9), managers=("local", "ssh")))
    assert rotated(list(tasks)) == ["both"]


def test_results_go_after_their_term_oldest_first_and_by_profile() -> None:
    plan = plan_retention([], NOW)
    assert plan.delete_results_before == {
        "endpoint_agent": NOW - days(7),
        "endpoint_security": NOW - days(30),
    }


@pytest.mark.parametrize(("profile", "kept"), [("endpoint_agent", 7), ("endpoint_security", 30)])
def test_the_rows_of_an_ended_task_go_when_its_results_do(profile: str, kept: int) -> None:
    tasks = [
        task("just", days(90), "expired", ended_at=NOW - days(kept)),
        task("almost", days(91), "expired", ended_at=NOW - days(kept) + SECOND),
        task("long ago", days(92), "cancelled", ended_at=NOW - days(kept) - SECOND),
        task("asking", days(93), "deleted", ended_at=NOW - days(80), open_approval=True),
        task("live", timedelta(0), "running"),
    ]
    assert plan_retention(tasks, NOW, profile).delete_tasks == ("long ago", "just")


def test_an_unknown_profile_is_an_error() -> None:
    with pytest.raises(KeyError):
        plan_retention([task()], NOW, "forever")


facts = st.builds(
    TaskFacts,
    task_id=st.uuids().map(str),
    managers=st.sets(st.sampled_from(["local", "ssh", "salt"]), min_size=0, max_size=3).map(
        lambda s: tuple(sorted(s))
    ),
    state=st.sampled_from(["created", "running", "completed", "expired", "rotated", "cancelled", "deleted"]),
    created_at=st.integers(0, 40 * 86_400).map(lambda seconds: NOW - timedelta(seconds=seconds)),
    last_start_at=st.none()
    | st.integers(0, 20 * 86_400).map(lambda seconds: NOW - timedelta(seconds=seconds)),
    ended_at=st.none() | st.integers(0, 40 * 86_400).map(lambda seconds: NOW - timedelta(seconds=seconds)),
    unacted_matches=st.integers(0, 2),
    open_approval=st.booleans(),
    profile=st.sampled_from(["", "endpoint_agent", "endpoint_security"]),
)
stores = st.lists(facts, max_size=40, unique_by=lambda one: one.task_id)
profiles = st.sampled_from(sorted(PROFILES))


def obeyed(tasks: list[TaskFacts], plan: RetentionPlan) -> list[TaskFacts]:
    """The tasks after doing what the plan says."""
    ends = {ending.task_id: "expired" for ending in plan.expire} | {e.task_id: "rotated" for e in plan.rotate}
    return [
        replace(one, state=ends[one.task_id], ended_at=NOW) if one.task_id in ends else one
        for one in tasks
        if one.task_id not in plan.delete_tasks
    ]


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> int:
    """Five tasks per manager: the same rules with fewer tasks to invent."""
    for name, rules in PROFILES.items():
        monkeypatch.setitem(PROFILES, name, replace(rules, tasks_per_manager=5))
    return 5


@pytest.mark.usefixtures("small_limit")
class TestProperties:
    """What must hold for any tasks whatever."""

    @settings(max_examples=150, deadline=None)
    @given(tasks=stores, profile=profiles)
    def test_doing_what_the_plan_says_leaves_nothing_to_do(
        self, tasks: list[TaskFacts], profile: str
    ) -> None:
        again = plan_retention(obeyed(tasks, plan_retention(tasks, NOW, profile)), NOW, profile)
        assert (again.expire, again.rotate, again.delete_tasks) == ((), (), ())

    @settings(max_examples=150, deadline=None)
    @given(tasks=stores, profile=profiles, seed=st.integers(0, 99))
    def test_the_order_of_the_input_does_not_matter(
        self, tasks: list[TaskFacts], profile: str, seed: int
    ) -> None:
        shuffled = list(tasks)
        random.Random(seed).shuffle(shuffled)
        assert plan_retention(shuffled, NOW, profile) == plan_retention(tasks, NOW, profile)

    @settings(max_examples=150, deadline=None)
    @given(tasks=stores, profile=profiles)
    def test_rotation_keeps_to_its_limit_its_need_and_its_order(
        self, tasks: list[TaskFacts], profile: str
    ) -> None:
        plan = plan_retention(tasks, NOW, profile)
        gone = {ending.task_id for ending in plan.expire}
        staying = [one for one in tasks if one.live and one.task_id not in gone]
        out = [one for one in staying if one.task_id in {ending.task_id for ending in plan.rotate}]
        left = [one for one in staying if one not in out]
        for manager in ("local", "ssh", "salt"):
            before = [one for one in staying if manager in one.managers]
            after = [one for one in left if manager in one.managers]
            assert len(after) <= 5
            assert len(before) > 5 or {*before} <= {*after} | {one for one in before if len(one.managers) > 1}
        for one in out:
            full = [name for name in one.managers if sum(name in other.managers for other in staying) > 5]
            assert full, "never rotated where there was room"
            if one.held:
                rivals = [other for other in left if not other.held and set(full) <= set(other.managers)]
                assert not rivals or len(full) > 1, "never one with pending matches while another is left"

    @settings(max_examples=150, deadline=None)
    @given(tasks=stores, profile=profiles)
    def test_every_list_is_oldest_first_and_names_no_task_twice(
        self, tasks: list[TaskFacts], profile: str
    ) -> None:
        plan = plan_retention(tasks, NOW, profile)
        created = {one.task_id: (one.created_at, one.task_id) for one in tasks}
        lists = [[e.task_id for e in plan.expire], [e.task_id for e in plan.rotate], list(plan.delete_tasks)]
        for ids in lists:
            assert ids == sorted(ids, key=created.__getitem__)
        everything = [name for ids in lists for name in ids]
        assert len(everything) == len(set(everything))
