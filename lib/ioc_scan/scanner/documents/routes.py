"""RouteEntryItem: where this device sends packets. The kernel's own local table is left out, as ``ip`` does."""

from __future__ import annotations

import ipaddress
import re
import struct
from typing import Iterator

from . import netlink
from .base import IDENTITY, Fields, Item, Request
from .commands import output

_COMMON = frozenset(("Destination", "Gateway", "Interface", "IsIPv6", "Netmask"))
FIELDS: Fields = {
    "linux": _COMMON | {"Metric", "Protocol"},
    "windows": _COMMON | {"Metric"},
    "macos": _COMMON,
}

_BODY = struct.Struct("=BBBBBBBBI")  # family, prefix, -, -, table, protocol, scope, type, flags
_NEXT_HOP = struct.Struct("=HBBi")
_DESTINATION, _INTERFACE, _GATEWAY, _METRIC, _MULTIPATH, _TABLE, _VIA = 1, 4, 5, 6, 9, 15, 18
_LOCAL_TABLE = 255
_INET, _INET6 = 2, 10
_PROTOCOLS = {
    1: "redirect", 2: "kernel", 3: "boot", 4: "static", 8: "gated", 9: "ra", 10: "mrt", 11: "zebra", 12: "bird",
    13: "dnrouted", 14: "xorp", 15: "ntk", 16: "dhcp", 18: "keepalived", 42: "babel", 186: "bgp", 187: "isis",
    188: "ospf", 189: "rip", 192: "eigrp",
}  # fmt: skip


def collect(request: Request) -> Iterator[Item]:
    if request.system == "linux":
        return _from_kernel()
    if request.system == "windows":
        from .windows import routes

        return routes()
    return from_netstat(output(["netstat", "-rn"]))


def _from_kernel() -> Iterator[Item]:
    for message in netlink.dump(netlink.ROUTES, _BODY.size):
        family, prefix, _, _, table, protocol, _, _, _ = _BODY.unpack(message.body)
        table = netlink.number(message.attributes.get(_TABLE)) or table
        if table == _LOCAL_TABLE or family not in (_INET, _INET6):
            continue
        six = family == _INET6
        destination = netlink.address(message.attributes.get(_DESTINATION)) or ("::" if six else "0.0.0.0")  # noqa: S104
        gateways, interfaces = _next_hops(message.attributes)
        metric = netlink.number(message.attributes.get(_METRIC)) or 0
        item = route_item(destination, prefix, gateways, interfaces, six)
        item["Metric"] = metric
        item["Protocol"] = _PROTOCOLS.get(protocol, str(protocol))
        item[IDENTITY] += f" {metric} {protocol} {table}"
        yield item


def route_item(destination: str, prefix: int, gateways: list[str], interfaces: list[str], six: bool) -> Item:
    netmask = [str(prefix)] if six else [str(ipaddress.IPv4Network((0, prefix)).netmask), str(prefix)]
    return {
        "Destination": destination,
        "Netmask": netmask,
        "Gateway": gateways,
        "Interface": interfaces,
        "IsIPv6": six,
        IDENTITY: f"{destination}/{prefix} {gateways} {interfaces}",
    }


def _next_hops(attributes: dict[int, bytes]) -> tuple[list[str], list[str]]:
    """Gateways and interfaces: one of each, or those of a route over several ways."""
    gateways, interfaces = [], []
    ways = [(attributes, netlink.number(attributes.get(_INTERFACE)))]
    several = attributes.get(_MULTIPATH, b"")
    while len(several) >= _NEXT_HOP.size:
        length, _, _, index = _NEXT_HOP.unpack_from(several)
        if length < _NEXT_HOP.size:
            break
        ways.append((netlink.attributes(several[_NEXT_HOP.size : length]), index))
        several = several[(length + 3) & ~3 :]
    for way, index in ways:
        via = way.get(_VIA)  # a family in front: an IPv4 route may lead over an IPv6 gateway
        gateway = netlink.address(way.get(_GATEWAY) or (via[2:] if via else None))
        if gateway is not None:
            gateways.append(gateway)
        if index:
            interfaces.append(netlink.link_name(index))
    return gateways, interfaces


def from_netstat(content: bytes) -> Iterator[Item]:
    """Entries of BSD's ``netstat -rn``: destination, gateway, flags, interface; ``10.1/16`` is short."""
    for line in content.decode("utf-8", "replace").splitlines():
        words = line.split()
        if len(words) < 4 or not re.match(r"U[A-Za-z0-9]*\Z", words[2]):
            continue
        target, gateway, interface = words[0], words[1].partition("%")[0], words[3]
        six = ":" in target or (target == "default" and ":" in gateway)
        try:
            network = _bsd_network(target, six)
        except ValueError:
            continue
        try:
            gateways = [str(ipaddress.ip_address(gateway))]
        except ValueError:
            gateways = []  # "link#4": straight onto the interface
        yield route_item(str(network.network_address), network.prefixlen, gateways, [interface], six)


def _bsd_network(text: str, six: bool) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Raises ValueError."""
    if text == "default":
        return ipaddress.ip_network("::/0" if six else "0.0.0.0/0")
    address, _, prefix = text.partition("/")
    address = address.partition("%")[0]
    if six:
        return ipaddress.ip_network(f"{address}/{prefix or 128}", strict=False)
    parts = address.split(".")
    length = prefix or str(8 * len(parts))
    return ipaddress.ip_network(".".join((parts + ["0"] * 4)[:4]) + "/" + length, strict=False)
