"""Days of a sandbox's life in seconds: late, reordered, repeated, failing and poisonous reports, and a sensor
that is killed at any point. Time is simulated; the watch under test is the real one."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from ioc_scan.detection import ids
from ioc_scan.detection.sources import Cursor, Row, SourceHealth, SourceUnavailable
from ioc_scan.detection.sources.triggers import DETECTION, FAILED, Triggers
from ioc_scan.detection.sources.watch import Watch, WatchSettings
from ioc_scan.errors import InputError, SourceError

from tests.fixtures.shared import REPOSITORY

START = datetime(2024, 5, 1, tzinfo=timezone.utc)
LOOK_BACK = timedelta(hours=24)


class Killed(BaseException):
    """SIGKILL: no handler of ``Exception`` may stop it."""


@dataclass
class Report:
    number: int
    appears: datetime
    stamp: datetime
    malicious: bool
    #: fetches that fail before one succeeds; None: it never succeeds
    failures: int | None
    has_list_entry: bool


@dataclass
class World:
    """The sandbox, the clock, the datastore, and whoever listens to the triggers."""

    random: random.Random
    reports: list[Report]
    now: datetime = START
    datastore: str | None = None
    outages: list[tuple[datetime, datetime]] = field(default_factory=list)
    kill_in: int | None = None
    dispatched: Counter[str] = field(default_factory=Counter)
    degraded: set[str] = field(default_factory=set)
    failed: Counter[str] = field(default_factory=Counter)
    tries: Counter[int] = field(default_factory=Counter)

    def point(self) -> None:
        """A place where the sensor may be killed."""
        if self.kill_in is not None:
            self.kill_in -= 1
            if self.kill_in < 0:
                raise Killed

    def dispatch(self, trigger: str, payload: dict[str, Any], trace_tag: str) -> None:
        self.point()
        assert trace_tag == payload["detection_id"]
        if trigger == DETECTION:
            self.dispatched[payload["report_id"]] += 1
            if payload["degraded"]:
                self.degraded.add(payload["report_id"])
        else:
            assert trigger == FAILED
            self.failed[payload["report_id"]] += 1
        self.point()


class Sandbox:
    """A source with the window and the habits of a real one."""

    name, product = "lab", "cape"

    def __init__(self, world: World) -> None:
        self.world = world
        self.by_id = {str(report.number): report for report in world.reports}

    def list_new(self, cursor: Cursor | None, now: datetime) -> tuple[list[Row], Cursor]:
        world = self.world
        world.point()
        if any(start <= now < end for start, end in world.outages):
            raise SourceUnavailable("source_unreachable", "down")
        since = datetime.fromtimestamp(
            min((cursor or {}).get("listed_at", 1e12), now.timestamp()), timezone.utc
        )
        visible = [
            Row(ids.detection_id("cape", "lab", report.number), str(report.number), report.stamp)
            for report in world.reports
            if report.appears <= now and report.stamp >= since - LOOK_BACK
        ]
        world.random.shuffle(visible)
        world.point()
        return visible + visible[: world.random.randrange(5)], {"listed_at": int(now.timestamp())}

    def fetch(self, report_id: str) -> dict[str, Any]:
        world, report = self.world, self.by_id[report_id]
        world.point()
        world.tries[report.number] += 1
        if world.random.random() < 0.002:
            raise SourceUnavailable(
                "source_throttled", "slow down", retry_after_seconds=world.random.choice([5, 60])
            )
        if report.failures is None:
            raise world.random.choice(
                [InputError("report_html", "x"), SourceError("source_failed", "x"), KeyError("x")]
            )
        if report.failures > 0:
            report.failures -= 1
            raise SourceUnavailable("source_unreachable", "broke off", blames_report=True)
        return detection(report, degraded=False)

    def fetch_degraded(self, report_id: str) -> dict[str, Any] | None:
        report = self.by_id[report_id]
        return detection(report, degraded=True) if report.has_list_entry else None

    def health(self) -> SourceHealth:
        return SourceHealth(True)


def detection(report: Report, degraded: bool) -> dict[str, Any]:
    return {
        "detection_id": f"cape:lab:{report.number}",
        "source": {"product": "cape", "instance": "lab", "report_id": str(report.number)},
        "verdict": {"result": "malicious", "score": 90.0}
        if report.malicious
        else {"result": "unknown", "score": 5.0},
        "target": {"category": "file", "hashes": {"SHA-256": f"{report.number % 900:064x}"}},
        "detected_at": "2024-05-01T00:00:00Z",
        "indicators": [],
        "degraded": degraded,
    }


def make_world(seed: int, count: int, days: float) -> World:
    chance = random.Random(seed)
    reports = []
    for number in range(1, count + 1):
        appears = START + timedelta(days=days * chance.random())
        late = timedelta(hours=chance.choice([0.1, 0.1, 0.1, 1, 5, 20]) * chance.random())
        kind = chance.random()
        reports.append(
            Report(
                number=number,
                appears=appears,
                stamp=appears - late,
                malicious=chance.random() < 0.5,
                failures=None if kind < 0.02 else chance.randrange(1, 4) if kind < 0.07 else 0,
                has_list_entry=chance.random() < 0.5,
            )
        )
    outages = [(at, at + timedelta(hours=chance.choice([0.2, 1, 6]))) for at in moments(chance, days, 6)]
    return World(chance, reports, outages=outages)


def moments(chance: random.Random, days: float, count: int) -> list[datetime]:
    return [START + timedelta(days=days * chance.random()) for _ in range(count)]


def run(world: World, days: float, kills: int, pause_seconds: float) -> None:
    """Live through ``days`` and a quiet day after the last return, with ``kills`` deaths, some with long absence."""
    triggers = Triggers(REPOSITORY / "sensors" / "sandbox_detections.yaml")
    settings = WatchSettings(look_back=LOOK_BACK, backfill=timedelta(hours=1), max_dispatch_per_poll=20)
    deaths = sorted(moments(world.random, days, kills))
    end = START + timedelta(days=days + 1)
    while world.now < end:
        state = json.loads(world.datastore) if world.datastore else None
        watch = Watch(
            Sandbox(world), settings, triggers, state,
            clock=lambda: world.now, log=lambda text: None, jitter=world.random.random,
        )  # fmt: skip
        try:
            while world.now < end:
                if deaths and world.now >= deaths[0] and world.kill_in is None:
                    world.kill_in = world.random.randrange(40)
                watch.poll(world.dispatch)
                world.point()
                if watch.changed:
                    world.datastore = json.dumps(watch.state)
                    watch.changed = False
                world.now += timedelta(seconds=pause_seconds)
        except Killed:
            world.kill_in = None
            deaths.pop(0)
            world.now += timedelta(
                hours=world.random.choice([0, 0, 0, 0.1, 2, 30 if len(deaths) % 20 == 0 else 0])
            )
            end = max(end, world.now + timedelta(days=1))
    assert not deaths, "not every death took place"


def check(world: World, kills: int) -> None:
    """Every malicious report led to a dispatch, or is known to have failed; nothing was said twice without a death."""
    for report in world.reports:
        key = str(report.number)
        if report.failures is None and not (report.malicious and report.has_list_entry):
            assert world.failed[key] >= 1 and not world.dispatched[key], report
        elif report.malicious:
            assert world.dispatched[key] >= 1, report
            assert (key in world.degraded) == (report.failures is None), report
        else:
            assert not world.dispatched[key], report
    repeated = sum(count - 1 for count in (world.dispatched + world.failed).values())
    assert repeated <= kills * 25, "more repeats than one look of dispatches for each death"
