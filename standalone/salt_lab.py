"""A Salt master, salt-api and minions on this machine: real processes of a virtualenv of its own.

For the demo, the tests and the benchmark. What runs is what the operator is told to put in place
(``docs/salt/``), but for paths, ports and how often progress is told. Every process is ended by its own id.
"""

from __future__ import annotations

import contextlib
import ctypes
import getpass
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ioc_scan.clock import system_clock
from ioc_scan.devices.salt_api import SaltApi, SaltSettings
from ioc_scan.errors import IocScanError
from ioc_scan.scanner_build import build_zipapp

from standalone.salt_venv import salt_programs

PACK = Path(__file__).resolve().parents[1]
FILES = PACK / "docs" / "salt"
PATIENCE_SECONDS = 180
ACCOUNT = "ioc_scan"


@dataclass(frozen=True)
class Place:
    """What a minion is: a folder tree that stands for its disk, and its spool."""

    machine: Path
    spool: Path


class SaltLab:
    """``places``: the minions by name. ``wrap`` gives words that go before the command of a process, by its name.

    ``root`` must be short (the paths of its sockets may have 107 characters) and empty. Where ``user`` is not
    the present one, ``wrap`` makes the processes run as that user, and the lab's files become his.
    Raises SaltUnavailable.
    """

    def __init__(
        self,
        root: Path,
        places: Mapping[str, Place],
        *,
        address: str = "127.0.0.1",
        user: str | None = None,
        wrap: Callable[[str], Sequence[str]] = lambda _: (),
    ) -> None:
        self.root = root
        self.places = places
        self.address = address
        self.user = user
        self.jobs = root / "jobs"
        self.programs = salt_programs()
        self.password = secrets.token_hex(16)
        self.publish_port, self.return_port, self.api_port = _free_ports(3)
        self._wrap = wrap
        self._token = tempfile.TemporaryDirectory(prefix="salt-token")  # ours, whoever owns the lab
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._write()

    # -- for whoever configures the pack

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def password_file(self) -> Path:
        return self.root / "password"

    # -- files

    def _write(self) -> None:
        root, states = self.root, self.root / "states"
        self.jobs.mkdir(mode=0o700)
        (states / "ioc_scan").mkdir(parents=True)
        build_zipapp(states / "ioc_scan" / "scanner.pyz")
        shutil.copy(FILES / "reactor" / "ioc_scan.sls", root / "reactor.sls")
        self._extend("master", "runners", "pillar")
        for name, text in {
            "password": self.password + "\n",
            "users": f"{ACCOUNT}:{self.password}\nother:{self.password}\n",
        }.items():
            (root / name).write_text(text)
            (root / name).chmod(0o600)
        common = {
            "user": self.user or getpass.getuser(),
            "enable_fqdns_grains": False,
            "log_level": "warning",
            "extension_modules": "/extensions",  # Salt takes these two as below root_dir
            "sock_dir": "/s",
        }
        self._configure("master", self._master() | common)
        for minion, place in self.places.items():
            self._configure(minion, self._minion(minion, place) | common)
            self._extend(minion, "modules", "beacons")
            place.machine.mkdir(parents=True, exist_ok=True)
            place.spool.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.user is not None:
            for folder in (root, *(p.machine for p in self.places.values())):
                self.give(folder)

    def _master(self) -> dict[str, Any]:
        given = yaml.safe_load((FILES / "master.conf").read_text())
        users = {**given["external_auth"]["file"], "^filename": f"{self.root}/users"}
        users["other"] = [{next(iter(self.places)): ["ioc_scan.*"]}]
        return {
            **given,
            "root_dir": f"{self.root}/master-root",
            "interface": self.address,
            "publish_port": self.publish_port,
            "ret_port": self.return_port,
            "auto_accept": True,
            "worker_threads": 3,
            "file_roots": {"base": [f"{self.root}/states"]},
            "ext_pillar": [{"ioc_scan": str(self.jobs)}],
            "reactor": [{"salt/minion/*/start": [f"{self.root}/reactor.sls"]}],
            "external_auth": {"file": users},
            "rest_cherrypy": {"host": "127.0.0.1", "port": self.api_port, "disable_ssl": True},
        }

    def _minion(self, minion: str, place: Place) -> dict[str, Any]:
        return {
            **yaml.safe_load((FILES / "minion.conf").read_text()),
            "id": minion,
            "root_dir": f"{self.root}/{minion}-root",
            "master": self.address,
            "publish_port": self.publish_port,
            "master_port": self.return_port,
            "acceptance_wait_time": 1,
            "random_reauth_delay": 1,
            "recon_default": 200,
            "recon_max": 1000,
            "beacons": {"ioc_scan": [{"interval": 1}, {"progress_seconds": 1}]},
            "ioc_scan": {"spool": str(place.spool), "root": str(place.machine)},
        }

    def _configure(self, name: str, values: dict[str, Any]) -> None:
        file = self.root / name / ("master" if name == "master" else "minion")
        file.parent.mkdir()
        file.write_text(json.dumps(values))  # JSON is YAML

    def _extend(self, name: str, *kinds: str) -> None:
        """What ``saltutil.sync_*`` would do."""
        for kind in kinds:
            folder = self.root / f"{name}-root" / "extensions" / kind
            folder.mkdir(parents=True)
            shutil.copy(FILES / f"_{kind}" / "ioc_scan.py", folder)

    def give(self, path: Path) -> None:
        """What is there to the user of the lab, where it has one."""
        for one in (path, *path.rglob("*")) if self.user is not None else ():
            os.chown(one, *_ids(self.user or ""), follow_symlinks=False)

    # -- processes

    def start(self) -> None:
        self.start_master()
        for minion in self.places:
            self.start_minion(minion)

    def start_master(self) -> None:
        """Master and salt-api; returns when both listen."""
        self._start("master", "salt-master", "master")
        _wait(lambda: _listens(self.address, self.return_port), "the master to listen")
        self._start("api", "salt-api", "master")
        _wait(lambda: _listens("127.0.0.1", self.api_port), "salt-api to listen")

    def start_minion(self, minion: str) -> None:
        self._start(minion, "salt-minion", minion)

    def await_minions(self, names: Sequence[str] = ()) -> None:
        """Returns when all these (or all there are) are connected and do what stands for them."""
        asked = list(names or self.places)
        settings = SaltSettings(
            self.url, ACCOUNT, self.password_file, answer_timeout_seconds=3, spare_seconds=10
        )
        api = SaltApi(settings, Path(self._token.name), clock=system_clock)

        def all_answer() -> bool:
            with contextlib.suppress(IocScanError):
                return api.minions(asked, "sync", {}) == dict.fromkeys(asked, True)
            return False

        _wait(all_answer, "the minions to answer")

    def running(self) -> dict[str, int]:
        """The process ids of the leaders."""
        return {name: process.pid for name, process in self._processes.items()}

    def pause(self, name: str) -> None:
        """Asleep: its connection stands, it answers nothing, and it catches up when it wakes."""
        os.killpg(self._processes[name].pid, signal.SIGSTOP)

    def wake(self, name: str) -> None:
        os.killpg(self._processes[name].pid, signal.SIGCONT)

    def stop(self, *names: str) -> None:
        """End these and what they started; all at once, because each takes seconds to leave."""
        leaving = {name: self._processes.pop(name) for name in names}
        for process in leaving.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)
                process.terminate()
        deadline = time.monotonic() + 3
        for process in leaving.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(deadline - time.monotonic(), 0))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def close(self) -> None:
        self.stop(*self._processes)
        self._token.cleanup()

    def call(self, minion: str, *words: str) -> Any:
        """``salt-call`` on a minion: what whoever is root there can ask of the master."""
        line = [
            str(self.programs / "salt-call"),
            "-c",
            str(self.root / minion),
            "--out=json",
            "--log-level=quiet",
        ]
        done = subprocess.run(
            [*self._wrap(minion), *line, *words], capture_output=True, timeout=PATIENCE_SECONDS, check=True
        )
        return json.loads(done.stdout)["local"]

    def _start(self, name: str, program: str, config: str) -> None:
        with (self.root / f"{name}.out").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [*self._wrap(name), str(self.programs / program), "-c", str(self.root / config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.root,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )


def _ids(user: str) -> tuple[int, int]:
    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid


def _end_with_parent() -> None:
    """Whoever started the lab may be killed: the leaders then end as if told to."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _listens(address: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), 1):
        return True
    return False


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE_SECONDS} s for {what}")
        time.sleep(0.1)
