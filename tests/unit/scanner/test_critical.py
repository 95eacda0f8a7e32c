"""Critical areas: what is odd is named, what could not be looked at is said, and nothing is claimed beyond it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.openioc.plan import compile_plan
from ioc_scan.scanner import critical
from ioc_scan.scanner.critical import boot, kernel
from ioc_scan.scanner.documents import procfs
from ioc_scan.scanner.protocol import write_control

from tests.unit.scanner.support import LIB, Device, any_ioc, environment, sha256

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="areas of Linux")
SLEEP = Path(shutil.which("sleep") or "/bin/sleep").resolve()
NO_PLAN = {"plan_digest": None}


def sha256_ioc(digest: str) -> bytes:
    return any_ioc(("FileItem/Sha256sum", "is", "sha256", digest))


def whole_machine(tmp_path: Path, *files: bytes) -> Device:
    return Device(
        tmp_path, compile_plan([(content, "hunt") for content in files or [sha256_ioc("0" * 64)]]), True
    )


def area(outcome: Any, name: str) -> dict[str, Any]:
    [line] = [line for line in outcome.of("area") if line["area"] == name]
    return dict(line)


def codes(line: dict[str, Any], pid: int | None = None) -> set[str]:
    return {finding["code"] for finding in line["findings"] if pid in (None, finding.get("pid"))}


@contextlib.contextmanager
def started(*command: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    own = Path("/proc/self/exe").resolve()
    process = subprocess.Popen(list(command), stdout=subprocess.DEVNULL, **options)
    try:
        while Path(f"/proc/{process.pid}/exe").resolve() == own:
            time.sleep(0.005)
        yield process
    finally:
        process.kill()
        process.wait()


def test_every_area_is_reported_once_with_a_state(tmp_path: Path) -> None:
    outcome = whole_machine(tmp_path).do("critical_areas", "c")
    assert outcome.status["state"] == "done"
    lines = outcome.of("area")
    assert [line["area"] for line in lines] == ["processes", "kernel", "boot_sectors", "autostart"]
    for line in lines:
        assert line["state"] in ("scanned", "refused", "unsupported")
        assert line["reason"] or line["state"] == "scanned"
        assert len(line["findings"]) <= 200
    assert "live kernel memory is not looked at" in area(outcome, "kernel")["reason"]
    assert outcome.lines[-1]["type"] == "summary"
    assert outcome.lines[-1]["areas"] == {line["area"]: line["state"] for line in lines}
    unseen = {f"critical area {line['area']}" for line in lines if line["state"] != "scanned"}
    assert {entry["what"] for entry in outcome.status["not_evaluated"]} == unseen


def test_a_job_without_a_plan_looks_as_well(tmp_path: Path) -> None:
    outcome = whole_machine(tmp_path).do("critical_areas", "c", **NO_PLAN)
    assert len(outcome.of("area")) == 4


def test_running_programs_are_matched_and_hiding_ones_are_named(tmp_path: Path) -> None:
    program = tmp_path / "innocent-name"
    program.write_bytes(SLEEP.read_bytes() + b"unmistakable")
    program.chmod(0o755)
    gone = tmp_path / "gone"
    shutil.copy(SLEEP, gone)
    memory = os.memfd_create("hidden-name", 0)
    os.write(memory, SLEEP.read_bytes())
    by_hash = sha256_ioc(sha256(program.read_bytes()))
    by_command = any_ioc(("ProcessItem/arguments", "contains", "string", "86411"))
    device = whole_machine(tmp_path, by_hash, by_command)
    with (
        started(str(program), "86410") as matched,
        started(str(gone), "86411") as deleted,
        started(f"/proc/self/fd/{memory}", "86412", pass_fds=[memory]) as in_memory,
        started("[kworker/3:1]", "86413", executable=str(SLEEP)) as disguised,
        started("sleep", "86414", env={**os.environ, "LD_PRELOAD": ""}) as plain,
    ):
        gone.unlink()
        line = area(device.do("critical_areas", "c"), "processes")
    os.close(memory)
    [match] = [finding for finding in line["findings"] if finding.get("ioc") == sha256(by_hash)]
    assert (match["pid"], match["what"], match["severity"]) == (matched.pid, str(program), "match")
    assert match["sha256"] == sha256(program.read_bytes())
    [match] = [finding for finding in line["findings"] if finding.get("ioc") == sha256(by_command)]
    assert match["pid"] == deleted.pid
    assert codes(line, deleted.pid) >= {"deleted_executable", "ioc_match"}
    assert "memory_executable" in codes(line, in_memory.pid)
    assert "false_kernel_thread" in codes(line, disguised.pid)
    assert not {"deleted_executable", "memory_executable", "false_kernel_thread"} & codes(line, plain.pid)
    severities = [finding["severity"] for finding in line["findings"]]
    assert severities == sorted(severities, key=("match", "suspicious", "note").index)


def test_the_scanner_does_not_find_itself(tmp_path: Path) -> None:
    """The interpreter that runs this test also runs the scanner: only one of them is reported."""
    digest = hashlib.sha256(Path("/proc/self/exe").read_bytes()).hexdigest()
    outcome = whole_machine(tmp_path, sha256_ioc(digest)).do("critical_areas", "c")
    found = {finding.get("pid") for finding in area(outcome, "processes")["findings"] if "ioc" in finding}
    if os.environ.get("IOC_SCAN_DEVICE_PYTHON") is None:
        assert os.getpid() in found
    assert outcome.status["pid"] not in found


def test_a_folder_tree_has_autostart_objects_only(tmp_path: Path) -> None:
    outcome = Device(tmp_path, whole_machine_plan()).do("critical_areas", "c")
    states = {line["area"]: line["state"] for line in outcome.of("area")}
    assert states == {
        "processes": "unsupported",
        "kernel": "unsupported",
        "boot_sectors": "unsupported",
        "autostart": "scanned",
    }


def whole_machine_plan() -> bytes:
    return compile_plan([(sha256_ioc("0" * 64), "hunt")])


# ---------------------------------------------------------------------------------------------- the kernel


def kernel_line() -> dict[str, Any]:
    return critical.scan_area("kernel", critical.Context())


def test_a_process_that_is_not_listed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = procfs.pids
    with started("sleep", "86415") as hidden:
        assert "hidden_process" not in codes(kernel_line())
        monkeypatch.setattr(procfs, "pids", lambda: [pid for pid in listed() if pid != hidden.pid])
        line = kernel_line()
    [finding] = [finding for finding in line["findings"] if finding["code"] == "hidden_process"]
    assert (finding["pid"], finding["what"], finding["severity"]) == (hidden.pid, "sleep", "suspicious")


def test_processes_that_come_and_go_are_not_called_hidden() -> None:
    churn = subprocess.Popen(["sh", "-c", "for i in $(seq 1 500); do /bin/true; done"])
    looks = 0
    while churn.poll() is None:
        assert "hidden_process" not in codes(kernel_line())
        looks += 1
    assert looks > 2


def test_modules_that_one_list_leaves_out_and_marks_of_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "modules").write_text("no_such_module_here 16384 0 - Live 0x0\n")
    (tmp_path / "sys/kernel").mkdir(parents=True)
    (tmp_path / "sys/kernel/tainted").write_text(str(1 << 12 | 1 << 1) + "\n")
    monkeypatch.setattr(procfs, "PROC", str(tmp_path))
    monkeypatch.setattr(kernel, "_look_for_hidden_processes", lambda area, context: None)
    line = kernel_line()
    found = {(finding["code"], finding["what"]) for finding in line["findings"]}
    assert ("hidden_module", "no_such_module_here") in found
    assert {("tainted_kernel", "taint bit 1"), ("tainted_kernel", "taint bit 12")} <= found


# --------------------------------------------------------------------------------------------- boot sectors


def mbr_disk() -> bytearray:
    """A disk of 4 MiB: boot code, one FAT partition at 1 MiB, one without code at 2 MiB."""
    disk = bytearray(4 * 2**20)
    disk[0:4] = b"\xeb\x63\x90\x10"
    for number, start in ((0, 2048), (1, 4096)):
        disk[446 + 16 * number : 462 + 16 * number] = struct.pack(
            "<8B2I", 0x80, 0, 0, 0, 0x0C, 0, 0, 0, start, 2048
        )
    disk[510:512] = b"\x55\xaa"
    disk[600:610] = b"boot stage"
    sector = bytearray(512)
    sector[82:90], sector[510:512] = b"FAT32   ", b"\x55\xaa"
    disk[2**20 : 2**20 + 512] = sector
    disk[2 * 2**20 : 2 * 2**20 + 4] = b"XFSB"
    return disk


def gpt_disk() -> bytearray:
    disk = bytearray(4 * 2**20)
    disk[446:462] = struct.pack("<8B2I", 0, 0, 0, 0, 0xEE, 0, 0, 0, 1, 8191)
    disk[510:512] = b"\x55\xaa"
    disk[512:520] = b"EFI PART"
    disk[584:600] = struct.pack("<QII", 2, 128, 128)
    disk[1024:1152] = b"\x11" * 32 + struct.pack("<QQ", 2048, 4095) + bytes(80)
    disk[2**20 + 510 : 2**20 + 512] = b"\x55\xaa"
    return disk


@pytest.fixture
def look_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    image = tmp_path / "disk.img"
    monkeypatch.setattr(boot, "_disks", lambda system: [("sda SERIAL 8192", str(image))])

    def look(content: bytes, **more: Any) -> dict[str, Any]:
        image.write_bytes(content)
        return critical.scan_area(
            "boot_sectors", critical.Context(baseline=str(tmp_path / "base.json"), **more)
        )

    return look


@pytest.mark.parametrize(
    ("make", "at", "region"),
    [
        (mbr_disk, 2, "code"),
        (mbr_disk, 450, "table"),
        (mbr_disk, 605, "gap"),
        (mbr_disk, 2**20 + 100, "partition:2048"),
        (gpt_disk, 5, "code"),
        (gpt_disk, 1030, "table"),
        (gpt_disk, 20000, "gap"),
        (gpt_disk, 2**20 + 3, "partition:2048"),
    ],
)
def test_a_changed_boot_sector_is_a_finding_until_it_is_accepted(
    look_at: Callable[..., dict[str, Any]], make: Callable[[], bytearray], at: int, region: str
) -> None:
    disk = make()
    first = look_at(disk)
    assert (first["state"], first["findings"]) == ("scanned", []) and "first time" in first["reason"]
    assert look_at(disk)["findings"] == []
    disk[at] ^= 0x04
    for _ in range(2):  # said again until somebody decides
        [finding] = look_at(disk)["findings"]
        assert (finding["code"], finding["what"]) == ("boot_sector_changed", f"sda {region}")
    look_at(disk, accept_boot_sectors=True)
    assert look_at(disk)["findings"] == []


def test_using_a_disk_changes_no_boot_sector(look_at: Callable[..., dict[str, Any]]) -> None:
    disk = mbr_disk()
    look_at(disk)
    disk[2**20 + 65] = 1  # FAT: not properly unmounted
    disk[2 * 2**20 + 200] = 7  # counters in the superblock of XFS
    disk[3 * 2**20] = 9  # content
    assert look_at(disk)["findings"] == []


def test_a_damaged_baseline_is_said_and_not_replaced(
    look_at: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "base.json").write_text("{")
    line = look_at(mbr_disk())
    assert line["state"] == "refused" and "not JSON" in line["reason"]
    assert (tmp_path / "base.json").read_text() == "{"


def test_empty_and_short_disks_are_looked_at(look_at: Callable[..., dict[str, Any]]) -> None:
    for content in (b"", b"x" * 100, b"\x55\xaa" * 4096):
        assert look_at(content, accept_boot_sectors=True)["state"] == "scanned"


# ------------------------------------------------------------------------------------------------ autostart


def write(tree: Path, name: str, text: str, mode: int = 0o644) -> Path:
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_what_starts_by_itself_is_matched_with_what_it_starts(tmp_path: Path) -> None:
    payload = "#!/bin/sh\n# payload\n"
    found_by = sha256_ioc(sha256(payload.encode()))
    device = Device(tmp_path, compile_plan([(found_by, "hunt")]))
    tree = device.tree
    write(tree, "etc/passwd", "root:x:0:0::/root:/bin/sh\nana:x:1000:1000::/home/ana:/bin/sh\n")
    places = {
        "etc/systemd/system/a.service": "[Service]\nExecStart=-/opt/from-unit --now\n",
        "etc/systemd/system/b.service.d/x.conf": "[Service]\nExecStartPre=/opt/from-drop-in\n",
        "etc/cron.d/job": "# comment\n*/5 * * * * root test -x /opt/no || /opt/from-cron --x > /dev/null\n",
        "var/spool/cron/crontabs/ana": "@reboot sh /opt/from-crontab\n",
        "etc/xdg/autostart/x.desktop": "[Desktop Entry]\nExec=/opt/from-desktop %U\n",
        "home/ana/.config/autostart/y.desktop": "Exec=env A=1 /opt/from-home\n",
        "etc/udev/rules.d/99.rules": 'ACTION=="add", RUN+="/opt/from-udev $name"\n',
        "etc/ld.so.preload": "/opt/from-preload\n",
    }
    write(tree, "etc/systemd/system/b.service", "[Service]\nExecStart=/bin/true\n")
    for name, text in places.items():
        write(tree, name, text)
    for name in ("unit", "drop-in", "cron", "crontab", "desktop", "home", "udev", "preload"):
        write(tree, f"opt/from-{name}", payload, 0o755)
    line = area(device.do("critical_areas", "c"), "autostart")
    matched = {finding["what"] for finding in line["findings"] if finding["severity"] == "match"}
    # All programs are one content; each object that leads to it is named.
    named = {name.replace("b.service.d/x.conf", "b.service") for name in places}
    assert matched == {str(tree / name) for name in named}
    assert line["state"] == "scanned"


def test_odd_autostart_objects_are_named(tmp_path: Path) -> None:
    device = Device(tmp_path, whole_machine_plan())
    tree = device.tree
    write(tree, "etc/profile.d/open.sh", "true\n", 0o666)
    write(tree, "etc/systemd/system/odd.service", "[Service]\nExecStart=/tmp/.x/run\n")
    write(tree, "tmp/.x/run", "x", 0o777)
    write(tree, "etc/cron.d/fine", "0 * * * * root /usr/bin/fine\n")
    write(tree, "usr/bin/fine", "x", 0o755)
    (tree / "etc/cron.d/link").symlink_to("/etc/passwd")
    os.mkfifo(tree / "etc/cron.d/pipe")
    line = area(device.do("critical_areas", "c"), "autostart")
    found = {(finding["code"], finding["what"]) for finding in line["findings"]}
    assert ("autostart_writable", str(tree / "etc/profile.d/open.sh")) in found
    assert ("autostart_writable", "/tmp/.x/run") in found
    assert ("autostart_from_odd_folder", str(tree / "etc/systemd/system/odd.service")) in found
    assert not any("fine" in what for _, what in found)


def test_a_tree_does_not_lead_to_files_of_this_machine(tmp_path: Path) -> None:
    outside = write(tmp_path, "outside", "secret")
    device = Device(tmp_path, compile_plan([(sha256_ioc(sha256(b"secret")), "hunt")]))
    (device.tree / "etc/init.d").mkdir(parents=True)
    (device.tree / "etc/init.d/link").symlink_to(outside)
    write(device.tree, "etc/cron.d/job", "@daily root /evil\n")
    (device.tree / "evil").symlink_to(outside)
    line = area(device.do("critical_areas", "c"), "autostart")
    assert [finding for finding in line["findings"] if finding["severity"] == "match"] == []


# ------------------------------------------------------------------------------------------- jobs, commands


def test_a_broken_off_job_goes_on_with_the_areas_that_are_left(tmp_path: Path) -> None:
    device = whole_machine(tmp_path)
    outcome = device.do("critical_areas", "c")
    folder = outcome.folder
    lines = (folder / "results.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "results.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:50])
    status = {**outcome.status, "state": "running", "finished_at": None}
    (folder / "status.json").write_text(json.dumps(status))
    device.run()
    again = device.outcome("c")
    assert [line["area"] for line in again.of("area")] == ["processes", "kernel", "boot_sectors", "autostart"]
    assert again.lines[1] == json.loads(lines[1])
    assert again.status["state"] == "done"


def test_cancel_is_heard(tmp_path: Path) -> None:
    device = whole_machine(tmp_path)
    device.publish(device.job("critical_areas", "c"))
    write_control(device.spool, "c", "cancel")
    device.run()
    assert device.outcome("c").status["state"] == "cancelled"
    assert not device.outcome("c").of("area")


def test_findings_and_lines_are_bounded() -> None:
    one = critical.Area("processes")
    for number in range(600):
        one.find("writable_code", "note", "\u202e" * 3000 + str(number), "\x1b" * 3000)
    one.find("ioc_match", "match", "the one that counts", ioc="0" * 64, proof=[])
    line = one.line(0.1)
    assert line["findings"][0]["what"] == "the one that counts"
    assert line["counts"] == {"match": 1, "suspicious": 0, "note": 600}
    assert len(json.dumps(line)) < 256 * 1024


def test_the_command_prints_json_lines(tmp_path: Path) -> None:
    content = sha256_ioc(hashlib.sha256(SLEEP.read_bytes()).hexdigest())
    (tmp_path / "x.ioc").write_bytes(content)
    command = [
        sys.executable,
        "-m",
        "ioc_scan",
        "scan-critical-areas",
        "--json",
        "--ioc",
        str(tmp_path / "x.ioc"),
    ]
    with started("sleep", "86416") as process:
        done = subprocess.run(
            command, env=environment(), capture_output=True, cwd=LIB, check=True, timeout=60
        )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["type"] for line in lines] == ["area"] * 4 + ["summary"]
    assert process.pid in {f.get("pid") for f in lines[0]["findings"] if f.get("ioc") == sha256(content)}
    assert lines[-1]["findings"]["match"] >= 1
    text = subprocess.run(
        [*command[:4], *command[5:]], env=environment(), capture_output=True, cwd=LIB, check=True, timeout=60
    ).stdout.decode()
    assert "boot sectors: " in text and "live kernel memory is not looked at" in text
