"""What malware may leave on a device: the scanner records it, and follows, runs and evaluates none of it."""

from __future__ import annotations

import base64
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.scanner.support import Device, environment, item_for, objects_plan, sha256

EVIL = b"harmless stand-in\n" * 50
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

NAMES = [
    b"new\nline",
    b"{{ 7*7 }}<% 1+1 %>.exe",
    b"tab\there \x1b[31mred\x1b[0m",
    b"undecodable \xff\xfe\x80",
    "right-to-left \u202egpj.exe".encode(),
    b"-rf",
    b" leading and trailing ",
    b"n" * 255,
]


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path, objects_plan(EVIL))


def as_items(device: Device, job_id: str) -> list[dict[str, object]]:
    keys = ("path_b64", "sha256", "size", "device", "inode")
    matches = device.outcome(job_id).of("match")
    return [
        {"match_id": f"m{number}", **{key: line[key] for key in keys}} for number, line in enumerate(matches)
    ]


def test_hostile_names_are_found_removed_and_restored_as_bytes(device: Device) -> None:
    base = os.fsencode(device.tree)
    for name in NAMES:
        os.makedirs(base + b"/" + name)
        with open(base + b"/" + name + b"/" + name, "wb") as stream:
            stream.write(EVIL)
    scan = device.do("scan", "s")
    assert {base64.b64decode(line["path_b64"]) for line in scan.of("match")} == {
        base + b"/" + name + b"/" + name for name in NAMES
    }
    for line in scan.lines:
        assert str(line.get("path", "")).isprintable()
    lines = device.do("respond", "r", as_items(device, "s")).of("response")
    assert {line["outcome"] for line in lines} == {"quarantined"}
    back = device.do("restore", "u", [{"quarantine_id": line["quarantine_id"]} for line in lines]).of(
        "restored"
    )
    assert {line["outcome"] for line in back} == {"restored"}
    for name in NAMES:
        with open(base + b"/" + name + b"/" + name, "rb") as stream:
            assert stream.read() == EVIL


def deep(folder: Path, length: int) -> tuple[int, bytes]:
    """A chain of folders whose path is longer than any one system call takes: (descriptor, path)."""
    path = os.fsencode(folder)
    descriptor = os.open(folder, os.O_RDONLY)
    while len(path) < length:
        os.mkdir(b"d" * 200, dir_fd=descriptor)
        deeper = os.open(b"d" * 200, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor, path = deeper, path + b"/" + b"d" * 200
    return descriptor, path


def test_paths_beyond_4096_bytes(device: Device) -> None:
    descriptor, folder = deep(device.tree, 9000)
    inner = os.open(b"evil", os.O_WRONLY | os.O_CREAT, dir_fd=descriptor)
    os.write(inner, EVIL)
    os.close(inner)
    scan = device.do("scan", "s")
    assert [base64.b64decode(line["path_b64"]) for line in scan.of("match")] == [folder + b"/evil"]
    [line] = device.do("respond", "r", as_items(device, "s")).of("response")
    assert line["outcome"] == "quarantined"
    assert os.listdir(descriptor) == []
    [line] = device.do("restore", "u", [{"quarantine_id": line["quarantine_id"]}]).of("restored")
    assert line["outcome"] == "restored"
    assert os.listdir(descriptor) == ["evil"]
    os.close(descriptor)
    subprocess.run(["rm", "-rf", str(device.tree)], check=True)


def test_a_very_deep_tree(device: Device) -> None:
    descriptor = os.open(device.tree, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=descriptor)
        os.mkdir("e", dir_fd=descriptor)
        deeper = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = deeper
    with os.fdopen(os.open("evil", os.O_WRONLY | os.O_CREAT, dir_fd=descriptor), "wb") as stream:
        stream.write(EVIL)
    os.close(descriptor)
    scan = device.do("scan", "s")
    assert len(scan.of("match")) == 1
    assert scan.status["skipped"] == {}
    subprocess.run(["rm", "-rf", str(device.tree)], check=True)


def test_links_pipes_sockets_and_devices_are_recorded_and_never_opened(
    device: Device, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "evil").write_bytes(EVIL)
    (device.tree / "link-to-file").symlink_to(outside / "evil")
    (device.tree / "link-to-folder").symlink_to(outside)
    (device.tree / "loop").symlink_to(device.tree)
    (device.tree / "dangling").symlink_to("nowhere")
    os.mkfifo(device.tree / "pipe")
    expected = {"link": 4, "fifo": 1, "socket": 1}
    with socket.socket(socket.AF_UNIX) as unix:
        here = os.getcwd()
        os.chdir(device.tree)
        unix.bind("socket")
        os.chdir(here)
        if os.geteuid() == 0:
            os.mknod(device.tree / "null", 0o600 | 0o020000, os.makedev(1, 3))
            expected["device"] = 1
        scan = device.do("scan", "s")
    assert scan.of("match") == []
    assert scan.status["skipped"] == expected
    assert len(scan.of("skip")) == sum(expected.values())


def test_a_link_in_the_path_of_a_job_is_refused(device: Device) -> None:
    (device.tree / "real").mkdir()
    path = device.tree / "real" / "evil"
    path.write_bytes(EVIL)
    (device.tree / "link").symlink_to("real")
    item = {
        **item_for(path, EVIL),
        "path_b64": base64.b64encode(os.fsencode(device.tree / "link/evil")).decode(),
    }
    [line] = device.do("respond", "r", [item]).of("response")
    assert (line["outcome"], line["code"]) == ("refused", "link_in_path")
    assert path.exists()


@pytest.mark.parametrize("path", [b"relative", b"/a/../b", b"/a//b", b"/a/./b", b"/a\0b", b"/a/"])
def test_paths_that_are_not_plain_are_refused(device: Device, path: bytes) -> None:
    (device.tree / "evil").write_bytes(EVIL)
    item = {**item_for(device.tree / "evil", EVIL), "path_b64": base64.b64encode(path).decode()}
    [line] = device.do("respond", "r", [item]).of("response")
    assert (line["outcome"], line["code"]) == ("refused", "bad_path")


@pytest.mark.parametrize("owned", ["opt/tool/evil", "opt/other-name/evil"])
def test_files_of_packages_are_refused(device: Device, owned: str) -> None:
    """Also when the list spells the path another way: the object counts."""
    (device.tree / "opt/tool").mkdir(parents=True)
    (device.tree / "opt/other-name").symlink_to("tool")
    path = device.tree / "opt/tool/evil"
    path.write_bytes(EVIL)
    info = device.tree / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (info / "tool.list").write_text(f"/.\n/opt\n/opt/tool\n/{owned}\n")
    [line] = device.do("respond", "r", [item_for(path, EVIL)]).of("response")
    assert (line["outcome"], line["code"]) == ("refused", "package_owned")
    assert path.exists()


def test_diverted_files_of_packages_are_refused(device: Device) -> None:
    (device.tree / "opt").mkdir()
    path = device.tree / "opt/evil.distrib"
    path.write_bytes(EVIL)
    (device.tree / "var/lib/dpkg/info").mkdir(parents=True)
    (device.tree / "var/lib/dpkg/diversions").write_text("/opt/evil\n/opt/evil.distrib\ntool\n")
    [line] = device.do("respond", "r", [item_for(path, EVIL)]).of("response")
    assert line["code"] == "package_owned"


@pytest.mark.parametrize("folder", ["usr/bin", "etc/cron.d", "boot", "lib/modules"])
def test_folders_of_the_system_are_refused(device: Device, folder: str) -> None:
    path = device.tree / folder / "evil"
    path.parent.mkdir(parents=True)
    path.write_bytes(EVIL)
    [line] = device.do("respond", "r", [item_for(path, EVIL)]).of("response")
    assert (line["outcome"], line["code"]) == ("refused", "system_folder")
    assert path.exists()


def test_on_this_machine_its_own_files_are_refused(tmp_path: Path) -> None:
    real = Path(os.path.realpath("/bin/sh"))
    content = real.read_bytes()
    device = Device(tmp_path, objects_plan(content), whole_machine=True)
    [line] = device.do("respond", "r", [item_for(real, content)], dry_run=True).of("response")
    assert line["outcome"] == "refused"


def test_the_scanner_never_acts_in_its_own_spool(tmp_path: Path) -> None:
    device = Device(tmp_path, objects_plan(EVIL), whole_machine=True)
    inner = device.spool / "quarantine" / "x"
    inner.write_bytes(EVIL)
    [line] = device.do("respond", "r", [item_for(inner, EVIL)]).of("response")
    assert (line["outcome"], line["code"]) == ("refused", "own_spool")


@pytest.fixture
def running(device: Device) -> Iterator[tuple[Device, Path, subprocess.Popen[bytes]]]:
    """A process that runs an object of the plan: a copy of sleep with a tail of its own."""
    content = Path(shutil.which("sleep") or "/bin/sleep").read_bytes() + b"tail of the test"
    device.plan = objects_plan(content)
    path = device.tree / "evil"
    path.write_bytes(content)
    path.chmod(0o755)
    process = subprocess.Popen([path, "60"])
    time.sleep(0.05)
    yield device, path, process
    process.kill()
    process.wait()


def test_processes_of_the_object_are_listed_and_ended(
    running: tuple[Device, Path, subprocess.Popen[bytes]],
) -> None:
    device, path, process = running
    content = path.read_bytes()
    shutil.copy(path, device.tree / "same-content")  # another inode: its process is another object's
    bystander = subprocess.Popen([device.tree / "same-content", "60"])
    settings = {"terminate_processes": True}
    try:
        item = item_for(path, content)
        [line] = device.do("respond", "dry", [item], settings=settings, dry_run=True).of("response")
        assert line["terminated"] == [{"pid": process.pid, "name": "evil"}]
        assert process.poll() is None
        [line] = device.do("respond", "r", [item], settings=settings).of("response")
        assert line["outcome"] == "quarantined"
        assert process.wait(timeout=2) == -9
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_what_the_scanner_itself_runs_on_is_never_ended(tmp_path: Path) -> None:
    """An object that is this interpreter: refused, with nothing ended and nothing said to be."""
    python = Path(os.path.realpath("/proc/self/exe"))
    copy = tmp_path / "python"
    shutil.copy(python, copy)
    content = copy.read_bytes()
    device = Device(tmp_path, objects_plan(content), whole_machine=True)
    job = device.job("respond", "r", [item_for(copy, content)], settings={"terminate_processes": True})
    device.publish(job)
    home = {"PYTHONHOME": f"{sys.base_prefix}:{sys.base_exec_prefix}"}
    libraries = {"LD_LIBRARY_PATH": f"{sys.base_prefix}/lib"}
    command = [str(copy), *device.command()[1:]]
    subprocess.run(command, env={**environment(), **home, **libraries}, check=True)
    [line] = device.outcome("r").of("response")
    assert (line["outcome"], line["code"]) == ("refused", "protected_process")
    assert line["terminated"] == [] and line["running"]
    assert copy.exists()


def test_without_the_policy_processes_are_only_named(
    running: tuple[Device, Path, subprocess.Popen[bytes]],
) -> None:
    device, path, process = running
    [line] = device.do("respond", "r", [item_for(path, path.read_bytes())]).of("response")
    assert line["outcome"] == "quarantined"
    assert line["running"] == [{"pid": process.pid, "name": "evil"}] and line["terminated"] == []
    assert process.poll() is None


# ------------------------------------------------------------------------------------------- bad disks


def test_a_copy_that_does_not_fit_leaves_the_file(device: Device) -> None:
    content = os.urandom(400_000)
    device.plan = objects_plan(content)
    path = device.tree / "evil"
    path.write_bytes(content)
    device.publish(device.job("respond", "r", [item_for(path, content)]))
    limit = (100_000, 100_000)
    done = subprocess.run(
        device.command(),
        env=environment(),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    assert done.returncode == 0
    [line] = device.outcome("r").of("response")
    assert (line["outcome"], line["code"]) == ("failed", "disk_full")
    assert path.read_bytes() == content
    assert [stored for stored in device.quarantine_files() if stored.suffix != ".json"] == []


def test_the_quota_of_the_quarantine(device: Device) -> None:
    path = device.tree / "evil"
    path.write_bytes(EVIL)
    settings = {"quota_bytes": len(EVIL) - 1}
    [line] = device.do("respond", "r", [item_for(path, EVIL)], settings=settings).of("response")
    assert (line["outcome"], line["code"]) == ("failed", "quota_exceeded")
    assert path.exists()


@root_only
@pytest.mark.parametrize("kind", ["full", "read_only_tree", "other_file_system"])
def test_mounted_disks(tmp_path: Path, kind: str) -> None:
    """In a mount namespace of its own: a full disk for the spool, a read-only one for the tree."""
    device = Device(tmp_path, objects_plan(EVIL))
    tree, spool = device.tree, device.spool
    fill_tree = f"mount -t tmpfs none {tree} && cp -a {tmp_path}/files/. {tree}/"
    prepare = {
        "full": f"mount -t tmpfs -o size=512k,mode=0700 none {spool} && cp -a {tmp_path}/copy/. {spool}/"
        f" && (head -c 1m /dev/zero > {spool}/filler || true)",
        "read_only_tree": f"{fill_tree} && mount -o remount,ro {tree}",
        "other_file_system": fill_tree,
    }[kind]
    (tmp_path / "files").mkdir()
    for folder in (device.tree, tmp_path / "files"):
        (folder / "evil").write_bytes(EVIL)
    device.publish(device.job("scan", "s"))
    shutil.copytree(device.spool, tmp_path / "copy")
    (tmp_path / "copy").chmod(0o700)
    script = (
        "set -e\n" + prepare + "\n"
        f"{' '.join(device.command('--once'))} > {tmp_path}/out 2>&1 || echo $? >> {tmp_path}/out\n"
        f"cp -a {tmp_path}/spool {tmp_path}/after\nls {tmp_path}/tree > {tmp_path}/listing\n"
    )
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", script],
        env=environment(),
        capture_output=True,
        text=True,
    )
    if done.returncode != 0 and "unshare" in done.stderr:
        pytest.skip("no mount namespaces here")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "listing").read_text() == "evil\n"
    output = (tmp_path / "out").read_text()
    assert "Traceback" not in output, output
    if kind == "full":
        # Nothing can be written down, so nothing is claimed: no "done" anywhere.
        status = tmp_path / "after/jobs/s/status.json"
        assert not status.exists() or '"done"' not in status.read_text()
        assert not output or output.startswith("error: disk_full: ")
    else:
        assert sha256(EVIL) in (tmp_path / "after/jobs/s/results.jsonl").read_text()
