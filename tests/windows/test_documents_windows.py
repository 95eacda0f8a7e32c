"""Documents that are no files, asked of a running Windows; what Wine does not have is said, never "none"."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
from ioc_scan.openioc.plan import compile_plan
from ioc_scan.openioc.terms import all_terms

from tests.unit.scanner.support import any_ioc
from tests.windows.rig import Windows
from tests.windows.spools import WindowsDevice

_COLLECT = """
import socket, subprocess
from ioc_scan_scanner.documents import MODULES, Request, UnavailableError, module_of
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
listening.listen()
child = subprocess.Popen([sys.executable, "-c", "input()", "harmless argument"], stdin=subprocess.PIPE,
                         stdout=subprocess.DEVNULL)
answer = {}
for document in MODULES:
    if document == "RegistryItem":
        continue
    module = module_of(document)
    request = Request(module.FIELDS["windows"], "windows")
    items, why = [], None
    try:
        for item in module.collect(request):
            items.append(item)
    except UnavailableError as error:
        why = error.reason
    answer[document] = [items, why, request.gaps, sorted(module.FIELDS["windows"])]
child.stdin.close()
child.wait()
print(json.dumps([answer, child.pid, os.getpid(), listening.getsockname()[1]]))
"""


@pytest.fixture(scope="module", params=["3.8", "3.13"])
def collected(windows: Windows, request: pytest.FixtureRequest) -> tuple[dict[str, Any], int, int, int]:
    answer, child, own, port = windows.python(request.param, _COLLECT)
    for document, (items, _, _, fields) in answer.items():
        assert {key for item in items for key in item} <= {*fields, "_identity"}, document
    return answer, child, own, port


def test_processes(collected: tuple[dict[str, Any], int, int, int]) -> None:
    answer, child, own, _ = collected
    items, why, gaps, _ = answer["ProcessItem"]
    assert why is None
    by_pid = {item["pid"]: item for item in items}
    assert own not in by_pid
    item = by_pid[child]
    assert item["name"] == "python.exe" and item["parentpid"] == own
    program, folder = item["path"]
    assert program.lower() == folder.lower() + "\\python.exe" and folder.lower().startswith("c:\\py3")
    assert item["startTime"] > 1_700_000_000 and "\\" in item["Username"]
    assert set(gaps) <= {"arguments"}  # Wine does not tell the command line of another process


def test_connections(collected: tuple[dict[str, Any], int, int, int]) -> None:
    answer, _, _, port = collected
    items, why, _, _ = answer["PortItem"]
    assert why is None
    [item] = [item for item in items if item["localPort"] == port and item["protocol"] == "TCP"]
    assert item["localIP"] == "127.0.0.1" and item["state"] == "LISTENING"
    assert (item["remoteIP"], item["remotePort"], item["isIPv6"]) == ([], [], False)


def test_services_and_volumes(collected: tuple[dict[str, Any], int, int, int]) -> None:
    services = {item["name"].lower(): item for item in collected[0]["ServiceItem"][0]}
    # Which of them run depends on how long this Windows has been up.
    assert all(item["status"][1].startswith("SERVICE_") for item in services.values())
    assert services["eventlog"]["serviceDLL"].lower() == "c:\\windows\\system32\\wevtsvc.dll"
    assert services["mountmgr"]["type"] == "Kernel Driver"
    assert services["mountmgr"]["path"].lower() == "c:\\windows\\system32\\drivers\\mountmgr.sys"
    [volume] = [item for item in collected[0]["VolumeItem"][0] if item["DriveLetter"] == "C:"]
    assert volume["DevicePath"].startswith("\\\\?\\Volume{") and volume["FileSystemName"] == "NTFS"
    assert volume["Type"] == "DRIVE_FIXED" and volume["IsMounted"] is True and volume["Name"] == "C:\\"


def test_system_and_network(collected: tuple[dict[str, Any], int, int, int]) -> None:
    [system], why, gaps, fields = collected[0]["SystemInfoItem"]
    assert why is None and gaps == {} and set(fields) <= set(system)
    assert system["platform"] == "win" and system["buildNumber"].isdigit() and system["uptime"] > 0
    assert system["totalphysical"] > system["availphysical"] > 0
    addresses = system["networkArray/networkInfo/ipArray/ipInfo/ipAddress"]
    assert "127.0.0.1" in addresses and "127.0.0.1" not in system["primaryIpv4Address"]
    with open("/proc/net/route", encoding="ascii") as stream:
        count = sum(1 for _ in stream) - 1
    routes = collected[0]["RouteEntryItem"][0]
    assert len([route for route in routes if not route["IsIPv6"]]) >= min(count, 1)
    for route in routes:
        assert all(socket.inet_aton(gateway) for gateway in route["Gateway"] if not route["IsIPv6"])
    for entry in collected[0]["ArpEntryItem"][0]:
        assert socket.inet_aton(entry["IPv4Address"]) and entry["Interface"]


def test_lists_that_only_powershell_has_are_not_evaluated_without_it(
    collected: tuple[dict[str, Any], int, int, int],
) -> None:
    """Wine's powershell.exe prints nothing and ends well: that is no list, and not an empty one."""
    for document in ("UserItem", "DnsEntryItem", "EventLogItem"):
        items, why, _, _ = collected[0][document]
        assert items == [] and why is not None and "does not list" in why, document


def test_scan_joins_documents_and_says_what_was_not_evaluated(windows: Windows) -> None:
    content = any_ioc(
        ("ServiceItem/name", "is", "string", "rpcss"),
        ("ProcessItem/path", "contains", "string", "\\SERVICES.exe"),
        ("DnsEntryItem/Host", "is", "string", "evil.example"),
    )
    device = WindowsDevice(windows, "3.13", compile_plan([(content, "hunt")]))
    outcome = device.do(device.job("scan-1"))
    assert outcome.status["state"] == "done", json.dumps(outcome.status)
    assert {line["document"] for line in outcome.of("match")} == {"ProcessItem", "ServiceItem"}
    assert [entry["what"] for entry in outcome.status["not_evaluated"]] == ["DnsEntryItem"]


def test_every_term_of_windows_has_a_collector_here(
    collected: tuple[dict[str, Any], int, int, int],
) -> None:
    documents = {name.split("/")[0] for name, term in all_terms().items() if "windows" in term.collectors}
    assert documents - {"FileItem", "RegistryItem"} == set(collected[0])
