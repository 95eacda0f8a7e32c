"""Report data as the service collects it, ordinary or with every text hostile."""

from __future__ import annotations

import hashlib
from typing import Any

HOSTILE = (
    "</title></style><script>alert(1)</script><svg onload=alert(2)><img src=http://evil.invalid/p onerror=alert(3)>"
    "\"' onmouseover=alert(4) x='{{ 7*7 }}<% 1+1 %>{%raw%}\u202egnp.exe\u200b\x00\x1b[31m\ud800\n"
    "<style>*{display:none;background:url(//evil.invalid/)}</style><!-- --><a href='javascript:alert(5)'>&lt;b&gt;"
)
DIGEST = hashlib.sha256(b"sample").hexdigest()


def report_data(devices: int = 12, text: str | None = None) -> dict[str, Any]:
    """A task on ``devices`` devices. With ``text`` every field that outside words can reach holds it."""

    def say(ordinary: str) -> str:
        return ordinary if text is None else text

    rows = []
    for number in range(devices):
        state = ("done", "done", "done", "running", "waiting_idle", "failed")[number % 6]
        rows.append(
            {
                "manager": "local",
                "device_id": say(f"ws{number:02d}"),
                "group": say("workstations"),
                "state": "done" if number < 2 else state,
                "files_seen": 48211 + number * 97,
                "bytes_hashed": 1_234_567 * number,
                "matches": 1 if number < 2 else 0,
                "skipped": {say("fifo"): 2, say("unreadable"): number},
                "not_evaluated": [{"what": say("DnsEntryItem"), "reason": say("not_on_this_system")}],
                "error_code": "disk_full" if state == "failed" else None,
                "error_message": say("no space left on the device") if state == "failed" else None,
                "updated_at": "2026-11-22T03:04:05Z",
                "finished_at": "2026-11-22T03:04:05Z" if state == "done" else None,
            }
        )
    paths = [
        "/srv/ws00/home/anna/Downloads/invoice 2026-11.exe",
        "/srv/ws01/var/cache/.hidden/deep/er/svchost.exe",
    ]
    matches = [
        {
            "match_id": f"m{number}",
            "device_id": say(f"ws{number:02d}"),
            "manager": "local",
            "tier": "actionable",
            "document": "FileItem",
            "path": say(path),
            "size": 51234,
            "sha256": DIGEST,
            "item": {say("FullPath"): say(path), "Sha256sum": DIGEST},
            "proof": ["item-size", "item-hash"],
            "found_at": "2026-11-22T03:01:00Z",
            "response_state": ("quarantined", "awaiting_approval")[number],
            "response_message": say("copied, verified, then removed"),
        }
        for number, path in enumerate(paths)
    ]
    return {
        "task": {
            "task_id": "t-5d61a0c2",
            "name": say("invoice 2026-11.exe from cape"),
            "object_sha256": DIGEST,
            "state": "running",
            "end_reason": say("") or None,
            "created_at": "2026-11-22T02:55:00Z",
            "last_start_at": "2026-11-22T02:55:02Z",
            "expires_at": "2026-11-29T02:55:02Z",
            "run": 1,
            "policy_name": say("workstations"),
            "profile": "endpoint_agent",
            "detections_count": 2,
        },
        "groups": [{"manager": "local", "group": say("workstations"), "response_mode": "ask"}],
        "detections": [
            {
                "detection_id": say("cape:inbox:sha256-5baf57ed063187f0e0b5e5becbe1d78b"),
                "source_name": say("inbox"),
                "verdict_result": "malicious",
                "score": 100.0,
                "families": [say("Emotet")],
                "detected_at": "2026-11-22T02:50:00Z",
                "degraded": False,
                "reason": say("The score 100 is at or above the threshold 70, and a family is named."),
                "policy_name": say("workstations"),
                "link": say("https://cape.example.org/analysis/7/"),
            }
        ],
        "link_hosts": ["cape.example.org"],
        "triage": {
            "actionable": [
                {
                    "type": "file",
                    "role": "target",
                    "name": say("invoice 2026-11.exe"),
                    "size": 51234,
                    "hashes": {"MD5": "0" * 32, "SHA-256": DIGEST},
                    "tier": "actionable",
                    "reason": say("The analysed object itself."),
                }
            ],
            "hunt": [
                {
                    "type": "domain-name",
                    "role": "contacted",
                    "value": say("evil.example"),
                    "reason": say("contacted"),
                },
                {
                    "type": "mutex",
                    "role": "created",
                    "value": say("Global\\M_0815"),
                    "reason": {"code": "created"},
                },
            ],
            "suppressed": [
                {
                    "type": "file",
                    "role": "dropped",
                    "path": say("C:\\Windows\\System32\\kernel32.dll"),
                    "reason": say("system_file: part of the operating system"),
                }
            ],
            "losses": {"over_limit_dropped": 1234},
            "not_listed": {say("mutexes"): 7},
        },
        "iocs": [
            {
                "tier": "actionable",
                "digest": "a" * 64,
                "explain": [
                    "any of",
                    "  all of, about one file",
                    say("    size is 51234"),
                    say(f"    SHA-256 is {DIGEST}"),
                ],
                "items": {"item-size": say("size is 51,234 bytes"), "item-hash": say(f"SHA-256 is {DIGEST}")},
            },
            {
                "tier": "hunt",
                "digest": "b" * 64,
                "explain": ["any of", say("  file name is invoice 2026-11.exe")],
            },
        ],
        "coverage": {
            "targeted": devices,
            "reached": devices - 2,
            "answered": devices // 2,
            "matched": min(2, devices),
            "clean": max(devices // 2 - 2, 0),
            "failed": 1,
            "running": 1,
            "waiting_idle": 1,
            "never_seen": 2,
        },
        "devices": rows,
        "matches": matches,
        "responses": [
            {
                "response_id": "r1",
                "dry_run": False,
                "state": "done",
                "actor": say("anna"),
                "requested_at": "2026-11-22T03:02:00Z",
                "counts": {say("quarantined"): 1, "refused": 0},
            }
        ],
        "quarantine": [
            {
                "quarantine_id": "q-0001" if text is None else text,
                "manager": "local",
                "device_id": say("ws00"),
                "path": say(paths[0]),
                "sha256": DIGEST,
                "state": "quarantined",
                "quarantined_at": "2026-11-22T03:02:05Z",
                "expires_at": "2026-12-22T03:02:05Z",
            }
        ],
        "events": [
            {"at": "2026-11-22T02:55:00Z", "type": "task_created", "actor": say("stanley"), "data": {"n": 1}},
            {"at": "2026-11-22T02:55:02Z", "type": "task_started", "actor": say("stanley"), "data": None},
            *(
                {
                    "at": f"2026-11-22T03:01:0{n}Z",
                    "type": "match_found",
                    "device_id": say(f"ws0{n}"),
                    "data": {},
                }
                for n in range(2)
            ),
            {
                "at": "2026-11-22T03:02:05Z",
                "type": "object_quarantined",
                "device_id": say("ws00"),
                "data": {"path": say(paths[0]), "size": 51234},
            },
            {
                "at": "2026-11-22T03:03:00Z",
                "type": say("device_failed"),
                "device_id": say("ws05"),
                "data": {},
            },
        ],
        "generated_at": "2026-11-22T03:05:00Z",
    }


def overview_data(text: str | None = None) -> dict[str, Any]:
    task = report_data(text=text)
    rows = [
        {
            **task["task"],
            "coverage": task["coverage"],
            "matches": 2,
            "quarantined": 1,
            "awaiting_approval": 1,
            "report": "t-5d61a0c2.html" if text is None else text,
        },
        {
            **task["task"],
            "task_id": "t-older",
            "state": "expired",
            "end_reason": text or "7 days after its last start",
            "ended_at": "2026-11-21T00:00:00Z",
            "coverage": {**task["coverage"], "failed": 0},
            "matches": 0,
        },
        {"task_id": "t-new", "name": text or "just made", "state": "created"},
    ]
    return {"tasks": rows, "generated_at": "2026-11-22T03:05:00Z"}
