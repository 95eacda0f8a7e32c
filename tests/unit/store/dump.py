"""Makes a dump of a store with a little of everything, as this version of the pack writes it:

    python -m tests.unit.store.dump > tests/unit/store/data/store_REVISION.sql

Run once when a migration is released; the file then never changes. test_migrations.py opens every such
file with the newest code, on both databases.
"""

from __future__ import annotations

import sqlite3
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

from ioc_scan.store import Store

from . import make

NOW = datetime(2026, 3, 1, 12, 0, 0, 500, tzinfo=timezone.utc)


def fill(store: Store) -> None:
    """A task with everything that hangs on it, an ended one, and what keeps house."""
    with store.transaction() as tx:
        for number in (1, 2):
            tx.detections.put(make.detection(str(number), "ab" * 32), source_name="cape", now=NOW)
        tx.detections.put(make.detection("1", "ab" * 32, tlp="red"), source_name="cape", now=NOW)
        tx.detections.decide("cape:main:1", "task", policy_name="workstations", task_id="task-1")
        tx.fetches.failed(
            "cape:main:3",
            source_name="cape",
            report_id="3",
            code="report_truncated",
            message="cut \x00 off",
            next_try_at=NOW,
            now=NOW,
        )
        digest, _ = tx.ioc_files.put(
            b"<ioc/>\x00\xff",
            ioc_id="i",
            detection_id="cape:main:1",
            tier="actionable",
            version="1.0",
            item_count=1,
            now=NOW,
        )
        for name, sha256 in (("task-1", "ab" * 32), ("task-2", "cd" * 32)):
            make.task(tx, NOW, name, sha256)
            tx.tasks.update(name, state="running", run=1, first_start_at=NOW, last_start_at=NOW)
            tx.task_devices.target(name, 1, "local", "workstations", [("ws01", ["pc"]), "ws02"], now=NOW)
        tx.tasks.update(
            "task-1", run=2, plan_digest=tx.plans.put(b"{}", now=NOW), settings={"scope": "critical"}
        )
        tx.tasks.add_detection("task-1", "cape:main:1", NOW)
        tx.tasks.set_iocs("task-1", [("actionable", digest)])
        tx.task_devices.target("task-1", 2, "local", "workstations", ["ws01", "ws02"], now=NOW)
        tx.task_devices.apply_state(
            "task-1",
            "local",
            "ws01",
            run=2,
            state="done",
            now=NOW,
            matches=2,
            progress=1.0,
            skipped={"denied": 1},
        )
        tx.matches.add(
            [
                make.match(NOW, f"item-{number}", run=2, st_ino=2**64 - number, path="/a\udcff")
                for number in (1, 2)
            ]
        )
        (claimed,) = tx.matches.claim("task-1", None, "r1", NOW, limit=1)
        tx.responses.create(
            response_id="r1", task_id="task-1", actor="alice", requested_at=NOW, dry_run=False
        )
        tx.matches.set_response(
            claimed["match_id"], "quarantined", now=NOW, response_id="r1", quarantine_id="q1"
        )
        tx.quarantine.add(
            {
                "quarantine_id": "q1",
                "manager": "local",
                "device_id": "ws01",
                "task_id": "task-1",
                "match_id": claimed["match_id"],
                "sha256": "ab" * 32,
                "size": 10,
                "path": "/a",
                "path_b64": "L2E=",
                "quarantined_at": NOW,
                "expires_at": NOW + timedelta(days=30),
            }
        )
        tx.approvals.open(
            approval_id="a1",
            task_id="task-1",
            match_ids=["m"],
            requested_at=NOW,
            expires_at=NOW + timedelta(hours=24),
        )
        tx.exemptions.add("ef" * 32, created_by="alice", reason="ours", now=NOW)
        for job_id in ("j1", "j2"):
            tx.jobs.create(
                {
                    "job_id": job_id,
                    "task_id": "task-1",
                    "run": 2,
                    "kind": "scan",
                    "manager": "local",
                    "created_at": NOW,
                    "not_before": NOW,
                    "not_after": NOW + timedelta(days=7),
                    "spec": {"scope": "critical"},
                }
            )
        tx.withdrawals.request("j2", ["ws02"], NOW)
        tx.events.add("task_created", task_id="task-1", data={"n": 1.5, "text": "ü\udcff"}, at=NOW)
        tx.events.add("match_found", task_id="task-1", manager="local", device_id="ws01", at=NOW)
        tx.events.add("response_done", task_id="task-1", actor="alice", at=NOW)
        tx.outbox.add("ioc_scan.matches_found", {"task_id": "task-1"}, dedupe_key="k", now=NOW)
        tx.leases.acquire("process_results", "host:1", 60, NOW)
        tx.flags.set("kill_switch", False, now=NOW, actor="alice")
    with store.transaction() as tx:
        tx.tasks.end("task-2", "cancelled", "by alice", NOW)
        tx.task_summaries.write("task-2", actor="alice")
        tx.events.trim(NOW + timedelta(days=1), actor="alice", now=NOW, limit=1)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        with Store.open(f"sqlite:///{path}", clock=lambda: NOW, allow_temporary=True) as store:
            fill(store)
        with sqlite3.connect(path) as raw:
            print("\n".join(raw.iterdump()))


if __name__ == "__main__":
    main()
