"""Quarantine, restore and purge on Windows, by handle: real files and jobs under Wine."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.scanner.protocol import publish_job, to_iso
from ioc_scan.scanner.spool import prepare_spool

from tests.unit.scanner.support import Outcome, objects_plan, sha256
from tests.windows.rig import SCANNER, Windows

EVIL = b"harmless stand-in for something bad\n" * 300
DEVICE = "pc01"


class Computer:
    """A spool and a folder of files on drive C, and the scanner run on them."""

    def __init__(self, windows: Windows, version: str, plan: bytes) -> None:
        self.windows = windows
        self.version = version
        self.plan = plan
        self.base, self.where = windows.folder("respond")
        self.spool = self.base / "spool"
        self.files = self.base / "files"
        self.files.mkdir()
        prepare_spool(self.spool, DEVICE)

    def inside(self, name: str) -> str:
        """The path of one of the files as Windows sees it."""
        return f"{self.where}\\files\\{name}"

    def job(
        self, kind: str, job_id: str, items: list[dict[str, Any]] | None = None, **changes: Any
    ) -> dict[str, Any]:
        now = datetime.now(timezone.utc)
        scope = {"scope": "custom", "roots": [self.where + "\\files"]}
        return {
            "protocol": 1,
            "job_id": job_id,
            "kind": kind,
            "device_id": DEVICE,
            "task_id": "task-1",
            "run": 1,
            "plan_digest": sha256(self.plan),
            "scanner_digest": self.windows.scanner_digest,
            "not_before": to_iso(now - timedelta(minutes=1)),
            "not_after": to_iso(now + timedelta(minutes=10)),
            "settings": scope if kind == "scan" else {},
            "items": items or [],
            "dry_run": False,
            **changes,
        }

    def publish(self, job: dict[str, Any]) -> None:
        # The shape of a job is judged where it runs: here its paths are no paths.
        folder = self.spool / "jobs" / job["job_id"]
        folder.mkdir(mode=0o700)
        (folder / "plan.json").write_bytes(self.plan)
        (folder / "job.json").write_text(json.dumps(job), "ascii")

    def run(self) -> None:
        self.windows.run(self.version, SCANNER, "run", "--spool", self.where + "\\spool")

    def outcome(self, job_id: str) -> Outcome:
        return Outcome(self.spool / "jobs" / job_id)

    def do(self, kind: str, job_id: str, items: list[dict[str, Any]] | None = None, **changes: Any) -> Outcome:
        self.publish(self.job(kind, job_id, items, **changes))
        self.run()
        return self.outcome(job_id)


def by_name(outcome: Outcome, kind: str) -> dict[str, dict[str, Any]]:
    return {line["path"].rpartition("\\")[2]: line for line in outcome.of(kind)}


def items_of(scan: Outcome) -> list[dict[str, Any]]:
    keys = ("path_b64", "sha256", "size", "device", "inode")
    return [
        {"match_id": f"m{number}", **{key: line[key] for key in keys}}
        for number, line in enumerate(scan.of("match"))
    ]


def test_smoke(windows: Windows, version: str) -> None:
    computer = Computer(windows, version, objects_plan(EVIL))
    (computer.files / "evil.exe").write_bytes(EVIL)
    scan = computer.do("scan", "s")
    print(scan.status, scan.lines)
    lines = computer.do("respond", "r", items_of(scan))
    print(lines.status, lines.lines)
    for path in computer.spool.rglob("*"): print(path)
    items = [{"quarantine_id": line["quarantine_id"]} for line in lines.of("response")]
    back = computer.do("restore", "b", items)
    print(back.status, back.lines)
    print(list(computer.files.iterdir()))
    assert 0
