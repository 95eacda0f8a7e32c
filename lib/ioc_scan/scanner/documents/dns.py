"""DnsEntryItem: names that Windows looked up lately. Linux and macOS keep no list that can be read."""

from __future__ import annotations

from typing import Iterator

from .base import Fields, Item, Request, UnavailableError

FIELDS: Fields = {
    "linux": frozenset(),
    "windows": frozenset(
        (
            "DataLength", "Host", "RecordData/IPv4Address", "RecordData/IPv6Address", "RecordName", "RecordType",
            "TimeToLive",
        )
    ),
    "macos": frozenset(),
}  # fmt: skip


def collect(request: Request) -> Iterator[Item]:
    if request.system != "windows":
        raise UnavailableError("this system has no list of looked-up names that can be read")
    from .windows import dns_entries

    return dns_entries()
