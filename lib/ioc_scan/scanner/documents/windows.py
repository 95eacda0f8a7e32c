"""Documents of Windows: mapped from what the system itself lists, or PowerShell where that is the only door.

Each function maps objects to items and is tested with recorded objects; the commands are fixed text.
"""

from __future__ import annotations

import importlib
import ipaddress
import os
from typing import Any, Iterator

from .arp import named, spellings
from .base import IDENTITY, Item, Request
from .powershell import objects, seconds
from .processes import path_and_folder
from .routes import route_item
from .systeminfo import is_outer

_CIM = "Get-CimInstance -ClassName "
_USERS = _CIM + (
    "Win32_UserAccount -Filter 'LocalAccount=True' | Select-Object Name,FullName,Description,Disabled,SID"
)
_DNS = "Get-DnsClientCache | Select-Object Entry,RecordName,RecordType,Data,DataLength,TimeToLive"
_EVENTS = (
    "Get-WinEvent -MaxEvents {count} -FilterHashtable @{{LogName='Application','System','Security';"
    "StartTime=(Get-Date).AddDays(-{days})}} | Select-Object Id,ProviderName,LogName,TimeCreated,MachineName,"
    "LevelDisplayName,Message,RecordId,Task,TaskDisplayName,@{{n='User';e={{$_.UserId.Value}}}}"
)
#: The idle process and the kernel's own have neither a file nor arguments.
_KERNEL_PID = 4
_DRIVE_TYPES = {
    0: "DRIVE_UNKNOWN", 1: "DRIVE_NO_ROOT_DIR", 2: "DRIVE_REMOVABLE", 3: "DRIVE_FIXED", 4: "DRIVE_REMOTE",
    5: "DRIVE_CDROM", 6: "DRIVE_RAMDISK",
}  # fmt: skip
_TCP_STATES = {
    1: "CLOSED", 2: "LISTENING", 3: "SYN_SENT", 4: "SYN_RECEIVED", 5: "ESTABLISHED", 6: "FIN_WAIT_1",
    7: "FIN_WAIT_2", 8: "CLOSE_WAIT", 9: "CLOSING", 10: "LAST_ACK", 11: "TIME_WAIT", 12: "DELETE_TCB",
}  # fmt: skip
_DNS_TYPES = {1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV"}
_NEIGHBOUR_STATES = {
    0: "Unreachable",
    1: "Incomplete",
    2: "Probe",
    3: "Delay",
    4: "Stale",
    5: "Reachable",
    6: "Permanent",
}
_START_MODES = {
    "Auto": "SERVICE_AUTO_START",
    "Manual": "SERVICE_DEMAND_START",
    "Disabled": "SERVICE_DISABLED",
}
_START_MODES.update(Boot="SERVICE_BOOT_START", System="SERVICE_SYSTEM_START")
_STATES = {"Running": "SERVICE_RUNNING", "Stopped": "SERVICE_STOPPED", "Paused": "SERVICE_PAUSED"}
_STATES.update({"Start Pending": "SERVICE_START_PENDING", "Stop Pending": "SERVICE_STOP_PENDING"})
_STATES.update({"Continue Pending": "SERVICE_CONTINUE_PENDING", "Pause Pending": "SERVICE_PAUSE_PENDING"})


def _native(name: str) -> Any:
    """A module that only Windows can load."""
    return importlib.import_module("." + name, __package__)


def processes(request: Request) -> Iterator[Item]:
    """All but this one: a scanner that is told what to look for would find itself."""
    winprocs = _native("winprocs")
    refused: dict[str, int] = {}
    for entry in winprocs.processes():
        if entry["ProcessId"] == os.getpid():
            continue
        item = process_item(entry)
        for field, value in item.items():
            if value is None and entry["ProcessId"] > _KERNEL_PID:
                refused[field] = refused.get(field, 0) + 1
        yield item
    for field, count in refused.items():
        request.gap(field, f"{count} processes do not tell it to this user")


def process_item(entry: dict[str, Any]) -> Item:
    path, started = entry.get("ExecutablePath"), seconds(entry.get("CreationDate"))
    return {
        "pid": entry.get("ProcessId"),
        "parentpid": entry.get("ParentProcessId"),
        "name": entry.get("Name"),
        "path": path_and_folder(path) if path else None,
        "arguments": entry.get("CommandLine"),
        "startTime": started,
        "Username": entry.get("User"),
        IDENTITY: f"{entry.get('ProcessId')} {started}",
    }


def services() -> Iterator[Item]:
    winservices = _native("winservices")
    for entry in winservices.services():
        yield service_item(entry)


def service_item(entry: dict[str, Any]) -> Item:
    command = str(entry.get("PathName") or "")
    path, arguments = _split_command(command)
    state, mode = str(entry.get("State") or ""), str(entry.get("StartMode") or "")
    return {
        "name": entry.get("Name"),
        "descriptiveName": entry.get("DisplayName"),
        "description": entry.get("Description") or "",
        "path": path or [],
        "arguments": arguments,
        "startedAs": entry.get("StartName") or [],
        "mode": [mode, _START_MODES.get(mode, mode)],
        "status": [state, _STATES.get(state, state)],
        "pid": entry.get("ProcessId") or [],
        "type": entry.get("ServiceType") or [],
        "serviceDLL": entry.get("Dll") or [],
        IDENTITY: str(entry.get("Name")),
    }


def _split_command(command: str) -> tuple[str, str]:
    """The program and its arguments, as the service manager splits them."""
    if command.startswith('"'):
        path, _, rest = command[1:].partition('"')
        return path, rest.strip()
    at = command.lower().find(".exe")
    if at >= 0:
        return command[: at + 4], command[at + 4 :].strip()
    path, _, rest = command.partition(" ")
    return path, rest.strip()


def users() -> Iterator[Item]:
    for entry in objects(_USERS, "accounts"):
        yield user_item(entry)


def user_item(entry: dict[str, Any]) -> Item:
    return {
        "Username": entry.get("Name"),
        "fullname": entry.get("FullName") or "",
        "description": entry.get("Description") or "",
        "disabled": entry.get("Disabled"),
        "SecurityID": entry.get("SID"),
        IDENTITY: f"{entry.get('Name')} {entry.get('SID')}",
    }


def volumes() -> Iterator[Item]:
    winservices = _native("winservices")
    for entry in winservices.volumes():
        yield volume_item(entry)


def volume_item(entry: dict[str, Any]) -> Item:
    letter = entry.get("DriveLetter") or []
    return {
        "DevicePath": entry.get("DeviceID"),
        "DriveLetter": letter,
        "FileSystemName": entry.get("FileSystem") or [],
        "IsMounted": entry.get("Capacity") is not None,
        "Name": entry.get("Name"),
        "SerialNumber": entry.get("SerialNumber"),
        "Type": _DRIVE_TYPES.get(entry.get("DriveType") or 0),
        "VolumeName": entry.get("Label") or "",
        IDENTITY: str(entry.get("DeviceID")),
    }


def dns_entries() -> Iterator[Item]:
    for entry in objects(_DNS, "name cache"):
        yield dns_item(entry)


def dns_item(entry: dict[str, Any]) -> Item:
    kind, data = entry.get("RecordType"), entry.get("Data")
    name = _DNS_TYPES.get(kind, str(kind)) if isinstance(kind, int) else str(kind)
    return {
        "Host": entry.get("Entry"),
        "RecordName": entry.get("RecordName") or entry.get("Entry"),
        "RecordType": name,
        "DataLength": entry.get("DataLength"),
        "TimeToLive": entry.get("TimeToLive"),
        "RecordData/IPv4Address": data if name == "A" and data else [],
        "RecordData/IPv6Address": data if name == "AAAA" and data else [],
        IDENTITY: f"{entry.get('Entry')} {entry.get('RecordName')} {name} {data}",
    }


def product() -> str:
    """As ``Windows 10 Pro 10.0.19045``."""
    winnetwork = _native("winnetwork")
    return " ".join((winnetwork.product_name(), ".".join(map(str, winnetwork.version()))))


def system_facts(item: Item) -> tuple[list[tuple[str, bytes | None]], list[tuple[bool, str]]]:
    """Fill in what Windows says of itself; (adapters, addresses) as :mod:`.systeminfo` takes them."""
    winnetwork = _native("winnetwork")
    item["totalphysical"], item["availphysical"] = winnetwork.memory()
    item["uptime"] = winnetwork.uptime_seconds()
    item["buildNumber"] = str(winnetwork.version()[2])
    cards = winnetwork.cards()
    found = [(is_outer(address), address) for card in cards for address in card.addresses]
    return [(card.name, card.hardware if len(card.hardware) == 6 else None) for card in cards], found


def neighbours() -> Iterator[Item]:
    for entry in _native("winnetwork").neighbours():
        yield neighbour_item(entry)


def neighbour_item(entry: dict[str, Any]) -> Item:
    address, state = str(entry.get("IPAddress")), entry.get("State")
    six = ":" in address
    hardware = str(entry.get("LinkLayerAddress") or "").lower().replace("-", ":")
    name = _NEIGHBOUR_STATES.get(state, str(state)) if isinstance(state, int) else str(state)
    return named(
        {
            "IPv4Address": [] if six else address,
            "IPv6Address": address if six else [],
            "Interface": entry.get("InterfaceAlias"),
            "PhysicalAddress": spellings(hardware or None),
            "CacheType": "static" if name == "Permanent" else "dynamic",
        },
        address,
    )


def routes() -> Iterator[Item]:
    for entry in _native("winnetwork").routes():
        item = route_entry(entry)
        if item is not None:
            yield item


def route_entry(entry: dict[str, Any]) -> Item | None:
    try:
        network = ipaddress.ip_network(str(entry.get("DestinationPrefix")), strict=False)
    except ValueError:
        return None
    gateway = str(entry.get("NextHop") or "")
    gateways = [] if gateway in ("", "::", "0.0.0.0") else [gateway]  # noqa: S104  (an answer, not a socket)
    item = route_item(
        str(network.network_address),
        network.prefixlen,
        gateways,
        [str(entry.get("InterfaceAlias"))],
        network.version == 6,
    )
    item["Metric"] = entry.get("RouteMetric")
    item[IDENTITY] += f" {entry.get('RouteMetric')}"
    return item


def ports() -> Iterator[Item]:
    winprocs = _native("winprocs")
    owners = {entry["ProcessId"]: entry for entry in winprocs.processes()}
    for entry, protocol in winprocs.connections():
        yield port_item(entry, protocol, owners.get(entry["OwningProcess"], {}))


def port_item(entry: dict[str, Any], protocol: str, owner: dict[str, Any]) -> Item:
    state, remote = entry.get("State"), entry.get("RemotePort")
    local = str(entry.get("LocalAddress")).partition("%")[0]
    path = owner.get("ExecutablePath")
    item: Item = {
        "protocol": protocol,
        "isIPv6": ":" in local,
        "localIP": local,
        "localPort": entry.get("LocalPort"),
        "remoteIP": entry.get("RemoteAddress") if remote else [],
        "remotePort": remote or [],
        "state": _TCP_STATES.get(state, str(state)) if isinstance(state, int) else [],
        "pid": entry.get("OwningProcess"),
        "process": owner.get("Name"),
        "path": path_and_folder(path) if path else None,
    }
    ends = (item["localIP"], item["localPort"], item["remoteIP"], item["remotePort"], item["pid"])
    item[IDENTITY] = f"{protocol} {ends}"
    return item


def events(request: Request) -> Iterator[Item]:
    from .eventlog import DAYS, MAX_EVENTS

    count = 0
    for entry in objects(_EVENTS.format(count=MAX_EVENTS, days=DAYS), "events"):
        count += 1
        yield event_item(entry)
    request.incomplete(
        f"of the logs Application, System and Security the newest {count} events of {DAYS} days were read"
    )


def event_item(entry: dict[str, Any]) -> Item:
    moment = seconds(entry.get("TimeCreated"))
    return {
        "EID": entry.get("Id"),
        "index": entry.get("RecordId"),
        "source": entry.get("ProviderName"),
        "log": entry.get("LogName"),
        "genTime": moment,
        "writeTime": moment,
        "machine": entry.get("MachineName"),
        "type": entry.get("LevelDisplayName"),
        "message": entry.get("Message"),
        "category": entry.get("TaskDisplayName"),
        "categoryNum": entry.get("Task"),
        "user": entry.get("User") or [],
        IDENTITY: f"{entry.get('LogName')} {entry.get('RecordId')}",
    }
