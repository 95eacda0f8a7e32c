# ruff: noqa: E501
"""The plan: bounded, checked before use, and the same whichever way a file is read."""

from __future__ import annotations

import hashlib
import io
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.errors import InputError
from ioc_scan.openioc.model import Indicator, Ioc, Item
from ioc_scan.openioc.plan import compile_plan
from ioc_scan.openioc.writer import write_ioc
from ioc_scan.scanner.evaluate import SHA256, Evaluator
from ioc_scan.scanner.plan import PlanError, load_plan

from tests.unit.openioc.builders import MD5_1, SHA_1, document, evaluator, plan_bytes
from tests.unit.openioc.test_documents import dev_files

LARGE = 1 << 30


def sized_hashes(count: int, version: str = "1.0", extra: list[Any] | None = None) -> Ioc:
    groups: list[Any] = []
    for number in range(count):
        ids = [str(uuid.uuid5(uuid.NAMESPACE_OID, f"{number}-{part}")) for part in range(3)]
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        groups.append(
            Indicator(
                ids[0],
                "AND",
                [
                    Item(ids[1], "is", "FileItem", "FileItem/SizeInBytes", str(1000 + number), "int"),
                    Item(ids[2], "is", "FileItem", "FileItem/Sha256sum", digest, "sha256"),
                ],
            )
        )
    ioc = document(["FileItem/FileName", "is", "x"], version)
    ioc.roots = [Indicator("root", "OR", [*groups[: count // 2], *(extra or []), *groups[count // 2 :]])]
    return ioc


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize(
    "extra",
    [
        [],
        [Item("odd id", "is", "FileItem", "FileItem/Sha256sum", SHA_1)],
        [Item("i", "contains", "FileItem", "FileItem/FullPath", "\u00fc & <x>")],
        [Indicator("g", "AND", [Item("a", "is", "FileItem", "FileItem/SizeInBytes", "5"), Item("b", "is", "FileItem", "FileItem/Md5sum", MD5_1)])],
        [Indicator("g", "AND", [Item("a", "is", "FileItem", "FileItem/SizeInBytes", "5", negate=True), Item("b", "is", "FileItem", "FileItem/Md5sum", MD5_1)])],
        [Indicator("g", "OR", [Indicator("h", "AND", [Item("a", "is", "FileItem", "FileItem/FileName", "n"), Item("b", "is", "PortItem", "PortItem/remotePort", "1")])])],
        [Indicator("g", "AND", [Item("a", "is", "FileItem", "FileItem/SizeInBytes", "0x10"), Item("b", "is", "FileItem", "FileItem/Sha256sum", "xyz")])],
    ],
)  # fmt: skip
def test_reading_in_pieces_gives_the_same_plan(
    version: str, extra: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ioc_scan.openioc.bulk._CHUNK_BYTES", 1500)
    data = write_ioc(sized_hashes(40, version, extra))
    assert compile_plan([(io.BytesIO(data), "hunt")]) == compile_plan([(data, "hunt")])
    assert compile_plan([(io.BytesIO(data), "hunt")], binding="host") == compile_plan(
        [(data, "hunt")], binding="host"
    )


def test_real_files_in_pieces_give_the_same_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ioc_scan.openioc.bulk._CHUNK_BYTES", 2000)
    for path in dev_files():
        assert compile_plan([(path, "hunt")]) == compile_plan([(path.read_bytes(), "hunt")]), path.name


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda text: text.replace("<definition>", "<!-- <definition><Indicator operator=\"OR\"> --><definition>"), None),
        (lambda text: text.replace("</definition>", "<x/></definition>"), "unknown_logic"),
        (lambda text: text.replace('operator="AND"', 'operator="XOR"', 3), "unknown_operator"),
        (lambda text: text[:-30], "xml_malformed"),
        (lambda text: text.replace("FileItem/SizeInBytes", "&bad;", 9), "xml_malformed"),
        (lambda text: text.replace("?>", "?><!DOCTYPE ioc>"), "doctype_refused"),
    ],
)  # fmt: skip
def test_pieces_are_refused_as_the_whole_is(
    change: Any, code: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ioc_scan.openioc.bulk._CHUNK_BYTES", 1500)
    data = change(write_ioc(sized_hashes(20)).decode()).encode()
    if code is None:
        assert compile_plan([(io.BytesIO(data), "hunt")]) == compile_plan([(data, "hunt")])
        return
    with pytest.raises(InputError) as refused:
        compile_plan([(io.BytesIO(data), "hunt")])
    assert refused.value.code == code


def test_a_file_beyond_its_cap_is_refused_in_pieces_too() -> None:
    with pytest.raises(InputError) as refused:
        compile_plan([(io.BytesIO(write_ioc(sized_hashes(50))), "hunt")], max_bytes=5000)
    assert refused.value.code == "file_too_large"


def test_many_hashes_stay_compact_and_are_looked_up() -> None:
    plan = compile_plan([(write_ioc(sized_hashes(2000)), "actionable")])
    assert len(plan) < 2000 * 110
    judge = Evaluator(load_plan(plan), "linux")
    assert judge.any_size_mask == 0 and not judge.asks_more and not judge.exact_names
    assert len(judge.size_masks) == 2000 and set(judge.size_masks.values()) == {SHA256}
    digest = hashlib.sha256(b"1234").hexdigest()
    assert bytes.fromhex(digest) in judge.digests
    (hit,) = judge.feed("FileItem", {"SizeInBytes": 2234, "Sha256sum": digest})
    assert hit.tier == "actionable"
    assert hit.item_ids == tuple(str(uuid.uuid5(uuid.NAMESPACE_OID, f"1234-{part}")) for part in (1, 2))
    assert not judge.feed("FileItem", {"SizeInBytes": 2235, "Sha256sum": digest})
    assert judge.file_fields == {"SizeInBytes", "Sha256sum"}


def test_what_a_walk_asks() -> None:
    judge = evaluator(
        [
            "OR",
            ["AND", ["FileItem/FileName", "is", "A.exe"], ["FileItem/Md5sum", "is", MD5_1]],
            ["AND", ["FileItem/SizeInBytes", "is", "[10 TO 20]"], ["FileItem/Sha256sum", "is", SHA_1]],
            [
                "AND",
                ["FileItem/FullPath", "contains", "/evil/"],
                ["FileItem/SizeInBytes", "greater-than", "5"],
            ],
            ["FileItem/Sha1sum", "is", "1" * 40],
        ],
        system="linux",
    )
    assert judge.exact_names == {"a.exe"}
    assert judge.ranged_masks == [(10, 20, 4)]
    assert judge.any_size_mask == 2
    assert judge.asks_more and judge.needs_path
    assert judge.needs_item("x", "/evil/x", 6) and not judge.needs_item("x", "/good/x", 6)
    assert judge.hash_mask({"FileName": "a.EXE", "FullPath": "/a.EXE", "SizeInBytes": 1}) == 1
    assert judge.hash_mask({"FileName": "b", "FullPath": "/b", "SizeInBytes": 1}) == 0


def test_distribution_is_bounded() -> None:
    tree: list[Any] = ["AND"]
    for number in range(14):
        tree.append(
            [
                "OR",
                ["AND", ["FileItem/FileName", "is", f"a{number}"], ["PortItem/remotePort", "is", "1"]],
                ["AND", ["FileItem/FileName", "is", f"b{number}"], ["ProcessItem/name", "is", "p"]],
            ]
        )
    with pytest.raises(InputError) as refused:
        plan_bytes(tree)
    assert refused.value.code == "too_many_branches"


def _damage(**changes: Any) -> bytes:
    plan = json.loads(plan_bytes(["OR", ["AND", ["FileItem/SizeInBytes", "is", "5"], ["FileItem/Sha256sum", "is", SHA_1]], ["AND", ["FileItem/FileName", "is", "a"], ["FileItem/FileName", "matches", "b"]]]))  # fmt: skip
    for path, value in changes.items():
        target = plan
        *way, last = path.split("__")
        for step in way:
            target = target[int(step) if isinstance(target, list) else step]
        target[int(last) if isinstance(target, list) else last] = value
    return json.dumps(plan).encode()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"plan_version": 2}, "plan_version"),
        ({"binding": "galaxy"}, "plan_shape"),
        ({"iocs__0__digest": "zz"}, "plan_shape"),
        ({"iocs__0__tier": "delete everything"}, "plan_shape"),
        ({"sets__0__digests": "AAAA"}, "plan_shape"),
        ({"sets__0__digests": "no base64!"}, "plan_shape"),
        ({"sets__0__sizes": [1, 2, 3]}, "plan_shape"),
        ({"sets__0__ids": ["a"]}, "plan_shape"),
        ({"sets__0__term": 99}, "plan_shape"),
        ({"sets__0__term": -1}, "plan_shape"),
        ({"sets__0__ioc": True}, "plan_shape"),
        ({"tests__0__1": "exec"}, "plan_shape"),
        ({"tests__0__2": ""}, "plan_shape"),
        ({"tests__1__2__program": [["j", 50], ["m"]]}, "plan_shape"),
        ({"predicates__0__1": {"not": []}}, "plan_shape"),
        ({"predicates__0__1": {"and": []}}, "plan_shape"),
        ({"predicates__0__0": "PortItem"}, "plan_shape"),
        ({"branches__0__1": 7}, "plan_shape"),
        ({"unusable": [[0, 1, 2]]}, "plan_shape"),
        ({"terms": {}}, "plan_shape"),
        ({"tests": [[]] * 400_001}, "plan_bound"),
    ],
)
def test_a_damaged_plan_is_refused(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(PlanError) as refused:
        load_plan(_damage(**changes))
    assert refused.value.code == code


def test_a_plan_that_is_no_json_or_nested_without_end_is_refused() -> None:
    for data in (b"", b"\xff", b"[1", b"[" * 100_000):
        with pytest.raises(PlanError) as refused:
            load_plan(data)
        assert refused.value.code in ("plan_not_json", "plan_version")
    formula: Any = [0, 0, "x"]
    for _ in range(60):
        formula = {"and": [formula]}
    with pytest.raises(PlanError) as refused:
        load_plan(_damage(predicates__0__1=formula))
    assert refused.value.code == "plan_bound"


def test_a_plan_holds_several_files_and_their_digests(tmp_path: Path) -> None:
    first, second = write_ioc(document(["FileItem/FileName", "is", "a"])), write_ioc(sized_hashes(3))
    plan = load_plan(compile_plan([(first, "hunt"), (second, "actionable")]))
    assert [(ioc.digest, ioc.tier) for ioc in plan.iocs] == [
        (hashlib.sha256(first).hexdigest(), "hunt"),
        (hashlib.sha256(second).hexdigest(), "actionable"),
    ]
    assert plan.documents == {"FileItem"}


def walk_finds(tree: list[Any], complete: dict[str, Any]) -> bool:
    """Whether a walk that hashes only what it is told to still finds a file."""
    judge = evaluator(tree, system="linux")
    name, path, size = complete["FileName"], complete["FullPath"], complete["SizeInBytes"]
    mask = judge.any_size_mask | judge.size_masks.get(size, 0)
    mask |= sum({more for low, high, more in judge.ranged_masks if low <= size <= high})
    item = {field: value for field, value in complete.items() if not field.endswith("sum")}
    wanted = name.casefold() in judge.exact_names or (judge.asks_more and judge.needs_item(name, path, size))
    if wanted:
        mask |= judge.hash_mask(item)
    for field, bit in (("Md5sum", 1), ("Sha1sum", 2), ("Sha256sum", 4)):
        if mask & bit:
            item[field] = complete[field]
            wanted = wanted or bytes.fromhex(complete[field]) in judge.digests
    return bool(wanted and judge.feed("FileItem", item))


FILE = {
    "FileName": "a.exe",
    "FullPath": "/tmp/a.exe",
    "SizeInBytes": 50,
    "Md5sum": MD5_1,
    "Sha1sum": "1" * 40,
    "Sha256sum": SHA_1,
    "Modified": "2024-01-01T00:00:00Z",
}
SHA, MD5, SHA1_LEAF = (
    ["FileItem/Sha256sum", "is", SHA_1],
    ["FileItem/Md5sum", "is", MD5_1],
    ["FileItem/Sha1sum", "is", "1" * 40],
)
NOT_NAME = ["FileItem/FileName", "isnot", "b"]


@pytest.mark.parametrize(
    "tree",
    [
        SHA,
        ["AND", SHA, NOT_NAME],
        ["AND", SHA, MD5],
        ["AND", ["OR", SHA, ["FileItem/FileName", "is", "zzz"]], NOT_NAME],
        ["AND", ["OR", ["FileItem/FileName", "is", "zzz"], ["FileItem/SizeInBytes", "isnot", "5"]], NOT_NAME],
        ["AND", ["FileItem/SizeInBytes", "is", "50"], SHA, NOT_NAME],
        ["AND", ["FileItem/SizeInBytes", "greater-than", "49"], ["OR", SHA, MD5], NOT_NAME],
        ["AND", ["FileItem/SizeInBytes", "is", "50"], NOT_NAME],
        ["AND", ["FileItem/SizeInBytes", "less-than", "51"], NOT_NAME],
        ["AND", ["FileItem/FileName", "is", "A.EXE"], SHA1_LEAF],
        ["AND", ["FileItem/FullPath", "contains", "/TMP/"], SHA1_LEAF],
        ["AND", ["FileItem/FilePath", "is", "/tmp"], ["FileItem/Md5sum", "isnot", "2" * 32]],
        ["FileItem/FileExtension", "is", ".EXE"],
        ["FileItem/FileName", "matches", "^a"],
        ["FileItem/FileName", "starts-with", "A"],
        ["FileItem/FullPath", "ends-with", "/a.exe"],
        ["FileItem/Modified", "less-than", "2025-01-01"],
        ["FileItem/Sha256sum", "starts-with", SHA_1[:8]],
        ["FileItem/Md5sum", "isnot", "2" * 32],
        ["OR", ["AND", ["FileItem/SizeInBytes", "is", "50"], SHA], ["AND", ["FileItem/SizeInBytes", "is", "51"], MD5]],
        ["AND", ["OR", ["AND", ["FileItem/SizeInBytes", "is", "50"], SHA], ["AND", ["FileItem/SizeInBytes", "is", "9"], ["FileItem/FileName", "is", "q"]]], NOT_NAME],
    ],
)  # fmt: skip
def test_a_walk_that_hashes_little_finds_every_kind(tree: list[Any]) -> None:
    from ioc_scan.scanner.evaluate import path_fields

    assert walk_finds(tree, {**FILE, **path_fields("a.exe", "/tmp/a.exe", False)})


def test_a_part_nothing_collects_sinks_its_and() -> None:
    tree = ["AND", ["FileItem/FileName", "is", "a"], ["FileItem/StringList/string", "is", "s"]]
    item = {"FileName": "a", "StringList/string": ["s"]}
    assert not evaluator(tree, system="linux").feed("FileItem", item)
    assert evaluator(tree).feed("FileItem", item)
    assert not evaluator(tree, system="linux").exact_names
    joined = ["AND", ["FileItem/FileName", "is", "a"], ["RegistryItem/Path", "is", "p"]]
    judge = evaluator(joined, system="linux")
    assert not judge.feed("FileItem", {"FileName": "a"}) and not judge.finish().matches
