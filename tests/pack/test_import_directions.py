"""Imports run one way, and each part is as light as the place it runs in."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARY = REPOSITORY / "lib" / "ioc_scan"
#: Device side, optional: used where the device has it.
OPTIONAL_ON_DEVICES = {"psutil"}
#: What a room may import of the others; those not named here are leaves for everybody (errors, clock, text).
ALLOWED = {
    "scanner": set(),
    "ksc_client": set(),
    "detection": {"ksc_client"},
    "openioc": {"scanner", "detection"},
    "devices": {"scanner", "scanner_build", "ksc_client"},
    "store": {"retention"},
    "reports": set(),
    "service": {
        "detection",
        "openioc",
        "scanner",
        "scanner_build",
        "devices",
        "ksc_client",
        "store",
        "reports",
        "retention",
        "config",
    },
}
LEAVES = {"errors", "clock", "text"}


def imports(path: Path) -> Iterator[str]:
    """Absolute names of everything a file imports, wherever in the file."""
    package = [*path.relative_to(REPOSITORY / "lib").parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if not node.level:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
                continue
            base = package[: len(package) - node.level + 1]
            for alias in node.names:
                yield ".".join([*base, *([node.module] if node.module else []), alias.name])


def files(room: str) -> list[Path]:
    return sorted((LIBRARY / room).rglob("*.py"))


def test_nothing_in_the_library_imports_stackstorm() -> None:
    for path in LIBRARY.rglob("*.py"):
        for name in imports(path):
            assert name.split(".")[0] not in ("st2common", "st2client", "st2reactor", "st2actions"), path


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_rooms_know_only_those_below_them(room: str) -> None:
    found = files(room)
    assert found
    for path in found:
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "ioc_scan" and len(parts) > 1 and parts[1] not in (room, *LEAVES):
                assert parts[1] in ALLOWED[room], f"{path.relative_to(REPOSITORY)} imports {name}"


def test_what_runs_on_devices_needs_the_standard_library_only() -> None:
    for path in files("scanner"):
        for name in imports(path):
            top = name.split(".")[0]
            if top == "ioc_scan":
                assert name.startswith("ioc_scan.scanner"), f"{path.name} imports {name}"
            else:
                assert top in sys.stdlib_module_names | OPTIONAL_ON_DEVICES, f"{path.name} imports {name}"


def test_scanner_modules_import_each_other_relatively() -> None:
    """Zipped for a device they are a package of their own."""
    for path in files("scanner"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and not node.level:
                assert not (node.module or "").startswith("ioc_scan"), path


@pytest.mark.parametrize(
    ("module", "never"),
    [
        (
            "ioc_scan.detection.sources",
            ("sqlalchemy", "alembic", "lxml", "jinja2", "asyncssh", "ioc_scan.store"),
        ),
        (
            "ioc_scan.detection.sources.watch",
            ("sqlalchemy", "alembic", "lxml", "jinja2", "asyncssh", "ioc_scan.store"),
        ),
        ("ioc_scan.store", ("ioc_scan.devices", "ioc_scan.service", "lxml", "asyncssh")),
        ("ioc_scan.devices", ("ioc_scan.store", "ioc_scan.service", "sqlalchemy", "lxml")),
        ("ioc_scan.retention", ("sqlalchemy", "ioc_scan.store", "ioc_scan.devices")),
    ],
)
def test_importing_pulls_in_nothing_it_must_not(module: str, never: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print('\\n'.join(sys.modules))"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "lib")}
    loaded = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not [name for name in loaded if name in never or name.startswith(tuple(f"{n}." for n in never))]


def test_the_sensor_imports_sources_and_little_else() -> None:
    tree = ast.parse((REPOSITORY / "sensors" / "sandbox_detections.py").read_text(encoding="utf-8"))
    ours = {
        node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ioc_scan")
    }
    light = {name for name in ours if name is not None and not name.startswith("ioc_scan.detection.sources")}
    assert light == {"ioc_scan.clock", "ioc_scan.text"}, "these two import the standard library alone"


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("actions/workflows", "../workflows"),
        ("actions/lib", "../lib"),
        ("sensors/ioc_scan", "../lib/ioc_scan"),
    ],
)
def test_the_links_stackstorm_needs_are_committed_as_links(link: str, target: str) -> None:
    assert str((REPOSITORY / link).readlink()) == target
    listed = subprocess.run(
        ["git", "ls-files", "-s", link], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if listed.returncode == 0:
        assert listed.stdout.startswith("120000 "), "not a link in the repository"
