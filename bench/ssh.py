"""Many devices over SSH: the pack's manager, and ansible-core doing the same work in the same run.

    .venv/bin/python -m bench.ssh [--devices 200] [--pair 50] [--rounds 3] [--write]

Every device is an OpenSSH server of its own, on an address of its own in 127.0.0.0/8, with a spool and a folder tree
of its own; nothing is in the start-up files of its shell. Beside ansible both bring the scanner and a plan to devices
that have neither, scan that tree, and fetch the results; a round counts only if both found exactly what was planted.
Devices and client share this machine's processors.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import asyncssh
from ioc_scan.devices import build_manager
from ioc_scan.devices.base import EventKind, Job, JobKind
from ioc_scan.scanner_build import build_zipapp

from bench.peers import Peers
from bench.scanner import FOLDER
from tests.devices.plans import make_plan

RESULTS = Path(__file__).with_name("ssh_results.md")
SAMPLE = b"a harmless sample" + bytes(range(256)) * 40
#: Files of a device, and how often one of them is the sample.
FILES, PLANTED_EVERY = 200, 5
LIMIT = 25
#: Pause between two looks at devices that have not ended; the service's is 0.2 s within a look of 3.5 s.
PAUSE_SECONDS = 0.2
#: What a device's own search finds first; ansible is told, so that it need not search.
PYTHON = shutil.which("python3", path=os.defpath) or "python3"
_SSHD = """
Port 2222
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile {home}/sshd.pid
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
LogLevel ERROR
SetEnv HOME={home}
"""
_PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - copy: {{src: {folder}/scanner.pyz, dest: "{{{{ spool }}}}/scanner.pyz", mode: "0600"}}
    - copy: {{src: {folder}/plan.json, dest: "{{{{ spool }}}}/plan.json", mode: "0600"}}
    - shell: >-
        {python} -I scanner.pyz scan --plan plan.json --root {{{{ root }}}} > results.jsonl
      args: {{chdir: "{{{{ spool }}}}"}}
    - fetch: {{src: "{{{{ spool }}}}/results.jsonl", dest: "{folder}/fetched/{{{{ inventory_hostname }}}}", flat: true}}
"""
_ANSIBLE = """
[defaults]
forks = {limit}
[ssh_connection]
pipelining = True
"""


class Lab:
    """So many devices, listening."""

    def __init__(self, folder: Path, devices: int) -> None:
        self.folder = folder
        self.names = [f"ws{number:03}" for number in range(devices)]
        for name in ("host_key", "client_key"):
            key = asyncssh.generate_private_key("ssh-ed25519")
            (folder / name).write_bytes(key.export_private_key())
            (folder / name).chmod(0o600)
            (folder / f"{name}.pub").write_bytes(key.export_public_key())
        shutil.copy(folder / "client_key.pub", folder / "authorized_keys")
        host_key = (folder / "host_key.pub").read_text()
        (folder / "known_hosts").write_text(
            "".join(f"[{self.address(n)}]:2222 {host_key}" for n in self.names)
        )
        self.plan = make_plan(SAMPLE, hunt_names=("dropper.exe",))
        (folder / "plan.json").write_bytes(self.plan)
        build_zipapp(folder / "scanner.pyz")
        for number, name in enumerate(self.names):
            self._make(name, planted=number % PLANTED_EVERY == 0)

    def address(self, name: str) -> str:
        number = int(name[2:])
        return f"127.7.{number // 250}.{number % 250 + 1}"

    def root(self, name: str) -> Path:
        return self.folder / "machines" / name

    def spool(self, name: str) -> Path:
        return self.folder / "spools" / name

    def planted(self, devices: int) -> set[str]:
        return set(self.names[:devices:PLANTED_EVERY])

    def _make(self, name: str, planted: bool) -> None:
        root = self.root(name)
        for number in range(FILES):
            path = root / f"folder{number % 10}" / f"file{number}.dat"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"%d" % number * (50 * number + 1))
        if planted:
            (root / "folder3" / "invoice.exe").write_bytes(SAMPLE)
        home = self.folder / "sshd" / name
        home.mkdir(parents=True)
        (home / "config").write_text(_SSHD.format(address=self.address(name), folder=self.folder, home=home))

    def start(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        sshd = shutil.which("sshd") or "/usr/sbin/sshd"
        for name in self.names:
            home = self.folder / "sshd" / name
            subprocess.run([sshd, "-f", str(home / "config"), "-E", str(home / "log")], check=True)
        for name in self.names:
            deadline = time.monotonic() + 30
            while socket.socket().connect_ex((self.address(name), 2222)):
                assert time.monotonic() < deadline, f"{name} does not listen"
                time.sleep(0.05)

    def stop(self) -> None:
        for pid_file in self.folder.glob("sshd/*/sshd.pid"):
            os.kill(int(pid_file.read_text()), signal.SIGTERM)

    def clear(self, devices: int, scanner: bool) -> None:
        """Spools without a plan or results, and without a scanner either unless it shall be there."""
        for name in self.names[:devices]:
            for part in ("jobs", "done") if scanner else ("",):
                shutil.rmtree(self.spool(name) / part, ignore_errors=True)
            self.spool(name).mkdir(parents=True, mode=0o700, exist_ok=True)
        for name in ("queue", "fetched"):
            shutil.rmtree(self.folder / name, ignore_errors=True)


# ------------------------------------------------------------------------------------------------- ours


def scan(lab: Lab, devices: int, scanner: bool = False) -> tuple[float, int]:
    """From a job to the last result, in a process of its own as an action has; seconds, and MB at most."""
    lab.clear(devices, scanner)
    inventory = [
        {
            "id": name,
            "host": lab.address(name),
            "port": 2222,
            "spool": str(lab.spool(name)),
            "root": str(lab.root(name)),
        }
        for name in lab.names[:devices]
    ]
    groups = [{"name": "all", "devices": inventory}]
    (lab.folder / "inventory.json").write_text(json.dumps({"groups": groups}))
    spawn = multiprocessing.get_context("spawn")
    mine, theirs = spawn.Pipe(duplex=False)
    child = spawn.Process(target=_client, args=(lab.folder, lab.names[:devices], lab.plan, theirs))
    child.start()
    theirs.close()
    seconds, memory, found = mine.recv()
    child.join()
    assert found == lab.planted(devices), f"found on {sorted(found)}"
    return seconds, memory


def _client(folder: Path, names: list[str], plan: bytes, pipe: Any) -> None:
    entry = {
        "name": "ssh",
        "type": "ssh",
        "spool": str(folder / "queue"),
        "inventory_file": str(folder / "inventory.json"),
        "known_hosts_file": str(folder / "known_hosts"),
        "private_key_file": str(folder / "client_key"),
        "username": "root",
        "connections": LIMIT,
    }
    now = datetime.now(timezone.utc)
    manager = build_manager(entry)
    job = Job(
        id="task1.1",
        kind=JobKind.SCAN,
        task_id="task1",
        run=1,
        device_ids=names,
        not_before=now - timedelta(seconds=5),
        not_after=now + timedelta(days=1),
        plan=plan,
        plan_digest=hashlib.sha256(plan).hexdigest(),
        settings={"scope": "all"},
    )
    started = time.perf_counter()
    manager.publish(job)
    manager.deliver(job.id)
    ended, found, cursor = set(), set(), None
    while len(ended) < len(names):
        events, cursor = manager.poll(job.id, cursor)
        found |= {event.device_id for event in events if event.kind is EventKind.MATCH}
        states = [event for event in events if event.kind is EventKind.STATE]
        assert not any(event.data["state"] == "failed" for event in states), states[0].data
        ended |= {event.device_id for event in states if event.data["state"] == "done"}
        if len(ended) < len(names) and not cursor.get("more"):
            time.sleep(PAUSE_SECONDS)
    seconds = time.perf_counter() - started
    pipe.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, found))


# ----------------------------------------------------------------------------------------------- ansible


def play(lab: Lab, devices: int, peers: Peers) -> float | None:
    """The same by a playbook; None where ansible is not installed."""
    lab.clear(devices, scanner=False)
    folder = lab.folder
    lines = [
        f"{name} ansible_host={lab.address(name)} spool={lab.spool(name)} root={lab.root(name)}"
        for name in lab.names[:devices]
    ]
    shared = {
        "ansible_port": 2222,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": folder / "client_key",
        "ansible_python_interpreter": PYTHON,
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={folder}/known_hosts",
    }
    lines += ["[all:vars]", *(f"{name}='{value}'" for name, value in shared.items())]
    (folder / "hosts.ini").write_text("\n".join(lines) + "\n")
    (folder / "play.yaml").write_text(_PLAYBOOK.format(folder=folder, python=PYTHON))
    (folder / "ansible.cfg").write_text(_ANSIBLE.format(limit=LIMIT))
    command = peers.ansible(folder / "hosts.ini", folder / "play.yaml")
    if command is None:
        return None
    environment = os.environ | {"ANSIBLE_CONFIG": str(folder / "ansible.cfg"), "HOME": str(folder)}
    started = time.perf_counter()
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    assert answer.returncode == 0, answer.stdout[-2000:] + answer.stderr[-2000:]
    fetched = {path.name: path.read_bytes() for path in (folder / "fetched").iterdir()}
    assert len(fetched) == devices
    assert {name for name, raw in fetched.items() if b"invoice.exe" in raw} == lab.planted(devices)
    return seconds


# ------------------------------------------------------------------------------------------------- table


def measure(lab: Lab, options: argparse.Namespace, peers: Peers) -> list[tuple[str, str, str, bool | None]]:
    rows: list[tuple[str, str, str, bool | None]] = []
    first = [scan(lab, options.devices) for _ in range(options.rounds)]
    later = [scan(lab, options.devices, scanner=True) for _ in range(options.rounds)]
    work = f"scan {options.devices} devices, at most {LIMIT} connections"
    seconds, memory = statistics.median(part[0] for part in later), max(part[1] for part in first + later)
    rows.append((work, f"{seconds:.1f} s", "<= 25 s", seconds <= 25))
    seconds = statistics.median(part[0] for part in first)
    rows.append(("the same, bringing them the scanner", f"{seconds:.1f} s", "", None))
    rows.append(("memory of the client at most", f"{memory} MB", "<= 100 MB", memory <= 100))
    ours, theirs = [], []
    for _ in range(options.rounds):
        ours.append(scan(lab, options.pair)[0])
        took = play(lab, options.pair, peers)
        if took is None:
            return [*rows, ("ansible-core", "not installed: python -m bench.peers", "", None)]
        theirs.append(took)
    ratio = statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
    pair = f"{statistics.median(ours):.1f} s and {statistics.median(theirs):.1f} s"
    rows.append((f"{options.pair} devices, ours and ansible's", pair, "", None))
    rows.append(("ours / ansible's, median of the pairs", f"{ratio:.3f}", "<= 0.2", ratio <= 0.2))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", type=int, default=200)
    parser.add_argument("--pair", type=int, default=50, help="devices scanned by both")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    peers = Peers(FOLDER)
    with tempfile.TemporaryDirectory(prefix="ioc-bench-") as name:
        lab = Lab(Path(name), max(options.devices, options.pair))
        try:
            lab.start()
            rows = measure(lab, options, peers)
        finally:
            lab.stop()
    lines = [
        "# Many devices over SSH",
        "",
        f"{datetime.now(timezone.utc):%Y-%m-%d}, {platform.platform()}, {os.cpu_count()} processors, "
        f"Python {platform.python_version()}, {peers.versions().get('ansible', 'no ansible')}. "
        f"`{' '.join(['python -m bench.ssh', *sys.argv[1:]])}`: medians of {options.rounds} rounds, "
        f"load average at the end {os.getloadavg()[0]:.1f}.",
        "",
        "| work | seen | aim | |",
        "| --- | --- | --- | --- |",
        *(
            f"| {what} | {seen} | {aim} | {'' if met is None else 'met' if met else 'MISSED'} |"
            for what, seen, aim, met in rows
        ),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.write:
        RESULTS.write_text(text, encoding="utf-8")
    return 1 if any(met is False for *_, met in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
