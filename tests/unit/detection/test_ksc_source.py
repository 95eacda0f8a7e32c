"""Detection events of Kaspersky Security Center as a source, against the stand-in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.detection.guard import classify
from ioc_scan.detection.sources import Source, SourceUnavailable, build_source
from ioc_scan.errors import ConfigError, InputError, SourceError
from ioc_scan.ksc_client.values import decode

from tests.fixtures.shared import shared_data
from tests.ksc_server import KscServer, sim_world
from tests.ksc_server.http import DROP

SHA, MD5 = "ab" * 32, "cd" * 16
EVENT = "GNRL_EV_VIRUS_FOUND"


class Lab:
    def __init__(self, server: KscServer, url: str, folder: Path) -> None:
        self.server, self.url, self.folder = server, url, folder
        (folder / "password").write_text(server.password + "\n", encoding="utf-8")

    @property
    def now(self) -> datetime:
        return self.server.world.now + timedelta(minutes=1)

    def source(self, **changes: Any) -> Source:
        entry = {
            "name": "center",
            "type": "ksc",
            "url": self.url,
            "username": self.server.user,
            "password_file": str(self.folder / "password"),
            "certificate_file": str(self.server.certificate),
            **changes,
        }
        return build_source(entry)

    def event(self, method: int | None = 6, kind: str = EVENT, **changes: Any) -> str:
        """An event of a detection; None leaves a parameter out. Returns its number."""
        fields: dict[str, Any] = {
            "GNRL_EA_SEVERITY": 4,
            "GNRL_EA_PARAM_1": SHA,
            "GNRL_EA_PARAM_2": "C:\\Users\\Анна\\a.exe",
            "GNRL_EA_PARAM_5": "HEUR:Trojan.Win32.Generic",
            "GNRL_EA_PARAM_7": "DOM\\u",
            "GNRL_EA_PARAM_8": "1",
            "GNRL_EA_PARAM_9": json.dumps({"engine": 3, "method": method, "md5": MD5}),
            **changes,
        }
        host = self.server.world.hosts["ws01"]
        given = {name: value for name, value in fields.items() if value is not None}
        return str(int(self.server.world.add_event(kind, host, **given)["event_db_id"]))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    server = KscServer(sim_world(), tmp_path / "server")
    with server.serving() as url:
        yield Lab(server, url, tmp_path)
    assert server.refused == [] and server.open_iterators == []


def test_a_sandbox_detection_becomes_a_detection(lab: Lab) -> None:
    number = lab.event()
    source = lab.source()
    (row,), _ = source.list_new(None, lab.now)
    assert row.detection_id == f"ksc:center:{number}" and row.hashes == {"SHA-256": SHA, "MD5": MD5}
    detection = source.fetch(row.report_id)
    assert detection["verdict"] == {
        "result": "malicious", "native": "severity=4 method=6", "families": ["HEUR:Trojan.Win32.Generic"]
    }  # fmt: skip
    assert detection["target"]["hashes"] == {"SHA-256": SHA, "MD5": MD5}
    assert detection["target"]["name"] == "a.exe"
    triage = classify(detection)
    assert triage.starts_task and [e["hashes"]["SHA-256"] for e in triage.actionable] == [SHA]


def test_only_configured_types_and_methods_are_taken(lab: Lab) -> None:
    sandbox, other, silent = lab.event(), lab.event(method=1), lab.event(GNRL_EA_PARAM_9=None)
    custom = lab.event(kind="SIM_EV_SANDBOX")

    def listed(**changes: Any) -> list[str]:
        return [row.report_id for row in lab.source(**changes).list_new(None, lab.now)[0]]

    assert listed() == [sandbox]
    assert listed(detection_methods=[]) == [sandbox, other, silent]
    assert listed(event_types=[EVENT, "SIM_EV_SANDBOX"]) == [sandbox, custom]
    with pytest.raises(SourceError):
        lab.source().fetch(other)


def test_later_looks_go_by_number_and_absorb_duplicates(lab: Lab) -> None:
    first = lab.event()
    source = lab.source()
    rows, cursor = source.list_new(None, lab.now)
    assert [row.report_id for row in rows] == [first]
    late = lab.event(GNRL_EA_PARAM_2="late")
    lab.server.world.events[-1]["rise_time"] = lab.now - timedelta(days=30)  # a device that was away
    rows, cursor = source.list_new(json.loads(json.dumps(cursor)), lab.now)
    assert [row.report_id for row in rows] == [late]
    rows, again = source.list_new(cursor, lab.now)
    assert rows == [] and again["event_db_id"] == cursor["event_db_id"] == int(late)
    assert {row.report_id for row in source.list_new(None, lab.now)[0]} == {first}, (
        "the window, for catching up"
    )


def test_events_of_another_kind_do_not_hold_the_cursor_back(lab: Lab) -> None:
    lab.event()
    source = lab.source()
    _, cursor = source.list_new(None, lab.now)
    skipped = lab.event(method=1)
    assert source.list_new(cursor, lab.now)[1]["event_db_id"] == int(skipped)


def test_a_damaged_cursor_is_no_cursor(lab: Lab) -> None:
    lab.event()
    for damaged in ({}, {"event_db_id": "x"}, {"event_db_id": -1}, {"event_db_id": True}):
        assert len(lab.source().list_new(damaged, lab.now)[0]) == 1


@pytest.mark.parametrize("code", [1184, 1193, 1194])
def test_without_the_view_events_are_listed_by_time(lab: Lab, code: int) -> None:
    number = lab.event()
    source = lab.source()
    _, cursor = source.list_new(None, lab.now)
    second = lab.event()
    lab.server.fail("SrvView.ResetIterator", *[code] * 5)
    rows, _ = source.list_new(cursor, lab.now)
    assert {row.report_id for row in rows} >= {second}
    assert source.fetch(number)["detection_id"] == f"ksc:center:{number}"
    health = source.health()
    assert health.ok and "by time" in health.problems[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"GNRL_EA_PARAM_1": None, "GNRL_EA_PARAM_9": '{"method": 6}'},
        {
            "GNRL_EA_PARAM_1": "C:\\a.exe",
            "GNRL_EA_PARAM_2": SHA,
            "GNRL_EA_PARAM_9": '{"method": 6, "md5": "x"}',
        },
    ],
)
def test_missing_and_swapped_parameters_are_no_object(lab: Lab, changes: dict[str, Any]) -> None:
    number = lab.event(**changes)
    with pytest.raises(InputError) as caught:
        lab.source().fetch(number)
    assert caught.value.code == "report_wrong_schema"


@pytest.mark.parametrize("details", ["", "{", "[1]", '{"method": "6"}', "[" * 20_000, "x" * 20_000])
def test_details_that_are_none_are_another_method(lab: Lab, details: str) -> None:
    lab.event(GNRL_EA_PARAM_9=details)
    assert lab.source().list_new(None, lab.now)[0] == []


@pytest.mark.parametrize(
    ("severity", "family", "result"),
    [
        (4, "Trojan.X", "malicious"),
        (4, "not-a-virus:AdWare.X", "suspicious"),
        (3, "X", "suspicious"),
        (1, "X", "unknown"),
        (None, None, "unknown"),
    ],
)
def test_verdicts(lab: Lab, severity: int | None, family: str | None, result: str) -> None:
    number = lab.event(GNRL_EA_SEVERITY=severity, GNRL_EA_PARAM_5=family)
    detection = lab.source().fetch(number)
    assert detection["verdict"]["result"] == result


def test_troubles_are_the_source_s(lab: Lab) -> None:
    source = lab.source()
    lab.server.fail("EventProcessing.GetRecordCount", DROP, DROP, DROP)
    with pytest.raises(SourceUnavailable) as caught:
        source.list_new(None, lab.now)
    assert caught.value.code == "ksc_unreachable" and not caught.value.lasting
    lab.server.password = "changed"
    with pytest.raises(SourceUnavailable) as caught:
        lab.source().list_new(None, lab.now)
    assert caught.value.lasting and not lab.source().health().ok
    for odd in ("x", "", "9" * 30, "999999"):
        with pytest.raises(SourceError):
            source.fetch(odd)


def test_the_server_s_version_is_checked(lab: Lab) -> None:
    assert lab.source().health().ok
    lab.server.world.version = "12.2.0.4376"
    assert not lab.source().health().ok


def test_settings_are_checked(lab: Lab) -> None:
    for bad in ({"event_types": ["x) or (1=1"]}, {"url": "http://ksc"}, {"username": None}):
        with pytest.raises(ConfigError):
            lab.source(**bad)


def test_the_sample_of_the_reference_is_understood(lab: Lab) -> None:
    sample = json.loads(shared_data("ksc", "30_event_processing2.json").read_text(encoding="utf-8"))
    (raw,) = sample["range_response"]["body"]["pParamsEvents"]["KLEVP_EVENT_RANGE_ARRAY"]
    lab.server.world.events.append({**decode(raw), "KLVSRV_ID": 0})
    number = str(decode(raw)["event_db_id"])
    detection = lab.source().fetch(number)
    assert detection["detected_at"] == "2024-05-01T09:59:00Z"
    assert detection["verdict"]["families"] == ["HEUR:Trojan.Win32.Generic"]
