"""A spool, jobs and plans for the tests of the scanner, through the doors a device manager uses."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ioc_scan.openioc.plan import compile_plan
from ioc_scan.scanner.protocol import publish_job, to_iso
from ioc_scan.scanner.spool import prepare_spool

LIB = Path(__file__).resolve().parents[3] / "lib"
DEVICE = "ws01"
#: The interpreter of the "device"; the same tests can be run with any from 3.8 on.
PYTHON = os.environ.get("IOC_SCAN_DEVICE_PYTHON") or sys.executable


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _item(number: int, search: str, condition: str, kind: str, value: str) -> str:
    document = search.split("/")[0]
    return (
        f'<IndicatorItem id="00000000-0000-4000-8000-{number:012d}" condition="{condition}">'
        f'<Context document="{document}" search="{search}" type="mir"/>'
        f'<Content type="{kind}">{value}</Content></IndicatorItem>'
    )


def ioc(definition: str, ioc_id: str = "11111111-1111-4111-8111-111111111111") -> bytes:
    """An OpenIOC 1.0 file with this definition."""
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<ioc xmlns="http://schemas.mandiant.com/2010/ioc" '
        f'id="{ioc_id}" last-modified="2026-01-01T00:00:00">'
        "<short_description>test</short_description><authored_date>2026-01-01T00:00:00</authored_date>"
        f"<links/><definition>{definition}</definition></ioc>"
    ).encode()


def objects_ioc(contents: Iterable[bytes]) -> bytes:
    """What the pack generates for objects: OR of AND(size, sha256)."""
    branches = []
    for number, content in enumerate(contents):
        branches.append(
            f'<Indicator operator="AND" id="00000000-0000-4000-9000-{number:012d}">'
            + _item(number * 2, "FileItem/SizeInBytes", "is", "int", str(len(content)))
            + _item(number * 2 + 1, "FileItem/Sha256sum", "is", "sha256", sha256(content))
            + "</Indicator>"
        )
    return ioc(
        '<Indicator operator="OR" id="00000000-0000-4000-a000-000000000000">'
        + "".join(branches)
        + "</Indicator>"
    )


def any_ioc(*items: tuple[str, str, str, str]) -> bytes:
    """OR of (search, condition, content type, value)."""
    body = "".join(_item(number, *item) for number, item in enumerate(items))
    return ioc(f'<Indicator operator="OR" id="00000000-0000-4000-a000-000000000000">{body}</Indicator>')


def objects_plan(*contents: bytes, tier: str = "actionable") -> bytes:
    return compile_plan([(objects_ioc(contents), tier)])


class Device:
    """A folder-tree device with its spool, and the scanner run on it as a process of its own."""

    def __init__(self, base: Path, plan: bytes, whole_machine: bool = False) -> None:
        self.base = base
        self.tree = base / "tree"
        self.tree.mkdir()
        self.spool = base / "spool"
        self.plan = plan
        prepare_spool(self.spool, DEVICE, None if whole_machine else str(self.tree))

    def job(
        self, kind: str, job_id: str, items: list[dict[str, Any]] | None = None, **changes: Any
    ) -> dict[str, Any]:
        now = datetime.now(timezone.utc)
        job = {
            "protocol": 1,
            "job_id": job_id,
            "kind": kind,
            "device_id": DEVICE,
            "task_id": "task-1",
            "run": 1,
            "plan_digest": sha256(self.plan),
            "scanner_digest": None,
            "not_before": to_iso(now - timedelta(minutes=1)),
            "not_after": to_iso(now + timedelta(minutes=10)),
            "settings": {"scope": "all"} if kind == "scan" else {},
            "items": items or [],
            "dry_run": False,
        }
        job.update(changes)
        return job

    def publish(self, job: dict[str, Any]) -> Path:
        return Path(publish_job(self.spool, job, self.plan))

    def command(self, *arguments: str) -> list[str]:
        return [PYTHON, "-m", "ioc_scan.scanner", "run", "--spool", str(self.spool), *arguments]

    def run(self, *arguments: str, timeout: float = 60) -> None:
        done = subprocess.run(
            self.command(*arguments), env=environment(), capture_output=True, timeout=timeout, check=False
        )
        assert done.returncode == 0, done.stderr.decode()

    def do(
        self, kind: str, job_id: str, items: list[dict[str, Any]] | None = None, **changes: Any
    ) -> Outcome:
        """Publish a job and run everything."""
        self.publish(self.job(kind, job_id, items, **changes))
        self.run()
        return self.outcome(job_id)

    def outcome(self, job_id: str) -> Outcome:
        return Outcome(self.spool / "jobs" / job_id)

    def quarantine_files(self) -> list[Path]:
        return sorted(path for path in (self.spool / "quarantine").rglob("*") if path.is_file())


class Outcome:
    """What a job left: status and results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.status = json.loads((folder / "status.json").read_text("ascii"))
        results = folder / "results.jsonl"
        text = results.read_text("ascii") if results.exists() else ""
        self.lines = [json.loads(line) for line in text.splitlines()]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["type"] == kind]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(LIB)}


def item_for(path: Path | bytes, content: bytes, match_id: str = "match-1") -> dict[str, Any]:
    """The respond item of a file as a scan would have reported it."""
    info = os.lstat(path)
    return {
        "match_id": match_id,
        "path_b64": base64.b64encode(os.fsencode(path)).decode(),
        "sha256": sha256(content),
        "size": len(content),
        "device": info.st_dev,
        "inode": info.st_ino,
    }
