"""What only Salt has: news over the event stream, minions that are away, minions that speak for others."""

from __future__ import annotations

import base64
import json
import time
import zlib
from datetime import timedelta
from typing import Any

import pytest
from ioc_scan.clock import to_iso
from ioc_scan.devices.base import EventKind, Online
from ioc_scan.devices.salt_answers import Keys
from ioc_scan.devices.salt_api import SaltApi
from ioc_scan.devices.salt_events import News

from .harness import SAMPLE, of, read_all, states, wait_for
from .salt_fleet import CONTRACT, SaltFleet, deliver, push, signed


class Asked:
    """Counts what minions are asked and waited for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.functions: list[str] = []
        self.devices: list[str] = []
        minions = SaltApi.minions

        def counted(api: SaltApi, devices: list[str], function: str, arguments: Any) -> Any:
            self.functions.append(function)
            self.devices += devices
            return minions(api, devices, function, arguments)

        monkeypatch.setattr(SaltApi, "minions", counted)

    def waited_for(self, device: str) -> int:
        return self.devices.count(device)


class TestNews:
    def test_progress_comes_without_asking(self, fleet: SaltFleet, monkeypatch: pytest.MonkeyPatch) -> None:
        job = CONTRACT.slow_job(fleet, "ws01")
        fleet.manager.publish(job)
        fleet.manager.deliver(job.id)
        manager, cursor, events = fleet.rebuild(), None, []
        asked = Asked(monkeypatch)
        deadline = time.monotonic() + 8  # past the first answer it is trusted to tell for ten seconds
        while time.monotonic() < deadline:
            new, cursor = manager.poll(job.id, cursor)
            events += new
            time.sleep(0.1)
        # The first look, and where a match was told; without news it would be one for each look.
        assert asked.functions.count("read") <= 6
        assert len(of(events, EventKind.STATE, "ws01")) >= 2
        fleet.manager.withdraw(job.id)

    def test_the_end_is_told_and_the_results_are_read(self, fleet: SaltFleet) -> None:
        fleet.plant("ws01", "x.exe", SAMPLE)
        job = deliver(fleet)
        manager, cursor, events = fleet.rebuild(), None, []

        def all_done() -> bool:
            nonlocal cursor
            new, cursor = manager.poll(job.id, cursor)
            events.extend(new)
            return all(states(events, device)[-1:] == ["done"] for device in job.device_ids)

        wait_for(all_done, "the end of all")
        assert len(of(events, EventKind.MATCH)) == 1

    def test_without_a_stream_devices_are_asked(
        self, fleet: SaltFleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(SaltApi, "events", lambda _: iter(()))
        fleet.plant("ws01", "x.exe", SAMPLE)
        job = deliver(fleet, device_ids=["ws01"])
        CONTRACT.finish(fleet, job)
        asked = Asked(monkeypatch)
        events, _ = read_all(fleet.rebuild(), job.id)
        assert states(events, "ws01")[-1] == "done"
        assert set(asked.functions) == {"read"}  # once, or again where Salt did not bring the first answer

    def test_a_stream_that_breaks_is_missed_by_nobody(
        self, fleet: SaltFleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = CONTRACT.place_unstarted(fleet, device_ids=["ws01"])
        manager = fleet.rebuild()
        _, cursor = read_all(manager, job.id)
        stream = manager._visits._news._stream
        assert stream is not None and stream.open
        stream.open = False
        monkeypatch.setattr(News, "listen", lambda _: None)
        CONTRACT.forge(fleet, "ws01", job, [CONTRACT.match_line(fleet, "ws01", job)])
        events, _ = manager.poll(job.id, cursor)
        assert len(of(events, EventKind.MATCH)) == 1


class TestAway:
    def test_a_silent_minion_is_waited_for_once(
        self, fleet: SaltFleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = Asked(monkeypatch)
        fleet.plant("ws01", "x.exe", SAMPLE)
        fleet.fall_asleep("ws02")
        job = deliver(fleet)
        assert asked.waited_for("ws02") == 1
        for other in ("task2.1", "task3.1"):
            deliver(fleet, other)
        CONTRACT.finish(fleet, job, ["ws01", "ws03"])
        events, cursor = read_all(fleet.manager, job.id)
        assert states(events, "ws01")[-1] == states(events, "ws03")[-1] == "done"
        assert asked.waited_for("ws02") == 1
        assert {d.id: d.online for d in fleet.rebuild().devices("minions")}["ws02"] is Online.NO
        fleet.lab.wake("ws02")  # nobody tells us: the pushes it slept through do
        fleet.asleep.discard("ws02")
        CONTRACT.finish(fleet, job, ["ws02"])
        wait_for(lambda: read_all(fleet.manager, job.id, cursor)[0], "its results")
        assert {d.id: d.online for d in fleet.rebuild().devices("minions")}["ws02"] is not Online.NO

    def test_one_that_is_away_costs_a_look_nothing(
        self, fleet: SaltFleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = CONTRACT.place_unstarted(fleet)
        fleet.take_offline("ws02")
        asked = Asked(monkeypatch)
        read_all(fleet.manager, job.id)
        assert asked.waited_for("ws01") >= 1
        assert asked.waited_for("ws02") == 0


class TestOthers:
    """Salt's event bus takes any event from any minion: a return in another's name as well."""

    def test_a_minion_that_speaks_for_another_is_not_believed(
        self, fleet: SaltFleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = CONTRACT.place_unstarted(fleet, device_ids=["ws01"])
        CONTRACT.forge(fleet, "ws01", job, [CONTRACT.match_line(fleet, "ws01", job)])
        minions = SaltApi.minions

        def spoken_for(api: SaltApi, devices: list[str], function: str, arguments: Any) -> dict[str, Any]:
            """ws02 was quicker: salt-api hears its own answer under the name of ws01."""
            said = minions(api, ["ws02"], function, arguments)
            return {"ws01": said["ws02"]}

        with monkeypatch.context() as patched:
            patched.setattr(SaltApi, "minions", spoken_for)
            events, cursor = read_all(fleet.manager, job.id)
        assert of(events, EventKind.MATCH) == []
        assert [e.data["code"] for e in of(events, EventKind.REJECTED, "ws01")] == ["salt_answer_unproven"]
        events, _ = read_all(fleet.manager, job.id, cursor)
        assert len(of(events, EventKind.MATCH, "ws01")) == 1

    @pytest.mark.parametrize("known_key", [False, True])
    def test_news_count_with_the_key_of_the_device_only(self, fleet: SaltFleet, known_key: bool) -> None:
        job = CONTRACT.place_unstarted(fleet, device_ids=["ws01"])
        manager = fleet.rebuild()
        _, cursor = read_all(manager, job.id)
        stream = manager._visits._news._stream
        assert stream is not None and stream.open
        key = Keys(manager.memory).key("ws01" if known_key else "ws02")
        text = base64.b64encode(zlib.compress(json.dumps({"jobs": {job.id: None}}).encode())).decode()
        said = json.dumps(signed(text, key, "news", "ws01"))
        assert fleet.lab.call("ws02", "event.send", "salt/beacon/ws01/ioc_scan/", f"data={said}")
        time.sleep(0.5)
        assert stream.open
        assert stream.take("ws01", [job.id]) == ({job.id: None} if known_key else {})
        assert manager.poll(job.id, cursor)[0] == []


class TestNotBefore:
    def test_each_job_has_its_own_time(self, fleet: SaltFleet) -> None:
        for name in ("x.exe", "y.exe"):
            fleet.plant("ws01", name, SAMPLE)
        begin = fleet.clock() + timedelta(seconds=10)
        now = deliver(fleet, "task1.1", device_ids=["ws01"])
        later = deliver(fleet, "task1.2", device_ids=["ws01"], not_before=begin)
        CONTRACT.finish(fleet, now)
        assert push(fleet, "ws01")  # its runner was there, and is started again
        wait_for(lambda: fleet.clock() > later.not_before, "its time")
        assert push(fleet, "ws01")  # as its schedule does
        CONTRACT.finish(fleet, later)
        assert fleet.status("ws01", later.id)["started_at"] >= to_iso(begin)
        assert len(of(read_all(fleet.manager, later.id)[0], EventKind.MATCH)) == 2
