"""The local manager: the contract, and what only it has: folder trees, this machine, its health."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ioc_scan import scanner_build
from ioc_scan.devices import build_manager, build_managers
from ioc_scan.devices.base import DeviceManager, EventKind
from ioc_scan.errors import ConfigError, NotFoundError

from .contract import ManagerContract
from .harness import (
    DEVICES,
    SAMPLE,
    Fleet,
    MovableClock,
    of,
    read_all,
    states,
    wait_for,
)


class LocalFleet(Fleet):
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = MovableClock()
        for device in DEVICES:
            self.plant(device, "readme.txt", b"nothing of interest")
        self.manager = self.rebuild()

    def config(self) -> dict[str, Any]:
        devices = [{"id": d, "root": str(self.root(d)), "os": "linux", "tags": []} for d in DEVICES]
        return {
            "name": "local",
            "type": "local",
            "spool": str(self.folder / "spool"),
            "groups": [{"name": "workstations", "devices": devices}],
        }

    def root(self, device: str) -> Path:
        return self.folder / "machines" / device

    def spool(self, device: str) -> Path:
        return self.folder / "spool" / device

    def rebuild(self) -> DeviceManager:
        return build_manager(self.config(), clock=self.clock)

    def take_offline(self, device: str) -> None:
        self.root(device).rename(self.folder / f"{device}.away")

    def bring_back(self, device: str) -> None:
        (self.folder / f"{device}.away").rename(self.root(device))


class TestContract(ManagerContract):
    @pytest.fixture
    def fleet(self, tmp_path: Path) -> Iterator[Fleet]:
        fleet = LocalFleet(tmp_path)
        yield fleet
        fleet.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[LocalFleet]:
    fleet = LocalFleet(tmp_path)
    yield fleet
    fleet.close()


CONTRACT = ManagerContract()


class TestFolderTrees:
    def test_a_folder_that_vanishes_mid_scan_is_a_failed_device_and_no_clean_one(
        self, fleet: LocalFleet
    ) -> None:
        job = CONTRACT.slow_job(fleet, "ws01")
        fleet.manager.publish(job)
        fleet.manager.deliver(job.id)
        wait_for(lambda: fleet.status("ws01", job.id).get("state") == "running", "the scan to run")
        fleet.take_offline("ws01")
        CONTRACT.finish(fleet, job)
        events, _ = read_all(fleet.manager, job.id)
        assert states(events, "ws01")[-1] == "failed"
        assert of(events, EventKind.STATE)[-1].data["error"]["code"] == "root_vanished"

    def test_a_device_taken_out_of_config_is_still_withdrawn_from(self, fleet: LocalFleet) -> None:
        job = CONTRACT.place_unstarted(fleet)
        smaller = fleet.config()
        smaller["groups"][0]["devices"].pop(0)
        manager = build_manager(smaller, clock=fleet.clock)
        assert manager.withdraw(job.id).complete
        assert not fleet.job_folder("ws01", job.id).exists()

    def test_a_scan_may_not_leave_its_folder_tree(self, fleet: LocalFleet) -> None:
        outside = fleet.plant("ws02", "x.exe", SAMPLE)
        settings = {"scope": "custom", "roots": [str(outside.parent)]}
        events = CONTRACT.run(fleet, CONTRACT.scan_job(fleet, device_ids=["ws01"], settings=settings))
        assert states(events, "ws01")[-1] == "failed"
        assert of(events, EventKind.MATCH) == []

    def test_odd_names_are_found_and_their_bytes_kept(self, fleet: LocalFleet) -> None:
        names = [
            b"new\nline.exe",
            b"{{ 7*7 }}<% 1+1 %>.exe",
            b"\xff\xfe.exe",
            b" lead and trail ",
            b"a" * 250,
        ]
        for name in names:
            path = os.fsencode(fleet.root("ws01")) + b"/odd/" + name
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as stream:
                stream.write(SAMPLE)
        events = CONTRACT.run(fleet, CONTRACT.scan_job(fleet, device_ids=["ws01"]))
        found = {os.path.basename(base64.b64decode(e.data["path_b64"])) for e in of(events, EventKind.MATCH)}
        assert found == set(names)

    def test_a_spool_open_to_others_is_refused_and_said_so(self, fleet: LocalFleet) -> None:
        job = CONTRACT.place_unstarted(fleet, device_ids=["ws01"])
        fleet.spool("ws01").chmod(0o755)
        other = CONTRACT.scan_job(fleet, "task2.1", device_ids=["ws01", "ws02"])
        fleet.manager.publish(other)
        fleet.manager.deliver(other.id)
        CONTRACT.finish(fleet, other, ["ws02"])
        events, _ = read_all(fleet.manager, other.id)
        assert states(events, "ws02")[-1] == "done"
        (state,) = of(events, EventKind.STATE, "ws01")
        assert (state.data["state"], state.data["error"]["code"]) == ("failed", "unsafe_spool")
        fleet.spool("ws01").chmod(0o700)
        fleet.manager.deliver(other.id)
        CONTRACT.finish(fleet, other, ["ws01"])
        assert fleet.manager.withdraw(job.id).complete


class TestHealth:
    def test_a_spool_folder_open_to_others(self, fleet: LocalFleet) -> None:
        CONTRACT.place_unstarted(fleet)
        (fleet.folder / "spool").chmod(0o755)
        health = fleet.manager.health()
        assert not health.ok
        assert {problem.code for problem in health.problems} == {"unsafe_spool"}
        assert all(problem.hint for problem in health.problems)

    def test_absent_devices_are_named_and_no_failure(self, fleet: LocalFleet) -> None:
        fleet.take_offline("ws03")
        health = fleet.manager.health()
        assert health.ok
        assert [(p.code, p.device_id) for p in health.problems] == [("device_offline", "ws03")]

    @pytest.mark.parametrize(("number", "warned"), [(50, False), (51, True)])
    def test_more_folder_trees_than_one_machine_is_meant_for(
        self, tmp_path: Path, number: int, warned: bool
    ) -> None:
        devices = [{"id": f"ws{n}", "root": str(tmp_path)} for n in range(number)]
        spool = tmp_path / "spool"
        entry = {"name": "local", "type": "local", "spool": str(spool)}
        manager = build_manager(entry | {"groups": [{"name": "all", "devices": devices}]})
        assert ("fleet_too_large" in {problem.code for problem in manager.health().problems}) is warned

    @pytest.mark.root
    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a mount namespace")
    def test_a_private_tmp_is_noticed_and_not_called_clean(self, tmp_path: Path) -> None:
        """As systemd's PrivateTmp=true does it: folders named systemd-private-* mounted over both."""
        private = Path("/var/lib") / f"systemd-private-test-{os.getpid()}"
        script = f"""
set -e
mkdir -p {private}/a {private}/b {private}/spool
cp -r {Path.cwd()}/lib {private}/lib
mount --bind {private}/a /tmp && mount --bind {private}/b /var/tmp
cd {private} && exec {_base_python()} -c '
import sys
sys.path.insert(0, "lib")
from ioc_scan.devices import build_manager
from ioc_scan.scanner.scope import Scope
machine = {{"name": "m", "devices": [{{"id": "self", "root": None}}]}}
entry = {{"name": "local", "type": "local", "spool": "{private}/spool/s", "groups": [machine]}}
print([p.code for p in build_manager(entry).health().problems])
scope = Scope({{"scope": "critical"}}, None, [])
print(scope.not_evaluated, [r for r in scope.roots if r.endswith("tmp")], scope.excluded("/tmp"))
'"""
        try:
            ran = subprocess.run(
                ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False
            )
        finally:
            shutil.rmtree(private, ignore_errors=True)
        if "unshare" in ran.stderr or "mount:" in ran.stderr:
            pytest.skip("this container may not mount")
        assert ran.stdout.splitlines() == [
            "['private_tmp']",
            "[('/tmp', 'private_tmp'), ('/var/tmp', 'private_tmp')] [] private_tmp",
        ], ran.stderr


def _base_python() -> str:
    """An interpreter outside the virtualenv: that may lie under the /tmp that gets covered."""
    return str(getattr(sys, "_base_executable", sys.executable))


class TestConfig:
    def test_every_type_is_built_by_name(self, fleet: LocalFleet) -> None:
        managers = build_managers({"device_managers": [fleet.config(), {**fleet.config(), "name": "second"}]})
        assert list(managers) == ["local", "second"]
        assert build_managers({}) == {}

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"type": "telepathy"}, "manager_type_unknown"),
            ({"type": None}, "manager_type_unknown"),
            ({"name": ""}, "manager_invalid"),
            ({"name": "../x"}, "manager_invalid"),
            ({"spool": None}, "manager_invalid"),
            ({"groups": [{"devices": []}]}, "group_invalid"),
            ({"groups": [{"name": "g", "devices": [{"id": "../x", "root": None}]}]}, "device_invalid"),
            ({"groups": [{"name": "g", "devices": [{"id": ".manager", "root": None}]}]}, "device_invalid"),
            ({"groups": [{"name": "g", "devices": [{"id": "a", "root": "relative"}]}]}, "device_invalid"),
            (
                {
                    "groups": [
                        {"name": "g", "devices": [{"id": "a", "root": "/x"}, {"id": "a", "root": "/y"}]}
                    ]
                },
                "device_twice",
            ),
        ],
    )
    def test_a_wrong_entry_says_what_is_wrong(
        self, fleet: LocalFleet, change: dict[str, Any], code: str
    ) -> None:
        with pytest.raises(ConfigError) as caught:
            build_manager({**fleet.config(), **change})
        assert caught.value.code == code
        assert caught.value.hint

    def test_managers_that_share_a_folder_keep_their_memories_apart(self, fleet: LocalFleet) -> None:
        other = build_manager({**fleet.config(), "name": "second"}, clock=fleet.clock)
        job = CONTRACT.place_unstarted(fleet)
        with pytest.raises(NotFoundError):
            other.deliver(job.id)

    def test_two_managers_of_one_name_are_refused(self, fleet: LocalFleet) -> None:
        with pytest.raises(ConfigError) as caught:
            build_managers([fleet.config(), fleet.config()])
        assert caught.value.code == "manager_name_twice"


class TestUpgrade:
    def test_an_unfinished_scan_goes_on_with_the_next_version(
        self, fleet: LocalFleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = CONTRACT.slow_job(fleet, "ws01")
        fleet.manager.publish(job)
        fleet.manager.deliver(job.id)
        wait_for(lambda: fleet.status("ws01", job.id).get("state") == "running", "the scan to run")
        old = json.loads((fleet.job_folder("ws01", job.id) / "job.json").read_bytes())["scanner_digest"]
        monkeypatch.setattr(scanner_build, "_START", scanner_build._START + b"# another version\n")
        manager = fleet.rebuild()
        other = CONTRACT.scan_job(fleet, "task2.1", device_ids=["ws01"])
        manager.publish(other)
        manager.deliver(other.id)
        CONTRACT.finish(fleet, job)
        CONTRACT.finish(fleet, other)
        for name in (job.id, other.id):
            assert fleet.status("ws01", name)["state"] == "done", fleet.status("ws01", name)
            made_for = json.loads((fleet.job_folder("ws01", name) / "job.json").read_bytes())[
                "scanner_digest"
            ]
            assert made_for != old
        events, _ = read_all(manager, job.id)
        assert len(of(events, EventKind.MATCH)) == 2
