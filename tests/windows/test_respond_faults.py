"""On Windows, too, a response that dies or is tampered with at any moment never loses a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.scanner.support import objects_plan
from tests.windows.rig import SCANNER, VERSIONS, Windows

EVIL = b"harmless stand-in\n" * 20
_CODE = (Path(__file__).parent / "faults_inside.py").read_text("utf-8")


def at_every_operation(windows: Windows, version: str, fault: str, kind: str, first: int, step: int) -> Any:
    base, where = windows.folder(f"{fault}-{kind}")
    (base / "plan.json").write_bytes(objects_plan(EVIL))
    return windows.python(version, _CODE, where, fault, kind, str(first), str(step), timeout=240)


def check(done: dict[str, Any]) -> None:
    assert done["problems"] == []
    assert done["operations"] > 100


@pytest.mark.parametrize("kind", ["respond", "restore"])
@pytest.mark.parametrize(("fault", "step"), [("die", 12), ("fail", 20), ("swap", 20)])
def test_at_many_file_operations(windows: Windows, version: str, fault: str, step: int, kind: str) -> None:
    """The two Pythons take different ones."""
    first = 1 + VERSIONS.index(version) * step // 2
    check(at_every_operation(windows, version, fault, kind, first, step))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["respond", "restore"])
@pytest.mark.parametrize("fault", ["die", "fail", "swap"])
def test_at_every_file_operation(windows: Windows, fault: str, kind: str) -> None:
    check(at_every_operation(windows, VERSIONS[-1], fault, kind, 1, 1))


@pytest.mark.parametrize(("version", "kind"), list(zip(VERSIONS, ["respond", "restore"], strict=True)))
def test_a_process_that_really_ends(windows: Windows, version: str, kind: str) -> None:
    """The same with processes that end for good, at a few operations: what they held goes with them."""
    base, where = windows.folder(f"exit-{kind}")
    (base / "plan.json").write_bytes(objects_plan(EVIL))
    ending = f"import sys; sys.path.insert(0, {SCANNER!r})\n{_CODE}"
    for at in (70, 100, 115):
        windows.run(version, "-c", ending, where, "exit", kind, str(at), "1", status=7)
        done = windows.python(version, _CODE, where, "after", kind, str(at), "1")
        assert done["problems"] == [], at
