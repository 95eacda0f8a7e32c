"""The scanner as one file: always the same bytes, any Python from 3.8 on, nothing but the standard library."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ioc_scan.errors import InputError
from ioc_scan.scanner_build import build_zipapp

from tests.unit.scanner.support import LIB, Device, objects_plan, sha256

SOURCES = sorted((LIB / "ioc_scan" / "scanner").rglob("*.py"))
EVIL = b"harmless stand-in" * 99


def interpreters() -> list[str]:
    """This one, and others from 3.8 on that are installed here, each version once."""
    places = [shutil.which(f"python3.{minor}") for minor in range(8, 15)]
    places += [str(path) for path in sorted(Path(sys.base_prefix).parent.glob("*/bin/python3"))]
    found = {}
    for path in filter(None, [sys.executable, *places]):
        code = "import sys; print('%d.%d' % sys.version_info[:2] if sys.version_info >= (3, 8) else '')"
        answer = subprocess.run([path, "-I", "-c", code], capture_output=True, text=True, check=False)
        if answer.returncode == 0 and answer.stdout.strip():
            found.setdefault(answer.stdout.strip(), path)
    return list(found.values())


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    first = build_zipapp(tmp_path / "one.pyz")
    assert build_zipapp(tmp_path / "two.pyz") == first
    assert sha256((tmp_path / "one.pyz").read_bytes()) == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.pyz", "two.pyz"]


@pytest.mark.parametrize("python", interpreters())
def test_it_runs_jobs_as_one_file(tmp_path: Path, python: str) -> None:
    digest = build_zipapp(tmp_path / "scanner.pyz")
    command = [python, "-I", str(tmp_path / "scanner.pyz")]
    answer = subprocess.run([*command, "version"], capture_output=True, text=True, check=False)
    assert json.loads(answer.stdout)["digest"] == digest
    device = Device(tmp_path, objects_plan(EVIL))
    (device.tree / "evil").write_bytes(EVIL)
    device.publish(device.job("scan", "s", scanner_digest=digest))
    subprocess.run([*command, "run", "--spool", str(device.spool)], check=True)
    assert len(device.outcome("s").of("match")) == 1


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        build_zipapp(tmp_path / "absent" / "scanner.pyz")
    assert refused.value.code == "cannot_write"


@pytest.mark.parametrize(
    "words", [[], ["fly"], ["run"], ["run", "--spool"], ["scan", "--root", "/", "--depth", "1"]]
)
def test_wrong_usage_is_told(tmp_path: Path, words: list[str]) -> None:
    build_zipapp(tmp_path / "scanner.pyz")
    answer = subprocess.run(
        [sys.executable, tmp_path / "scanner.pyz", *words], capture_output=True, text=True
    )
    assert answer.returncode == 2
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    "source", SOURCES, ids=lambda path: str(path.relative_to(LIB / "ioc_scan" / "scanner"))
)
def test_it_imports_the_standard_library_only(source: Path) -> None:
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            roots = [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            roots = [(node.module or "").partition(".")[0]]
        else:
            continue
        foreign = set(roots) - set(sys.stdlib_module_names) - {"psutil"}
        assert not foreign, f"line {node.lineno} imports {foreign}"


def test_it_needs_no_newer_python_than_3_8() -> None:
    vermin = Path(sys.executable).with_name("vermin")
    if not vermin.exists():
        pytest.skip("vermin is not installed")
    folder = LIB / "ioc_scan" / "scanner"
    answer = subprocess.run([vermin, "-t=3.8-", "--no-tips", folder], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout
