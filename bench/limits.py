"""What a scan keeps to besides time: memory, its processor budget, and what storing its place costs.

Measured on the benchmark's tree, through the doors of a device: the command line, and jobs of a spool.
"""

from __future__ import annotations

import hashlib
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ioc_scan.scanner.protocol import publish_job, to_iso
from ioc_scan.scanner.spool import prepare_spool

PERCENT = 25
#: Runs the scanner, and says of each of its processes how much memory it had at most (kB).
_PEAKS = """
import os, re, sys
sys.path.insert(0, sys.argv.pop(1))
from ioc_scan_scanner import pool
from ioc_scan_scanner.__main__ import main
def tell():
    peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read()).group(1)
    os.write(2, b"peak " + peak.encode() + b"\\n")
serve = pool._serve
pool._serve = lambda *arguments: (serve(*arguments), tell())
main(sys.argv[1:])
tell()
"""
#: Runs the jobs of a spool, and says how much processor time storing places took (seconds, number).
_STORING = """
import os, sys, time
sys.path.insert(0, sys.argv.pop(1))
from ioc_scan_scanner import scanrun
from ioc_scan_scanner.__main__ import main
spent = []
store = scanrun.ScanRun._store
def timed(*arguments):
    begin = time.process_time()
    store(*arguments)
    spent.append(time.process_time() - begin)
scanrun.ScanRun._store = timed
main(sys.argv[1:])
os.write(2, b"stored %f %d\\n" % (sum(spent), len(spent)))
"""


class Limits:
    """``scanner``: the folder with the scanner's package; ``plan``: of 100,000 hashes."""

    def __init__(self, folder: Path, scanner: Path, tree: Path, plan: Path) -> None:
        self._folder = folder
        self._scanner = scanner
        self._tree = tree
        self._plan = plan

    def rows(self) -> list[list[str]]:
        """What, measured, aim, verdict."""
        peak = self._peak_megabytes()
        share = self._budget_percent()
        verdict = "met" if PERCENT * 0.9 <= share <= PERCENT * 1.1 else "MISSED"
        if share < PERCENT and os.getloadavg()[0] > (os.cpu_count() or 1):
            verdict = "not exceeded"  # the lowest priority gets what others leave
        storing, times = self._storing_percent()
        return [
            _row("memory of a process, 100k hashes", f"{peak:.0f} MB", "<= 64 MB", peak <= 64),
            [
                f"processor budget of {PERCENT} %, everything hashed",
                f"{share:.1f} %",
                f"{PERCENT * 0.9:.1f} to {PERCENT * 1.1:.1f} %, less where others work",
                verdict,
            ],
            _row(f"storing the place, {times} times", f"{storing:.2f} %", "<= 1 %", storing <= 1),
        ]

    def _run(self, code: str, *words: str) -> tuple[str, float, float]:
        """What it said on standard error, its processor time, and how long it took."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        begin = time.monotonic()
        command = [sys.executable, "-I", "-S", "-c", code, str(self._scanner), *words]
        done = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True
        )
        passed = time.monotonic() - begin
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return done.stderr, used, passed

    def _peak_megabytes(self) -> float:
        words = ["scan", "--plan", str(self._plan), "--root", str(self._tree), "--threads", "2"]
        told, _, _ = self._run(_PEAKS, *words)
        return max(int(kilobytes) for kilobytes in re.findall(r"peak (\d+)", told)) / 1024

    def _budget_percent(self) -> float:
        spool = self._publish(cpu_percent=PERCENT)
        _, used, passed = self._run(_STORING, "run", "--spool", str(spool), "--once")
        return 100 * used / passed

    def _storing_percent(self) -> tuple[float, int]:
        spool = self._publish()
        told, used, _ = self._run(_STORING, "run", "--spool", str(spool), "--once")
        found = re.search(r"stored ([0-9.]+) (\d+)", told)
        assert found is not None, told
        return 100 * float(found.group(1)) / used, int(found.group(2))

    def _publish(self, **settings: Any) -> Path:
        """A spool with one scan job over the tree."""
        spool = self._folder / "spool"
        shutil.rmtree(spool, ignore_errors=True)
        os.umask(0o077)
        prepare_spool(spool, "bench", str(self._tree))
        now, content = datetime.now(timezone.utc), self._plan.read_bytes()
        job = {
            "protocol": 1,
            "job_id": "bench",
            "kind": "scan",
            "device_id": "bench",
            "task_id": "bench",
            "run": 1,
            "plan_digest": hashlib.sha256(content).hexdigest(),
            "scanner_digest": None,
            "not_before": to_iso(now - timedelta(minutes=1)),
            "not_after": to_iso(now + timedelta(hours=1)),
            "settings": {"scope": "all", **settings},
            "items": [],
            "dry_run": False,
        }
        publish_job(spool, job, content)
        return spool


def _row(what: str, value: str, aim: str, met: bool) -> list[str]:
    return [what, value, aim, "met" if met else "MISSED"]
