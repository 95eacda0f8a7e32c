"""Responses with Kaspersky's own task: never by a scan, never wider than approved, never past their time."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.devices.base import EventKind, Job, JobKind
from ioc_scan.openioc.reader import read_ioc

from tests.ksc_server.world import EVENT_QUARANTINED, template

from .harness import OTHER, SAMPLE, Fleet, of, read_all, states
from .ksc_fleet import REPORT, KscFleet, ksc_fleet
from .test_ksc import KscJobs

JOBS = KscJobs()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[KscFleet]:
    with ksc_fleet(tmp_path) as fleet:
        yield fleet


def respond_job(
    fleet: Fleet, *devices: str, paths: dict[str, list[Path]] | None = None, **changes: Any
) -> Job:
    """A response to the sample on these devices, as the service builds it."""
    items: dict[str, list[dict[str, Any]]] = {}
    for device in devices:
        found = (paths or {}).get(device) or [fleet.root(device) / "x.exe"]
        items[device] = [
            {
                "match_id": f"m-{device}-{number}",
                "path_b64": base64.b64encode(os.fsencode(path.resolve())).decode(),
                "sha256": hashlib.sha256(SAMPLE).hexdigest(),
                "size": len(SAMPLE),
                "device": None,
                "inode": None,
            }
            for number, path in enumerate(found)
        ]
    job = replace(
        JOBS.scan_job(fleet, "resp-1.0"),
        kind=JobKind.RESPOND,
        device_ids=list(devices),
        not_after=fleet.clock() + timedelta(minutes=14),
        items=items,
        iocs={},
    )
    return replace(job, **changes)


def outcomes(events: Any) -> dict[str, str]:
    return {e.data["match_id"]: e.data["outcome"] for e in of(events, EventKind.RESPONSE)}


def test_only_the_approved_devices_and_objects_are_touched(fleet: KscFleet) -> None:
    approved, other_device = fleet.plant("ws01", "x.exe", SAMPLE), fleet.plant("ws02", "x.exe", SAMPLE)
    hunted, decoy = (
        fleet.plant("ws01", "dropper.exe", b"known by name only"),
        fleet.plant("ws01", "y.exe", OTHER),
    )
    fleet.run(JOBS.scan_job(fleet))
    job = respond_job(fleet, "ws01")
    fleet.ksc.publish(job)
    fleet.ksc.deliver(job.id)
    (task,) = [task for task in fleet.ours() if "resp-1" in task.name]
    assert task.data["TASK_INFO_PARAMS"]["SIM_HOST_LIST"] == [{"SIM_HOST_NAME": "ws01"}]
    assert "PRTS_TASK_GROUPID" not in task.data["TASK_INFO_PARAMS"]
    ioc = read_ioc(task.data["TASK_ADDITIONAL_PARAMS"]["SIM_IOC_FILES"][0]["SIM_IOC_CONTENT"])
    assert [(i.search, i.content) for i in ioc.items()] == [
        ("FileItem/SizeInBytes", str(len(SAMPLE))),
        ("FileItem/Sha256sum", hashlib.sha256(SAMPLE).hexdigest()),
    ], "no MD5 where something is deleted"
    fleet.world.advance(3)
    events, _ = read_all(fleet.ksc, job.id)
    assert outcomes(events) == {"m-ws01-0": "quarantined"} and states(events, "ws01")[-1] == "done"
    assert not approved.exists()
    assert other_device.exists() and hunted.exists() and decoy.exists()
    assert not [task for task in fleet.ours() if "resp-1" in task.name], "deleted when its work is done"


def test_a_dry_run_makes_no_task(fleet: KscFleet) -> None:
    planted = fleet.plant("ws01", "x.exe", SAMPLE)
    events = fleet.run(respond_job(fleet, "ws01", dry_run=True))
    assert outcomes(events) == {"m-ws01-0": "would_quarantine"} and states(events, "ws01") == ["done"]
    assert planted.exists() and fleet.ours() == []


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("case", "code"),
    [
        ("switched off", "ksc_response_off"),
        ("group template", "ksc_cannot_aim"),
        ("no event", "ksc_response_unconfirmed"),
        ("changed", "ksc_template_changed"),
        ("removed", "ksc_template_missing"),
    ],
)
def test_what_cannot_be_aimed_confirmed_or_trusted_is_refused(
    fleet: KscFleet, case: str, code: str, dry_run: bool
) -> None:
    planted = fleet.plant("ws01", "x.exe", SAMPLE)
    if case == "switched off":
        fleet.rebuild(native_response=False)
    elif case == "group template":
        fleet.world.add_task(template("by group", responds=True, group=7))
        fleet.learn(REPORT, "by group")
    elif case == "no event":
        fleet.rebuild(events={"ioc_found": {"type": "SIM_EV_IOC_FOUND"}})
    elif case == "changed":
        fleet.world.tasks["42"].data["TASK_ADDITIONAL_PARAMS"]["SIM_SCOPE"] = ["SIM_EVERYTHING"]
    else:
        del fleet.world.tasks["42"]
    before = set(fleet.world.tasks)
    events = fleet.run(respond_job(fleet, "ws01", dry_run=dry_run))
    (state,) = of(events, EventKind.STATE)
    assert state.data["state"] == "failed" and state.data["error"]["code"] == code
    assert set(fleet.world.tasks) == before and planted.exists() and outcomes(events) == {}


def test_a_server_that_takes_no_device_lists_is_told_and_nothing_is_widened(fleet: KscFleet) -> None:
    planted = fleet.plant("ws01", "x.exe", SAMPLE)
    fleet.world.device_lists = False
    job = respond_job(fleet, "ws01")
    fleet.ksc.publish(job)
    fleet.ksc.deliver(job.id)
    events, _ = read_all(fleet.ksc, job.id)
    assert fleet.ours() == [] and planted.exists()
    assert of(events, EventKind.STATE)[-1].data["error"]["code"] == "ksc_cannot_aim"


def test_two_copies_are_two_outcomes(fleet: KscFleet) -> None:
    paths = [fleet.plant("ws01", name, SAMPLE) for name in ("a/x.exe", "b/x.exe")]
    events = fleet.run(respond_job(fleet, "ws01", paths={"ws01": paths}))
    assert outcomes(events) == {"m-ws01-0": "quarantined", "m-ws01-1": "quarantined"}


def test_polling_again_tells_the_same(fleet: KscFleet) -> None:
    fleet.plant("ws01", "x.exe", SAMPLE)
    job = respond_job(fleet, "ws01", "ws02")
    fleet.take_offline("ws02")
    first = fleet.run(job)
    again, cursor = read_all(fleet.rebuild(), job.id)
    assert outcomes(first) == outcomes(again) == {"m-ws01-0": "quarantined"}
    assert read_all(fleet.ksc, job.id, cursor)[0] == []


def test_what_nobody_confirms_is_no_success(fleet: KscFleet) -> None:
    job = respond_job(fleet, "ws01")  # nothing is there: the task ends well and quarantines nothing
    events = fleet.run(job)
    assert outcomes(events) == {} and states(events, "ws01")[-1] == "running", "its event may be late"
    _, cursor = read_all(fleet.ksc, job.id)
    fleet.clock.ahead = timedelta(minutes=15)
    later, _ = read_all(fleet.ksc, job.id, cursor)
    assert outcomes(later) == {"m-ws01-0": "failed"} and states(later, "ws01") == ["done"]
    assert of(later, EventKind.RESPONSE)[0].data["code"] == "ksc_not_confirmed"
    assert fleet.ours() == []


def test_a_response_ends_with_its_quarter_of_an_hour(fleet: KscFleet) -> None:
    """A device that comes back later finds no order to delete."""
    planted = fleet.plant("ws02", "x.exe", SAMPLE)
    fleet.take_offline("ws02")
    job = respond_job(fleet, "ws02")
    fleet.run(job)
    fleet.clock.ahead = timedelta(minutes=15)
    other = JOBS.scan_job(fleet, "task2.1")
    fleet.ksc.publish(other)
    fleet.ksc.deliver(other.id)  # any call of the round carries it out
    assert not [task for task in fleet.ours() if "resp-1" in task.name]
    fleet.bring_back("ws02")
    fleet.world.advance(5)
    assert planted.exists()
    assert states(read_all(fleet.ksc, job.id)[0], "ws02") == ["expired"]


def test_a_device_cut_off_at_work_is_not_called_untouched(fleet: KscFleet) -> None:
    fleet.plant("ws01", "x.exe", SAMPLE)
    job = respond_job(fleet, "ws01")
    fleet.run(job, steps=1)
    fleet.clock.ahead = timedelta(minutes=15)
    events, _ = read_all(fleet.ksc, job.id)
    assert of(events, EventKind.STATE)[-1].data["error"]["code"] == "ksc_response_unknown"


def test_taking_a_response_back_stops_it(fleet: KscFleet) -> None:
    """What the kill switch does: cancel, then withdraw."""
    planted = fleet.plant("ws01", "x.exe", SAMPLE)
    job = respond_job(fleet, "ws01")
    fleet.run(job, steps=1)
    fleet.ksc.control(job.id, "cancel")
    assert fleet.ksc.withdraw(job.id).complete and fleet.ours() == []
    fleet.world.advance(5)
    assert planted.exists()


def test_a_quarantine_nobody_asked_for_is_rejected(fleet: KscFleet) -> None:
    fleet.plant("ws01", "x.exe", SAMPLE)
    job = respond_job(fleet, "ws01")
    fleet.run(job, steps=1)
    (task,) = fleet.ours()
    foreign = {"GNRL_EA_PARAM_1": hashlib.sha256(OTHER).hexdigest(), "GNRL_EA_PARAM_2": "C:\\other.exe"}
    fleet.world.add_event(EVENT_QUARANTINED, fleet.world.hosts["ws01"], task, **foreign)
    events, _ = read_all(fleet.ksc, job.id)
    assert outcomes(events) == {}
    assert [e.data["code"] for e in of(events, EventKind.REJECTED)] == ["not_asked"]
