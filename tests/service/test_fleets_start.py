"""When a run starts: at once, spread over a period, or in a window by the clock of some place."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from ioc_scan.config import load_config
from ioc_scan.devices.base import Online
from ioc_scan.errors import ConfigError, InputError
from ioc_scan.service import collection, configuring, rollout, tasks
from ioc_scan.service.context import Context

from .fleet import MemoryFleet
from .world import PERSON, RULE, World, sample

NAMES = [f"pc{number:03d}" for number in range(200)]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


def fleet_of(town: World, **settings: Any) -> MemoryFleet:
    town.manager = MemoryFleet({"workstations": NAMES}, town.clock)
    town.config["threat_response_policies"] = [town.policy("ask", **settings)]
    return town.manager


def begun(town: World) -> int:
    return len({d for job in town.manager.jobs.values() for d in town.manager.said.get(job.id, {})})


def run(town: World, context: Context, hours: float) -> list[int]:
    """How many devices had begun after each quarter of an hour."""
    found = []
    for _ in range(int(hours * 4)):
        town.clock.ahead(minutes=15)
        collection.collect_results(context)
        found.append(begun(town))
    return found


@pytest.mark.parametrize(
    ("window", "place", "now", "begin", "end"),
    [
        ("22:00-06:00", "UTC", "2026-03-01 12:00", "2026-03-01 22:00", "2026-03-02 06:00"),
        ("22:00-06:00", "UTC", "2026-03-01 23:30", "2026-03-01 23:30", "2026-03-02 06:00"),
        ("22:00-06:00", "UTC", "2026-03-02 05:59", "2026-03-02 05:59", "2026-03-02 06:00"),
        ("22:00-06:00", "UTC", "2026-03-02 06:00", "2026-03-02 22:00", "2026-03-03 06:00"),
        ("12:00-13:00", "UTC", "2026-03-01 13:00", "2026-03-02 12:00", "2026-03-02 13:00"),
        ("22:00-06:00", "Europe/Berlin", "2026-01-10 12:00", "2026-01-10 21:00", "2026-01-11 05:00"),
        ("22:00-06:00", "Europe/Berlin", "2026-07-10 12:00", "2026-07-10 20:00", "2026-07-11 04:00"),
        ("22:00-06:00", "Asia/Kolkata", "2026-01-10 12:00", "2026-01-10 16:30", "2026-01-11 00:30"),
        # the night the clocks go forward is an hour shorter, and the one they go back an hour longer
        ("22:00-06:00", "Europe/Berlin", "2026-03-28 12:00", "2026-03-28 21:00", "2026-03-29 04:00"),
        ("22:00-06:00", "Europe/Berlin", "2026-10-24 12:00", "2026-10-24 20:00", "2026-10-25 05:00"),
    ],
)
def test_windows(window: str, place: str, now: str, begin: str, end: str) -> None:
    assert rollout.next_window(window, ZoneInfo(place), utc(now)) == (utc(begin), utc(end))


def test_what_is_drawn_for_a_device_is_drawn_again() -> None:
    settings = {"start": "period", "start_period_hours": 4}
    now = utc("2026-03-01 12:00")
    drawn = rollout.start_times(settings, "t1", 1, NAMES, now)
    again = rollout.start_times(settings, "t1", 1, list(reversed(NAMES)), now)
    assert drawn == [(begin, sorted(names)) for begin, names in again]
    assert sorted(name for _, names in drawn for name in names) == NAMES
    assert all(now <= begin < now + timedelta(hours=4) for begin, _ in drawn)
    assert drawn != rollout.start_times(settings, "t2", 1, NAMES, now)
    assert len(drawn) == rollout.MAX_SLOTS and max(len(names) for _, names in drawn) < 25


def test_a_period_spreads_the_starts_and_late_devices_follow(town: World) -> None:
    fleet = fleet_of(town, start="period", start_period_hours=4)
    fleet.online["pc007"] = Online.NO
    with town.context() as context:
        task_id = str(town.task_for(context, sample())["task_id"])
        tasks.start_task(context, task_id, account=RULE)
        tasks.start_task(context, task_id, account=RULE)  # told twice: nothing is drawn anew
        grown = run(town, context, 4)
        assert 0 < grown[1] < 60 < grown[8] < 180 and grown[-1] == 199
        assert collection.await_results(context, task_id)["settled"]
        fleet.online["pc007"] = Online.YES
        town.clock.ahead(days=6)
        collection.collect_results(context)
        assert begun(town) == 200
        assert town.settle(context, task_id)["state"] == "completed"


def test_a_window_holds_the_run_until_it_opens_and_nobody_waits_for_it(town: World) -> None:
    fleet_of(
        town, start="window", start_window="22:00-06:00", start_time_zone="America/New_York", canary_devices=2
    )
    town.clock.now = town.clock.start = utc("2026-11-22 12:00")
    with town.context() as context:
        task_id = str(town.task_for(context, sample())["task_id"])
        tasks.start_task(context, task_id, account=RULE)
        assert town.settle(context, task_id)["state"] == "running" and begun(town) == 0
        assert run(town, context, 14.75)[-1] == 0
        (first,) = run(town, context, 0.25)  # 22:00 in New York
        assert 2 <= first < 30  # canary devices answer at once here, and the spread of the rest begins
        grown = run(town, context, 8)
        assert grown[0] < 60 and grown[-1] == 200
        assert town.settle(context, task_id)["state"] == "completed"


def test_a_task_that_ends_before_its_window_begins_nowhere(town: World) -> None:
    fleet_of(town, start="window", start_window="22:00-06:00", start_time_zone="UTC")
    town.clock.now = town.clock.start = utc("2026-11-22 12:00")
    with town.context() as context:
        task_id = str(town.task_for(context, sample())["task_id"])
        tasks.start_task(context, task_id, account=RULE)
        tasks.delete_task(context, task_id, account=PERSON)
        run(town, context, 12)
        assert begun(town) == 0


def test_configure_how_the_next_run_starts(town: World) -> None:
    fleet_of(town, start="manual")
    town.clock.now = town.clock.start = utc("2026-11-22 12:00")
    with town.context() as context:
        made = town.task_for(context, sample())
        task_id = str(made["task_id"])
        assert not made["start"]
        for wrong in (
            {"start": "window"},
            {"start": "window", "start_window": "06:00-06:00"},
            {"start_time_zone": "Europe/Atlantis"},
        ):
            with pytest.raises(InputError) as caught:
                configuring.configure_task(context, task_id, account=PERSON, **wrong)
            assert caught.value.code == "start_invalid"
        configuring.configure_task(
            context,
            task_id,
            start="window",
            start_window="13:00-14:00",
            start_time_zone="UTC",
            account=PERSON,
        )
        tasks.start_task(context, task_id, account=PERSON)
        assert run(town, context, 0.75)[-1] == 0
        assert run(town, context, 1.25)[-1] == 200


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"start": "window"}, "config_policy_start"),
        ({"start_window": "22:00-06:00"}, "config_policy_start"),
        ({"start": "window", "start_window": "22:00-22:00"}, "config_policy_start"),
        ({"start": "window", "start_window": "22:00-6:00"}, "config_invalid"),
        (
            {"start": "window", "start_window": "22:00-06:00", "start_time_zone": "../../etc/passwd"},
            "config_invalid",
        ),
        (
            {"start": "window", "start_window": "22:00-06:00", "start_time_zone": "Europe/Atlantis"},
            "config_time_zone",
        ),
        (
            {"start": "window", "start_window": "22:00-06:00", "start_time_zone": "/etc/passwd"},
            "config_time_zone",
        ),
        ({"canary_devices": -1}, "config_invalid"),
    ],
)
def test_settings_that_cannot_be_are_refused(town: World, settings: dict[str, Any], code: str) -> None:
    town.config["threat_response_policies"] = [town.policy("ask", **settings)]
    with pytest.raises(ConfigError) as caught:
        load_config(town.config)
    assert caught.value.code == code
