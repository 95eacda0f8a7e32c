"""The Linux device itself: system, accounts, volumes."""

from __future__ import annotations

import grp
import os
import platform
import pwd
import socket
import struct
import time
from typing import Any, Iterator

from .linux_processes import read_text, user_name
from .mounts import KERNEL_FILE_SYSTEMS, NETWORK_FILE_SYSTEMS, mounts


def system_info() -> Iterator[dict[str, Any]]:
    """The one SystemInfoItem."""
    names = os.uname()
    memory = _key_values(read_text("/proc/meminfo"), ":")
    release = _key_values(read_text("/etc/os-release"), "=")
    ipv4, ipv6 = _addresses()
    cards = _cards()
    uptime = (read_text("/proc/uptime") or "").split()
    yield {
        "hostname": names.nodename,
        "domain": names.nodename.partition(".")[2] or None,
        "kernelVersion": names.release,
        "machine": names.nodename,
        "OS": release.get("PRETTY_NAME", "").strip('"') or names.sysname,
        "OSbitness": platform.architecture()[0].replace("bit", "-bit"),
        "platform": "linux",
        "timezone": time.tzname[0],
        "totalphysical": _kibibytes(memory.get("MemTotal")),
        "availphysical": _kibibytes(memory.get("MemAvailable")),
        "uptime": float(uptime[0]) if uptime else None,
        "user": user_name(os.getuid()),
        "loggedOnUser": _logged_on(),
        "MAC": [address for _, address in cards],
        "networkArray/networkInfo/adapter": [name for name, _ in cards],
        "networkArray/networkInfo/MAC": [address for _, address in cards],
        "networkArray/networkInfo/ipArray/ipInfo/ipAddress": ipv4 + ipv6,
        "networkArray/networkInfo/ipArray/ipInfo/ipv6Address": ipv6,
        "primaryIpAddress": next((address for address in ipv4 if not address.startswith("127.")), None),
        "primaryIpv4Address": ipv4,
        "primaryIpv6Address": ipv6,
    }


def _key_values(text: str | None, separator: str) -> dict[str, str]:
    pairs = (line.partition(separator) for line in (text or "").splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _kibibytes(text: str | None) -> int | None:
    return int(text.split()[0]) * 1024 if text else None


def _cards() -> list[tuple[str, str]]:
    """(name, hardware address) of each network card."""
    found = []
    try:
        names = sorted(os.listdir("/sys/class/net"))
    except OSError:
        return []
    for name in names:
        address = (read_text(f"/sys/class/net/{name}/address") or "").strip()
        if address and address != "00:00:00:00:00:00":
            found.append((name, address))
    return found


def _addresses() -> tuple[list[str], list[str]]:
    """Own IPv4 and IPv6 addresses."""
    ipv4: list[str] = []
    last = ""
    for line in (read_text("/proc/net/fib_trie") or "").splitlines():
        words = line.split()
        if words[:2] == ["/32", "host"] and "LOCAL" in words and last and last not in ipv4:
            ipv4.append(last)
        elif words[:1] == ["|--"] or words[:1] == ["+--"]:
            last = words[1].partition("/")[0]
    ipv6 = [
        socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line.split()[0]))
        for line in (read_text("/proc/net/if_inet6") or "").splitlines()
    ]
    return ipv4, ipv6


def _logged_on() -> str | None:
    """The first account with a session, from utmp (struct utmp of glibc, 384 bytes)."""
    try:
        with open("/run/utmp", "rb") as stream:
            content = stream.read(384 * 4096)
    except OSError:
        return None
    for start in range(0, len(content) - 383, 384):
        kind = struct.unpack_from("=h", content, start)[0]
        if kind == 7:  # USER_PROCESS
            return os.fsdecode(content[start + 44 : start + 76].split(b"\0")[0]) or None
    return None


def users() -> Iterator[dict[str, Any]]:
    """UserItems: all accounts the system knows."""
    members: dict[str, list[str]] = {}
    names: dict[int, str] = {}
    for group in grp.getgrall():
        names[group.gr_gid] = group.gr_name
        for member in group.gr_mem:
            members.setdefault(member, []).append(group.gr_name)
    for account in pwd.getpwall():
        groups = list(members.get(account.pw_name, ()))
        if account.pw_gid in names:
            groups.insert(0, names[account.pw_gid])
        yield {
            "Username": account.pw_name,
            "userid": account.pw_uid,
            "SecurityID": str(account.pw_uid),
            "fullname": account.pw_gecos.partition(",")[0] or None,
            "homedirectory": account.pw_dir,
            "shell": account.pw_shell,
            "grouplist/groupname": groups,
        }


def volumes() -> Iterator[dict[str, Any]]:
    """VolumeItems: all mounts that hold files. Network ones are not asked for sizes: a dead server hangs."""
    for mount in mounts():
        if mount.kind in KERNEL_FILE_SYSTEMS:
            continue
        item: dict[str, Any] = {
            "DevicePath": mount.source,
            "FileSystemName": mount.kind,
            "MountPoint": mount.point,
            "IsMounted": True,
            "Flags/ReadOnly": mount.read_only,
            "Type": "network" if mount.kind in NETWORK_FILE_SYSTEMS else "fixed",
        }
        if mount.kind not in NETWORK_FILE_SYSTEMS:
            try:
                size = os.statvfs(mount.point)
            except OSError:
                size = None
            if size is not None:
                item["TotalSize"] = size.f_blocks * size.f_frsize
                item["FreeSize"] = size.f_bfree * size.f_frsize
        yield item
