"""ArpEntryItem: which hardware address stands for which IP address on the local networks."""

from __future__ import annotations

import re
import struct
from typing import Iterator

from . import netlink
from .base import IDENTITY, Fields, Item, Request
from .commands import output

_COMMON = frozenset(("CacheType", "Interface", "IPv4Address", "PhysicalAddress"))
FIELDS: Fields = {
    "linux": _COMMON | {"IPv6Address", "State"},
    "windows": _COMMON | {"IPv6Address"},
    "macos": _COMMON,
}

_BODY = struct.Struct("=BBHiHBB")  # family, -, -, interface, state, flags, type
_DESTINATION, _HARDWARE = 1, 2
_STATES = {
    1: "INCOMPLETE",
    2: "REACHABLE",
    4: "STALE",
    8: "DELAY",
    16: "PROBE",
    32: "FAILED",
    128: "PERMANENT",
}
_NO_ARP, _PERMANENT = 64, 128


def collect(request: Request) -> Iterator[Item]:
    if request.system == "linux":
        return _from_kernel()
    if request.system == "windows":
        from .windows import neighbours

        return neighbours()
    return from_arp(output(["arp", "-an"]))


def _from_kernel() -> Iterator[Item]:
    for message in netlink.dump(netlink.NEIGHBOURS, _BODY.size):
        _, _, _, index, state, _, _ = _BODY.unpack(message.body)
        address = netlink.address(message.attributes.get(_DESTINATION))
        if state & _NO_ARP or address is None:
            continue  # multicast and the like: nobody was ever asked
        six = ":" in address
        item: Item = {
            "IPv4Address": [] if six else address,
            "IPv6Address": address if six else [],
            "Interface": netlink.link_name(index),
            "PhysicalAddress": spellings(netlink.hardware_address(message.attributes.get(_HARDWARE))),
            "State": _STATES.get(state, str(state)),
            "CacheType": "static" if state & _PERMANENT else "dynamic",
        }
        yield named(item, address)


def named(item: Item, address: str) -> Item:
    item[IDENTITY] = f"{item['Interface']} {address} {item['PhysicalAddress']}"
    return item


def spellings(address: str | None) -> list[str]:
    """As Linux and as Windows write a hardware address."""
    return [] if address is None else [address, address.replace(":", "-")]


_BSD_LINE = re.compile(r"\S+ \((\d+\.\d+\.\d+\.\d+)\) at ([0-9a-f:]+) on (\S+)(.*)")


def from_arp(content: bytes) -> Iterator[Item]:
    """Entries of BSD's ``arp -an``: ``? (10.0.0.1) at 2:0:0:0:0:1 on en0 ifscope permanent [ethernet]``."""
    for line in content.decode("utf-8", "replace").splitlines():
        match = _BSD_LINE.match(line)
        if match is not None:
            address, hardware, interface, rest = match.groups()
            full = ":".join(part.zfill(2) for part in hardware.split(":"))
            static = "permanent" in rest.split()
            item: Item = {
                "IPv4Address": address,
                "Interface": interface,
                "PhysicalAddress": spellings(full),
                "CacheType": "static" if static else "dynamic",
            }
            yield named(item, address)
