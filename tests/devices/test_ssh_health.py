"""What check_setup learns of a fleet over SSH by asking a few of its devices."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest
from ioc_scan.devices.base import DeviceManager
from ioc_scan.devices.ssh_health import PROBED_DEVICES, sample

from .harness import DEVICES
from .test_ssh import SshFleet


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[SshFleet]:
    fleet = SshFleet(tmp_path)
    yield fleet
    fleet.close()


def test_devices_that_would_take_a_visit_are_no_problem_and_are_left_as_they_were(fleet: SshFleet) -> None:
    health = fleet.manager.health()
    assert (health.ok, health.problems) == (True, ())
    assert [fleet.servers.controls[device].commands for device in DEVICES] == [1, 1, 1]
    for device in DEVICES:
        assert [path for path in fleet.spool(device).rglob("*") if path.is_file()] == []


def test_a_device_that_is_off_is_named_and_stops_nothing(fleet: SshFleet) -> None:
    fleet.take_offline("ws02")
    health = fleet.manager.health()
    (problem,) = health.problems
    assert health.ok and (problem.code, problem.fatal) == ("devices_unreachable", False)
    assert "1 of 3" in problem.message and "ws02" in problem.message and problem.hint


def test_one_device_that_refuses_us_is_its_own_trouble(fleet: SshFleet) -> None:
    fleet.spool("ws02").mkdir(parents=True)
    fleet.spool("ws02").chmod(0o777)
    control = fleet.servers.controls["ws03"]
    control.key = asyncssh.generate_private_key("ssh-ed25519")
    fleet.trust()  # a new key in known_hosts, the old one on the device
    health = fleet.manager.health()
    found = {problem.device_id: (problem.code, problem.fatal) for problem in health.problems}
    assert health.ok
    assert found == {"ws02": ("unsafe_spool", False), "ws03": ("host_key_unknown", False)}


def test_where_every_device_refuses_us_nothing_works(fleet: SshFleet) -> None:
    (fleet.folder / "client_key").write_bytes(
        asyncssh.generate_private_key("ssh-ed25519").export_private_key()
    )
    health = fleet.manager.health()
    assert not health.ok and {problem.code for problem in health.problems} == {"login_refused"}


def many(fleet: SshFleet, number: int) -> DeviceManager:
    """So many devices, all of them answered for by the server of ws01."""
    port = fleet.servers.controls["ws01"].port
    devices = [
        {"id": f"d{n}", "host": "127.0.0.1", "port": port, "spool": str(fleet.folder / "spools" / f"d{n}")}
        for n in range(number)
    ]
    inventory = {"defaults": {"username": "scanner"}, "groups": [{"name": "all", "devices": devices}]}
    manager = fleet.rebuild()
    (fleet.folder / "inventory.json").write_text(json.dumps(inventory))
    return manager


def test_of_many_devices_a_few_are_asked_others_on_other_days(fleet: SshFleet) -> None:
    health = many(fleet, 2000).health()
    assert (health.ok, health.problems) == (True, ())
    assert fleet.servers.controls["ws01"].commands == PROBED_DEVICES
    names = [f"d{n}" for n in range(200)]
    assert sample(names, "2026-03-01") == sample(reversed(names), "2026-03-01")
    assert sample(names, "2026-03-01") != sample(names, "2026-03-02")


def test_a_server_that_says_nothing_is_not_waited_for(fleet: SshFleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        fleet.host_extra = {"ws02": {"port": silent.getsockname()[1]}}
        fleet.extra = {"connect_timeout_seconds": 2}
        begin = time.monotonic()
        health = fleet.rebuild().health()
        assert time.monotonic() - begin < 15
    assert [problem.code for problem in health.problems] == ["devices_unreachable"]


def test_a_fleet_past_what_ssh_is_meant_for_is_warned_of(fleet: SshFleet) -> None:
    health = many(fleet, 2001).health()
    assert health.ok and [(p.code, p.fatal) for p in health.problems] == [("fleet_too_large", False)]
