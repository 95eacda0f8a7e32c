"""A withdrawal that is killed leaves nothing for good."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.scanner.protocol import withdraw_job

from tests.unit.scanner.support import Device, objects_plan

_OPERATIONS = ("rename", "listdir", "unlink", "rmdir", "open", "fsync")


def killed_at(spool: Path, job_id: str, at: int) -> bool:
    """Withdraw in a process of its own that ends before its ``at``-th file operation; whether it came so far."""
    pid = os.fork()
    if pid == 0:
        count = 0

        def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*arguments: Any, **options: Any) -> Any:
                nonlocal count
                count += 1
                if count == at:
                    os._exit(9)
                return real(*arguments, **options)

            return wrapped

        for name in _OPERATIONS:
            setattr(os, name, wrap(getattr(os, name)))
        withdraw_job(spool, job_id)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9


def test_what_a_killed_withdrawal_leaves_is_cleared_by_the_next_run(tmp_path: Path) -> None:
    device = Device(tmp_path, objects_plan(b"x"))
    jobs = device.spool / "jobs"
    left = 0
    at = 0
    reached = True
    while reached:
        at += 1
        device.publish(device.job("scan", f"job-{at}"))
        reached = killed_at(device.spool, f"job-{at}", at)
        left += any(path.name.startswith(".gone-") for path in jobs.iterdir())
        device.run("--once")
        assert {path.name for path in jobs.iterdir()} <= {"job-1"}, f"after operation {at}"
    assert at > 5 and left >= 3


@pytest.mark.parametrize("job_id", ["gone", "gone-1"])
def test_a_job_of_that_name_is_a_job_like_others(tmp_path: Path, job_id: str) -> None:
    device = Device(tmp_path, objects_plan(b"x"))
    (device.spool / "jobs" / f".new-{job_id}-0123456789ab").mkdir()  # being published just now
    assert device.do("scan", job_id).status["state"] == "done"
    assert (device.spool / "jobs" / f".new-{job_id}-0123456789ab").exists()
