"""A device that speaks for another, floods or replays is held, alone, on every engine with a spool; nothing else is."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from ioc_scan.scanner.plan import load_plan
from ioc_scan.service import collecting, tasks, views
from ioc_scan.service.context import Context

from tests.devices.ssh_servers import SshServers

from .world import DEVICES, RULE, World, events, matches, sample

Lines = list[dict[str, Any] | bytes]


@pytest.fixture(params=["local", pytest.param("ssh", marks=pytest.mark.slow)])
def fleet(request: pytest.FixtureRequest, world: World) -> Iterator[World]:
    """A world whose runs begin later today: jobs are placed, and what devices say of them is ours to write."""
    begin = world.clock() + timedelta(hours=6)
    window = f"{begin:%H:%M}-{begin + timedelta(minutes=4):%H:%M}"  # too short to be spread
    world.config["threat_response_policies"] = [
        world.policy("auto", start="window", start_window=window, start_time_zone="UTC")
    ]
    if request.param == "local":
        yield world
        return
    servers = SshServers(world.folder)
    world.config["device_managers"] = [over_ssh(world, servers)]
    yield world
    servers.close()


def over_ssh(world: World, servers: SshServers) -> dict[str, Any]:
    devices = [
        {
            "id": device,
            "host": "127.0.0.1",
            "port": servers.start(device).port,
            "spool": str(world.folder / "spool" / device),
            "root": str(world.root(device)),
        }
        for device in DEVICES
    ]
    groups = [{"name": "workstations", "devices": devices}]
    (world.folder / "inventory.json").write_text(json.dumps({"groups": groups}))
    (world.folder / "known_hosts").write_text(servers.known_hosts())
    (world.folder / "spool").mkdir(mode=0o700)
    return {
        "name": "ssh",
        "type": "ssh",
        "spool": str(world.folder / "queue"),
        "inventory_file": str(world.folder / "inventory.json"),
        "known_hosts_file": str(world.folder / "known_hosts"),
        "private_key_file": str(world.folder / "client_key"),
        "username": "scanner",
    }


def placed(world: World, context: Context, number: int) -> str:
    """A task whose scan job stands on its devices."""
    task_id = str(world.task_for(context, sample(number), number)["task_id"])
    tasks.start_task(context, task_id, account=RULE)
    return task_id


def says(world: World, device: str, task_id: str, lines: Lines, **status: Any) -> None:
    """Write what the device says of the task's scan, as root there could."""
    folder = world.folder / "spool" / device / "jobs" / f"{task_id}.r1.0"
    raw = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
    (folder / "results.jsonl").write_bytes(raw)
    said = {"protocol": 1, "job_id": folder.name, "device_id": device, "run": 1, "state": "done"}
    (folder / "status.json").write_text(json.dumps({**said, "results_bytes": len(raw), **status}))


def match(world: World, device: str, task_id: str, seq: int = 1, **changes: Any) -> dict[str, Any]:
    """A line as an honest scanner writes it."""
    plan = load_plan(
        (world.folder / "spool" / device / "jobs" / f"{task_id}.r1.0" / "plan.json").read_bytes()
    )
    ioc = next(ioc.digest for ioc in plan.iocs if ioc.tier == "actionable")
    content = sample(int(changes.pop("number", 1)))
    path, digest = world.root(device) / f"found{seq}.exe", hashlib.sha256(content).hexdigest()
    return {
        "type": "match",
        "seq": seq,
        "ioc": ioc,
        "tier": "actionable",
        "document": "FileItem",
        "item": {"FullPath": str(path), "SizeInBytes": len(content), "Sha256sum": digest},
        "item_key": hashlib.sha256(str(seq).encode()).hexdigest(),
        "path": str(path),
        "path_b64": base64.b64encode(os.fsencode(path)).decode(),
        "sha256": digest,
        "size": len(content),
        "device": 1,
        "inode": 1000 + seq,
        "proof": [],
    } | changes


@pytest.mark.parametrize("lie", ["wrong_device", "too_many_rejected", "replayed"])
def test_it_is_held_alone_for_that_job_alone(fleet: World, lie: str) -> None:
    with fleet.context() as context:
        first, second = placed(fleet, context, 1), placed(fleet, context, 2)
        honest = match(fleet, "ws01", first)
        lines: dict[str, Lines] = {
            "wrong_device": [match(fleet, "ws01", first, device_id="ws02"), honest],
            "too_many_rejected": [b"garbage\n" * 20_000, honest],
            "replayed": [honest, honest],
        }
        says(fleet, "ws01", first, lines[lie])
        says(fleet, "ws02", first, [match(fleet, "ws02", first)])
        for _ in range(8):
            collecting.collect(context, first)
        (held,) = events(context, "device_held", task_id=first)
        assert (held["device_id"], held["data"]["code"]) == ("ws01", lie)
        found = {row["device_id"] for row in matches(context, first)}
        assert found == ({"ws01", "ws02"} if lie == "replayed" else {"ws02"})  # said once is said
        assert len(matches(context, first)) == len(found)
        shown = {row["device_id"]: row for row in views.get_task(context, first)["devices"]}
        assert (shown["ws01"]["state"], shown["ws01"]["error_code"]) == ("failed", lie)
        assert (shown["ws02"]["state"], shown["ws02"]["error_code"]) == ("done", None)
        assert "device_held" not in {
            event["type"] for event in events(context, "device_held", device_id="ws02")
        }

        # what it says of this job is read no further, however honest; of another it is
        says(fleet, "ws01", first, [match(fleet, "ws01", first, 7)])
        says(fleet, "ws01", second, [match(fleet, "ws01", second, number=2)])
        for task_id in (first, second):
            collecting.collect(context, task_id)
        assert len(matches(context, first)) == len(found)
        assert [row["device_id"] for row in matches(context, second)] == ["ws01"]
        assert len(events(context, "device_held")) == 1
