"""The Salt manager: the contract against a real master, salt-api and three minions, and what only Salt has."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.devices.base import EventKind
from ioc_scan.errors import DeviceError

from standalone.salt_lab import SaltLab

from .contract import ManagerContract
from .contract_lies import LiesContract
from .harness import DEVICES, SAMPLE, Fleet, of, read_all, states, wait_for
from .plans import make_plan
from .salt_fleet import CONTRACT, SaltFleet, deliver, push, running_lab
from .salt_links import FAR, Network, Outage, live_through, running_network
from .salt_news import TestAway, TestNews, TestNotBefore, TestOthers  # noqa: F401  collected here: they share the lab

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")  # its processes end here, not with the whole run
def network() -> Iterator[Network | None]:
    with running_network(FAR) as network:
        yield network


@pytest.fixture(scope="module")
def lab(network: Network | None) -> Iterator[SaltLab]:
    if network is None:
        with running_lab() as lab:
            yield lab
    else:
        with running_lab((*DEVICES, *FAR), address=network.address, wrap=network.wrap) as lab:
            yield lab


@pytest.fixture(scope="module", autouse=True)
def outage(
    lab: SaltLab, network: Network | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Future[Outage] | None]:
    """Links that go down for minutes, meanwhile: the devices behind them are no other test's."""
    if network is None:
        yield None
        return
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(live_through, lab, network, tmp_path_factory.mktemp("far"), stop)
        stop.set()


@pytest.fixture
def fleet(lab: SaltLab, tmp_path: Path) -> Iterator[SaltFleet]:
    fleet = SaltFleet(lab, tmp_path)
    yield fleet
    fleet.close()


class TestContract(ManagerContract):
    @pytest.fixture
    def fleet(self, lab: SaltLab, tmp_path: Path) -> Iterator[Fleet]:
        fleet = SaltFleet(lab, tmp_path)
        yield fleet
        fleet.close()

    def test_a_late_device_gets_nothing_after_the_end(self, fleet: Fleet) -> None:
        """A minion fetches by itself and by its own clock: the end has to be a real one."""
        fleet.take_offline("ws02")
        job = self.scan_job(fleet, device_ids=["ws02"], not_after=fleet.clock() + timedelta(seconds=6))
        fleet.manager.publish(job)
        fleet.manager.deliver(job.id)
        wait_for(lambda: fleet.clock() > job.not_after + timedelta(seconds=1), "the end of the job")
        fleet.bring_back("ws02")
        fleet.manager.deliver(job.id)
        assert not fleet.job_folder("ws02", job.id).exists()
        events, cursor = read_all(fleet.manager, job.id)
        assert states(events, "ws02") == ["expired"]
        assert read_all(fleet.manager, job.id, cursor)[0] == []


#: Lies are judged by the same code behind every manager; these go over the wire of this one too.
KEPT = ("names_another", "longer_than_any_read", "text_arrives", "flood")
for _name in vars(LiesContract):
    if _name.startswith("test_") and not any(word in _name for word in KEPT):
        setattr(TestContract, _name, None)


class TestLateDevices:
    def test_a_minion_that_was_off_is_served_when_it_starts_without_us(self, fleet: SaltFleet) -> None:
        fleet.plant("ws02", "x.exe", SAMPLE)
        fleet.lab.stop("ws02")
        try:
            job = deliver(fleet, device_ids=["ws01", "ws02"])
            assert states(read_all(fleet.manager, job.id)[0], "ws02") == []
        finally:
            fleet.lab.start_minion("ws02")
        CONTRACT.finish(fleet, job)  # nobody delivers: its start does
        events, _ = read_all(fleet.rebuild(), job.id)
        assert len(of(events, EventKind.MATCH, "ws02")) == 1
        assert states(events, "ws02")[-1] == "done"

    def test_what_a_device_took_by_itself_is_taken_back_from_it(self, fleet: SaltFleet) -> None:
        fleet.take_offline("ws02")
        job = deliver(fleet, device_ids=["ws02"], not_before=fleet.clock() + timedelta(days=1))
        fleet.bring_back("ws02")
        assert push(fleet, "ws02")
        assert fleet.job_folder("ws02", job.id).exists()
        fleet.take_offline("ws02")
        assert fleet.rebuild().withdraw(job.id).pending == ("ws02",)
        fleet.bring_back("ws02")
        assert push(fleet, "ws02")  # what it owes goes by itself, too
        assert not fleet.job_folder("ws02", job.id).exists()
        assert fleet.manager.withdraw(job.id).complete

    def test_pushes_that_come_twice_or_late_change_nothing(self, fleet: SaltFleet) -> None:
        fleet.plant("ws01", "x.exe", SAMPLE)
        job = deliver(fleet, device_ids=["ws01"])
        with ThreadPoolExecutor() as pool:
            for _ in range(4):
                pool.submit(fleet.rebuild().deliver, job.id)
        CONTRACT.finish(fleet, job)
        assert push(fleet, "ws01")
        events, _ = read_all(fleet.manager, job.id)
        assert len(of(events, EventKind.MATCH)) == 1
        assert fleet.manager.withdraw(job.id).complete
        assert push(fleet, "ws01")
        assert not fleet.job_folder("ws01", job.id).exists()
        assert read_all(fleet.manager, job.id)[0] == []


class TestLinks:
    """Two minions, each behind a link of its own that was down for a while, with a scan running there."""

    @pytest.fixture
    def lived(self, outage: Future[Outage] | None) -> Outage:
        if outage is None:
            pytest.skip("network namespaces need root and ip")
        return outage.result(300)

    @pytest.mark.parametrize("device", FAR)
    def test_nothing_is_lost_and_nothing_comes_twice(self, lived: Outage, device: str) -> None:
        events = lived.events[device]
        assert len(of(events, EventKind.MATCH, device)) == 1
        assert states(events, device)[-1] == "done"
        assert of(events, EventKind.REJECTED) == []

    @pytest.mark.parametrize("device", FAR)
    def test_a_withdrawal_meanwhile_is_completed_afterwards(self, lived: Outage, device: str) -> None:
        assert str(lived.withdrawals[device][0]) == "withdrawn on 0 of 1"
        assert lived.withdrawals[device][-1].complete
        assert not lived.left[device]

    @pytest.mark.parametrize("device", FAR)
    def test_they_are_back_soon_after_their_links(self, lived: Outage, device: str) -> None:
        assert lived.down[device] <= lived.back[device] <= lived.down[device] + 60


class TestMaster:
    def test_master_and_api_may_be_away(self, fleet: SaltFleet) -> None:
        fleet.plant("ws01", "x.exe", SAMPLE)
        job = deliver(fleet, device_ids=["ws01"])
        CONTRACT.finish(fleet, job)
        gone = CONTRACT.scan_job(fleet, "task2.1", not_before=fleet.clock() + timedelta(days=1))
        fleet.manager.publish(gone)
        fleet.take_offline("ws03")
        fleet.manager.deliver(gone.id)
        fleet.lab.stop("api", "master")
        with pytest.raises(DeviceError) as caught:
            fleet.manager.poll(job.id, None)
        assert caught.value.code == "salt_unreachable"
        assert [p.code for p in fleet.manager.health().problems] == ["salt_unreachable"]
        # ws03 never had it, and might fetch it as soon as the master is back: nobody can tell now
        assert set(fleet.rebuild().withdraw(gone.id).pending) == set(DEVICES)
        fleet.lab.wake("ws03")
        fleet.lab.start_master()
        fleet.lab.await_minions()
        events, _ = read_all(fleet.rebuild(), job.id)
        assert len(of(events, EventKind.MATCH, "ws01")) == 1
        assert fleet.rebuild().withdraw(gone.id).complete
        assert not any(fleet.job_folder(device, gone.id).exists() for device in DEVICES)

    def test_what_is_missing_on_the_master_is_said(self, fleet: SaltFleet) -> None:
        assert {p.code for p in fleet.manager.health().problems} == {"salt_auto_accept"}
        scanner = fleet.lab.root / "states" / "ioc_scan" / "scanner.pyz"
        scanner.rename(scanner.with_name("away"))
        fleet.lab.jobs.chmod(0o755)
        try:
            health = fleet.manager.health()
        finally:
            scanner.with_name("away").rename(scanner)
            fleet.lab.jobs.chmod(0o700)
        assert not health.ok
        assert {p.code for p in health.problems} > {"salt_scanner_outdated", "salt_folder"}
        assert all(p.hint for p in health.problems)


class TestSecrets:
    def test_a_minion_gets_its_own_jobs_only_and_only_when_it_asks(self, fleet: SaltFleet) -> None:
        job = deliver(fleet, device_ids=["ws01"], not_before=fleet.clock() + timedelta(days=1))
        assert fleet.job_folder("ws01", job.id).exists()
        assert push(fleet, "ws02")
        assert not fleet.job_folder("ws02", job.id).exists()
        seen = json.dumps(
            [
                fleet.lab.call("ws02", "cp.list_master"),
                fleet.lab.call("ws01", "pillar.items", "unmask=True"),
            ]
        )
        assert "ioc_scan/scanner.pyz" in seen
        assert job.id not in seen
        assert str(job.plan_digest) not in seen

    @pytest.mark.parametrize(
        "low",
        [
            {"client": "local", "tgt": "ws01", "fun": "cmd.run", "arg": ["id"]},
            {"client": "local", "tgt": "ws01", "fun": "saltutil.sync_modules"},
            {"client": "runner", "fun": "jobs.list_jobs"},
            {"client": "runner", "fun": "salt.cmd", "arg": ["cmd.run", "id"]},
        ],
    )
    def test_the_account_may_do_nothing_else(self, fleet: SaltFleet, low: dict[str, Any]) -> None:
        with pytest.raises(DeviceError) as caught:
            fleet.manager._api._call(low)
        assert caught.value.code == "salt_not_allowed"

    def test_no_wheel(self, fleet: SaltFleet) -> None:
        with pytest.raises(DeviceError):
            fleet.manager._api._call({"client": "wheel", "fun": "file_roots.write", "path": "x", "data": "y"})

    def test_a_token_is_kept_and_one_that_is_no_good_is_replaced_once(self, fleet: SaltFleet) -> None:
        fleet.manager.devices("minions")
        kept = fleet.manager.memory / "token.json"
        assert kept.stat().st_mode & 0o777 == 0o600
        token = json.loads(kept.read_bytes())
        fleet.rebuild().devices("minions")
        assert json.loads(kept.read_bytes()) == token
        kept.write_text(json.dumps({**token, "token": "0" * 64}))
        fleet.rebuild().devices("minions")
        assert json.loads(kept.read_bytes())["token"] not in ("0" * 64, token["token"])

    def test_a_wrong_password_is_said_and_not_shown(self, fleet: SaltFleet) -> None:
        wrong = fleet.folder / "wrong"
        wrong.write_text("open sesame")
        fleet.extra = {"password_file": str(wrong)}
        (problem,) = fleet.rebuild().health().problems
        assert problem.code == "salt_login_refused"
        assert "sesame" not in str(problem)

    def test_an_account_of_other_rights_is_refused(self, fleet: SaltFleet) -> None:
        fleet.extra = {"username": "other"}
        with pytest.raises(DeviceError) as caught:
            fleet.rebuild().devices("minions")
        assert caught.value.code == "salt_not_allowed"

    def test_the_runner_writes_nowhere_else(self, fleet: SaltFleet) -> None:
        api = fleet.manager._api
        for name in ("../escape", "/etc/escape", ".", "a/b"):
            bundle = {"devices": {name: None}, "plans": {}}
            with pytest.raises(DeviceError) as caught:
                fleet.manager._shelf._upload(bundle)
            assert caught.value.code == "salt_runner_failed"
            with pytest.raises(DeviceError):
                api.master("write", upload=name, part=0, parts=2, data="x")
        with pytest.raises(DeviceError):
            fleet.manager._shelf._upload({"devices": {}, "plans": {"0" * 64: "not its content"}})


def test_a_large_plan_travels_in_parts(fleet: SaltFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ioc_scan.devices.salt_shelf._PART_CHARACTERS", 50_000)
    names = tuple(hashlib.sha256(str(n).encode()).hexdigest() for n in range(5_000))
    fleet.plant("ws01", names[7], b"known by name")
    plan = make_plan(SAMPLE, hunt_names=names)
    job = CONTRACT.scan_job(
        fleet, device_ids=["ws01"], plan=plan, plan_digest=hashlib.sha256(plan).hexdigest()
    )
    assert len(of(CONTRACT.run(fleet, job), EventKind.MATCH, "ws01")) == 1
