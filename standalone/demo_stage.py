"""The stage of the demo: three folder trees that stand for devices, a harmless sample, and a report about it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

DEVICES = ("ws01", "ws02", "ws03")
FILES_PER_DEVICE = 300
SAMPLE_BYTES = 48_213
#: Where the sample hides, under other names; on the third device lies a decoy of the same size.
PLANTED = {
    "ws01": "home/anna/Downloads/invoice_2026-11.pdf.exe",
    "ws02": "var/lib/app/cache/3f/9c/a1/07/.session/thumbs.db",
}
DECOY = ("ws03", "home/carla/Downloads/invoice_2026-11.pdf.exe")


@dataclass(frozen=True)
class Stage:
    """Everything lies below ``folder``, which is new and private."""

    folder: Path
    sample_sha256: str
    #: Device managers of another engine than folders; else three folder trees are the devices.
    managers: Sequence[dict[str, Any]] = ()

    @property
    def reports(self) -> Path:
        return self.folder / "sandbox"

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def root(self, device: str) -> Path:
        return self.folder / "devices" / device

    def planted(self, device: str) -> Path:
        return self.root(device) / PLANTED[device]

    @property
    def decoy(self) -> Path:
        return self.root(DECOY[0]) / DECOY[1]

    def config(self, response_mode: str) -> dict[str, Any]:
        """The pack's configuration for the demo: one watched folder, one policy, one group."""
        devices = [{"id": name, "root": str(self.root(name)), "os": "linux"} for name in DEVICES]
        return {
            "store": {"folder": str(self.store)},
            "sources": [{"name": "demo", "type": "folder", "path": str(self.reports), "backfill_hours": 1}],
            "threat_response_policies": [
                {
                    "name": "demo",
                    "when": {"sources": ["demo"], "min_score": 70},
                    "run_ioc_scan_on": [{"group": "workstations", "response_mode": response_mode}],
                    "scope": "all",
                    "cpu_percent": 100,
                }
            ],
            "device_managers": list(self.managers)
            or [
                {
                    "name": "local",
                    "type": "local",
                    "spool": str(self.folder / "spool"),
                    "groups": [{"name": "workstations", "devices": devices}],
                }
            ],
        }


def build(folder: Path) -> Stage:
    """Make the devices, plant the sample and the decoy. Random bytes: harmless, and new every time."""
    sample = os.urandom(SAMPLE_BYTES)
    stage = Stage(folder, hashlib.sha256(sample).hexdigest())
    for path in (stage.reports, stage.store):
        path.mkdir(mode=0o700)
    for device in DEVICES:
        _ordinary_files(stage.root(device), random.Random(device))  # noqa: S311  names, not secrets
    for device in PLANTED:
        _write(stage.planted(device), sample)
    _write(stage.decoy, os.urandom(SAMPLE_BYTES))
    _write(stage.folder / "sample.bin", sample)
    return stage


def drop_report(stage: Stage, report: Path | None) -> Path:
    """Put a report into the watched folder, in one step as a sandbox's export should."""
    name = report.name if report else "report-4711.json"
    part = stage.reports / f".{name}.part"
    if report:
        shutil.copyfile(report, part)
    else:
        sample = (stage.folder / "sample.bin").read_bytes()
        part.write_text(json.dumps(_cape_report(sample)), encoding="utf-8")
    target = stage.reports / name
    part.rename(target)
    return target


def _ordinary_files(root: Path, rng: random.Random) -> None:
    folders = ("etc", "home/anna/Documents", "home/ben/Pictures", "opt/app/bin", "srv/share/2026", "var/log")
    for number in range(FILES_PER_DEVICE):
        folder = rng.choice(folders)
        suffix = rng.choice((".txt", ".log", ".jpg", ".conf", ".pdf", ".so", ".dat"))
        _write(root / folder / f"file{number:04d}{suffix}", rng.randbytes(rng.randrange(200, 60_000)))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _cape_report(sample: bytes) -> dict[str, Any]:
    """A report as CAPE 2.4 writes it, about the sample; addresses and names are reserved for examples."""
    hashes = {name: hashlib.new(name, sample).hexdigest() for name in ("md5", "sha1", "sha256")}
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    dropped = "C:\\Users\\user\\AppData\\Roaming\\Updater\\updater.exe"
    return {
        "info": {"id": 4711, "version": "2.4-CAPE", "started": now, "ended": now, "category": "file"},
        "target": {
            "category": "file",
            "file": {
                "name": "invoice_{{ 7*7 }}<% 1+1 %>.exe",
                "size": len(sample),
                "type": "PE32 executable (GUI) Intel 80386, for MS Windows",
                **hashes,
            },
        },
        "malscore": 9.2,
        "detections": [{"family": "DemoStealer", "details": []}],
        "dropped": [
            {
                "name": ["updater.exe"],
                "guest_paths": [dropped],
                "size": len(sample),
                "type": "PE32 executable (GUI) Intel 80386, for MS Windows",
                **hashes,
            }
        ],
        "CAPE": {
            "payloads": [],
            "configs": [{"DemoStealer": {"C2": ["http://c2.example.net/gate.php"]}}],
        },
        "network": {"hosts": [{"ip": "192.168.56.1"}], "domains": [{"domain": "c2.example.net"}]},
        "behavior": {
            "summary": {
                "files": [dropped],
                "write_files": [dropped],
                "mutexes": ["DemoStealer-7f3a"],
                "executed_commands": [],
                "write_keys": [],
            }
        },
        "signatures": [],
    }
