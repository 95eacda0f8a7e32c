"""On Windows, too, a response that dies or is tampered with at any moment never loses a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.scanner.support import objects_plan
from tests.windows.rig import VERSIONS, Windows

EVIL = b"harmless stand-in\n" * 20
_CODE = (Path(__file__).parent / "faults_inside.py").read_text("utf-8")


def at_every_operation(windows: Windows, version: str, fault: str, kind: str, first: int, step: int) -> Any:
    base, where = windows.folder(f"{fault}-{kind}")
    (base / "plan.json").write_bytes(objects_plan(EVIL))
    return windows.python(version, _CODE, where, fault, kind, str(first), str(step), timeout=240)


@pytest.mark.parametrize("kind", ["respond", "restore"])
@pytest.mark.parametrize("fault", ["die", "fail", "swap"])
def test_at_every_file_operation(windows: Windows, version: str, fault: str, kind: str) -> None:
    """Each of the two Pythons takes every other operation."""
    first = 1 + VERSIONS.index(version)
    done = at_every_operation(windows, version, fault, kind, first, len(VERSIONS))
    assert done["problems"] == []
    assert done["operations"] > 40
