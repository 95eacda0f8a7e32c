"""Processes, connections, services, accounts and volumes through psutil, on devices that have it."""

from __future__ import annotations

import os
import socket
from typing import Any, Iterator

import psutil

_ATTRIBUTES = ["pid", "ppid", "name", "exe", "cmdline", "username", "create_time"]


def processes() -> Iterator[dict[str, Any]]:
    """ProcessItems; what of a process may not be asked is unknown."""
    for process in psutil.process_iter(_ATTRIBUTES):
        known = process.info
        if known["pid"] == os.getpid():
            continue
        yield {
            "pid": known["pid"],
            "parentpid": known["ppid"],
            "name": known["name"],
            "path": known["exe"] or None,
            "arguments": " ".join(known["cmdline"] or ()) or None,
            "Username": known["username"],
            "startTime": known["create_time"],
        }


def ports() -> Iterator[dict[str, Any]]:
    """PortItems."""
    names = {process.pid: process.info for process in psutil.process_iter(["name", "exe"])}
    for connection in psutil.net_connections("inet"):
        owner = names.get(connection.pid, {})
        tcp = connection.type == socket.SOCK_STREAM
        yield {
            "protocol": "TCP" if tcp else "UDP",
            "localIP": connection.laddr.ip if connection.laddr else None,
            "localPort": connection.laddr.port if connection.laddr else None,
            "remoteIP": connection.raddr.ip if connection.raddr else None,
            "remotePort": connection.raddr.port if connection.raddr else None,
            "state": connection.status if tcp else None,
            "isIPv6": connection.family == socket.AF_INET6,
            "pid": connection.pid,
            "process": owner.get("name"),
            "path": owner.get("exe") or None,
        }


def services() -> Iterator[dict[str, Any]]:
    """ServiceItems of Windows."""
    for service in psutil.win_service_iter():
        try:
            known = service.as_dict()
        except OSError:
            continue
        yield {
            "name": known["name"],
            "descriptiveName": known["display_name"],
            "description": known["description"],
            "path": known["binpath"],
            "startedAs": known["username"],
            "mode": known["start_type"],
            "status": known["status"],
            "pid": known["pid"],
        }


def users() -> Iterator[dict[str, Any]]:
    """UserItems: those with a session; psutil knows no others."""
    for user in psutil.users():
        yield {"Username": user.name, "LastLogin": user.started}


def volumes() -> Iterator[dict[str, Any]]:
    """VolumeItems."""
    for partition in psutil.disk_partitions():
        item: dict[str, Any] = {
            "DevicePath": partition.device,
            "FileSystemName": partition.fstype,
            "MountPoint": partition.mountpoint,
            "IsMounted": True,
            "Flags/ReadOnly": "ro" in partition.opts.split(","),
        }
        if os.name == "nt":
            item["DriveLetter"] = partition.device[:2]
        try:
            size = psutil.disk_usage(partition.mountpoint)
        except OSError:  # an empty drive
            yield item
            continue
        yield {**item, "TotalSize": size.total, "FreeSize": size.free}
