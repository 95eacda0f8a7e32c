"""The processor budget holds inside one large file, memory is bounded, everything has the lowest priority."""

from __future__ import annotations

import json
import random
import resource
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from ioc_scan.openioc.plan import compile_plan
from ioc_scan.scanner.localscan import scan_here
from ioc_scan.scanner.plan import load_plan

from tests.unit.scanner.support import PYTHON, Device, any_ioc, environment, objects_plan, sha256

PERCENT = 25


def processor_seconds() -> float:
    """Of this process and its children: a scan begins here, and goes on in workers."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(times.ru_utime + times.ru_stime for times in used)


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


#: A scan of the command line that says how much memory each of its processes had at most.
_WITH_PEAKS = """
import os, re, sys
from ioc_scan.scanner import pool
from ioc_scan.scanner.__main__ import main

def tell():
    peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read()).group(1)
    os.write(2, peak.encode() + b"\\n")

serve = pool._serve
pool._serve = lambda *arguments: (serve(*arguments), tell())
main(sys.argv[1:])
tell()
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the peak")
def test_a_hundred_thousand_hashes_fit_into_64_megabytes(tmp_path: Path) -> None:
    chance = random.Random(2)
    known = [chance.randbytes(32).hex() for _ in range(100_000)]
    tree = tmp_path / "tree"
    for number in range(40):
        (tree / str(number)).mkdir(parents=True)
        for name in range(50):
            (tree / str(number) / str(name)).write_bytes(bytes(name * 5000))
    known[50_000] = sha256(bytes(49 * 5000))
    plan = tmp_path / "plan.json"
    items = [("FileItem/Sha256sum", "is", "sha256", digest) for digest in known]
    plan.write_bytes(compile_plan([(any_ioc(*items), "hunt")], max_bytes=2**30))
    command = [PYTHON, "-c", _WITH_PEAKS, "scan", "--plan", str(plan), "--root", str(tree), "--threads", "2"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["matches"] == 40
    peaks = [int(line) for line in done.stderr.split()]
    assert len(peaks) == 3
    assert max(peaks) <= 64 * 1024


@pytest.mark.skipif(not hasattr(psutil, "IOPRIO_CLASS_IDLE"), reason="priorities as Linux has them")
def test_runner_and_workers_have_the_lowest_priority(tmp_path: Path) -> None:
    device = Device(tmp_path, objects_plan(b"x" * 100_000))
    for number in range(200):
        (device.tree / f"f{number}").write_bytes(bytes(100_000))
    device.publish(device.job("scan", "s", settings={"scope": "all", "cpu_percent": 1}))
    with subprocess.Popen(device.command(), env=environment()) as process:
        runner = psutil.Process(process.pid)
        end = time.monotonic() + 30
        while not runner.children() and time.monotonic() < end:
            time.sleep(0.02)
        family = [runner, *runner.children()]
        assert len(family) > 1
        assert {one.nice() for one in family} == {19}
        assert {one.ionice().ioclass for one in family} == {psutil.IOPRIO_CLASS_IDLE}
        process.kill()
