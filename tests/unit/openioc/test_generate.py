"""Generated IOC files: deterministic, valid, one per tier, and they find what the sandbox saw on other devices."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import pytest
from ioc_scan.detection.guard import classify
from ioc_scan.detection.normalize import normalize_report
from ioc_scan.openioc.generate import generate_iocs
from ioc_scan.openioc.lint import is_actionable, lint
from ioc_scan.openioc.plan import compile_plan
from ioc_scan.openioc.reader import read_ioc
from ioc_scan.scanner.evaluate import Evaluator
from ioc_scan.scanner.plan import load_plan
from lxml import etree

from tests.fixtures.shared import shared_data
from tests.unit.openioc.builders import MD5_1, SHA_1, SHA_2
from tests.unit.openioc.test_documents import schema


@dataclass
class Triage:
    actionable: list[dict[str, Any]] = field(default_factory=list)
    hunt: list[dict[str, Any]] = field(default_factory=list)


DETECTION = {
    "detection_id": "cape:lab:42",
    "detected_at": "2026-01-01T10:00:00Z",
    "verdict": {"result": "malicious", "families": ["Evil{{7*7}}", "B\u202ead"]},
}
TARGET = {"type": "file", "role": "target", "size": 10, "hashes": {"SHA-256": SHA_1, "MD5": MD5_1}}


def _judge(triage: Triage, version: str, tier: str) -> Evaluator:
    (generated,) = [each for each in generate_iocs(triage, DETECTION, version=version) if each.tier == tier]
    return Evaluator(load_plan(compile_plan([(generated.content, tier)])), None)


def test_an_actionable_file_says_size_and_sha256_and_nothing_else() -> None:
    (generated,) = generate_iocs(Triage(actionable=[TARGET, dict(TARGET)]), DETECTION)
    assert generated.tier == "actionable" and generated.item_count == 2 and generated.dropped == 0
    assert generated.digest == hashlib.sha256(generated.content).hexdigest()
    ioc = read_ioc(generated.content)
    assert ioc.version == "1.0" and ioc.id == generated.ioc_id
    assert [(item.search, item.content) for item in ioc.items()] == [
        ("FileItem/SizeInBytes", "10"),
        ("FileItem/Sha256sum", SHA_1),
    ]
    assert is_actionable(ioc) and lint(ioc, "kaspersky") == []
    assert MD5_1.encode() not in generated.content


def test_without_a_size_the_hash_stands_alone() -> None:
    judge = _judge(
        Triage(actionable=[{"type": "file", "role": "target", "hashes": {"SHA-256": SHA_1}}]),
        "1.0",
        "actionable",
    )
    assert judge.any_size_mask == 4 and judge.acts_on(SHA_1)


def test_the_same_detection_gives_the_same_bytes() -> None:
    triage = Triage([TARGET], [{"type": "domain-name", "role": "config", "value": "evil.example"}])
    first, second = generate_iocs(triage, DETECTION), generate_iocs(triage, DETECTION)
    assert [each.content for each in first] == [each.content for each in second]
    other = generate_iocs(triage, {**DETECTION, "detection_id": "cape:lab:43"})
    assert {each.ioc_id for each in first}.isdisjoint(each.ioc_id for each in other)
    assert [each.tier for each in first] == ["actionable", "hunt"]


HUNT: list[tuple[dict[str, Any], list[tuple[str, dict[str, Any]]], list[tuple[str, dict[str, Any]]]]] = [
    (
        {"type": "file", "role": "dropped", "size": 7, "hashes": {"MD5": MD5_1, "SHA-256": SHA_2}},
        [
            ("FileItem", {"SizeInBytes": 7, "Md5sum": MD5_1}),
            ("FileItem", {"SizeInBytes": 7, "Sha256sum": SHA_2}),
        ],
        [("FileItem", {"SizeInBytes": 8, "Md5sum": MD5_1})],
    ),
    (
        {
            "type": "file",
            "role": "written",
            "path": "C:\\Users\\sandbox\\AppData\\x.exe",
            "path_pattern": "C:\\Users\\*\\AppData\\x.exe",
        },
        [("FileItem", {"FileName": "X.exe", "FullPath": "c:\\users\\alice\\appdata\\x.EXE"})],
        [
            ("FileItem", {"FileName": "x.exe", "FullPath": "C:\\Users\\alice\\x.exe"}),
            ("FileItem", {"FileName": "y.exe", "FullPath": "C:\\Users\\a\\AppData\\x.exe\\y.exe"}),
        ],
    ),
    (
        {"type": "file", "role": "written", "path": "/opt/evil/run"},
        [("FileItem", {"FileName": "run", "FullPath": "/opt/evil/run"})],
        [("FileItem", {"FileName": "run", "FullPath": "/opt/run"})],
    ),
    (
        {
            "type": "windows-registry-key",
            "role": "persistence",
            "value": "HKEY_USERS\\S-1-5-21-1\\Software\\Microsoft\\Windows\\CurrentVersion\\Run",
            "value_name": "updater",
        },
        [
            (
                "RegistryItem",
                {
                    "Path": "HKEY_CURRENT_USER\\Software\\Microsoft\\Windows\\CurrentVersion\\Run\\updater",
                    "ValueName": "Updater",
                },
            )
        ],
        [("RegistryItem", {"Path": "HKEY_CURRENT_USER\\Software\\Other", "ValueName": "updater"})],
    ),
    (
        {
            "type": "windows-registry-key",
            "role": "persistence",
            "value": "HKLM\\SYSTEM\\ControlSet001\\Services\\evil",
        },
        [
            (
                "RegistryItem",
                {"Path": "HKEY_LOCAL_MACHINE\\SYSTEM\\CurrentControlSet\\Services\\evil\\ImagePath"},
            )
        ],
        [("RegistryItem", {"Path": "HKEY_LOCAL_MACHINE\\SYSTEM\\CurrentControlSet\\Services\\good"})],
    ),
    (
        {"type": "domain-name", "role": "config", "value": "Evil.example."},
        [("DnsEntryItem", {"RecordName": "evil.EXAMPLE"}), ("DnsEntryItem", {"Host": "evil.example"})],
        [("DnsEntryItem", {"RecordName": "good.example"})],
    ),
    (
        {"type": "ipv4-addr", "role": "config", "value": "192.0.2.7", "port": 443},
        [("PortItem", {"remoteIP": "::ffff:192.0.2.7"})],
        [("PortItem", {"remoteIP": "192.0.2.8"})],
    ),
    (
        {"type": "mutex", "role": "created", "value": "Global\\evilmutex"},
        [
            (
                "ProcessItem",
                {
                    "HandleList/Handle/Type": ["Mutant"],
                    "HandleList/Handle/Name": ["\\BaseNamedObjects\\evilmutex"],
                },
            )
        ],
        [
            (
                "ProcessItem",
                {
                    "HandleList/Handle/Type": ["Event"],
                    "HandleList/Handle/Name": ["\\BaseNamedObjects\\evilmutex"],
                },
            )
        ],
    ),
    (
        {"type": "windows-service", "role": "created", "value": "evilsvc"},
        [("ServiceItem", {"name": "EVILSVC"})],
        [("ServiceItem", {"name": "evil"})],
    ),
    (
        {"type": "process", "role": "executed", "value": "powershell -enc AAAA"},
        [("ProcessItem", {"arguments": "cmd /c powershell -enc AAAA"})],
        [("ProcessItem", {"arguments": "powershell"})],
    ),
]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize(("indicator", "found", "missed"), HUNT)
def test_hunting(version: str, indicator: dict[str, Any], found: list[Any], missed: list[Any]) -> None:
    judge = _judge(Triage(hunt=[indicator]), version, "hunt")
    for name, item in found:
        assert judge.feed(name, item), item
    for name, item in missed:
        assert not judge.feed(name, item), item


@pytest.mark.parametrize(
    "indicator",
    [
        {"type": "file", "role": "written", "path": "bad\0name"},
        {"type": "mutex", "role": "created", "value": "Global\\"},
        {"type": "windows-registry-key", "role": "persistence", "value": "HKLM\\"},
        {"type": "file", "role": "written", "path": "/x/" + "y" * 5000},
        {"type": "file", "role": "written", "name": "\u0001"},
    ],
)
def test_what_cannot_be_said_is_dropped_and_counted(indicator: dict[str, Any]) -> None:
    good = {"type": "file", "role": "written", "name": "good.exe"}
    (generated,) = generate_iocs(Triage(hunt=[indicator, good]), DETECTION)
    assert generated.dropped == 1 and generated.item_count == 1
    assert generate_iocs(Triage(hunt=[indicator]), DETECTION) == []


def test_text_of_the_sandbox_stays_text() -> None:
    name = "{{ 7*7 }}<% 1+1 %>.exe"
    (generated,) = generate_iocs(Triage(hunt=[{"type": "file", "role": "written", "name": name}]), DETECTION)
    ioc = read_ioc(generated.content)
    assert next(ioc.items()).content == name
    assert "{{" not in (ioc.short_description or "") and "\u202e" not in (ioc.short_description or "")


def test_a_file_stays_within_its_size() -> None:
    hunt = [{"type": "file", "role": "written", "name": f"{number}-{'n' * 3000}"} for number in range(900)]
    (generated,) = generate_iocs(Triage(hunt=hunt), DETECTION)
    assert len(generated.content) <= 2 * 1024 * 1024
    assert generated.dropped > 0 and generated.dropped + generated.item_count == 900


def test_real_reports_give_valid_files() -> None:
    made = 0
    for path in sorted(shared_data("cape").glob("*.json.gz")):
        if path.stat().st_size > 3_000_000:
            continue  # the very large report has tests of its own
        detection = normalize_report(path, product="cape", instance="lab")
        triage = classify(detection)
        for version in ("1.0", "1.1"):
            for generated in generate_iocs(triage, detection, version=version):
                made += 1
                schema(version).assertValid(etree.fromstring(generated.content))
                ioc = read_ioc(generated.content)
                assert not ioc.notes
                problems = [entry.code for entry in lint(ioc)]
                assert set(problems) <= {"term_unsupported"}, problems
                assert is_actionable(ioc) is (generated.tier == "actionable")
    assert made >= 10
