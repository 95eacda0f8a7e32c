"""SystemInfoItem: one item that says what this device is."""

from __future__ import annotations

import os
import platform
import socket
import struct
import time
from typing import Iterator

from . import netlink, procfs
from .base import IDENTITY, Fields, Item, Request

_NETWORK = "networkArray/networkInfo/"
_COMMON = frozenset(
    (
        "availphysical", "domain", "hostname", "MAC", "machine", "OS", "OSbitness", "platform", "primaryIpAddress",
        "primaryIpv4Address", "primaryIpv6Address", "timezone", "totalphysical", "uptime", "user",
        _NETWORK + "adapter", _NETWORK + "ipArray/ipInfo/ipAddress", _NETWORK + "ipArray/ipInfo/ipv6Address",
        _NETWORK + "MAC",
    )
)  # fmt: skip
FIELDS: Fields = {
    "linux": _COMMON | {"kernelVersion", "loggedOnUser"},
    "windows": _COMMON | {"buildNumber"},
    "macos": _COMMON | {"loggedOnUser"},
}

_LINK_BODY, _ADDRESS_BODY = 16, 8
_HARDWARE, _LINK_NAME = 1, 3
_ADDRESS, _LOCAL = 1, 2
_GLOBAL_SCOPE = 0
#: struct utmp of glibc; the kind "user process" and where the name stands.
_UTMP_BYTES, _UTMP_USER, _UTMP_NAME = 384, 7, slice(44, 76)


def collect(request: Request) -> Iterator[Item]:
    item: Item = {
        "hostname": socket.gethostname(),
        "machine": socket.gethostname(),
        "OS": _system(request.system),
        "OSbitness": "64-bit" if _machine(request.system).endswith("64") else "32-bit",
        "platform": {"windows": "win", "macos": "osx"}.get(request.system, request.system),
        "timezone": time.tzname[0],
        "user": _own_user(),
        IDENTITY: "system",
    }
    if request.wants("domain"):
        domain = _domain(request.system)
        item["domain"] = domain or []
    if request.system == "linux":
        item["kernelVersion"] = os.uname().release
        item["uptime"] = procfs.seconds_since_boot()
        item.update(_memory())
        if request.wants("loggedOnUser"):
            item["loggedOnUser"] = _logged_on()
        if any(
            "IpAddress" in field or "Ipv" in field or "MAC" in field or "/" in field
            for field in request.fields
        ):
            _add_network(item)
    elif request.system == "windows":
        from .windows import system_facts

        _set_network(item, *system_facts(item))
    else:
        _add_from_psutil(item, request)
    yield item


def _machine(system: str) -> str:
    # From Python 3.12 on, platform asks Windows through WMI, which takes seconds or hangs.
    if system == "windows":
        return os.environ.get("PROCESSOR_ARCHITEW6432") or os.environ.get("PROCESSOR_ARCHITECTURE", "")
    return platform.machine()


def _system(system: str) -> str:
    if system == "windows":
        from .windows import product

        return product()
    if system == "linux":
        for path in ("/etc/os-release", "/usr/lib/os-release"):
            try:
                with open(path, encoding="utf-8", errors="replace") as stream:
                    for line in stream:
                        if line.startswith("PRETTY_NAME="):
                            return line.partition("=")[2].strip().strip("\"'")
            except OSError:
                continue
    return f"{platform.system()} {platform.release()} {platform.version()}"


def _own_user() -> str:
    if os.name == "nt":
        return os.environ.get("USERNAME", "")
    from ..accounts import user_name

    return user_name(os.getuid())


def _domain(system: str) -> str:
    """Of the host name, or where names without a domain are looked for; no name server is asked."""
    if system == "windows":
        return os.environ.get("USERDNSDOMAIN", "") or os.environ.get("USERDOMAIN", "")
    name = socket.gethostname().partition(".")[2]
    if name:
        return name
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as stream:
            for line in stream:
                words = line.split()
                if len(words) > 1 and words[0] in ("domain", "search") and words[1] != ".":
                    return words[1]
    except OSError:
        pass
    return ""


def _memory() -> Item:
    found: Item = {}
    for line in procfs.read(procfs.PROC + "/meminfo").decode("ascii", "replace").splitlines():
        name, _, rest = line.partition(":")
        if name in ("MemTotal", "MemAvailable"):
            found["totalphysical" if name == "MemTotal" else "availphysical"] = int(rest.split()[0]) * 1024
    return found


def _logged_on() -> list[str]:
    """Users with a session: what logind notes, and the older utmp."""
    names: dict[str, None] = {}
    folder = "/run/systemd/users"
    for entry in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        try:
            with open(os.path.join(folder, entry), encoding="utf-8", errors="replace") as stream:
                lines = dict(line.rstrip("\n").partition("=")[::2] for line in stream)
        except OSError:
            continue
        if lines.get("NAME") and lines.get("SESSIONS"):
            names[lines["NAME"]] = None
    try:
        with open("/run/utmp", "rb") as raw:
            content = raw.read(_UTMP_BYTES * 10000)
    except OSError:
        content = b""
    for at in range(0, len(content) - _UTMP_BYTES + 1, _UTMP_BYTES):
        if struct.unpack_from("=h", content, at)[0] == _UTMP_USER:
            record = content[at : at + _UTMP_BYTES]
            names[os.fsdecode(record[_UTMP_NAME].split(b"\0")[0])] = None
    return list(names)


def _add_network(item: Item) -> None:
    links = [message.attributes for message in netlink.dump(netlink.LINKS, _LINK_BODY)]
    cards = [(netlink.text(link.get(_LINK_NAME, b"")), link.get(_HARDWARE)) for link in links]
    found: list[tuple[bool, str]] = []
    for message in netlink.dump(netlink.ADDRESSES, _ADDRESS_BODY):
        address = netlink.address(message.attributes.get(_LOCAL) or message.attributes.get(_ADDRESS))
        if address is not None:
            found.append((message.body[3] == _GLOBAL_SCOPE, address))
    _set_network(item, cards, found)


def _set_network(item: Item, cards: list[tuple[str, bytes | None]], found: list[tuple[bool, str]]) -> None:
    """``cards``: (name, hardware address); ``found``: (seen from other machines, own address)."""
    hardware = [address for address in (netlink.hardware_address(raw) for _, raw in cards) if address]
    spellings = [text for address in hardware for text in (address, address.replace(":", "-"))]
    outer = [address for is_global, address in found if is_global]
    primary4 = [address for address in outer if ":" not in address]
    primary6 = [address for address in outer if ":" in address]
    item.update(
        {
            "MAC": spellings,
            _NETWORK + "MAC": spellings,
            _NETWORK + "adapter": [name for name, _ in cards],
            _NETWORK + "ipArray/ipInfo/ipAddress": [address for _, address in found],
            _NETWORK + "ipArray/ipInfo/ipv6Address": [address for _, address in found if ":" in address],
            "primaryIpv4Address": primary4,
            "primaryIpv6Address": primary6,
            "primaryIpAddress": (primary4 or primary6)[:1],
        }
    )


def is_outer(address: str) -> bool:
    """Whether other machines may see an address."""
    return not address.startswith(("127.", "169.254.", "fe80:")) and address != "::1"


def _add_from_psutil(item: Item, request: Request) -> None:
    try:
        import psutil
    except ImportError:
        rest = request.fields - frozenset(item)
        for field in rest:
            request.gap(field, "psutil is not on this device")
        return
    memory = psutil.virtual_memory()
    item.update(totalphysical=memory.total, availphysical=memory.available)
    item["uptime"] = time.time() - psutil.boot_time()
    if request.wants("loggedOnUser"):
        item["loggedOnUser"] = sorted({session.name for session in psutil.users()})
    cards, found = [], []
    for name, addresses in psutil.net_if_addrs().items():
        raw: bytes | None = None
        for entry in addresses:
            text = entry.address.partition("%")[0]
            if entry.family == psutil.AF_LINK:
                parts = text.replace("-", ":").split(":")
                raw = bytes(int(part, 16) for part in parts) if len(parts) == 6 else None
            elif entry.family in (socket.AF_INET, socket.AF_INET6):
                found.append((is_outer(text), text))
        cards.append((name, raw))
    _set_network(item, cards, found)
