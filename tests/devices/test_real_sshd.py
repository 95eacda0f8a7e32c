"""The SSH manager against OpenSSH's own server: the parts of the contract where another server could differ."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from ioc_scan.devices.base import EventKind

from .contract import ManagerContract
from .harness import DEVICES, SAMPLE, Fleet, of, read_all, states
from .test_ssh import SshFleet

SSHD = shutil.which("sshd") or shutil.which("/usr/sbin/sshd")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SSHD is None, reason="no sshd here: apt-get install openssh-server"),
]

_CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile {folder}/sshd.pid
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 10:30:100
LogLevel ERROR
"""


class RealServers:
    """As SshServers, with one OpenSSH process per device."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.client_key = asyncssh.generate_private_key("ssh-ed25519")
        (folder / "client_key").write_bytes(self.client_key.export_private_key())
        (folder / "client_key").chmod(0o600)
        self.controls: dict[str, Any] = {}

    def start(self, device: str) -> None:
        home = self.folder / "sshd" / device
        if device not in self.controls:
            home.mkdir(parents=True)
            key = asyncssh.generate_private_key("ssh-ed25519")
            (home / "host_key").write_bytes(key.export_private_key())
            (home / "host_key").chmod(0o600)
            (home / "authorized_keys").write_bytes(self.client_key.export_public_key())
            self.controls[device] = type("Control", (), {"port": _free_port(), "key": key})()
        port = self.controls[device].port
        (home / "config").write_text(_CONFIG.format(port=port, folder=home))
        subprocess.run([str(SSHD), "-f", str(home / "config"), "-E", str(home / "log")], check=True)
        _wait_for_port(port, True)

    def stop(self, device: str) -> None:
        pid_file = self.folder / "sshd" / device / "sshd.pid"
        if pid_file.exists():
            os.kill(int(pid_file.read_text()), signal.SIGTERM)
            _wait_for_port(self.controls[device].port, False)

    def close(self) -> None:
        for device in self.controls:
            self.stop(device)

    def known_hosts(self) -> str:
        return "".join(
            f"[127.0.0.1]:{c.port} {c.key.export_public_key().decode().strip()}\n"
            for c in self.controls.values()
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_port(port: int, wanted: bool) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if (probe.connect_ex(("127.0.0.1", port)) == 0) is wanted:
                return
        time.sleep(0.05)
    raise AssertionError(f"port {port} is not {'open' if wanted else 'closed'}")


class RealFleet(SshFleet):
    server_type = RealServers
    username = getpass.getuser()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[RealFleet]:
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd started by root goes before a log-in
    fleet = RealFleet(tmp_path)
    yield fleet
    fleet.close()


CONTRACT = ManagerContract()

#: Where the server matters: starting, leaving running, coming back, ending, reading odd bytes.
TESTS = [
    ManagerContract.test_a_scan_finds_what_is_there_and_says_where,
    ManagerContract.test_a_device_that_was_off_gets_it_later,
    ManagerContract.test_pause_resume_cancel,
    ManagerContract.test_a_device_that_dies_mid_scan_goes_on_where_it_was,
    ManagerContract.test_quarantine_and_back,
    ManagerContract.test_withdrawal_takes_the_job_from_every_device,
    ManagerContract.test_unreachable_devices_stay_pending_until_they_return,
    ManagerContract.test_garbage_is_counted_and_survived,
    ManagerContract.test_a_flood_is_held_alone,
]


@pytest.mark.parametrize("test", TESTS, ids=lambda test: test.__name__.removeprefix("test_"))
def test_contract(fleet: Fleet, test: Any) -> None:
    test(CONTRACT, fleet)


def test_the_scan_outlives_its_session_and_a_server_that_restarts(fleet: RealFleet) -> None:
    job = CONTRACT.slow_job(fleet, "ws01")
    fleet.manager.publish(job)
    fleet.manager.deliver(job.id)
    fleet.servers.stop("ws01")
    CONTRACT.finish(fleet, job)
    fleet.servers.start("ws01")
    assert len(of(read_all(fleet.manager, job.id)[0], EventKind.MATCH)) == 2


def test_a_key_that_may_not_log_in(fleet: RealFleet) -> None:
    (fleet.folder / "sshd" / "ws01" / "authorized_keys").write_text("")
    fleet.plant("ws02", "x.exe", SAMPLE)
    job = CONTRACT.scan_job(fleet)
    fleet.manager.publish(job)
    fleet.manager.deliver(job.id)
    CONTRACT.finish(fleet, job, [d for d in DEVICES if d != "ws01"])
    events, _ = read_all(fleet.manager, job.id)
    assert [e.data["error"]["code"] for e in of(events, EventKind.STATE, "ws01")] == ["login_refused"]
    assert states(events, "ws02")[-1] == "done"
