"""Scan, respond, restore and purge jobs end to end, through the job folder."""

from __future__ import annotations

import base64
import json
import os
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ioc_scan.scanner.protocol import to_iso, write_control

from tests.unit.scanner.support import Device, item_for, objects_plan, sha256

EVIL = b"harmless stand-in for something bad\n" * 300


@pytest.fixture
def device(tmp_path: Path) -> Device:
    device = Device(tmp_path, objects_plan(EVIL))
    (device.tree / "home" / "deep" / "er").mkdir(parents=True)
    for number in range(50):
        (device.tree / "home" / f"file{number}").write_bytes(b"x" * number * 100)
    (device.tree / "decoy").write_bytes(b"y" * len(EVIL))
    return device


def plant(device: Device, name: str = "home/deep/er/other-name.exe") -> Path:
    path = device.tree / name
    path.write_bytes(EVIL)
    os.chmod(path, 0o750)
    os.utime(path, ns=(1_600_000_000_123456789, 1_500_000_000_987654321))
    return path


def items_of(scan: object) -> list[dict[str, object]]:
    """Respond items from match lines, as a device manager makes them."""
    keys = ("path_b64", "sha256", "size", "device", "inode")
    matches = scan.of("match")  # type: ignore[attr-defined]
    return [{"match_id": f"m{n}", **{key: line[key] for key in keys}} for n, line in enumerate(matches)]


def test_scan_quarantine_restore_purge(device: Device) -> None:
    path = plant(device)
    os.chmod(path, 0o4755)
    scan = device.do("scan", "scan-1")
    assert scan.status["state"] == "done"
    assert scan.status["files_seen"] == 52
    [match] = scan.of("match")
    assert base64.b64decode(match["path_b64"]) == os.fsencode(path)
    assert (match["sha256"], match["size"], match["tier"]) == (sha256(EVIL), len(EVIL), "actionable")
    assert match["inode"] == path.stat().st_ino
    assert len(match["proof"]) == 2
    assert scan.lines[-1]["type"] == "summary"
    assert [line["seq"] for line in scan.lines] == list(range(1, len(scan.lines) + 1))

    dry = device.do("respond", "respond-0", items_of(scan), dry_run=True)
    assert [line["outcome"] for line in dry.of("response")] == ["would_quarantine"]
    assert path.read_bytes() == EVIL
    assert device.quarantine_files() == []

    done = device.do("respond", "respond-1", items_of(scan))
    [line] = done.of("response")
    assert line["outcome"] == "quarantined"
    assert not path.exists()
    assert (device.tree / "decoy").exists()
    for stored in device.quarantine_files():
        assert stat.S_IMODE(stored.stat().st_mode) == 0o600
        assert EVIL[:36] not in stored.read_bytes()
        assert "other-name" not in stored.name

    item = {"quarantine_id": line["quarantine_id"], "target_path_b64": None}
    back = device.do("restore", "restore-1", [item])
    assert back.of("restored")[0]["outcome"] == "restored"
    assert path.read_bytes() == EVIL
    info = path.stat()
    assert stat.S_IMODE(info.st_mode) == 0o755, "the set-user-id bit must not come back"
    assert info.st_mtime_ns == 1_500_000_000_987654321

    again = device.do("restore", "restore-2", [item])
    assert again.of("restored")[0]["code"] == "not_quarantined"
    purged = device.do("purge", "purge-1", [{"quarantine_id": line["quarantine_id"]}])
    assert purged.of("purged")[0]["outcome"] == "purged"
    assert device.quarantine_files() == []


def test_content_is_kept_once_and_for_as_long_as_it_is_needed(device: Device) -> None:
    one, two = plant(device, "one"), plant(device, "two")
    lines = device.do("respond", "r", items_of(device.do("scan", "s"))).of("response")
    assert {line["outcome"] for line in lines} == {"quarantined"}
    assert len([path for path in device.quarantine_files() if path.name == "content"]) == 1
    device.do("purge", "p", [{"quarantine_id": lines[0]["quarantine_id"]}])
    done = device.do("restore", "u", [{"quarantine_id": lines[1]["quarantine_id"]}])
    assert done.of("restored")[0]["outcome"] == "restored"
    assert one.exists() != two.exists()


def test_hard_links_are_two_matches_and_two_entries(device: Device) -> None:
    first = plant(device, "first")
    os.link(first, device.tree / "second")
    scan = device.do("scan", "s")
    assert len(scan.of("match")) == 2
    lines = device.do("respond", "r", items_of(scan)).of("response")
    assert [line["outcome"] for line in lines] == ["quarantined", "quarantined"]
    assert not first.exists() and not (device.tree / "second").exists()


@pytest.mark.parametrize(
    ("change", "outcome", "code"),
    [
        (lambda path: path.unlink(), "missing", "missing"),
        (lambda path: path.write_bytes(b"z" * len(EVIL)), "changed", "changed"),
        (lambda path: path.write_bytes(EVIL + b"more"), "changed", "changed"),
        (lambda path: (path.rename(path.with_name("kept")), path.write_bytes(EVIL)), "changed", "changed"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "changed", "not_a_regular_file"),
        (lambda path: (path.rename(path.with_name("k")), path.symlink_to("k")), "refused", "link_in_path"),
    ],
)
def test_a_file_that_changed_since_the_match_is_left_alone(
    device: Device, change: object, outcome: str, code: str
) -> None:
    path = plant(device)
    item = item_for(path, EVIL)
    change(path)  # type: ignore[operator]
    before = sorted(path.parent.iterdir())
    [line] = device.do("respond", "r", [item]).of("response")
    assert (line["outcome"], line["code"]) == (outcome, code)
    assert sorted(path.parent.iterdir()) == before
    assert device.quarantine_files() == []


def test_a_hash_that_no_actionable_file_of_the_plan_names_is_refused(device: Device) -> None:
    path = device.tree / "decoy"
    [line] = device.do("respond", "r1", [item_for(path, path.read_bytes())]).of("response")
    assert (line["outcome"], line["code"]) == ("refused", "not_actionable")
    device.plan = objects_plan(EVIL, tier="hunt")
    [line] = device.do("respond", "r2", [item_for(plant(device), EVIL)]).of("response")
    assert (line["outcome"], line["code"]) == ("refused", "not_actionable")


def test_the_device_limit_holds_back_what_goes_over_it(device: Device) -> None:
    items = [item_for(plant(device, f"f{n}"), EVIL, f"m{n}") for n in range(3)]
    lines = device.do("respond", "r", items, settings={"max_items": 2}).of("response")
    assert [line["code"] for line in lines] == ["", "", "over_limit"]
    assert (device.tree / "f2").exists()


def test_outside_the_tree_of_the_device_nothing_is_touched(device: Device, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(EVIL)
    [line] = device.do("respond", "r", [item_for(outside, EVIL)]).of("response")
    assert (line["outcome"], line["code"]) == ("refused", "outside_root")
    assert outside.exists()


@pytest.mark.parametrize(
    ("changes", "state", "code"),
    [
        ({"device_id": "ws02"}, "refused", "foreign_device"),
        ({"plan_digest": "0" * 64}, "refused", "plan_mismatch"),
        ({"kind": "steal"}, "refused", "bad_job"),
        ({"job_id": "another"}, "refused", "bad_job"),
        ({"settings": {"rm": "-rf"}}, "refused", "bad_job"),
        ({"not_after": "2020-01-01T00:00:00Z", "not_before": "2020-01-01T00:00:00Z"}, "expired", "expired"),
    ],
)
def test_jobs_that_may_not_run(device: Device, changes: dict[str, object], state: str, code: str) -> None:
    folder = device.publish(device.job("scan", "s"))
    job = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**job, **changes}))
    device.run("--once")
    outcome = device.outcome("s")
    assert (outcome.status["state"], outcome.status["error"]["code"]) == (state, code)
    assert outcome.of("match") == []


def test_an_acting_job_longer_than_fifteen_minutes_is_refused(device: Device) -> None:
    path = plant(device)
    job = device.job("respond", "r", [item_for(path, EVIL)])
    folder = device.publish(job)
    job["not_after"] = to_iso(datetime.now(timezone.utc) + timedelta(hours=1))
    (folder / "job.json").write_text(json.dumps(job))
    device.run()
    assert device.outcome("r").status["error"]["code"] == "bad_job"
    assert path.exists()


def test_a_replayed_job_is_refused(device: Device) -> None:
    path = plant(device)
    job = device.job("respond", "r", [item_for(path, EVIL)])
    device.publish(job)
    device.run()
    folder = device.spool / "jobs" / "r"
    for name in ("status.json", "results.jsonl"):
        (folder / name).unlink()
    plant(device)
    device.run()
    assert device.outcome("r").status["error"]["code"] == "replayed"
    assert path.exists()


def test_a_job_is_not_run_before_its_time(device: Device) -> None:
    now = datetime.now(timezone.utc)
    device.publish(device.job("scan", "s", not_before=to_iso(now + timedelta(minutes=5))))
    device.run("--once")
    assert not (device.spool / "jobs" / "s" / "status.json").exists()


def test_cancel_before_the_start(device: Device) -> None:
    path = plant(device)
    device.publish(device.job("respond", "r", [item_for(path, EVIL)]))
    write_control(device.spool, "r", "cancel")
    device.run()
    assert device.outcome("r").status["state"] == "cancelled"
    assert path.exists()


@pytest.mark.parametrize("what", ["mode", "link", "quarantine_mode"])
def test_a_spool_that_others_could_reach_is_refused(device: Device, what: str) -> None:
    import subprocess

    from tests.unit.scanner.support import environment

    if what == "mode":
        device.spool.chmod(0o755)
    elif what == "quarantine_mode":
        (device.spool / "quarantine").chmod(0o750)
    else:
        device.spool.rename(device.base / "real")
        device.spool.symlink_to(device.base / "real")
    done = subprocess.run(device.command(), env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unsafe_spool" in done.stderr


def test_two_jobs_of_the_same_folders_share_one_walk(device: Device) -> None:
    plant(device)
    device.publish(device.job("scan", "a"))
    device.publish(device.job("scan", "b"))
    device.run()
    pids = {device.outcome(name).status["pid"] for name in ("a", "b")}
    assert len(pids) == 1
    for name in ("a", "b"):
        assert len(device.outcome(name).of("match")) == 1
        assert device.outcome(name).status["files_seen"] == 52


def test_restore_never_overwrites_and_never_follows(device: Device) -> None:
    path = plant(device)
    [line] = device.do("respond", "r", [item_for(path, EVIL)]).of("response")
    item = {"quarantine_id": line["quarantine_id"], "target_path_b64": None}
    path.write_bytes(b"a new file")
    assert device.do("restore", "u1", [item]).of("restored")[0]["code"] == "exists"
    assert path.read_bytes() == b"a new file"
    path.unlink()
    path.symlink_to(device.tree / "victim")
    assert device.do("restore", "u2", [item]).of("restored")[0]["code"] == "exists"
    assert not (device.tree / "victim").exists()
    path.unlink()
    target = {**item, "target_path_b64": base64.b64encode(os.fsencode(device.tree / "elsewhere")).decode()}
    assert device.do("restore", "u3", [target]).of("restored")[0]["outcome"] == "restored"
    assert (device.tree / "elsewhere").read_bytes() == EVIL
