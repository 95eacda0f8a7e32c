"""The SSH manager: the contract against real servers, and what only it has: host keys, log-in, sudo, jump hosts."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.config import load_config
from ioc_scan.devices import bootstrap, build_manager, build_managers, ssh_round
from ioc_scan.devices.base import DeviceManager, EventKind
from ioc_scan.devices.inventory import load_inventory
from ioc_scan.devices.spooled import Visit
from ioc_scan.devices.ssh import SshManager
from ioc_scan.errors import ConfigError
from ioc_scan.scanner_build import zipapp_bytes

from .contract import ManagerContract
from .harness import DEVICES, SAMPLE, Fleet, MovableClock, of, read_all, states
from .ssh_servers import SshServers


class SshFleet(Fleet):
    server_type: Any = SshServers
    username = "scanner"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = MovableClock()
        self.servers = self.server_type(folder)
        self.extra: dict[str, Any] = {}
        self.host_extra: dict[str, dict[str, Any]] = {}
        for device in DEVICES:
            self.plant(device, "readme.txt", b"nothing of interest")
            self.servers.start(device)
        self.trust()
        self.manager = self.rebuild()

    def trust(self) -> None:
        (self.folder / "known_hosts").write_text(self.servers.known_hosts())

    def config(self) -> dict[str, Any]:
        return {
            "name": "ssh",
            "type": "ssh",
            "spool": str(self.folder / "queue"),
            "inventory_file": str(self.folder / "inventory.json"),
            "known_hosts_file": str(self.folder / "known_hosts"),
            "private_key_file": str(self.folder / "client_key"),
            "connect_timeout_seconds": 30,
            **self.extra,
        }

    def rebuild(self) -> DeviceManager:
        devices = [
            {
                "id": device,
                "host": "127.0.0.1",
                "port": self.servers.controls[device].port,
                "spool": str(self.spool(device)),
                "root": str(self.root(device)),
                **self.host_extra.get(device, {}),
            }
            for device in DEVICES
        ]
        inventory = {
            "defaults": {"username": self.username},
            "groups": [{"name": "servers", "devices": devices}],
        }
        (self.folder / "inventory.json").write_text(json.dumps(inventory))
        return build_manager(self.config(), clock=self.clock)

    def root(self, device: str) -> Path:
        return self.folder / "machines" / device

    def spool(self, device: str) -> Path:
        return self.folder / "spools" / device

    def take_offline(self, device: str) -> None:
        self.servers.stop(device)

    def bring_back(self, device: str) -> None:
        self.servers.start(device)

    def close(self) -> None:
        super().close()
        self.servers.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[SshFleet]:
    fleet = SshFleet(tmp_path)
    yield fleet
    fleet.close()


@pytest.mark.slow
class TestContract(ManagerContract):
    @pytest.fixture
    def fleet(self, tmp_path: Path) -> Iterator[Fleet]:
        fleet = SshFleet(tmp_path)
        yield fleet
        fleet.close()


CONTRACT = ManagerContract()


def first_error(fleet: SshFleet, device: str = "ws01") -> dict[str, str]:
    """Deliver a job to all and return what is said of one device; the others must be done."""
    job = CONTRACT.scan_job(fleet)
    manager = fleet.rebuild()
    manager.publish(job)
    manager.deliver(job.id)
    CONTRACT.finish(fleet, job, [d for d in DEVICES if d != device])
    events, _ = read_all(manager, job.id)
    assert {states(events, d)[-1] for d in DEVICES if d != device} == {"done"}
    (state,) = of(events, EventKind.STATE, device)
    assert state.data["state"] == "failed"
    assert state.data["error"]["hint"]
    return dict(state.data["error"])


def fake_tool(folder: Path, name: str, script: str) -> Path:
    tool = folder / "tools" / name
    tool.parent.mkdir(exist_ok=True)
    tool.write_text("#!/bin/sh\n" + script)
    tool.chmod(0o755)
    return tool


class TestTrust:
    def test_a_changed_host_key_is_an_error_of_that_device_and_nothing_is_sent(self, fleet: SshFleet) -> None:
        control = fleet.servers.controls["ws01"]
        fleet.servers.stop("ws01")
        control.key = fleet.servers.client_key
        fleet.servers.start("ws01")
        assert first_error(fleet)["code"] == "host_key_unknown"
        assert control.commands == 0

    def test_a_host_that_nobody_vouched_for_is_refused(self, fleet: SshFleet) -> None:
        lines = fleet.servers.known_hosts().splitlines(keepends=True)
        (fleet.folder / "known_hosts").write_text("".join(lines[1:]))
        assert first_error(fleet)["code"] == "host_key_unknown"

    def test_a_missing_known_hosts_file_is_an_error_with_a_hint(self, fleet: SshFleet) -> None:
        (fleet.folder / "known_hosts").unlink()
        health = fleet.manager.health()
        assert not health.ok
        assert [(p.code, bool(p.hint)) for p in health.problems] == [("known_hosts_missing", True)]
        job = CONTRACT.scan_job(fleet)
        fleet.manager.publish(job)
        fleet.manager.deliver(job.id)
        assert all(control.commands == 0 for control in fleet.servers.controls.values())

    def test_a_refused_login(self, fleet: SshFleet) -> None:
        fleet.servers.stop("ws01")
        fleet.servers.controls["ws01"].login_key = fleet.servers.controls["ws02"].key
        fleet.servers.start("ws01")
        assert first_error(fleet)["code"] == "login_refused"

    def test_a_password_from_its_file(self, fleet: SshFleet) -> None:
        (fleet.folder / "password").write_text("open sesame\n")
        fleet.extra = {"private_key_file": None, "password_file": str(fleet.folder / "password")}
        fleet.plant("ws01", "x.exe", SAMPLE)
        fleet.manager = fleet.rebuild()
        events = CONTRACT.run(fleet, CONTRACT.scan_job(fleet))
        assert len(of(events, EventKind.MATCH, "ws01")) == 1

    def test_an_unreadable_secret_is_named_and_not_shown(self, fleet: SshFleet) -> None:
        (fleet.folder / "client_key").write_text("open sesame")
        job = CONTRACT.scan_job(fleet)
        manager = fleet.rebuild()
        manager.publish(job)
        manager.deliver(job.id)
        (state, *_) = of(read_all(manager, job.id)[0], EventKind.STATE, "ws01")
        assert state.data["error"]["code"] == "key_unusable"
        assert "sesame" not in json.dumps(dict(state.data))
        (fleet.folder / "client_key").unlink()
        assert [p.code for p in fleet.rebuild().health().problems] == ["secret_unreadable"]


class TestDevices:
    def test_no_python_is_said_of_that_device(self, fleet: SshFleet) -> None:
        fleet.host_extra["ws01"] = {"python": "/nonexistent/python3"}
        assert first_error(fleet)["code"] == "python_missing"

    def test_a_python_too_old_is_passed_over(self, fleet: SshFleet) -> None:
        old = fake_tool(fleet.folder, "python3", "exit 1\n")
        path = f"{old.parent}:{fleet.folder / 'newer'}:/usr/bin:/bin"
        (fleet.folder / "newer").mkdir()
        (fleet.folder / "newer" / "python3.11").symlink_to(Path(sys.executable).resolve())
        fleet.servers.controls["ws01"].environment["PATH"] = path
        events = CONTRACT.run(fleet, CONTRACT.scan_job(fleet, device_ids=["ws01"]))
        assert states(events, "ws01")[-1] == "done"

    def test_the_scanner_is_shipped_once_and_again_if_it_was_damaged(self, fleet: SshFleet) -> None:
        control = fleet.servers.controls["ws01"]
        CONTRACT.place_unstarted(fleet, device_ids=["ws01"])
        size = len(zipapp_bytes())
        assert control.received_bytes > size
        control.received_bytes = 0
        read_all(fleet.manager, "task1.1")
        assert 0 < control.received_bytes < 5000
        (shipped,) = (fleet.spool("ws01") / "scanner").glob("*.pyz")
        assert hashlib.sha256(shipped.read_bytes()).hexdigest() == shipped.stem
        shipped.write_bytes(b"import os; os.abort()")
        control.received_bytes = 0
        read_all(fleet.manager, "task1.1")
        assert control.received_bytes > size
        assert hashlib.sha256(shipped.read_bytes()).hexdigest() == shipped.stem

    @pytest.mark.parametrize("damage", ["cut off", "a module gone", "no list"])
    def test_what_the_scanner_is_unpacked_to_is_made_anew_if_it_is_not_whole(
        self, fleet: SshFleet, damage: str
    ) -> None:
        CONTRACT.place_unstarted(fleet, device_ids=["ws01"])
        (unpacked,) = (path for path in (fleet.spool("ws01") / "scanner").iterdir() if path.is_dir())
        module = unpacked / "ioc_scan_scanner" / "visit.py"
        content = module.read_bytes()
        if damage == "cut off":
            module.write_bytes(b"")
        elif damage == "a module gone":
            module.unlink()
        else:
            (unpacked / "sizes.json").write_text("{")
            module.write_bytes(b"")
        events = CONTRACT.run(fleet, CONTRACT.scan_job(fleet, "task2.1", device_ids=["ws01"]))
        assert states(events, "ws01")[-1] == "done"
        assert module.read_bytes() == content
        assert len(list(unpacked.parent.iterdir())) == 2

    def test_where_it_cannot_be_unpacked_it_runs_from_its_file(
        self, fleet: SshFleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program = bootstrap._PROGRAM.replace("archive.extractall(new)", "raise OSError")
        assert program != bootstrap._PROGRAM
        monkeypatch.setattr(bootstrap, "_PROGRAM", program)
        events = CONTRACT.run(fleet, CONTRACT.scan_job(fleet, device_ids=["ws01"]))
        assert states(events, "ws01")[-1] == "done"
        assert [path.suffix for path in (fleet.spool("ws01") / "scanner").iterdir()] == [".pyz"]

    def test_a_spool_open_to_others_is_refused(self, fleet: SshFleet) -> None:
        fleet.spool("ws01").mkdir(parents=True, mode=0o755)
        fleet.spool("ws01").chmod(0o755)
        assert first_error(fleet)["code"] == "unsafe_spool"

    def test_a_chatty_shell_is_heard_out(self, fleet: SshFleet) -> None:
        fleet.servers.controls["ws01"].banner = b"Welcome to ws01!\r\n\xff\xfe" + b"last login: never\n" * 50
        events = CONTRACT.run(fleet, CONTRACT.scan_job(fleet, device_ids=["ws01"]))
        assert states(events, "ws01")[-1] == "done"

    @pytest.mark.parametrize(
        "instead",
        [
            "exit 0",
            "yes",
            "head -c 3000000 /dev/zero",
            "echo ioc_scan:have; yes",
            "echo ioc_scan:have; cat >/dev/null; echo '[]'",
            "echo ioc_scan:have; cat >/dev/null; echo '{\"protocol\": 1}'",
            'echo ioc_scan:have; cat >/dev/null; echo \'{"protocol": 1, "withdrawn": 7, "held": [], "jobs": {}}\'',
            'echo ioc_scan:need; cat >/dev/null; echo \'{"protocol": 1, "error": {"code": ["x"]}}\'',
        ],
    )
    def test_a_shell_that_is_no_scanner_harms_nobody(self, fleet: SshFleet, instead: str) -> None:
        fleet.servers.controls["ws01"].instead = instead
        fleet.extra = {"visit_timeout_seconds": 10}
        assert first_error(fleet)["code"] in ("shell_unusable", "device_answer_bad")

    def test_a_link_that_drops_mid_visit_is_retried(self, fleet: SshFleet) -> None:
        control = fleet.servers.controls["ws01"]
        control.drop_after_bytes = 3000
        job = CONTRACT.scan_job(fleet, device_ids=["ws01"])
        fleet.manager.publish(job)
        fleet.manager.deliver(job.id)
        assert states(read_all(fleet.manager, job.id)[0], "ws01") == []
        control.drop_after_bytes = None
        fleet.manager.deliver(job.id)
        CONTRACT.finish(fleet, job)

    def test_a_job_that_may_have_arrived_must_be_taken_back(self, fleet: SshFleet) -> None:
        control = fleet.servers.controls["ws01"]
        CONTRACT.place_unstarted(fleet, device_ids=["ws01"])  # the scanner is there: only the visit travels
        control.received_bytes, control.drop_after_bytes = 0, 1500
        job = CONTRACT.scan_job(fleet, "task2.1", device_ids=["ws01"])
        fleet.manager.publish(job)
        fleet.manager.deliver(job.id)
        assert control.received_bytes >= 1500
        fleet.servers.stop("ws01")
        assert fleet.manager.withdraw(job.id).pending == ("ws01",)
        control.drop_after_bytes = None
        fleet.servers.start("ws01")
        assert fleet.manager.withdraw(job.id).complete

    def test_a_device_that_has_said_its_last_word_is_not_asked_again(self, fleet: SshFleet) -> None:
        job = CONTRACT.scan_job(fleet)
        CONTRACT.run(fleet, job)
        before = {d: c.commands for d, c in fleet.servers.controls.items()}
        fleet.manager.deliver(job.id)
        _, cursor = read_all(fleet.manager, job.id)
        after = {d: c.commands for d, c in fleet.servers.controls.items()}
        assert all(after[d] - before[d] == 1 for d in DEVICES), "read once more, from the start, as asked"
        read_all(fleet.manager, job.id, cursor)
        assert {d: c.commands for d, c in fleet.servers.controls.items()} == after

    def test_connections_stay_within_the_limit_per_address(self, fleet: SshFleet) -> None:
        fleet.extra = {"connections_per_address": 1}
        seen: list[int] = []
        count = lambda: sum(len(c.connections) for c in fleet.servers.controls.values())  # noqa: E731
        before = fleet.rebuild()
        assert isinstance(before, SshManager)
        before._carry_out([Visit(d) for d in DEVICES], lambda _: seen.append(count()))
        assert seen == [1, 1, 1]


class TestWays:
    def test_sudo_with_and_without_a_password(self, fleet: SshFleet) -> None:
        sudo = """
asks=0
while [ "$1" != "--" ]; do [ "$1" = "-S" ] && asks=1; [ "$1" = "-n" ] && asks=0; shift; done
shift
if [ $asks = 1 ]; then IFS= read -r given; [ "$given" = "wheel" ] || exit 1; fi
[ -e "$0.forbids" ] && exit 1
exec "$@"
"""
        tool = fake_tool(fleet.folder, "sudo", sudo)
        python = Path(sys.executable).resolve().parent
        for control in fleet.servers.controls.values():
            control.environment["PATH"] = f"{tool.parent}:{python}:/usr/bin:/bin"
        fleet.extra = {"sudo": True}
        fleet.manager = fleet.rebuild()
        CONTRACT.run(fleet, CONTRACT.scan_job(fleet, "no.password"))
        (fleet.folder / "sudo_password").write_text("wheel\n")
        fleet.extra = {"sudo": True, "sudo_password_file": str(fleet.folder / "sudo_password")}
        fleet.manager = fleet.rebuild()
        CONTRACT.run(fleet, CONTRACT.scan_job(fleet, "with.password"))
        (fleet.folder / "sudo_password").write_text("wrong\n")
        job = CONTRACT.scan_job(fleet, "wrong.password")
        fleet.manager.publish(job)
        fleet.manager.deliver(job.id)
        events, _ = read_all(fleet.manager, job.id)
        assert {e.data["error"]["code"] for e in of(events, EventKind.STATE)} == {"sudo_refused"}

    def test_through_a_jump_host(self, fleet: SshFleet) -> None:
        fleet.host_extra = {"ws02": {"jump": "ws01"}, "ws03": {"jump": "ws01"}}
        fleet.manager = fleet.rebuild()
        fleet.plant("ws03", "x.exe", SAMPLE)
        events = CONTRACT.run(fleet, CONTRACT.scan_job(fleet, device_ids=["ws02", "ws03"]))
        assert [e.device_id for e in of(events, EventKind.MATCH)] == ["ws03"]
        assert fleet.servers.controls["ws01"].commands == 0
        fleet.servers.stop("ws01")
        job = CONTRACT.scan_job(fleet, "task2.1", device_ids=["ws02"])
        fleet.manager.publish(job)
        fleet.manager.deliver(job.id)
        assert states(read_all(fleet.manager, job.id)[0], "ws02") == []


def test_a_silent_fleet_holds_up_nothing_and_everybody_has_a_turn(
    fleet: SshFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_round, "CALL_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        devices = [{"id": f"d{n}", "host": "127.0.0.1", "port": port} for n in range(20)]
        fleet.extra = {"connections": 5, "connect_timeout_seconds": 1}
        manager = fleet.rebuild()
        inventory = json.loads((fleet.folder / "inventory.json").read_text())
        inventory["groups"][0]["devices"] = [*devices, inventory["groups"][0]["devices"][0]]
        (fleet.folder / "inventory.json").write_text(json.dumps(inventory))
        names = [device["id"] for device in inventory["groups"][0]["devices"]]
        job = CONTRACT.scan_job(fleet, device_ids=names)
        manager.publish(job)
        deadline = time.monotonic() + 60
        while not fleet.status("ws01", job.id) and time.monotonic() < deadline:
            begin = time.monotonic()
            manager.deliver(job.id)
            assert time.monotonic() - begin < 5
        CONTRACT.finish(fleet, job, ["ws01"])


class TestConfig:
    @pytest.mark.parametrize(
        "change",
        [
            {"name": None},
            {"spool": None},
            {"inventory_file": ""},
            {"known_hosts_file": None},
            {"private_key_file": None},
        ],
    )
    def test_what_must_be_there(self, fleet: SshFleet, change: dict[str, Any]) -> None:
        with pytest.raises(ConfigError) as caught:
            build_manager({**fleet.config(), **change})
        assert caught.value.code == "manager_invalid"
        assert caught.value.hint

    def test_the_library_is_loaded_only_when_it_is_needed(self) -> None:
        code = (
            "import sys; sys.path.insert(0, 'lib'); import ioc_scan.devices, ioc_scan.devices.ssh;"
            "print('asyncssh' in sys.modules)"
        )
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert ran.stdout == "False\n"

    def test_the_pack_configuration_takes_it(self, fleet: SshFleet) -> None:
        config = load_config({"device_managers": [fleet.config()]})
        managers = build_managers(config, clock=fleet.clock)
        assert [d.id for d in managers["ssh"].devices("servers")] == list(DEVICES)


class TestInventory:
    def write(self, folder: Path, text: str, name: str = "inventory.yaml") -> Path:
        path = folder / name
        path.write_text(text)
        return path

    def test_the_example_of_the_docs_loads(self, tmp_path: Path) -> None:
        page = (Path(__file__).parents[2] / "docs" / "devices.md").read_text()
        (example,) = re.findall(r"```yaml\n(# /etc/ioc_scan/inventory.yaml.*?)```", page, re.DOTALL)
        inventory = load_inventory(self.write(tmp_path, example))
        assert [device.id for device in inventory.devices("servers") or []] == ["web01", "db01"]
        assert inventory.hosts["db01"].jump == "gate01"
        assert inventory.hosts["db01"].username == "ioc_scan"

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("groups: [", "not YAML"),
            ("- a\n- b\n", "not an object"),
            ("grups: []\n", "unknown key grups"),
            ("groups: [{devices: []}]", "has no name"),
            ("groups: [{name: g}, {name: g}]", "has no name of its own"),
            ("groups: [{name: g, devices: [{host: h}]}]", "no usable id"),
            ("groups: [{name: g, devices: [{id: ../x}]}]", "no usable id"),
            ("groups: [{name: g, devices: [{id: a}]}]", "described nowhere"),
            ("groups: [{name: g, devices: [{id: a, host: h}, {id: a, host: i}]}]", "described twice"),
            ("groups: [{name: g, devices: [{id: a, host: h, prot: 22}]}]", "unknown key prot"),
            ("groups: [{name: g, devices: [{id: a, host: h, port: 70000}]}]", "port"),
            ("groups: [{name: g, devices: [{id: a, host: h, root: x}]}]", "absolute"),
            ("groups: [{name: g, devices: [{id: a, host: h, os: amiga}]}]", "amiga|os"),
            ("groups: [{name: g, devices: [{id: a, host: h, jump: b}]}]", "jump"),
            ("x: !!python/object/apply:os.system ['true']", "not YAML"),
            ("\x00", "not YAML"),
        ],
    )
    def test_what_is_wrong_is_said(self, tmp_path: Path, text: str, says: str) -> None:
        with pytest.raises(ConfigError, match=says) as caught:
            load_inventory(self.write(tmp_path, text))
        assert caught.value.code == "inventory_invalid"
        assert caught.value.hint

    def test_an_inventory_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as caught:
            load_inventory(tmp_path / "none.yaml")
        assert caught.value.code == "inventory_unreadable"

    def test_ten_thousand_devices_load_in_seconds(self, tmp_path: Path) -> None:
        devices = "".join(f"      - {{id: d{n:05d}, host: 10.0.0.1, tags: [a, b]}}\n" for n in range(10_000))
        path = self.write(tmp_path, "groups:\n  - name: all\n    devices:\n" + devices)
        begin = time.process_time()
        assert len(load_inventory(path).hosts) == 10_000
        assert time.process_time() - begin < 10
