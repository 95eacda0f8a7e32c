"""One task over several managers and groups: every device once, with the mode it may have, in one sum."""

from __future__ import annotations

from typing import Any

from ioc_scan.devices.base import Online
from ioc_scan.service import collection, configuring, looking, tasks
from ioc_scan.service.context import Context

from .fleet import MemoryFleet
from .world import PERSON, RULE, World, events, matches, sample


def two_managers(town: World, policy: dict[str, Any]) -> tuple[MemoryFleet, MemoryFleet]:
    """The group `workstations` on both; `laptops` and `servers` on one each."""
    here = {"workstations": ("ws01", "ws02", "dc01"), "laptops": ("ws02", "nb01")}
    there = {"workstations": ("ws01", "ws09"), "servers": ("srv01", "srv02")}
    town.manager = MemoryFleet(here, town.clock)
    town.more_managers["ssh"] = MemoryFleet(there, town.clock, "ssh")
    town.config["response"] = {"min_answered_percent": 0}
    town.config["threat_response_policies"] = [town.policy(**policy)]
    return town.manager, town.more_managers["ssh"]


def infect(*fleets: MemoryFleet) -> None:
    for fleet in fleets:
        for files in fleet.files.values():
            files["/a.exe"] = sample()


def modes(context: Context, task_id: str) -> dict[str, str]:
    return {f"{m['manager']}/{m['device_id']}": m["response_state"] for m in matches(context, task_id)}


def test_groups_over_managers_with_modes_exclusions_and_ceilings(town: World) -> None:
    aims = [
        {"group": "workstations", "response_mode": "auto"},
        {"group": "laptops", "response_mode": "report"},
        {"group": "ssh/servers", "response_mode": "ask"},
    ]
    policy = {
        "run_ioc_scan_on": aims,
        "exclude_devices": ["srv02", "ssh/ws01"],
        "tag_ceilings": {"domain_controller": "ask"},
    }
    local, ssh = two_managers(town, policy)
    local.tags["dc01"] = ("domain_controller",)
    infect(local, ssh)
    with town.context() as context:
        task_id = str(town.task_for(context, sample())["task_id"])
        assert {event["device_id"] for event in events(context, "device_excluded")} == {"srv02", "ws01"}
        assert town.scan(context, task_id)["state"] == "completed"
        town.respond(context, task_id)
        assert modes(context, task_id) == {
            "local/ws01": "quarantined",
            "local/ws02": "reported",  # in two groups: the lower mode, and scanned once
            "local/nb01": "reported",
            "local/dc01": "awaiting_approval",
            "ssh/ws09": "quarantined",
            "ssh/srv01": "awaiting_approval",
        }
        for fleet in (local, ssh):
            scanned = [name for job in fleet.jobs.values() if job.kind == "scan" for name in job.device_ids]
            assert len(scanned) == len(set(scanned))
        assert {m["device_id"] for m in matches(context, task_id)}.isdisjoint({"srv02"})


def test_coverage_adds_up_over_managers_and_groups_and_keeps_its_denominator(town: World) -> None:
    aims = [{"group": name, "response_mode": "ask"} for name in ("workstations", "laptops", "servers")]
    local, ssh = two_managers(town, {"run_ioc_scan_on": aims})
    local.files["nb01"]["/a.exe"] = sample()
    ssh.online["srv02"] = Online.NO
    local.failing = {"dc01"}
    with town.context() as context:
        task_id = str(town.task_for(context, sample())["task_id"])
        town.scan(context, task_id)
        found = looking.get_coverage(context, task_id)
        whole, parts = found["coverage"], found["groups"]
        expected = {"targeted": 8, "answered": 7, "matched": 1, "clean": 5, "failed": 1, "never_seen": 1}
        assert {name: whole[name] for name in expected} == expected
        assert {name: sum(part[name] for part in parts) for name in expected} == expected
        assert "7 of 8 targeted" in found["table"] and "ssh/servers (ask): 1 of 2 answered" in found["table"]
        assert found["rows"][0]["device_id"] in ("dc01", "srv02")


def test_one_manager_that_is_down_does_not_hold_the_other(town: World) -> None:
    aims = [{"group": "workstations", "response_mode": "ask"}]
    local, ssh = two_managers(town, {"run_ioc_scan_on": aims})
    infect(local, ssh)
    with town.context() as context:
        task_id = str(town.task_for(context, sample())["task_id"])
        tasks.start_task(context, task_id, account=RULE)
        ssh.broken = True
        collection.collect_results(context)
        assert len(matches(context, task_id)) == 3
        found = looking.get_coverage(context, task_id)["coverage"]
        assert (found["targeted"], found["answered"]) == (5, 3)
        ssh.broken = False
        collection.collect_results(context)
        assert len(matches(context, task_id)) == 5
        assert [event["manager"] for event in events(context, "manager_unreachable")] == ["ssh"]
        assert [event["manager"] for event in events(context, "manager_recovered")] == ["ssh"]


def test_devices_left_out_or_gone_do_not_count_in_the_next_run(town: World) -> None:
    aims = [{"group": "workstations", "response_mode": "ask"}]
    two_managers(town, {"run_ioc_scan_on": aims})
    with town.context() as context:
        task_id = str(town.task_for(context, sample())["task_id"])
        town.scan(context, task_id)
        configuring.configure_task(context, task_id, exclude_devices=["ssh/ws09"], account=PERSON)
        tasks.start_task(context, task_id, new_run=True, account=PERSON)
        assert town.settle(context, task_id)["targeted"] == 4
        with context.store.reading() as tx:
            assert [row["coverage"]["targeted"] for row in tx.tasks.runs(task_id)][:1] == [5]
