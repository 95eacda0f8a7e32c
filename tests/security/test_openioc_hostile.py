"""Hostile IOC files: each is answered by its code, within a second and 256 MB, in a process of its own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ioc_scan.errors import InputError
from ioc_scan.openioc.check import check_files
from ioc_scan.openioc.plan import compile_plan
from ioc_scan.openioc.problem_codes import severity_of
from ioc_scan.openioc.reader import read_ioc
from ioc_scan.openioc.terms import SYSTEMS
from ioc_scan.scanner.evaluate import Evaluator
from ioc_scan.scanner.plan import load_plan

from tests.fixtures.shared import REPOSITORY, shared_data
from tests.security.openioc_hostile import FLAGGED, REFUSED

MEMORY_BYTES = 256 * 1024 * 1024
#: The bound of one second is for an idle machine; a shared one gets more.
SECONDS = 4.0

_CHILD = """
import json, re, sys, time
sys.path.insert(0, sys.argv[1])
from ioc_scan.openioc.check import check_files
from ioc_scan.openioc.terms import SYSTEMS
import re2
out = []
for name in sys.argv[2:]:
    begin = time.process_time()
    (result,) = check_files([name], profile="generic", systems=SYSTEMS)
    entry = result.as_dict()
    out.append([entry, time.process_time() - begin])
# Not ru_maxrss: that begins with what the process had that started this one.
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read()).group(1)) * 1024
print(json.dumps([out, peak]))
"""


def _write(folder: Path, cases: dict) -> list[Path]:
    paths = []
    for number, (_, make) in enumerate(cases.values()):
        path = folder / f"{number}.ioc"
        path.write_bytes(make())
        paths.append(path)
    return paths


def _check_in_a_process(paths: list[Path]) -> list:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (120, 120))

    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(REPOSITORY / "lib"), *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=280,
        preexec_fn=limit,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results, peak = json.loads(done.stdout)
    assert peak < MEMORY_BYTES
    return results


def test_what_must_be_refused_is_refused(tmp_path: Path) -> None:
    results = _check_in_a_process(_write(tmp_path, REFUSED))
    for (name, (code, _)), (result, seconds) in zip(REFUSED.items(), results, strict=True):
        assert [entry["code"] for entry in result["problems"]] == [code], name
        assert not result["ok"] and result["version"] is None, name
        assert seconds < 1.0, (name, seconds)
        assert result["problems"][0]["message"], name


def test_what_must_be_flagged_is_flagged(tmp_path: Path) -> None:
    results = _check_in_a_process(_write(tmp_path, FLAGGED))
    for (name, (code, _)), (result, seconds) in zip(FLAGGED.items(), results, strict=True):
        codes = [entry["code"] for entry in result["problems"]]
        assert result["version"] == "1.0", (name, codes)
        assert seconds < 1.0, (name, seconds)
        if code == "ok":
            assert result["ok"], (name, codes)
        else:
            assert code in codes, (name, codes)
            assert result["ok"] == all(severity_of(each) == "warning" for each in codes), (name, codes)


@pytest.mark.parametrize("name", [*REFUSED, *FLAGGED])
def test_compiling_answers_the_same_file_without_harm(name: str) -> None:
    data = {**REFUSED, **FLAGGED}[name][1]()
    begin = time.process_time()
    try:
        plan = load_plan(compile_plan([(data, "hunt")]))
    except InputError as error:
        assert name in REFUSED or error.code in ("too_many_branches", "too_many_patterns", "plan_too_large")
        return
    assert name in FLAGGED
    Evaluator(plan, None).feed(
        "FileItem", {"FileName": "a" * 3000 + "!", "FullPath": "/a" * 1000, "Md5sum": "0" * 32}
    )
    assert time.process_time() - begin < SECONDS


def test_the_collected_hostile_files_are_answered() -> None:
    expected = {
        "attr_default_dtd": "doctype_refused",
        "bad_md5": "never_matches",
        "billion_laughs": "doctype_refused",
        "child_in_content": "child_in_content",
        "deep_nesting_300": "too_deep",
        "dup_ids": "duplicate_id",
        "empty_content_contains": "content_empty",
        "gzip": "not_xml",
        "int_overflow": "content_type",
        "isnot_only": "over_broad",
        "path_system32": "over_broad",
        "regex_bomb": "pattern_nested",
        "truncated": "xml_malformed",
        "unknown_operator": "unknown_operator",
        "utf16": "encoding_unusual",
        "utf7": "encoding_refused",
        "xxe_file": "doctype_refused",
    }
    folder = shared_data("openioc", "hostile")
    for stem, code in expected.items():
        (result,) = check_files([str(folder / f"{stem}.ioc")], profile="generic", systems=SYSTEMS)
        assert code in [entry.code for entry in result.problems], stem
    (clean,) = check_files([str(folder / "utf8_bom.ioc")], profile="generic", systems=SYSTEMS)
    assert clean.ok and not clean.problems


def test_an_injected_attribute_never_arrives() -> None:
    """What the DOCTYPE would have added must not be there even if the refusal were lifted."""
    with pytest.raises(InputError):
        read_ioc(REFUSED["attribute default"][1]())


def test_special_files_and_folders_do_not_hang(tmp_path: Path) -> None:
    import os

    fifo = tmp_path / "fifo.ioc"
    os.mkfifo(fifo)
    names = [str(fifo), str(tmp_path), "/dev/zero", str(tmp_path / "absent.ioc"), "a\0b"]
    for result in check_files(names, profile="generic", systems=SYSTEMS):
        assert [entry.code for entry in result.problems] == ["unreadable"], result.file
