"""The three walks (find, workers, this process) see the same, on trees of every shape."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.openioc.plan import compile_plan
from ioc_scan.scanner import findfilter, localscan
from ioc_scan.scanner.localscan import scan_here
from ioc_scan.scanner.plan import load_plan

from tests.unit.scanner.support import any_ioc, objects_plan

EVIL = b"harmless stand-in " * 100


def grow(folder: Path, seed: int) -> None:
    """A random tree with objects, decoys of the same size, links, pipes and odd names."""
    chance = random.Random(seed)
    odd = [b"plain", b"sp ace", b"new\nline", b"\xff\xfe", b"...", b"F.F", b"*?[a]\\", b"-type", b"{{7*7}}"]
    folders = [os.fsencode(folder)]
    for number in range(60):
        path = chance.choice(folders) + b"/" + chance.choice(odd) + b"%d" % number
        kind = chance.random()
        if kind < 0.35:
            os.makedirs(path)
            folders.append(path)
        elif kind < 0.5:
            Path(os.fsdecode(path)).symlink_to(os.fsdecode(chance.choice(folders)))
        elif kind < 0.55:
            os.mkfifo(path)
        else:
            content = chance.choice([EVIL, bytes(len(EVIL)), b"", b"x" * number * 50])
            with open(path, "wb") as stream:
                stream.write(content)
            if kind > 0.95:
                os.link(path, path + b" linked")


def see(folder: Path, plan: bytes, excludes: list[str], **how: Any) -> tuple[Any, ...]:
    lines: list[dict[str, Any]] = []
    settings = {"scope": "custom", "roots": [str(folder)], "excludes": excludes, **how}
    summary = scan_here(load_plan(plan), settings, lines.append)
    for key in ("seconds",):
        summary.pop(key)
    return sorted((line["path_b64"], line["inode"], line["sha256"]) for line in lines), summary


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that a find was started for. Trees of tests are small: hardly any folder is left to ourselves."""
    asked: list[str] = []
    start = findfilter._Find.start

    def noted(find: findfilter._Find) -> None:
        asked.extend(find.folders)
        start(find)

    monkeypatch.setattr(findfilter._Find, "start", noted)
    monkeypatch.setattr(findfilter, "_SHARED_FOLDERS", 1)
    return asked


@pytest.mark.parametrize("seed", range(12))
def test_find_workers_and_own_walk_agree(
    tmp_path: Path, seed: int, used: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(tmp_path, seed)
    chance = random.Random(seed)
    below = sorted(str(path) for path in tmp_path.rglob("*") if path.is_dir() and not path.is_symlink())
    excludes = chance.sample(below, min(2, len(below)))
    excludes = [path for path in excludes if not any(character in path for character in "*?[")]
    others = [bytes(size) for size in chance.sample(range(1, 4000), seed * 3)]
    plan = objects_plan(EVIL, *others)
    monkeypatch.setattr(findfilter, "_SHARED_FOLDERS", 1 + seed % 4)
    by_find = see(tmp_path, plan, excludes, threads=1 + seed % 3)
    if seed % 4 == 0:
        assert used == [str(tmp_path)]
    monkeypatch.setattr(findfilter, "_FIND", "/no/such/find")
    asked = len(used)
    monkeypatch.setattr(localscan, "_ALONE_SECONDS", 0.0)
    by_workers = see(tmp_path, plan, excludes, threads=2)
    monkeypatch.delattr(os, "fork")
    alone = see(tmp_path, plan, excludes)
    assert by_find == by_workers == alone
    assert len(used) == asked


@pytest.mark.parametrize(
    "script",
    [
        "exit 1",
        "echo find: unrecognized: -printf >&2; exit 1",
        "printf ...; kill -9 $$",
        "exec /no/such/find",
    ],
)
def test_a_find_that_fails_is_replaced_by_the_own_walk(
    tmp_path: Path, script: str, used: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, stand_in = tmp_path / "tree", tmp_path / "find"
    tree.mkdir()
    (tree / "evil").write_bytes(EVIL)
    (tree / "left out").mkdir()
    excludes = [str(tree / "left out")]
    expected = see(tree, objects_plan(EVIL), excludes)
    stand_in.write_text("#!/bin/sh\n" + script + "\n")
    stand_in.chmod(0o700)
    monkeypatch.setattr(findfilter, "_FIND", str(stand_in))
    assert see(tree, objects_plan(EVIL), excludes) == expected
    assert len(expected[0]) == 1
    assert len(used) == 2


def test_what_find_could_not_read_is_told_once(
    tmp_path: Path, used: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As find says it: root may read everything, so a stand-in complains."""
    tree, stand_in = tmp_path / "tree", tmp_path / "find"
    tree.mkdir()
    (tree / "evil").write_bytes(EVIL)
    stand_in.write_text(
        '#!/bin/sh\n/usr/bin/find "$@"\n'
        "echo \"find: '/x: y': Permission denied\" >&2; echo \"find: '/z': No such file or directory\" >&2; exit 1\n"
    )
    stand_in.chmod(0o700)
    monkeypatch.setattr(findfilter, "_FIND", str(stand_in))
    matches, summary = see(tree, objects_plan(EVIL), [])
    assert len(matches) == 1 and summary["files"] == 1
    assert summary["skipped"] == [
        {"reason": "not_permitted", "count": 1},
        {"reason": "vanished", "count": 1},
    ]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux which signals are ignored")
def test_a_find_ends_with_its_scanner(
    tmp_path: Path, used: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its next word goes to nobody, and SIGPIPE ends it: unless it is ignored, as it is in Python."""
    tree, stand_in, note = tmp_path / "tree", tmp_path / "find", tmp_path / "note"
    tree.mkdir()
    stand_in.write_text(f'#!/bin/sh\ngrep SigIgn /proc/self/status >{note}\nexec /usr/bin/find "$@"\n')
    stand_in.chmod(0o700)
    monkeypatch.setattr(findfilter, "_FIND", str(stand_in))
    see(tree, objects_plan(EVIL), [])
    ignored = int(note.read_text().split()[1], 16)
    assert not ignored & 1 << (signal.SIGPIPE - 1)


@pytest.mark.parametrize(
    "items",
    [
        [("FileItem/FileName", "is", "string", "f3")],
        [("FileItem/SizeInBytes", "is", "int", "300")],
        [("FileItem/FullPath", "contains", "string", "deep/")],
        [("FileItem/Md5sum", "is", "md5", "0" * 32), ("FileItem/FileName", "is", "string", "f7")],
    ],
)
def test_other_plans_see_the_same_with_and_without_workers(
    tmp_path: Path, items: list[tuple[str, str, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    for number in range(20):
        (tmp_path / "deep" / f"f{number}").write_bytes(b"x" * number * 100)
    plan = compile_plan([(any_ioc(*items), "hunt")])
    monkeypatch.setattr(localscan, "_ALONE_SECONDS", 0.0)
    pooled = see(tmp_path, plan, [], threads=3)
    monkeypatch.delattr(os, "fork")
    assert see(tmp_path, plan, []) == pooled
    assert pooled[0]


def test_files_too_large_to_hash_are_reported(tmp_path: Path) -> None:
    (tmp_path / "evil").write_bytes(EVIL)
    _, summary = see(tmp_path, objects_plan(EVIL), [], max_hash_bytes=len(EVIL) - 1)
    assert summary["matches"] == 0
    assert summary["skipped"] == [{"reason": "too_large_to_hash", "count": 1}]


def test_an_excluded_folder_may_be_named_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "evil").write_bytes(EVIL)
    (tmp_path / "link").symlink_to("real")
    matches, _ = see(tmp_path, objects_plan(EVIL), [str(tmp_path / "link")])
    assert matches == []


def test_excluded_patterns(tmp_path: Path) -> None:
    for name in ("keep", "cache-1", "cache-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "evil").write_bytes(EVIL)
    matches, summary = see(tmp_path, objects_plan(EVIL), ["*/cache-*"])
    assert len(matches) == 1
    assert summary["skipped"] == [{"reason": "excluded", "count": 2}]
