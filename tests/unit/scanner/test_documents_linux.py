"""Collectors of Linux against what is really there: processes, sockets, units, mounts, routes, namespaces."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.openioc.plan import compile_plan
from ioc_scan.scanner import collect, documents
from ioc_scan.scanner.documents import commands, eventlog, services, unitfiles
from ioc_scan.scanner.documents.base import IDENTITY

from tests.unit.scanner.support import Device, _item, any_ioc, environment, ioc, sha256

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the Linux collectors")
psutil = pytest.importorskip("psutil")
IS_ROOT = hasattr(os, "getuid") and os.getuid() == 0


def items(document: str, *fields: str) -> list[dict[str, Any]]:
    module = documents.module_of(document)
    return list(module.collect(documents.Request(fields or module.FIELDS["linux"], "linux")))


@contextlib.contextmanager
def running(*command: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(list(command), stdout=subprocess.DEVNULL, **options)
    try:
        while os.path.realpath(f"/proc/{process.pid}/exe") == os.path.realpath("/proc/self/exe"):
            time.sleep(0.005)
        yield process
    finally:
        process.kill()
        process.wait()


def test_processes_are_those_that_psutil_sees() -> None:
    before = {
        process.pid: " ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])
    }
    known = {item["pid"]: item for item in items("ProcessItem")}
    compared = 0
    for process in psutil.process_iter():
        item = known.get(process.pid)
        with contextlib.suppress(psutil.Error, OSError):
            if item is None or process.create_time() > time.time() - 2 or item["name"].startswith("kworker"):
                continue  # those change their names while they work
            assert item["name"] == process.name()
            assert item["parentpid"] == process.ppid()
            assert item["Username"] == process.username()
            arguments = " ".join(process.cmdline())
            if arguments == before.get(process.pid):  # a database server's say what it does just now
                assert item["arguments"].strip() == arguments.strip()
            assert item.get("path", [""])[:1] in ([process.exe()], [])
            compared += 1
    assert compared > 3
    assert os.getpid() not in known, "the scanner would find what it is told to look for in itself"


def test_a_program_that_was_deleted_and_one_with_an_odd_name(tmp_path: Path) -> None:
    program = tmp_path / os.fsdecode(b"odd\xff\nname with (brackets) ")
    shutil.copy(os.path.realpath(shutil.which("sleep") or ""), program)
    with running(str(program), "77") as process:
        program.unlink()
        [item] = [item for item in items("ProcessItem") if item["pid"] == process.pid]
    assert item["path"] == [str(program), str(tmp_path)]
    assert item["name"] == program.name
    assert item["arguments"] == f"{program} 77"


def test_sockets_are_those_that_psutil_sees() -> None:
    with socket.socket() as server, socket.create_server(("::1", 0), family=socket.AF_INET6) as six:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with (
            socket.create_connection(server.getsockname()) as client,
            socket.socket(type=socket.SOCK_DGRAM) as udp,
        ):
            udp.bind(("127.0.0.1", 0))
            found = items("PortItem")
            ends = {
                (
                    item["protocol"],
                    item["localIP"],
                    item["localPort"],
                    item["remoteIP"] or "",
                    item.get("pid") or None,
                )
                for item in found
            }
            own = os.getpid()
            for one, protocol in ((server, "TCP"), (six, "TCP"), (udp, "UDP")):
                ip, port = one.getsockname()[:2]
                assert (protocol, ip, port, "", own) in ends
            assert ("TCP", *client.getsockname(), "127.0.0.1", own) in ends
            listening = next(item for item in found if item["localPort"] == server.getsockname()[1])
            assert listening["state"] == ["LISTENING", "LISTEN"]
            theirs = {
                ("TCP" if c.type == socket.SOCK_STREAM else "UDP", c.laddr.ip, c.laddr.port)
                for c in psutil.net_connections("inet")
                if c.pid == own
            }
    assert theirs <= {end[:3] for end in ends}


@pytest.mark.skipif(not IS_ROOT or not shutil.which("unshare"), reason="needs root")
def test_sockets_in_another_network_namespace_are_found() -> None:
    """As in a container: nothing of it shows in the host's own tables."""
    script = (
        "import socket, time; s = socket.socket(); s.bind(('0.0.0.0', 48123)); s.listen(); "
        "print('ready', flush=True); time.sleep(60)"
    )
    command = ["unshare", "--net", sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        found = [item for item in items("PortItem") if item["localPort"] == 48123]
        process.kill()
    [item] = found
    assert (item["pid"], item["localIP"]) == (process.pid, "0.0.0.0")
    assert item["path"][0] == os.path.realpath(sys.executable)


def test_long_tables_of_the_kernel_are_read_to_their_end() -> None:
    with contextlib.ExitStack() as stack:
        ports = set()
        for _ in range(150):
            udp = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            udp.bind(("127.0.0.1", 0))
            ports.add(udp.getsockname()[1])
        assert ports <= {item["localPort"] for item in items("PortItem") if item.get("pid") == os.getpid()}


@pytest.mark.skipif(not IS_ROOT or not shutil.which("ip"), reason="needs root and ip")
def test_routes_neighbours_addresses_and_mounts_of_a_namespace(tmp_path: Path) -> None:
    """A machine of our own making: everything in it is known."""
    (tmp_path / "mnt point").mkdir()
    script = f"""set -e
ip link add name probe0 address 02:00:00:00:aa:01 type bridge
ip addr add 10.9.8.1/24 dev probe0
ip -6 addr add fd99::1/64 dev probe0 nodad
ip link set probe0 up
ip route add 10.7.0.0/16 via 10.9.8.9 dev probe0 metric 77 proto static
ip neigh add 10.9.8.7 lladdr 02:00:00:00:bb:02 dev probe0 nud permanent
ip neigh add fd99::7 lladdr 02:00:00:00:bb:03 dev probe0
mount -t tmpfs -o ro,size=1m probe "{tmp_path}/mnt point"
exec {sys.executable} - <<'END'
import json
from ioc_scan.scanner.documents import module_of, Request
out = {{}}
for name in ("ArpEntryItem", "RouteEntryItem", "SystemInfoItem", "VolumeItem"):
    module = module_of(name)
    out[name] = list(module.collect(Request(module.FIELDS["linux"], "linux")))
print(json.dumps(out))
END
"""
    made = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", script],
        capture_output=True,
        env=environment(),
        check=False,
    )
    if b"Operation not supported" in made.stderr or b"Unknown device type" in made.stderr:
        pytest.skip("this kernel has no bridges")
    assert made.returncode == 0, made.stderr.decode()
    found = json.loads(made.stdout)
    routes = {item["Destination"]: item for item in found["RouteEntryItem"]}
    via = routes["10.7.0.0"]
    assert (via["Gateway"], via["Interface"], via["Metric"], via["Protocol"]) == (
        ["10.9.8.9"], ["probe0"], 77, "static",
    )  # fmt: skip
    assert via["Netmask"] == ["255.255.0.0", "16"] and via["IsIPv6"] is False
    assert routes["10.9.8.0"]["Protocol"] == "kernel" and routes["10.9.8.0"]["Gateway"] == []
    assert routes["fd99::"]["IsIPv6"] is True
    neighbours = {item["IPv4Address"] or item["IPv6Address"]: item for item in found["ArpEntryItem"]}
    assert neighbours["10.9.8.7"]["PhysicalAddress"][0] == "02:00:00:00:bb:02"
    assert (neighbours["10.9.8.7"]["CacheType"], neighbours["10.9.8.7"]["State"]) == ("static", "PERMANENT")
    assert neighbours["fd99::7"]["Interface"] == "probe0"
    [system] = found["SystemInfoItem"]
    assert system["primaryIpv4Address"] == ["10.9.8.1"] and system["primaryIpv6Address"] == ["fd99::1"]
    assert "02:00:00:00:aa:01" in system["MAC"] and "probe0" in system["networkArray/networkInfo/adapter"]
    [volume] = [item for item in found["VolumeItem"] if item["MountPoint"] == f"{tmp_path}/mnt point"]
    assert (volume["FileSystemName"], volume["Flags/ReadOnly"], volume["TotalSize"]) == ("tmpfs", True, 2**20)
    assert (volume["DevicePath"], volume["Type"]) == ("probe", "DRIVE_RAMDISK")


def test_users_are_those_of_passwd() -> None:
    found = {item["Username"]: item for item in items("UserItem")}
    root = found["root"]
    assert (root["userid"], root["homedirectory"], root["grouplist/groupname"][0]) == (0, "/root", "root")
    lines = [line for line in Path("/etc/passwd").read_text().splitlines() if line.count(":") == 6]
    assert set(found) == {line.split(":")[0] for line in lines}


def test_units_are_read_as_systemd_reads_them(tmp_path: Path) -> None:
    system, vendor = tmp_path / "etc/systemd/system", tmp_path / "lib/systemd/system"
    (system / "multi-user.target.wants").mkdir(parents=True)
    vendor.mkdir(parents=True)
    (vendor / "evil.service").write_text(
        "[Unit]\nDescription=Vendor's word\n[Service]\nExecStart=/usr/bin/good\nUser=nobody\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )
    (system / "evil.service.d").mkdir()
    (system / "evil.service.d/override.conf").write_text(
        '# comment\n[Service]\nExecStart=\nExecStart=-/opt/evil --quiet \\\n "two words"\nExecStart=/opt/second\n'
    )
    (system / "multi-user.target.wants/evil.service").symlink_to(vendor / "evil.service")
    (vendor / "made@.service").write_text("[Service]\nExecStart=/usr/bin/made %i\n")
    (system / "multi-user.target.wants/made@tty1.service").symlink_to(vendor / "made@.service")
    (vendor / "idle.service").write_text("[Service]\nExecStart=/usr/bin/idle\n[Install]\nWantedBy=x.target\n")
    (system / "off.service").symlink_to("/dev/null")
    os.mkfifo(vendor / "pipe.service")
    folders = ("/etc/systemd/system", "/lib/systemd/system")
    units = {unit.name: unit for unit in unitfiles.units(folders, str(tmp_path))}
    assert {name: unit.mode for name, unit in units.items()} == {
        "evil.service": "enabled",
        "idle.service": "disabled",
        "made@.service": "enabled",
        "off.service": "masked",
        "pipe.service": "static",
    }
    assert unitfiles.commands(units["evil.service"]) == [
        ["/opt/evil", "--quiet", "two words"],
        ["/opt/second"],
    ]
    assert units["evil.service"].values["User"] == ["nobody"]


def test_what_systemd_has_loaded_is_read() -> None:
    loaded = services.parse_show(
        b"Id=a.service\nMainPID=12\nActiveState=active\nSubState=running\n\n"
        b"Id=run-x.service\nExecStart={ path=/bin/x ; argv[]=/bin/x -l 1 ; ignore_errors=no }\nActiveState=failed\n"
    )
    assert set(loaded) == {"a.service", "run-x.service"}
    assert services._values(loaded["run-x.service"])["ExecStart"] == ["/bin/x -l 1"]


def test_events_of_the_journal() -> None:
    line = {
        "__REALTIME_TIMESTAMP": "1700000000123456",
        "MESSAGE": [104, 105, 255],
        "SYSLOG_IDENTIFIER": "sshd",
        "PRIORITY": "3",
        "SYSLOG_FACILITY": "4",
        "_TRANSPORT": "syslog",
        "_HOSTNAME": "ws01",
        "_UID": "0",
    }
    item = eventlog.journal_item(json.dumps(line).encode())
    assert item is not None
    assert (item["genTime"], item["message"]) == ("2023-11-14T22:13:20.123456Z", "hi\ufffd")
    assert (item["source"], item["user"], item["machine"]) == ("sshd", "root", "ws01")
    assert "Error" in item["type"] and item["log"] == ["syslog", "auth"]
    for broken in (b"", b"[]", b'{"PRIORITY": ["x"]}', b'{"_UID": [1]}', b'{"MESSAGE": null}', b"\xff{"):
        eventlog.journal_item(broken)


JOURNALD = Path("/lib/systemd/systemd-journald")


@pytest.mark.skipif(
    not (IS_ROOT and JOURNALD.exists() and shutil.which("journalctl")), reason="needs journald"
)
def test_events_of_a_real_journal_are_found(tmp_path: Path) -> None:
    """A journal of our own, in a namespace of its own: an event is found by each of its fields."""
    wanted = {
        "message": "planted message",
        "source": "planted-tag",
        "log": "auth",
        "type": "err",
        "user": "root",
        "machine": os.uname().nodename,
    }
    plan = tmp_path / "plan.json"
    files = [any_ioc((f"EventLogItem/{field}", "is", "string", value)) for field, value in wanted.items()]
    both_ways = both(
        ("EventLogItem/source", "is", "string", "planted-tag"),
        ("EventLogItem/message", "is", "string", "another message"),
    )
    plan.write_bytes(compile_plan([(content, "hunt") for content in (*files, both_ways)]))
    (tmp_path / "empty").mkdir()
    script = f"""set -e
mount -t tmpfs none /run
mkdir -p /run/systemd/journal
printf 0123456789abcdef0123456789abcdef > /run/machine-id
mount --bind /run/machine-id /etc/machine-id
mkdir -p /run/log/journal/0123456789abcdef0123456789abcdef
{JOURNALD} >/dev/null 2>&1 &
until [ -S /run/systemd/journal/socket ]; do sleep 0.02; done
{sys.executable} -c "
import socket
link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
event = b'MESSAGE=planted message\\nPRIORITY=3\\nSYSLOG_IDENTIFIER=planted-tag\\nSYSLOG_FACILITY=4\\n'
link.sendto(event, '/run/systemd/journal/socket')
"
until journalctl -t planted-tag -o cat | grep -q planted; do sleep 0.05; done
{sys.executable} -m ioc_scan.scanner scan --plan {plan} --root {tmp_path}/empty
kill %1
"""
    command = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", script]
    done = subprocess.run(command, env=environment(), capture_output=True, timeout=60, check=False)
    assert done.stdout, done.stderr.decode()
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    found = {line["ioc"] for line in lines[:-1] if line["item"]["source"] == "planted-tag"}
    missed = [field for field, content in zip(wanted, files, strict=True) if sha256(content) not in found]
    assert missed == []
    assert sha256(both_ways) not in {line["ioc"] for line in lines[:-1]}
    reasons = [entry["reason"] for entry in lines[-1]["not_evaluated"] if entry["what"] == "EventLogItem"]
    assert any("days ago were not read" in reason for reason in reasons), reasons


def test_commands_are_bounded_and_found_in_fixed_places_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sleep").write_text("#!/bin/sh\ntouch " + str(tmp_path / "ran"))
    (tmp_path / "sleep").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    begin = time.monotonic()
    with pytest.raises(documents.UnavailableError, match="took too long"):
        commands.output(["sleep", "20"], seconds=0.2)
    with pytest.raises(documents.UnavailableError, match="too much"):
        commands.output(["yes"], seconds=5, max_bytes=10000)
    with pytest.raises(documents.UnavailableError, match="not on this device"):
        commands.output(["no-such-command-anywhere"])
    with pytest.raises(documents.UnavailableError, match="status 1"):
        commands.output(["false"])
    assert time.monotonic() - begin < 5
    assert not (tmp_path / "ran").exists()


# ----------------------------------------------------------------------------------------- through jobs


def scan_settings(device: Device) -> dict[str, Any]:
    return {"scope": "custom", "roots": [str(device.tree)]}


def both(first: tuple[str, str, str, str], second: tuple[str, str, str, str]) -> bytes:
    body = _item(1, *first) + _item(2, *second)
    return ioc(f'<Indicator operator="AND" id="00000000-0000-4000-a000-000000000000">{body}</Indicator>')


def test_documents_join_across_the_device(tmp_path: Path) -> None:
    """A process and a file prove an IOC file together; neither does alone, and neither is acted on."""
    with running("sleep", "86407") as process:
        together = both(
            ("ProcessItem/arguments", "is", "string", "sleep 86407"),
            ("FileItem/FileName", "is", "string", "marker.txt"),
        )
        apart = both(
            ("ProcessItem/arguments", "is", "string", "sleep 86407"),
            ("FileItem/FileName", "is", "string", "absent.txt"),
        )
        device = Device(tmp_path, compile_plan([(together, "actionable"), (apart, "actionable")]), True)
        (device.tree / "marker.txt").write_text("x")
        outcome = device.do("scan", "s", settings=scan_settings(device))
    lines = outcome.of("match")
    assert {line["ioc"] for line in lines} == {sha256(together)}
    assert sorted(line["document"] for line in lines) == ["FileItem", "ProcessItem"]
    assert {line["tier"] for line in lines} == {"hunt"}
    by_document = {line["document"]: line for line in lines}
    assert by_document["ProcessItem"]["item"]["pid"] == process.pid
    assert by_document["ProcessItem"]["path_b64"] is None
    assert by_document["FileItem"]["path"] == str(device.tree / "marker.txt")


def test_a_kill_neither_loses_nor_doubles_items(tmp_path: Path) -> None:
    """The process is gone when the scan goes on: what it proved before the kill still counts."""
    joined = both(
        ("ProcessItem/arguments", "is", "string", "sleep 86408"),
        ("FileItem/FileName", "is", "string", "zz-last.txt"),
    )
    alone = any_ioc(("ProcessItem/arguments", "is", "string", "sleep 86408"))
    device = Device(tmp_path, compile_plan([(joined, "hunt"), (alone, "hunt")]), True)
    for number in range(40):
        with (device.tree / f"{number:02}.bin").open("wb") as stream:
            stream.truncate(30 * 2**20)
    (device.tree / "zz-last.txt").write_text("x")
    slow = any_ioc(("FileItem/Sha256sum", "is", "sha256", "0" * 64))
    device.plan = compile_plan([(joined, "hunt"), (alone, "hunt"), (slow, "hunt")])
    settings = {**scan_settings(device), "cpu_percent": 10, "threads": 1}
    folder = device.publish(device.job("scan", "s", settings=settings))
    with running("sleep", "86408") as process:
        runner = subprocess.Popen(device.command(), env=environment())
        while not (folder / "checkpoint.json").exists():
            time.sleep(0.02)
        while "ProcessItem" not in json.loads((folder / "checkpoint.json").read_text())["collected"]:
            time.sleep(0.02)
        runner.send_signal(signal.SIGKILL)
        runner.wait()
    job = json.loads((folder / "job.json").read_text())
    assert json.loads((folder / "status.json").read_text())["state"] == "running"
    # Go on at full speed: the place is what counts, not the speed.
    assert job["settings"]["cpu_percent"] == 10
    for path in device.tree.glob("*.bin"):
        path.unlink()
    device.run()
    outcome = device.outcome("s")
    assert outcome.status["state"] == "done", outcome.status
    lines = outcome.of("match")
    keys = [(line["ioc"], line["item_key"]) for line in lines]
    assert len(keys) == len(set(keys))
    assert sorted((line["ioc"], line["document"]) for line in lines) == sorted(
        [(sha256(joined), "FileItem"), (sha256(joined), "ProcessItem"), (sha256(alone), "ProcessItem")]
    )
    assert {line["item"]["pid"] for line in lines if line["document"] == "ProcessItem"} == {process.pid}


def test_gaps_are_told_after_a_resume_too(tmp_path: Path) -> None:
    """What could not be collected before the break is still not called clean after it."""
    plan = compile_plan([(any_ioc(("ServiceItem/pid", "is", "int", "1")), "hunt")])
    device = Device(tmp_path, plan, True)
    folder = device.publish(device.job("scan", "s", settings=scan_settings(device)))
    checkpoint = {
        "version": 2,
        "plan_digest": sha256(plan),
        "frames": [],
        "evaluator": {"plan": sha256(plan), "matched": [], "kept": []},
        "files": 0,
        "bytes": 0,
        "skipped": {},
        "collected": {"ServiceItem": [["ServiceItem/pid", "it was so"]]},
    }
    (folder / "checkpoint.json").write_text(json.dumps(checkpoint))
    device.run()
    status = device.outcome("s").status
    assert {"what": "ServiceItem/pid", "reason": "it was so"} in status["not_evaluated"]


def test_a_collector_that_fails_does_not_end_the_scan_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.unit.scanner.test_documents import scan

    (tmp_path / "here").touch()

    def broken(request: documents.Request) -> Iterator[dict[str, Any]]:
        yield {"pid": 1, IDENTITY: "1"}
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(documents.module_of("ProcessItem"), "collect", broken)
    content = any_ioc(("ProcessItem/pid", "is", "int", "1"), ("FileItem/FileName", "is", "string", "here"))
    lines, summary = scan(tmp_path, [content])
    assert [line["document"] for line in lines[sha256(content)]] == ["ProcessItem", "FileItem"]
    assert [entry["what"] for entry in summary["not_evaluated"]] == ["ProcessItem"]
    assert "Permission denied" in summary["not_evaluated"][0]["reason"]


def test_an_indicator_that_everything_matches_is_listed_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.unit.scanner.test_documents import scan

    many = [{"pid": number, IDENTITY: str(number)} for number in range(3000)]
    monkeypatch.setattr(documents.module_of("ProcessItem"), "collect", lambda request: iter(many))
    content = any_ioc(("ProcessItem/pid", "greater-than", "int", "-1"))
    lines, summary = scan(tmp_path, [content.replace(b'condition="greater-than"', b'condition="isnot"')])
    assert sum(len(found) for found in lines.values()) == 1000
    assert "the others are not listed" in summary["not_evaluated"][0]["reason"]


def test_a_stop_in_the_middle_of_a_document_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Job:
        def __init__(self) -> None:
            self.collected: dict[str, Any] = {}
            self.evaluator = type(
                "E", (), {"documents": {"UserItem"}, "plan": type("P", (), {"terms": ()})}
            )()

        def take_item(self, document: str, item: dict[str, Any]) -> None:
            seen.append(item)

    job = Job()
    assert collect.collect_documents([job], stop=lambda: len(seen) == 3)
    assert len(seen) == 3 and job.collected == {}
