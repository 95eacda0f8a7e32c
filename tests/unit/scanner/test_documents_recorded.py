"""Documents of Windows and macOS from what their systems print, since neither is at hand here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from ioc_scan.scanner import documents
from ioc_scan.scanner.critical import autostart_windows
from ioc_scan.scanner.documents import IDENTITY, Request, arp, powershell, registry, routes, volumes, windows

from tests.unit.scanner.support import environment

FILETIME_2024 = 133485408000000000  #: 2024-01-01T00:00:00Z as Windows counts


def only(document: str, item: dict[str, Any]) -> dict[str, Any]:
    """An item of Windows, after a look at its fields: no more than the table promises."""
    assert set(item) - {IDENTITY} <= documents.module_of(document).FIELDS["windows"]
    return item


def test_collectors_load_where_there_is_nothing_of_posix() -> None:
    """As on Windows: no account database, no locks of files, none of the calls that only Unix has."""
    script = """
import os, sys
for name in ("pwd", "grp", "fcntl", "resource", "termios"):
    sys.modules[name] = None
for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC", "getuid", "sysconf", "fork", "nice"):
    delattr(os, name)
import ioc_scan.scanner.runner, ioc_scan.scanner.localscan
from ioc_scan.scanner.documents import MODULES, module_of
from ioc_scan.scanner.critical import autostart_windows, autostart_macos, boot, job, kernel, processes
assert all(module_of(document).FIELDS for document in MODULES)
"""
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize(
    ("command", "programs"),
    [
        ('"C:\\Program Files\\x y\\a.exe" /run', ["C:\\Program Files\\x y\\a.exe"]),
        ("C:\\Users\\ana\\a b\\run.exe -k", ["C:\\Users\\ana\\a b\\run.exe"]),
        (
            "C:\\Windows\\System32\\rundll32.exe C:\\x\\evil.dll,Start",
            ["C:\\Windows\\System32\\rundll32.exe", "C:\\x\\evil.dll"],
        ),
        ("\\??\\C:\\drivers\\d.sys", ["C:\\drivers\\d.sys"]),
        ("\\SystemRoot\\System32\\drivers\\e.sys", ["C:\\Windows\\System32\\drivers\\e.sys"]),
        ("system32\\DRIVERS\\f.sys", ["C:\\Windows\\system32\\DRIVERS\\f.sys"]),
        ("explorer.exe", []),
        ("", []),
    ],
)
def test_programs_that_windows_starts(command: str, programs: list[str]) -> None:
    assert autostart_windows.programs_of(command) == programs


def test_moments_of_powershell() -> None:
    assert powershell.seconds("/Date(1704067200123)/") == 1704067200.123
    assert powershell.seconds({"value": "/Date(1704067200000)/", "DisplayHint": 2}) == 1704067200
    assert powershell.seconds(None) is None and powershell.seconds("2024") is None


def test_lines_of_powershell_with_a_mark_and_noise() -> None:
    lines = [b'\xef\xbb\xbf{"a": 1}\r\n', b"WARNING: x\r\n", b"[1]\r\n", b'{"a": 2}']
    assert list(powershell.from_lines(lines)) == [{"a": 1}, {"a": 2}]


def test_windows_processes_and_connections() -> None:
    entry = {
        "ProcessId": 4012,
        "ParentProcessId": 800,
        "Name": "evil.exe",
        "ExecutablePath": "C:\\Users\\Public\\evil.exe",
        "CommandLine": '"C:\\Users\\Public\\evil.exe" -x',
        "CreationDate": "/Date(1704067200000)/",
    }
    item = only("ProcessItem", windows.process_item(entry))
    assert (item["pid"], item["parentpid"], item["startTime"]) == (4012, 800, 1704067200)
    assert item["path"][0] == "C:\\Users\\Public\\evil.exe"
    tcp = {"LocalAddress": "10.0.0.5", "LocalPort": 49999, "RemoteAddress": "203.0.113.9", "RemotePort": 443}
    port = only("PortItem", windows.port_item({**tcp, "State": 5, "OwningProcess": 4012}, "TCP", entry))
    assert (port["state"], port["remoteIP"], port["process"]) == ("ESTABLISHED", "203.0.113.9", "evil.exe")
    udp = {"LocalAddress": "fe80::1%4", "LocalPort": 546, "OwningProcess": 1}
    port = only("PortItem", windows.port_item(udp, "UDP", {}))
    assert (port["localIP"], port["isIPv6"], port["remoteIP"], port["state"]) == ("fe80::1", True, [], [])
    unseen = windows.process_item(
        {"ProcessId": 4, "Name": "System", "ExecutablePath": None, "CommandLine": None}
    )
    assert unseen["path"] is None, "what Windows does not tell is unknown, not absent"


@pytest.mark.parametrize(
    ("command", "path", "arguments"),
    [
        ('"C:\\Program Files\\a b\\x.exe" -k run', "C:\\Program Files\\a b\\x.exe", "-k run"),
        ("C:\\Program Files\\a b\\x.exe -k run", "C:\\Program Files\\a b\\x.exe", "-k run"),
        ("C:\\Windows\\System32\\drivers\\d.sys", "C:\\Windows\\System32\\drivers\\d.sys", ""),
        ("", [], ""),
    ],
)
def test_windows_services(command: str, path: Any, arguments: str) -> None:
    entry = {"Name": "Evil", "DisplayName": "Evil service", "PathName": command, "StartName": "LocalSystem"}
    entry.update(StartMode="Auto", State="Running", ServiceType="Own Process")
    item = only("ServiceItem", windows.service_item({**entry, "ProcessId": 77, "Dll": "C:\\evil.dll"}))
    assert (item["path"], item["arguments"], item["pid"]) == (path, arguments, 77)
    assert item["mode"] == ["Auto", "SERVICE_AUTO_START"] and "SERVICE_RUNNING" in item["status"]
    assert (item["serviceDLL"], item["startedAs"]) == ("C:\\evil.dll", "LocalSystem")


def test_windows_accounts_volumes_names_and_events() -> None:
    user = only("UserItem", windows.user_item({"Name": "ana", "SID": "S-1-5-21-1", "Disabled": False}))
    assert (user["Username"], user["disabled"], user["fullname"]) == ("ana", False, "")
    raw = {
        "DeviceID": "\\\\?\\Volume{1}\\",
        "DriveLetter": "C:",
        "FileSystem": "NTFS",
        "DriveType": 3,
        "Capacity": 9,
    }
    volume = only(
        "VolumeItem", windows.volume_item({**raw, "SerialNumber": 5, "Label": "System", "Name": "C:\\"})
    )
    assert (volume["Type"], volume["IsMounted"], volume["VolumeName"]) == ("DRIVE_FIXED", True, "System")
    name = {"Entry": "evil.example", "RecordName": "evil.example", "RecordType": 1, "Data": "203.0.113.9"}
    dns = only("DnsEntryItem", windows.dns_item({**name, "DataLength": 4, "TimeToLive": 60}))
    assert (dns["RecordType"], dns["RecordData/IPv4Address"], dns["RecordData/IPv6Address"]) == (
        "A", "203.0.113.9", [],
    )  # fmt: skip
    event = only(
        "EventLogItem",
        windows.event_item({"Id": 4625, "LogName": "Security", "RecordId": 9, "TimeCreated": "/Date(0)/"}),
    )
    assert (event["EID"], event["index"], event["genTime"]) == (4625, 9, 0)


def test_windows_neighbours_and_routes() -> None:
    raw = {
        "IPAddress": "10.0.0.1",
        "InterfaceAlias": "Ethernet",
        "LinkLayerAddress": "02-00-00-00-00-0A",
        "State": 6,
    }
    item = only("ArpEntryItem", windows.neighbour_item(raw))
    assert item["PhysicalAddress"] == ["02:00:00:00:00:0a", "02-00-00-00-00-0a"]
    assert (item["CacheType"], item["IPv6Address"]) == ("static", [])
    raw = {
        "DestinationPrefix": "0.0.0.0/0",
        "NextHop": "10.0.0.1",
        "InterfaceAlias": "Ethernet",
        "RouteMetric": 25,
    }
    route = windows.route_entry(raw)
    assert route is not None
    only("RouteEntryItem", route)
    assert (route["Destination"], route["Gateway"], route["Metric"]) == ("0.0.0.0", ["10.0.0.1"], 25)
    assert windows.route_entry({"DestinationPrefix": None}) is None


class FakeRegistry:
    """A tree of keys with the few functions of ``winreg`` that are used."""

    HKEY_LOCAL_MACHINE, HKEY_USERS = "M", "U"

    def __init__(self, tree: dict[tuple[str, str], dict[str, tuple[Any, int]]]) -> None:
        self.tree = tree

    def OpenKey(self, hive: str, path: str, _reserved: int, _access: int) -> FakeKey:
        if (hive, path) not in self.tree:
            raise PermissionError(5, "Access is denied")
        return FakeKey(hive, path)

    def _below(self, key: FakeKey) -> list[str]:
        prefix = key.path + "\\" if key.path else ""
        names = [
            path[len(prefix) :] for hive, path in self.tree if hive == key.hive and path.startswith(prefix)
        ]
        return sorted({name.split("\\")[0] for name in names if name}) + ["Denied"] * (key.path == "SAM")

    def QueryInfoKey(self, key: FakeKey) -> tuple[int, int, int]:
        return len(self._below(key)), len(self.tree[key.hive, key.path]), FILETIME_2024

    def EnumKey(self, key: FakeKey, number: int) -> str:
        return self._below(key)[number]

    def EnumValue(self, key: FakeKey, number: int) -> tuple[str, Any, int]:
        name, (value, kind) = list(self.tree[key.hive, key.path].items())[number]
        return name, value, kind


class FakeKey:
    def __init__(self, hive: str, path: str) -> None:
        self.hive, self.path = hive, path

    def __enter__(self) -> FakeKey:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""


def test_the_registry_is_walked_whole() -> None:
    run = "SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Run"
    parts = run.split("\\")
    tree: dict[tuple[str, str], dict[str, tuple[Any, int]]] = {
        ("M", "\\".join(parts[:count])): {} for count in range(len(parts) + 1)
    }
    tree["M", run] = {
        "Evil": ("C:\\evil.exe", 1),
        "Many": (["a", "b"], 7),
        "Raw": (b"\x01\xff", 3),
        "": (5, 4),
    }
    tree["M", "SAM"] = {}
    tree["U", ""] = {}
    tree["U", "S-1-5-21-1"] = {"x": (None, 0)}
    request = Request({"Path"}, "windows")
    items = list(registry.walk(FakeRegistry(tree), request))
    assert len({item[IDENTITY] for item in items}) == len(items)
    for item in items:
        only("RegistryItem", item)
    by_path = {item["Path"]: item for item in items}
    evil = by_path["HKEY_LOCAL_MACHINE\\" + run + "\\Evil"]
    assert (evil["ValueName"], evil["Text"], evil["Type"], evil["KeyPath"]) == (
        "Evil",
        "C:\\evil.exe",
        "REG_SZ",
        run,
    )
    assert evil["Modified"] == "2024-01-01T00:00:00Z"
    assert by_path["HKEY_LOCAL_MACHINE\\" + run + "\\Raw"]["Value"] == "01ff"
    assert by_path["HKEY_LOCAL_MACHINE\\" + run + "\\Many"]["Text"] == "a\nb"
    assert by_path["HKEY_LOCAL_MACHINE\\" + run]["NumValues"] == 4
    assert by_path["HKEY_USERS\\S-1-5-21-1\\x"]["Text"] == ""
    assert request.gaps == {"": "1 keys of the registry may not be read by this user"}


def lines_of(found: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    return list(found)


def test_neighbours_routes_and_mounts_of_macos() -> None:
    neighbours = lines_of(
        arp.from_arp(
            b"? (10.0.0.1) at 2:0:0:0:0:a on en0 ifscope [ethernet]\n"
            b"? (10.0.0.9) at (incomplete) on en0 ifscope [ethernet]\n"
            b"? (224.0.0.251) at 1:0:5e:0:0:fb on en0 ifscope permanent [ethernet]\n"
        )
    )
    assert [item["IPv4Address"] for item in neighbours] == ["10.0.0.1", "224.0.0.251"]
    assert neighbours[0]["PhysicalAddress"][0] == "02:00:00:00:00:0a"
    assert [item["CacheType"] for item in neighbours] == ["dynamic", "static"]

    found = lines_of(
        routes.from_netstat(
            b"Routing tables\n\nInternet:\n"
            b"Destination        Gateway            Flags        Netif Expire\n"
            b"default            10.0.0.1           UGScg          en0\n"
            b"10.1/16            10.0.0.2           UGSc           en0\n"
            b"127                127.0.0.1          UCS            lo0\n"
            b"10.0.0/24          link#4             UCS            en0\n\nInternet6:\n"
            b"default            fe80::1%en0        UGcg           en0\n"
            b"fd00::/64          link#4             UC             en0\n"
        )
    )
    assert [(item["Destination"], item["Netmask"][-1], item["Gateway"]) for item in found] == [
        ("0.0.0.0", "0", ["10.0.0.1"]),
        ("10.1.0.0", "16", ["10.0.0.2"]),
        ("127.0.0.0", "8", ["127.0.0.1"]),
        ("10.0.0.0", "24", []),
        ("::", "0", ["fe80::1"]),
        ("fd00::", "64", []),
    ]

    request = Request({"MountPoint"}, "macos")
    mounts = lines_of(
        volumes.from_mount(
            b"/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)\n"
            b"/dev/disk4s1 on /Volumes/My (odd) Disk (hfs, local, nodev)\nmap auto_home on /home (autofs)\n",
            request,
        )
    )
    assert [(item["MountPoint"], item["FileSystemName"], item["Flags/ReadOnly"]) for item in mounts] == [
        ("/", "apfs", True),
        ("/Volumes/My (odd) Disk", "hfs", False),
        ("/home", "autofs", False),
    ]
