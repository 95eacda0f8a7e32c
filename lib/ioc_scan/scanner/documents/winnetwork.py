"""Network, memory and version of a Windows machine, asked of the system itself.

Structures: Microsoft's reference of iphlpapi (IP_ADAPTER_ADDRESSES, MIB_IPNET_ROW2, MIB_IPFORWARD_ROW2).
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import ctypes  # noqa: E402
import socket  # noqa: E402
import winreg  # noqa: E402
from ctypes import wintypes  # noqa: E402
from typing import Any, Dict, Iterator, NamedTuple  # noqa: E402

from .. import winapi  # noqa: E402

Entry = Dict[str, Any]

#: No anycast, multicast and name servers.
_FLAGS = 0x2 | 0x4 | 0x8
_ANY_FAMILY, _TOO_SMALL, _NO_DATA = 0, 111, 232
#: No such protocol on this machine (1: under Wine), or no entries.
_NOTHING = frozenset((1, 50, 1168))

_PRODUCT_KEY = "SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion"
_WINDOWS_11 = (10, 0, 22000)

_DWORD, _VOID, _BYTE = wintypes.DWORD, ctypes.c_void_p, ctypes.c_ubyte
_iphlpapi = ctypes.WinDLL("iphlpapi")
_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_addresses = winapi.declare(
    _iphlpapi, "GetAdaptersAddresses", _DWORD, _DWORD, _DWORD, _VOID, _VOID, ctypes.POINTER(_DWORD)
)
_neighbours = winapi.declare(_iphlpapi, "GetIpNetTable2", _DWORD, ctypes.c_ushort, ctypes.POINTER(_VOID))
_routes = winapi.declare(_iphlpapi, "GetIpForwardTable2", _DWORD, ctypes.c_ushort, ctypes.POINTER(_VOID))
_free = winapi.declare(_iphlpapi, "FreeMibTable", None, _VOID)
_ticks = winapi.declare(_kernel32, "GetTickCount64", ctypes.c_uint64)
_memory = winapi.declare(_kernel32, "GlobalMemoryStatusEx", wintypes.BOOL, _VOID)


class _SocketAddress(ctypes.Structure):
    """SOCKADDR_INET: family, port, then the address, of IPv6 behind a flow number."""

    _fields_ = (("family", ctypes.c_ushort), ("port", ctypes.c_ushort), ("rest", _DWORD * 6))

    def text(self) -> str:
        if self.family == socket.AF_INET6:
            return socket.inet_ntop(socket.AF_INET6, bytes(self.rest)[4:20])
        return socket.inet_ntop(socket.AF_INET, bytes(self.rest)[:4])


class _Unicast(ctypes.Structure):
    pass


_Unicast._fields_ = (
    ("length", _DWORD), ("flags", _DWORD), ("next", ctypes.POINTER(_Unicast)),
    ("address", ctypes.POINTER(_SocketAddress)), ("address_length", ctypes.c_int),
)  # fmt: skip


class _Adapter(ctypes.Structure):
    pass


_Adapter._fields_ = (
    ("length", _DWORD), ("index", _DWORD), ("next", ctypes.POINTER(_Adapter)), ("name", ctypes.c_char_p),
    ("unicast", ctypes.POINTER(_Unicast)), ("anycast", _VOID), ("multicast", _VOID), ("servers", _VOID),
    ("suffix", wintypes.LPWSTR), ("description", wintypes.LPWSTR), ("friendly", wintypes.LPWSTR),
    ("hardware", _BYTE * 8), ("hardware_length", _DWORD),
)  # fmt: skip


class _Neighbour(ctypes.Structure):
    _fields_ = (
        ("address", _SocketAddress), ("index", _DWORD), ("luid", ctypes.c_uint64), ("hardware", _BYTE * 32),
        ("hardware_length", _DWORD), ("state", ctypes.c_int), ("flags", _BYTE), ("reached", _DWORD),
    )  # fmt: skip


class _Route(ctypes.Structure):
    _fields_ = (
        ("luid", ctypes.c_uint64), ("index", _DWORD), ("destination", _SocketAddress), ("length", _BYTE),
        ("next_hop", _SocketAddress), ("site", _BYTE), ("valid", _DWORD), ("preferred", _DWORD),
        ("metric", _DWORD), ("protocol", ctypes.c_int), ("loopback", _BYTE), ("autoconfigured", _BYTE),
        ("published", _BYTE), ("immortal", _BYTE), ("age", _DWORD), ("origin", ctypes.c_int),
    )  # fmt: skip


class _MemoryStatus(ctypes.Structure):
    _fields_ = (
        ("length", _DWORD), ("load", _DWORD), ("total", ctypes.c_uint64), ("available", ctypes.c_uint64),
        ("rest", ctypes.c_uint64 * 5),
    )  # fmt: skip


class Card(NamedTuple):
    """A network adapter."""

    number: int
    name: str
    hardware: bytes
    addresses: tuple[str, ...]


def cards() -> list[Card]:
    """All network adapters. Raises OSError."""
    size = _DWORD(16384)
    for _ in range(10):
        buffer = ctypes.create_string_buffer(size.value)
        error = _addresses(_ANY_FAMILY, _FLAGS, None, buffer, ctypes.byref(size))
        if error == 0:
            return list(_cards(ctypes.cast(buffer, ctypes.POINTER(_Adapter))))
        if error == _NO_DATA:
            return []
        if error != _TOO_SMALL:
            break
    raise ctypes.WinError(error)


def _cards(adapter: Any) -> Iterator[Card]:
    while adapter:
        found = adapter.contents
        addresses, unicast = [], found.unicast
        while unicast:
            addresses.append(unicast.contents.address.contents.text())
            unicast = unicast.contents.next
        hardware = bytes(found.hardware[: found.hardware_length])
        yield Card(found.index, found.friendly or "", hardware, tuple(addresses))
        adapter = found.next


def _table(function: Any, row: Any) -> Iterator[Any]:
    """Copies of the rows of one of the tables that Windows allocates: a count, then rows. Raises OSError."""
    for family in (socket.AF_INET, socket.AF_INET6):
        table = _VOID()
        error = function(family, ctypes.byref(table))
        if error in _NOTHING:
            continue
        if error:
            raise ctypes.WinError(error)
        try:
            at = table.value or 0
            count = _DWORD.from_address(at).value
            yield from [row.from_buffer_copy(line) for line in (row * count).from_address(at + 8)]
        finally:
            _free(table)


def neighbours() -> Iterator[Entry]:
    """Which hardware address stands for which IP address."""
    names = {card.number: card.name for card in cards()}
    for row in _table(_neighbours, _Neighbour):
        yield {
            "IPAddress": row.address.text(),
            "InterfaceAlias": names.get(row.index, str(row.index)),
            "LinkLayerAddress": "-".join(f"{byte:02x}" for byte in row.hardware[: row.hardware_length]),
            "State": row.state,
        }


def routes() -> Iterator[Entry]:
    names = {card.number: card.name for card in cards()}
    for row in _table(_routes, _Route):
        yield {
            "DestinationPrefix": f"{row.destination.text()}/{row.length}",
            "NextHop": row.next_hop.text(),
            "InterfaceAlias": names.get(row.index, str(row.index)),
            "RouteMetric": row.metric,
        }


def memory() -> tuple[int, int]:
    """(all, available) physical memory in bytes. Raises OSError."""
    status = _MemoryStatus(ctypes.sizeof(_MemoryStatus))
    if not _memory(ctypes.byref(status)):
        raise ctypes.WinError(ctypes.get_last_error())
    return status.total, status.available


def uptime_seconds() -> float:
    return float(_ticks() / 1000)


def version() -> tuple[int, int, int]:
    """Major, minor, build."""
    found = sys.getwindowsversion().platform_version  # the true one, whatever this program says it knows
    return (found[0], found[1], found[2])


def product_name() -> str:
    """As ``Windows 10 Pro``; Windows 11 calls itself 10 there."""
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _PRODUCT_KEY) as key:
            name = str(winreg.QueryValueEx(key, "ProductName")[0])
    except OSError:
        return "Windows"
    eleven = version() >= _WINDOWS_11
    return name.replace("Windows 10", "Windows 11") if eleven else name
