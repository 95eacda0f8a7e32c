"""Scans of critical areas: asked for, or part of a response; told in the audit trail, never acted on."""

from __future__ import annotations

import time

import pytest
from ioc_scan.errors import InputError
from ioc_scan.service import collection, critical
from ioc_scan.service.context import Context

from .world import PERSON, World, events, sample


def areas(context: Context, task_id: str) -> dict[str, str]:
    """Area -> state, once the device has told all of them."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        collection.collect_results(context)
        found = {
            row["data"]["area"]: row["data"]["state"] for row in events(context, "critical_area_reported")
        }
        with context.store.reading() as tx:
            if found and not tx.jobs.open("critical_areas"):
                return found
        time.sleep(0.2)
    raise AssertionError("the device did not answer")


def test_devices_with_matches_are_scanned_when_asked(world: World) -> None:
    world.plant("ws01", "a.exe", sample())
    with world.context() as context:
        task_id = world.task_for(context, sample())["task_id"]
        world.scan(context, task_id)
        assert critical.scan_critical_areas(context, task_id, account=PERSON) == {
            "task_id": task_id,
            "devices": 1,
        }
        found = areas(context, task_id)
        # A folder tree has autostart objects only; the rest is said to be unsupported, never clean.
        assert found["autostart"] == "scanned"
        assert set(found.values()) == {"scanned", "unsupported"}
        assert {row["device_id"] for row in events(context, "critical_area_reported")} == {"ws01"}
        collection.collect_results(context)
        assert not [job for job in world.jobs_on("ws01") if job.startswith("crit-")]


def test_a_response_asks_for_it_where_the_policy_does(world: World) -> None:
    policy = world.policy("auto")
    policy["on_detection"] = {"quarantine": True, "critical_areas_scan": True}
    world.config["threat_response_policies"] = [policy]
    planted = world.plant("ws02", "b.exe", sample())
    with world.context() as context:
        task_id = world.task_for(context, sample())["task_id"]
        world.scan(context, task_id)
        assert not events(context, "critical_areas_scan_requested")
        world.respond(context, task_id)
        assert [row["device_id"] for row in events(context, "critical_areas_scan_requested")] == ["ws02"]
        assert areas(context, task_id)["autostart"] == "scanned"
        assert not planted.exists()


def test_a_task_without_matches_names_no_device(world: World) -> None:
    with world.context() as context:
        task_id = world.task_for(context, sample())["task_id"]
        world.scan(context, task_id)
        with pytest.raises(InputError, match="no_devices"):
            critical.scan_critical_areas(context, task_id, account=PERSON)
        assert (
            critical.scan_critical_areas(context, task_id, devices=["ws03"], account=PERSON)["devices"] == 1
        )
