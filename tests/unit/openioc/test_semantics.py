"""The meaning of OpenIOC, case by case, through the plan a device runs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ioc_scan.openioc.explain import explain_proof
from ioc_scan.openioc.lint import is_actionable, lint

from tests.fixtures.shared import shared_data
from tests.unit.openioc.builders import MD5_1, MD5_2, SHA_1, SHA_2, document, evaluator, matches, plan_bytes

_DIGESTS = {"M1": MD5_1, "M2": MD5_2, "m1": MD5_1}


def _spelled_out(value: Any) -> Any:
    """The vectors name digests M1 and M2; the real thing has 32 hex digits."""
    if isinstance(value, list):
        return [_spelled_out(part) for part in value]
    return _DIGESTS.get(value, value) if isinstance(value, str) else value


def test_every_worked_case_holds_in_the_plan() -> None:
    vectors = json.loads(shared_data("openioc", "semantics_vectors.json").read_text("utf-8"))
    assert len(vectors) >= 22
    for vector in vectors:
        tree = _spelled_out(vector["tree"])
        items = [{name: _spelled_out(value) for name, value in item.items()} for item in vector["items"]]
        hits = matches(tree, items)
        assert bool(hits) == vector["match"], vector["id"]
        if "hits" in vector:
            assert hits == vector["hits"], vector["id"]
        if "actionable" in vector:
            assert is_actionable(document(tree)) == vector["actionable"], vector["id"]
        if vector.get("invalid"):
            assert any(entry.severity == "error" for entry in lint(document(tree))), vector["id"]


FILE = {"doc": "FileItem", "FileName": "Setup.EXE", "FullPath": r"C:\Tools\Setup.EXE", "SizeInBytes": 100}


@pytest.mark.parametrize(
    ("leaf", "expected"),
    [
        (["FileItem/FileName", "is", "setup.exe"], True),
        (["FileItem/FileName", "is", "setup"], False),
        (["FileItem/FileName", "isnot", "other"], True),
        (["FileItem/FileName", "isnot", "SETUP.exe"], False),
        (["FileItem/FileName", "contains", "TUP"], True),
        (["FileItem/FileName", "containsnot", "TUP"], False),
        (["FileItem/FileName", "contains", "TUP", {"preserve-case": True}], False),
        (["FileItem/FileName", "starts-with", "set"], True),
        (["FileItem/FileName", "starts-with", "etup"], False),
        (["FileItem/FileName", "ends-with", ".exe"], True),
        (["FileItem/FileName", "ends-with", ".exe", {"preserve-case": True}], False),
        (["FileItem/FileName", "ends-with", ".exe", {"negate": True}], False),
        (["FileItem/FileName", "matches", "^s.+e$"], True),
        (["FileItem/FileName", "matches", "^s.+e$", {"preserve-case": True}], False),
        (["FileItem/FileName", "matches", "^$", {"negate": True}], True),
        (["FileItem/SizeInBytes", "is", "100"], True),
        (["FileItem/SizeInBytes", "is", "0x64"], True),
        (["FileItem/SizeInBytes", "is", "100 TO 200"], True),
        (["FileItem/SizeInBytes", "is", "[1 TO 99]"], False),
        (["FileItem/SizeInBytes", "isnot", "[1 TO 99]"], True),
        (["FileItem/SizeInBytes", "greater-than", "99"], True),
        (["FileItem/SizeInBytes", "greater-than", "100"], False),
        (["FileItem/SizeInBytes", "less-than", "101"], True),
        (["FileItem/SizeInBytes", "less-than", "100"], False),
        (["FileItem/SizeInBytes", "less-than", "100", {"negate": True}], True),
        (["FileItem/SizeInBytes", "contains", "10"], False),  # not a condition for numbers
        (["FileItem/FileExtension", "is", ".exe"], False),  # the item has no extension: unknown
    ],
)
def test_conditions(leaf: list[Any], expected: bool) -> None:
    assert bool(matches(leaf, [FILE])) is expected


def _one(term: str, condition: str, content: str, value: Any, **options: Any) -> bool:
    name, _, field = term.partition("/")
    return bool(matches([term, condition, content, options], [{"doc": name, field: value}]))


@pytest.mark.parametrize(
    ("content", "value", "expected"),
    [
        ("2024-05-01T10:00:00Z", "2024-05-01T10:00:00Z", True),
        ("2024-05-01T10:00:00Z", "2024-05-01T12:00:00+02:00", True),
        ("2024-05-01T10:00:00Z", "2024-05-01T10:00:00.731Z", True),  # the second it names
        ("2024-05-01T10:00:00Z", "2024-05-01T10:00:01Z", False),
        ("2024-05-01", "2024-05-01T23:59:59Z", True),  # the day it names
        ("2024-05-01", "2024-05-02T00:00:00Z", False),
        ("[2024-05-01 TO 2024-05-03]", "2024-05-03T12:00:00Z", True),
        ("2024-05-01T00:00:00Z TO 2024-05-02T00:00:00Z", "2024-05-03T00:00:00Z", False),
        ("2024-05-01T10:00:00Z", 1714557600, True),
        ("2024-05-01T10:00:00Z", "no date", False),
        ("2024-02-30", "2024-03-01T00:00:00Z", False),
    ],
)
def test_dates(content: str, value: Any, expected: bool) -> None:
    assert _one("FileItem/Modified", "is", content, value) is expected


def test_dates_are_ordered() -> None:
    assert _one("FileItem/Modified", "greater-than", "2024-05-01", "2024-05-02T00:00:00Z")
    assert not _one("FileItem/Modified", "greater-than", "2024-05-01", "2024-05-01T23:00:00Z")
    assert _one("FileItem/Modified", "less-than", "2024-05-01T10:00:00Z", "2024-05-01T09:59:59Z")
    assert not _one("FileItem/Modified", "is", "2024-01-01", None, negate=True)


@pytest.mark.parametrize(
    ("content", "value", "expected"),
    [
        ("PT1H", 3600, True),
        ("PT60M", "01:00:00", True),
        ("P1DT1S", "1.00:00:01", True),
        ("90", "PT1M30S", True),
        ("90", 91, False),
        ("[PT1M TO PT2M]", 90.5, True),
    ],
)
def test_durations(content: str, value: Any, expected: bool) -> None:
    assert _one("ProcessItem/kernelTime", "is", content, value) is expected


@pytest.mark.parametrize(
    ("condition", "content", "value", "expected"),
    [
        ("is", "10.0.0.1", "10.0.0.1", True),
        ("is", "::ffff:10.0.0.1", "10.0.0.1", True),
        ("is", "2001:DB8::1", "2001:db8:0:0:0:0:0:1", True),
        ("is", "fe80::1", "fe80::1%eth0", True),
        ("is", "[10.0.0.1 TO 10.0.0.9]", "10.0.0.5", True),
        ("is", "10.0.0.1 TO 10.0.0.9", "10.0.0.10", False),
        ("starts-with", "10.0.", "10.0.7.7", True),
        ("is", "evil.example", "10.0.0.1", False),
    ],
)
def test_addresses(condition: str, content: str, value: str, expected: bool) -> None:
    assert _one("PortItem/remoteIP", condition, content, value) is expected


def test_numbers_with_fractions_and_truth() -> None:
    term = "FileItem/PeakEntropy"
    assert _one(term, "greater-than", "7.2", 7.3)
    assert not _one(term, "greater-than", "7.2", 7.2)
    assert _one(term, "is", "[7 TO 8]", "7.5")
    assert _one("UserItem/disabled", "is", "true", True)
    assert _one("UserItem/disabled", "is", "0", False)
    assert not _one("UserItem/disabled", "is", "true", None)


def test_whole_digest_means_is_whatever_the_condition() -> None:
    judge = evaluator(["FileItem/Sha256sum", "contains", SHA_1.upper()])
    assert judge.digests == {bytes.fromhex(SHA_1): 0}
    assert judge.feed("FileItem", {"Sha256sum": SHA_1})


def test_many_values_and_unknown_ones() -> None:
    strings = "FileItem/StringList/string"
    file = {"doc": "FileItem", "StringList/string": ["one", None, "two"]}
    assert matches([strings, "is", "two"], [file])
    assert not matches([strings, "isnot", "three"], [file])  # the unreadable one could be it
    assert matches([strings, "isnot", "three"], [{"doc": "FileItem", "StringList/string": ["one"]}])
    assert matches([strings, "isnot", "three"], [{"doc": "FileItem", "StringList/string": []}])


def test_documents_join_on_the_host_and_bind_through_nested_groups() -> None:
    tree = [
        "AND",
        ["FileItem/FileName", "is", "a"],
        ["OR", ["FileItem/SizeInBytes", "is", "1"], ["PortItem/remotePort", "is", "443"]],
    ]
    a, a1 = (
        {"doc": "FileItem", "FileName": "a", "SizeInBytes": 2},
        {"doc": "FileItem", "FileName": "a", "SizeInBytes": 1},
    )
    other1 = {"doc": "FileItem", "FileName": "b", "SizeInBytes": 1}
    port = {"doc": "PortItem", "remotePort": 443}
    assert matches(tree, [a, other1]) == []  # the size is that of another file
    assert matches(tree, [a1]) == [0]
    assert matches(tree, [a, port]) == [0, 1]
    assert matches(tree, [port]) == []


def test_host_wide_reading_is_an_option() -> None:
    tree = ["AND", ["FileItem/FileName", "is", "a"], ["FileItem/FileName", "is", "b"]]
    items = [{"doc": "FileItem", "FileName": "a"}, {"doc": "FileItem", "FileName": "b"}]
    assert matches(tree, items) == []
    assert matches(tree, items, binding="host") == [0, 1]


def test_proof_names_the_items_that_hold() -> None:
    tree = [
        "AND",
        ["FileItem/SizeInBytes", "is", "5"],
        ["OR", ["FileItem/FileName", "is", "x"], ["FileItem/Sha256sum", "is", SHA_2]],
    ]
    (hit,) = evaluator(tree).feed("FileItem", {"SizeInBytes": 5, "FileName": "y", "Sha256sum": SHA_2})
    assert hit.item_ids == ("n2", "n5")
    assert explain_proof(document(tree), [*hit.item_ids, "gone"]) == [
        'file size in bytes is "5"',
        f'file SHA-256 is "{SHA_2}"',
        "gone",
    ]


def test_only_a_sha256_of_an_actionable_file_may_be_acted_on() -> None:
    tree = [
        "OR",
        ["AND", ["FileItem/SizeInBytes", "is", "5"], ["FileItem/Sha256sum", "is", SHA_1]],
        ["FileItem/Md5sum", "is", MD5_1],
        ["AND", ["FileItem/FileName", "is", "n"], ["FileItem/Sha256sum", "is", SHA_2]],
        [
            "AND",
            ["FileItem/FileName", "is", "n"],
            ["OR", ["FileItem/Sha256sum", "is", SHA_2], ["FileItem/FullPath", "is", "/n"]],
        ],
    ]
    judge = evaluator(tree, tier="actionable")
    assert judge.acts_on(SHA_1) and judge.acts_on(SHA_2.upper()) and not judge.acts_on("d" * 64)
    assert not judge.acts_on("not hex")
    tiers = {hit.tier for hit in judge.feed("FileItem", {"SizeInBytes": 5, "Sha256sum": SHA_1})}
    assert tiers == {"actionable"}
    assert {hit.tier for hit in judge.feed("FileItem", {"Md5sum": MD5_1})} == {"hunt"}
    by_name = judge.feed("FileItem", {"FileName": "n", "Sha256sum": SHA_2, "FullPath": "/n"})
    assert sorted(hit.tier for hit in by_name) == ["actionable", "hunt"]
    assert not evaluator(tree, tier="hunt").acts_on(SHA_1)


def test_what_no_collector_answers_is_not_evaluated() -> None:
    tree = [
        "OR",
        ["RegistryItem/Path", "contains", "Run"],
        ["HookItem/Foo", "is", "x"],
        ["FileItem/FileName", "is", "a"],
    ]
    judge = evaluator(tree, system="linux")
    assert judge.documents == {"FileItem"}
    assert not judge.feed("RegistryItem", {"Path": "Run"})
    finish = judge.finish()
    assert ("RegistryItem/Path", "no collector on linux") in finish.not_evaluated
    assert ("HookItem/Foo", "unknown term") in finish.not_evaluated
    assert set(finish.outcomes.values()) == {"unknown"}
    windows = evaluator(tree, system="windows")
    assert windows.feed("RegistryItem", {"Path": "...Run..."})
    assert set(windows.finish().outcomes.values()) == {"match"}


def test_a_collector_that_fails_makes_the_outcome_unknown() -> None:
    judge = evaluator(["PortItem/remotePort", "is", "1"], system="linux")
    judge.unavailable("PortItem", "access denied")
    finish = judge.finish()
    assert finish.not_evaluated == [("PortItem", "access denied")]
    assert set(finish.outcomes.values()) == {"unknown"}
    clean = evaluator(["PortItem/remotePort", "is", "1"], system="linux")
    assert set(clean.finish().outcomes.values()) == {"no_match"}


def test_state_survives_a_restart() -> None:
    tree = ["AND", ["FileItem/FileName", "is", "a"], ["PortItem/remotePort", "is", "443"]]
    first = evaluator(tree)
    first.feed("FileItem", {"FileName": "a"})
    state = json.loads(json.dumps(first.save_state()))
    second = evaluator(tree)
    second.restore_state(state)
    second.feed("PortItem", {"remotePort": 443})
    (match,) = second.finish().matches
    assert [(name, item) for name, item, _ in match.parts] == [
        ("FileItem", {"FileName": "a"}),
        ("PortItem", {"remotePort": 443}),
    ]
    from ioc_scan.scanner.plan import PlanError

    with pytest.raises(PlanError) as refused:
        evaluator(["FileItem/FileName", "is", "b"]).restore_state(state)
    assert refused.value.code == "plan_state"


def test_same_files_same_plan() -> None:
    tree = [
        "OR",
        ["FileItem/FileName", "is", "a"],
        ["AND", ["FileItem/SizeInBytes", "is", "1"], ["FileItem/Md5sum", "is", MD5_1]],
    ]
    assert plan_bytes(tree) == plan_bytes(tree)
    assert plan_bytes(tree).isascii()
