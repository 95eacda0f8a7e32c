"""The processor budget holds inside one large file."""

from __future__ import annotations

import resource
import time
from pathlib import Path

from ioc_scan.openioc.plan import compile_plan
from ioc_scan.scanner.localscan import scan_here
from ioc_scan.scanner.plan import load_plan

from tests.unit.scanner.support import any_ioc

PERCENT = 25


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_the_budget_holds_inside_a_large_file(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as stream:
        stream.truncate(900 * 2**20)  # without blocks: reading it costs memory bandwidth, no disk
    plan = load_plan(compile_plan([(any_ioc(("FileItem/Sha256sum", "is", "sha256", "0" * 64)), "hunt")]))
    settings = {"scope": "custom", "roots": [str(tmp_path)], "cpu_percent": PERCENT}
    before, begin = processor_seconds(), time.monotonic()
    summary = scan_here(plan, settings, lambda line: None)
    share = (processor_seconds() - before) / (time.monotonic() - begin)
    assert summary["bytes_hashed"] == 900 * 2**20
    # Above is a broken promise; below happens on a machine that is busy with other things.
    assert share <= PERCENT / 100 * 1.1
