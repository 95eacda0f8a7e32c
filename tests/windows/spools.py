"""A device of Windows, reached as a device manager does it: by visits, which put down jobs and start the runner."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from datetime import datetime, timedelta, timezone
from typing import Any

from ioc_scan.scanner.protocol import PROTOCOL_VERSION, to_iso
from ioc_scan.scanner.visit import encode_request

from tests.unit.scanner.support import Outcome
from tests.windows.rig import SCANNER, Windows

DEVICE = "pc01"


class WindowsDevice:
    """Its spool and a folder to be scanned, side by side on drive C."""

    def __init__(self, windows: Windows, version: str, plan: bytes) -> None:
        self.windows = windows
        self.version = version
        self.plan = plan
        self.base, self.name = windows.folder("device")
        self.tree = self.base / "tree"
        self.tree.mkdir()
        self.tree_name = self.name + "\\tree"
        self.spool = self.base / "spool"
        self.spool_name = self.name + "\\spool"

    def job(self, job_id: str, **settings: Any) -> dict[str, Any]:
        """A scan of the tree."""
        now = datetime.now(timezone.utc)
        return {
            "protocol": PROTOCOL_VERSION, "job_id": job_id, "kind": "scan", "device_id": DEVICE,
            "task_id": "task-1", "run": 1, "plan_digest": hashlib.sha256(self.plan).hexdigest(),
            "scanner_digest": self.windows.scanner_digest, "not_before": to_iso(now - timedelta(minutes=1)),
            "not_after": to_iso(now + timedelta(minutes=10)), "items": [], "dry_run": False,
            "settings": {"scope": "custom", "roots": [self.tree_name], **settings},
        }  # fmt: skip

    def visit(self, **wishes: Any) -> dict[str, Any]:
        """One visit; what the scanner answers."""
        request = {
            "protocol": PROTOCOL_VERSION,
            "device_id": DEVICE,
            "root": None,
            "scanner_digest": self.windows.scanner_digest,
            **wishes,
        }
        plans = {hashlib.sha256(self.plan).hexdigest(): self.plan}
        given = encode_request(request, plans)
        done = self.windows.run(
            self.version, SCANNER, "visit", "--spool", self.spool_name, given=given, status=None
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        assert "error" not in answer, answer
        return answer

    def run(self, *arguments: str, **options: Any) -> None:
        """Run what is due, and wait for it."""
        self.windows.run(self.version, SCANNER, "run", "--spool", self.spool_name, *arguments, **options)

    def do(self, job: dict[str, Any]) -> Outcome:
        """Put a job down, run it to its end."""
        assert self.visit(place=[job])["failed"] == {}
        self.run()
        return self.outcome(job["job_id"])

    def outcome(self, job_id: str) -> Outcome:
        return Outcome(self.spool / "jobs" / job_id)

    def status(self, job_id: str) -> dict[str, Any]:
        """As a visit sees it."""
        answer = self.visit(read={job_id: {"offset": 0, "limit": 0}})
        return dict(json.loads(base64.b64decode(answer["jobs"][job_id]["status"] or "e30=")))

    def wait_for(self, job_id: str, *states: str, seconds: float = 30) -> dict[str, Any]:
        """The status, as soon as the job is in one of these states."""
        deadline = time.monotonic() + seconds
        while True:
            status = self.status(job_id)
            if status.get("state") in states:
                return status
            assert time.monotonic() < deadline, status
            time.sleep(0.1)
