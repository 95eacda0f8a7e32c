"""Lists of the Linux kernel's network side (links, addresses, routes, neighbours) by netlink.

What ``ip`` shows, without needing it: numbers as in linux/rtnetlink.h. For our own network namespace.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Iterator, NamedTuple

from .base import UnavailableError

LINKS, ADDRESSES, ROUTES, NEIGHBOURS = 18, 22, 26, 30
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_DONE, _ERROR = 3, 2
_HEAD = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_TYPE_MASK = 0x3FFF
_SECONDS = 5.0


class Message(NamedTuple):
    """One entry of a list: the fixed part, and the attributes by number."""

    body: bytes
    attributes: dict[int, bytes]


def dump(what: int, body_bytes: int) -> Iterator[Message]:
    """All entries of one list. ``body_bytes``: length of its fixed part. Raises UnavailableError."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:  # 0: NETLINK_ROUTE
            link.settimeout(_SECONDS)
            request = _HEAD.pack(_HEAD.size + body_bytes, what, _DUMP, 1, 0) + bytes(body_bytes)
            link.sendto(request, (0, 0))
            while True:
                content = link.recv(1 << 18)
                at = 0
                while at + _HEAD.size <= len(content):
                    length, kind = _HEAD.unpack_from(content, at)[:2]
                    if kind == _DONE:
                        return
                    if kind == _ERROR or length < _HEAD.size:
                        raise UnavailableError("the kernel does not give its network lists to this user")
                    body = content[at + _HEAD.size : at + length]
                    yield Message(body[:body_bytes], attributes(body[body_bytes:]))
                    at += (length + 3) & ~3
    except OSError as error:
        raise UnavailableError(f"the kernel does not give its network lists: {error.strerror}") from None


def attributes(content: bytes) -> dict[int, bytes]:
    """Attributes packed one after the other; of several with one number the last stays."""
    found = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(content):
        length, kind = _ATTRIBUTE.unpack_from(content, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _TYPE_MASK] = content[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found


def number(raw: bytes | None) -> int | None:
    """A 32-bit number of an attribute."""
    return None if raw is None or len(raw) < 4 else int(struct.unpack("=I", raw[:4])[0])


def address(raw: bytes | None) -> str | None:
    """An IPv4 or IPv6 address of an attribute."""
    if raw is None or len(raw) not in (4, 16):
        return None
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def hardware_address(raw: bytes | None) -> str | None:
    """``02:00:00:00:00:01``; None for links that have none."""
    return ":".join(f"{byte:02x}" for byte in raw) if raw and any(raw) else None


def link_name(index: int | None) -> str:
    """Name of an interface by its number; the number itself if it went away."""
    try:
        return socket.if_indextoname(index or 0)
    except OSError:
        return str(index)


def text(raw: bytes) -> str:
    return os.fsdecode(raw.rstrip(b"\0"))
