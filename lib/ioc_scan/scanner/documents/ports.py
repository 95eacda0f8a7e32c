"""PortItem: sockets of TCP and UDP with the process that holds them.

On Linux every network namespace that a process lives in is looked at, so that containers are not left out.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import Any, Iterator

from . import procfs
from .base import IDENTITY, Fields, Item, Request, UnavailableError
from .processes import path_and_folder, process_name

_ALL = frozenset(
    (
        "isIPv6",
        "localIP",
        "localPort",
        "path",
        "pid",
        "process",
        "protocol",
        "remoteIP",
        "remotePort",
        "state",
    )
)
FIELDS: Fields = {"linux": _ALL, "windows": _ALL, "macos": _ALL}

#: Kernel's number -> the names in use: of Windows' tools and most IOC files, then of Linux' own.
_STATES = {
    1: ["ESTABLISHED"],
    2: ["SYN_SENT"],
    3: ["SYN_RECEIVED", "SYN_RECV"],
    4: ["FIN_WAIT_1", "FIN_WAIT1"],
    5: ["FIN_WAIT_2", "FIN_WAIT2"],
    6: ["TIME_WAIT"],
    7: ["CLOSED", "CLOSE"],
    8: ["CLOSE_WAIT"],
    9: ["LAST_ACK"],
    10: ["LISTENING", "LISTEN"],
    11: ["CLOSING"],
    12: ["SYN_RECEIVED", "SYN_RECV"],
}
_PSUTIL_STATES = {name: names for names in _STATES.values() for name in names}
_TABLES = (("tcp", "TCP", False), ("tcp6", "TCP", True), ("udp", "UDP", False), ("udp6", "UDP", True))
_MAX_TABLE_BYTES = 64 * 1024 * 1024
_ORDER = "<" if sys.byteorder == "little" else ">"


def collect(request: Request) -> Iterator[Item]:
    if request.system == "linux":
        return _from_proc(request)
    return _from_psutil(request)


def _from_proc(request: Request) -> Iterator[Item]:
    holders, refused = _holders()
    if refused:
        reason = f"the sockets of {refused} processes may not be looked at by this user"
        for field in ("pid", "process", "path"):
            request.gap(field, reason)
    for namespace, pid in _namespaces():
        for table, protocol, six in _TABLES:
            try:
                content = procfs.read(f"{procfs.PROC}/{pid}/net/{table}", _MAX_TABLE_BYTES)
            except FileNotFoundError:
                continue  # this kernel has no IPv6, or the namespace went with its last process
            for line in content.split(b"\n")[1:]:
                if line:
                    item, inode = _socket_item(line.split(), protocol, six)
                    if inode:
                        _add_holder(item, holders.get(inode))
                    else:  # closed by its process, kept by the kernel for a while
                        item.update(pid=[], process=[], path=[])
                    ends = (item["localIP"], item["localPort"], item["remoteIP"], item["remotePort"])
                    who = item.get("pid", "")
                    item[IDENTITY] = f"{namespace} {protocol} {ends} {who}"
                    yield item


def _namespaces() -> list[tuple[int, str]]:
    """(namespace, a process in it), our own first.

    A namespace's own files in /proc have numbers of their own, which everybody may see; the link that names
    the namespace is for the process's owner only.
    """
    found = {os.stat(procfs.PROC + "/self/net/dev").st_ino: "self"}
    for pid in procfs.pids():
        try:
            found.setdefault(os.stat(f"{procfs.PROC}/{pid}/net/dev").st_ino, str(pid))
        except OSError:
            continue  # it ended while we looked
    return list(found.items())


def _holders() -> tuple[dict[int, int], int]:
    """Inode of a socket -> the first process that holds it; and how many processes hide theirs."""
    found: dict[int, int] = {}
    refused = 0
    for pid in procfs.pids():
        folder = f"{procfs.PROC}/{pid}/fd"
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    try:
                        target = os.readlink(entry.path)
                    except OSError:
                        continue
                    if target.startswith("socket:["):
                        found.setdefault(int(target[8:-1]), pid)
        except PermissionError:
            refused += 1
        except OSError:
            continue
    return found, refused


def _socket_item(fields: list[bytes], protocol: str, six: bool) -> tuple[Item, int]:
    local_ip, local_port = _address(fields[1], six)
    remote_ip, remote_port = _address(fields[2], six)
    connected = remote_port != 0
    item: Item = {
        "protocol": protocol,
        "isIPv6": six,
        "localIP": local_ip,
        "localPort": local_port,
        "remoteIP": remote_ip if connected else [],  # there is no other end: known, not unknown
        "remotePort": remote_port if connected else [],
        "state": _STATES.get(int(fields[3], 16), []) if protocol == "TCP" else [],
    }
    return item, int(fields[9])


def _address(text: bytes, six: bool) -> tuple[str, int]:
    """``0100007F:1F90`` as the kernel prints it: 32-bit words in the machine's own order."""
    address, _, port = text.partition(b":")
    raw = bytes.fromhex(address.decode("ascii"))
    words = struct.unpack(f">{len(raw) // 4}I", raw)
    raw = struct.pack(f"{_ORDER}{len(words)}I", *words)
    if six and raw.startswith(b"\0" * 10 + b"\xff\xff"):  # IPv4 inside a socket of IPv6
        raw, six = raw[12:], False
    return socket.inet_ntop(socket.AF_INET6 if six else socket.AF_INET, raw), int(port, 16)


def _add_holder(item: Item, pid: int | None) -> None:
    if pid is None:
        return
    item["pid"] = pid
    try:
        item["process"] = process_name(pid)
        item["path"] = path_and_folder(procfs.executable(pid)[0])
    except OSError:
        return  # ended, or hidden from us: unknown


def _from_psutil(request: Request) -> Iterator[Item]:
    try:
        import psutil
    except ImportError:
        if request.system == "windows":
            from .windows import ports

            yield from ports()
            return
        raise UnavailableError("psutil is not on this device") from None
    try:
        connections = psutil.net_connections("inet")
    except psutil.AccessDenied:
        raise UnavailableError("only an administrator may list the connections of this device") from None
    for connection in connections:
        yield _psutil_item(connection, psutil, request)


def _psutil_item(connection: Any, psutil: Any, request: Request) -> Item:
    tcp = connection.type == socket.SOCK_STREAM
    remote = connection.raddr
    item: Item = {
        "protocol": "TCP" if tcp else "UDP",
        "isIPv6": connection.family == socket.AF_INET6,
        "localIP": connection.laddr.ip if connection.laddr else [],
        "localPort": connection.laddr.port if connection.laddr else [],
        "remoteIP": remote.ip if remote else [],
        "remotePort": remote.port if remote else [],
        "state": _PSUTIL_STATES.get(connection.status, [connection.status]) if tcp else [],
    }
    if connection.pid:
        item["pid"] = connection.pid
        try:
            if request.wants("process", "path"):
                process = psutil.Process(connection.pid)
                item["process"] = process.name()
                if request.wants("path"):
                    item["path"] = path_and_folder(process.exe())
        except (psutil.Error, OSError):
            pass  # ended, or hidden from us: unknown
    ends = (item["localIP"], item["localPort"], item["remoteIP"], item["remotePort"])
    item[IDENTITY] = f"{item['protocol']} {ends} {connection.pid}"
    return item
