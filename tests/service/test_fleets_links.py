"""Links that go down under a scan and under a response: real sshd, one network namespace per device.

Needs root and takes two minutes; where namespaces cannot be made the tests are skipped.
"""

from __future__ import annotations

import getpass
import itertools
import json
import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import asyncssh
import pytest
from ioc_scan.service import collection, looking, tasks
from ioc_scan.service.context import Context

from .world import DEVICES, PERSON, RULE, World, count, events, matches, sample, states

SSHD = shutil.which("sshd") or shutil.which("/usr/sbin/sshd")
COPIES = 40
# The kernel takes a namespace's links down some time after its name is gone: no lab uses another's names.
_LABS = itertools.count()
SAMPLE = sample("link", 2 * 2**20)
_CONFIG = """
ListenAddress {address}:22
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
LogLevel ERROR
"""


def _may_make_namespaces() -> bool:
    if os.geteuid() != 0 or SSHD is None or shutil.which("ip") is None:
        return False
    name = f"ioc-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return made


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not _may_make_namespaces(), reason="needs root, ip netns and sshd"),
]


class Lab:
    """A namespace, a link and an sshd for each device; ``cut`` takes a link down for so many seconds."""

    def __init__(self, world: World) -> None:
        self.folder = world.folder / "lab"
        self.servers: list[subprocess.Popen[bytes]] = []
        self.timers: list[threading.Timer] = []
        lab = next(_LABS)
        self.names = {device: f"ioc{os.getpid() % 1_000_000}-{lab}{n}" for n, device in enumerate(DEVICES)}
        self.folder.mkdir()
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd started by root goes before a log-in
        client = asyncssh.generate_private_key("ssh-ed25519")
        key_file = self.folder / "client_key"
        key_file.write_bytes(client.export_private_key())
        key_file.chmod(0o600)
        known, inventory = [], []
        for number, device in enumerate(DEVICES):
            address = f"198.18.{os.getpid() % 250}.{(lab * len(DEVICES) + number) * 4 + 2}"
            key = asyncssh.generate_private_key("ssh-ed25519")
            known.append(f"{address} {key.export_public_key().decode().strip()}")
            place = {"root": str(world.root(device)), "spool": str(world.folder / "spool" / device)}
            inventory.append({"id": device, "host": address, **place})
            self._start(device, address, key, client)
        (world.folder / "spool").mkdir(mode=0o700)
        (self.folder / "known_hosts").write_text("\n".join(known) + "\n")
        groups = {"groups": [{"name": "workstations", "devices": inventory}]}
        (self.folder / "inventory.json").write_text(json.dumps(groups))
        world.config["device_managers"] = [
            {
                "name": "ssh",
                "type": "ssh",
                "spool": str(self.folder / "queue"),
                "inventory_file": str(self.folder / "inventory.json"),
                "known_hosts_file": str(self.folder / "known_hosts"),
                "private_key_file": str(key_file),
                "username": getpass.getuser(),
                "connect_timeout_seconds": 5,
                "visit_timeout_seconds": 15,
            }
        ]

    def _start(self, device: str, address: str, key: asyncssh.SSHKey, client: asyncssh.SSHKey) -> None:
        name, (net, last) = self.names[device], address.rsplit(".", 1)
        _ip(f"netns add {name}")
        _ip(f"link add {name} type veth peer name eth0 netns {name}")
        _ip(f"addr add {net}.{int(last) - 1}/30 dev {name}")
        _ip(f"link set {name} up")
        _ip(f"-n {name} addr add {address}/30 dev eth0")
        _ip(f"-n {name} link set eth0 up")
        home = self.folder / device
        home.mkdir()
        (home / "host_key").write_bytes(key.export_private_key())
        (home / "host_key").chmod(0o600)
        (home / "authorized_keys").write_bytes(client.export_public_key())
        (home / "config").write_text(_CONFIG.format(address=address, folder=home))
        command = [
            "ip",
            "netns",
            "exec",
            name,
            str(SSHD),
            "-D",
            "-f",
            str(home / "config"),
            "-E",
            str(home / "log"),
        ]
        self.servers.append(subprocess.Popen(command))

    def cut(self, device: str, seconds: float) -> None:
        """From now on nothing passes, as if the cable were out; connections that stand hang."""
        name = self.names[device]
        _ip(f"-n {name} link set eth0 down")
        timer = threading.Timer(seconds, _ip, [f"-n {name} link set eth0 up"])
        timer.start()
        self.timers.append(timer)

    def close(self) -> None:
        for timer in self.timers:
            timer.cancel()
        for server in self.servers:
            server.terminate()
            server.wait(10)
        for name in self.names.values():
            for what in ("link", "netns"):
                with suppress(subprocess.CalledProcessError):
                    _ip(f"{what} del {name}")


def _ip(arguments: str) -> None:
    subprocess.run(["ip", *arguments.split()], check=True, capture_output=True)


@pytest.fixture
def lab(world: World) -> Iterator[Lab]:
    lab = Lab(world)
    for device in DEVICES:
        for number in range(COPIES):
            world.plant(device, f"{number % 7}/{number}.exe", SAMPLE)
    world.config["threat_response_policies"] = [world.policy("ask", cpu_percent=1)]
    yield lab
    lab.close()


def rounds_until(world: World, context: Context, condition: object, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "in time"
        world.catch_up()
        collection.collect_results(context)
        time.sleep(0.5)


def coverage(context: Context, task_id: str) -> dict[str, int]:
    return dict(looking.get_coverage(context, task_id)["coverage"])


def test_links_down_20_and_75_seconds_under_a_scan(world: World, lab: Lab) -> None:
    with world.context() as context:
        task_id = str(world.task_for(context, SAMPLE)["task_id"])
        tasks.start_task(context, task_id, account=RULE)
        lab.cut("ws01", 20)  # they have the job and scan
        lab.cut("ws02", 75)
        began = time.monotonic()
        rounds_until(world, context, lambda: coverage(context, task_id)["answered"] == 3, 240)
        assert time.monotonic() - began >= 60  # ws02 could not have said so before
        assert collection.await_results(context, task_id)["state"] == "completed"
        found = Counter(row["device_id"] for row in matches(context, task_id, tier="actionable"))
        assert found == dict.fromkeys(DEVICES, COPIES)
        told = events(context, "match_found", task_id=task_id)
        assert sum(event["data"]["matches"] for event in told) == count(context, "matches")
        assert len(events(context, "device_done", task_id=task_id)) == 3
        assert events(context, "device_failed", task_id=task_id) == []


def test_a_link_down_20_seconds_under_a_response(world: World, lab: Lab) -> None:
    world.config["threat_response_policies"] = [world.policy("ask")]
    world.config["response"] = {"max_files_per_device": 100, "max_files_per_task": 500}
    with world.context() as context:
        task_id = str(world.task_for(context, SAMPLE)["task_id"])
        tasks.start_task(context, task_id, account=RULE)
        rounds_until(world, context, lambda: coverage(context, task_id)["answered"] == 3, 90)
        threading.Timer(1.0, lab.cut, ["ws01", 20]).start()  # while it acts, or before it has told
        world.respond(context, task_id, account=PERSON)
        rounds_until(world, context, lambda: states(context, task_id) == ["quarantined"] * (3 * COPIES), 200)
        assert count(context, "quarantine") == 3 * COPIES
        assert len(events(context, "object_quarantined")) == 3 * COPIES
        assert not list(world.folder.glob("machines/*/*/*.exe"))
