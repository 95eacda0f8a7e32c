"""Connections, neighbours and routes of a Linux device, from /proc/net."""

from __future__ import annotations

import os
import socket
import struct
from typing import Any, Iterator

from .errors import ScannerError
from .linux_processes import executable, name_of, process_ids, read_text

_STATES = {
    "01": "ESTABLISHED", "02": "SYN_SENT", "03": "SYN_RECV", "04": "FIN_WAIT1", "05": "FIN_WAIT2",
    "06": "TIME_WAIT", "07": "CLOSE", "08": "CLOSE_WAIT", "09": "LAST_ACK", "0A": "LISTEN", "0B": "CLOSING",
}  # fmt: skip


def _table(name: str) -> list[list[str]]:
    """The rows of a table of /proc/net without its heading. Raises ScannerError if there is none."""
    text = read_text("/proc/net/" + name, 1 << 26)
    if text is None:
        raise ScannerError("unavailable", f"/proc/net/{name} cannot be read")
    return [line.split() for line in text.splitlines()]


def _address(text: str) -> tuple[str, int]:
    """``0100007F:0016`` of /proc/net/tcp: words in the machine's own byte order, the port in hex."""
    words, _, port = text.partition(":")
    packed = b"".join(
        struct.pack("=I", int(words[start : start + 8], 16)) for start in range(0, len(words), 8)
    )
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, packed), int(port, 16)


def _owners() -> dict[str, int]:
    """inode of a socket -> a process that holds it; only of processes that may be looked into."""
    owners: dict[str, int] = {}
    for pid in process_ids():
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for descriptor in descriptors:
            try:
                target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
            except OSError:
                continue
            if target.startswith("socket:["):
                owners.setdefault(target[8:-1], pid)
    return owners


def ports() -> Iterator[dict[str, Any]]:
    """PortItems: TCP and UDP, both families. Raises ScannerError."""
    owners = _owners()
    for name in ("tcp", "tcp6", "udp", "udp6"):
        if name.endswith("6") and not os.path.exists("/proc/net/" + name):  # IPv6 is switched off
            continue
        for row in _table(name)[1:]:
            local, remote = _address(row[1]), _address(row[2])
            pid = owners.get(row[9])
            path = None if pid is None else executable(pid)
            tcp = name.startswith("tcp")
            yield {
                "protocol": "TCP" if tcp else "UDP",
                "localIP": local[0],
                "localPort": local[1],
                "remoteIP": remote[0],
                "remotePort": remote[1],
                "state": _STATES.get(row[3]) if tcp else None,
                "isIPv6": name.endswith("6"),
                "pid": pid,
                "process": None if pid is None else name_of(pid, path),
                "path": path,
            }


def arp_entries() -> Iterator[dict[str, Any]]:
    """ArpEntryItems: the IPv4 neighbours. Raises ScannerError."""
    for row in _table("arp")[1:]:
        flags = int(row[2], 16)
        yield {
            "IPv4Address": row[0],
            "PhysicalAddress": row[3],
            "Interface": row[5],
            "CacheType": "static" if flags & 4 else "dynamic",
            "State": "permanent" if flags & 4 else "complete" if flags & 2 else "incomplete",
        }


def routes() -> Iterator[dict[str, Any]]:
    """RouteEntryItems of both families. Raises ScannerError."""
    for row in _table("route")[1:]:
        yield {
            "Interface": row[0],
            "Destination": _word(row[1]),
            "Gateway": _word(row[2]),
            "Metric": int(row[6]),
            "Netmask": _word(row[7]),
            "IsIPv6": False,
        }
    if os.path.exists("/proc/net/ipv6_route"):
        for row in _table("ipv6_route"):
            yield {
                "Interface": row[9],
                "Destination": _ipv6(row[0]),
                "Netmask": str(int(row[1], 16)),
                "Gateway": _ipv6(row[4]),
                "Metric": int(row[5], 16),
                "IsIPv6": True,
            }


def _word(text: str) -> str:
    return socket.inet_ntop(socket.AF_INET, struct.pack("=I", int(text, 16)))


def _ipv6(text: str) -> str:
    return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(text))
