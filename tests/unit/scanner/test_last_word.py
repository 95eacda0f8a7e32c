"""What a withdrawn response left in quarantine is told with each withdrawal, whatever broke off in between."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.scanner.quarantine import Quarantine, quarantine_id_of
from ioc_scan.scanner.visit import visit

CONTENT = b"a harmless sample" * 50
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def spool(tmp_path: Path) -> str:
    path = str(tmp_path / "spool")
    withdraw(path)
    return path


def withdraw(spool: str, *job_ids: str) -> dict[str, Any]:
    answer = visit(spool, {"protocol": 1, "device_id": "ws01", "withdraw": job_ids}, {}, [])
    assert answer["withdrawn"] == list(job_ids)
    return dict(answer["left"])


def kept(spool: str, planted: Path, state: str, job_id: str = "resp.0") -> dict[str, Any]:
    """An entry as a responder leaves it, with the content; returns what is told of it."""
    quarantine, info = Quarantine(os.path.join(spool, "quarantine")), planted.stat()
    with planted.open("rb") as stream:
        quarantine.store(stream.fileno(), SHA256, lambda: None)
    told = {
        "match_id": "m1",
        "quarantine_id": quarantine_id_of(job_id, "m1"),
        "sha256": SHA256,
        "size": len(CONTENT),
    }
    path = base64.b64encode(os.fsencode(planted)).decode()
    where = {"path": str(planted), "path_b64": path, "device": info.st_dev, "inode": info.st_ino}
    quarantine.put({**told, **where, "state": state, "job_id": job_id})
    return told


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    path = tmp_path / "x.exe"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("state", ["quarantined", "copied"])
def test_an_object_that_is_gone_is_told_each_time(spool: str, planted: Path, state: str) -> None:
    told = kept(spool, planted, state)
    planted.unlink()
    for _ in range(2):
        assert withdraw(spool, "task.r1.0", "resp.0") == {"resp.0": [told]}
    (entry,) = Quarantine(os.path.join(spool, "quarantine")).entries()
    assert entry["state"] == "quarantined"


def test_an_object_that_is_still_in_place_is_not(spool: str, planted: Path) -> None:
    kept(spool, planted, "copied")
    assert withdraw(spool, "resp.0") == {}
    assert planted.exists() and list(Quarantine(os.path.join(spool, "quarantine")).entries()) == []


def test_nothing_is_told_of_other_jobs_or_what_was_restored(spool: str, planted: Path) -> None:
    kept(spool, planted, "quarantined", "resp.1")
    kept(spool, planted, "restored")
    assert withdraw(spool, "resp.0") == {}


def test_a_damaged_quarantine_does_not_keep_a_job(spool: str, planted: Path) -> None:
    told = kept(spool, planted, "quarantined")
    (Path(spool) / "quarantine" / SHA256 / f"{told['quarantine_id']}.json").write_text("{")
    assert withdraw(spool, "resp.0") == {}
