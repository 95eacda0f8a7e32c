"""Boot sectors of the disks: code and tables in front of the first partition, and partitions' own first sector.

What they should be nobody knows but the first look: it is kept as the baseline, and what differs later is a
finding until somebody says that it is right.
"""

from __future__ import annotations

import hashlib
import os
import struct
from typing import Any, BinaryIO

from ..protocol import read_json, write_json_atomic
from .area import Area, Context

SECTOR_BYTES = 512
#: In front of the first partition usually lies 1 MiB; more is not looked at.
MAX_FRONT_BYTES = 1024 * 1024
_SIGNATURE = b"\x55\xaa"
_CODE_BYTES = 440
_MAX_PARTITIONS = 128
#: Where FAT notes "not properly unmounted": it changes with every use.
_FAT_FLAGS = (37, 65)
_MEANING = {
    "code": "the code that starts this disk",
    "table": "the table of partitions",
    "gap": "the space between the table and the first partition, where boot loaders live",
    "partition": "the first sector of a partition, with code that can be started",
}


def scan(area: Area, context: Context) -> None:
    if context.root is not None:
        area.unsupported("the device is a folder tree: it has no disks")
        return
    disks = _disks(context.system)
    if not disks:
        area.unsupported("no disk can be seen from here")
        return
    seen = {}
    for identity, path in disks:
        context.go_on()
        try:
            with open(path, "rb", buffering=0) as stream:
                seen[identity] = regions(stream)
        except OSError as error:
            area.refuse(f"{path}: {error.strerror}")
            continue
        area.looked_at += len(seen[identity])
    if seen:
        _compare(area, context, seen)


def _disks(system: str) -> list[tuple[str, str]]:
    """(a name that stays the same, device) of whole disks."""
    if system == "windows":
        paths = [rf"\\.\PhysicalDrive{number}" for number in range(16)]
        return [(path, path) for path in paths if os.path.exists(path)]
    if system != "linux":
        return []
    found = []
    for name in sorted(os.listdir("/sys/block")) if os.path.isdir("/sys/block") else ():
        folder = "/sys/block/" + name
        if name.startswith(("loop", "ram", "zram", "sr", "fd", "dm-", "md", "nbd")):
            continue  # no machine starts from these
        size = _short(folder + "/size")
        if size.isdigit() and int(size) > 0:
            serial = (
                _short(folder + "/serial") or _short(folder + "/device/serial") or _short(folder + "/wwid")
            )
            found.append((f"{name} {serial} {size}", "/dev/" + name.replace("!", "/")))
    return found


def _short(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            return " ".join(stream.read(200).decode("ascii", "replace").split())
    except OSError:
        return ""


def regions(disk: BinaryIO) -> dict[str, str]:
    """Region -> SHA-256: code, table, gap, and partition:<first sector> where there is code. Raises OSError."""
    front = _read(disk, 0, MAX_FRONT_BYTES)
    starts, table_end = _partitions(disk, front)
    first = min([start for start in starts if start > 0], default=1)
    end = min(first * SECTOR_BYTES, len(front))
    found = {
        "code": _hash(front[:_CODE_BYTES]),
        "table": _hash(front[_CODE_BYTES:table_end]),
        "gap": _hash(front[table_end:end]) if end > table_end else "",
    }
    for start in sorted(set(starts)):
        sector = _read(disk, start * SECTOR_BYTES, SECTOR_BYTES)
        if sector[510:512] == _SIGNATURE:
            if b"FAT" in sector[54:62] or b"FAT32" in sector[82:90]:
                masked = bytearray(sector)
                for place in _FAT_FLAGS:
                    masked[place] = 0
                sector = bytes(masked)
            found[f"partition:{start}"] = _hash(sector)
    return found


def _partitions(disk: BinaryIO, front: bytes) -> tuple[list[int], int]:
    """First sectors of the partitions, and where the table ends."""
    starts = []
    protective = False
    for number in range(4):
        entry = front[446 + 16 * number : 462 + 16 * number]
        if front[510:512] == _SIGNATURE and len(entry) == 16 and entry[4]:
            if entry[4] == 0xEE:
                protective = True
            else:
                starts.append(struct.unpack_from("<I", entry, 8)[0])
    header = front[SECTOR_BYTES : 2 * SECTOR_BYTES]
    if not protective or header[:8] != b"EFI PART":
        return starts, SECTOR_BYTES
    at, count, length = struct.unpack_from("<QII", header, 72)
    count, length = min(count, _MAX_PARTITIONS), min(length, 4096)
    table = _read(disk, at * SECTOR_BYTES, count * length) if length >= 128 else b""
    for place in range(0, len(table) - 127, max(length, 128)):
        if any(table[place : place + 16]):
            starts.append(struct.unpack_from("<Q", table, place + 32)[0])
    return starts, at * SECTOR_BYTES + count * length


def _read(disk: BinaryIO, at: int, count: int) -> bytes:
    """Whole sectors, as raw devices want it."""
    disk.seek(at)
    parts = []
    while count > 0:
        part = disk.read(count)
        if not part:
            break
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _compare(area: Area, context: Context, seen: dict[str, dict[str, str]]) -> None:
    baseline = _load(context.baseline)
    if context.baseline is None:
        area.say("no baseline is kept here, so nothing could be compared")
    for identity, now in seen.items():
        before = baseline.get(identity)
        if before is None:
            if context.baseline is not None:
                area.say("seen for the first time and kept as the baseline: " + identity.split(" ")[0])
            baseline[identity] = now
            continue
        for region in sorted(set(before) | set(now)):
            if before.get(region) != now.get(region):
                _changed(area, identity, region, before.get(region), now.get(region))
        if context.accept_boot_sectors:
            baseline[identity] = now
    if context.baseline is not None and baseline != _load(context.baseline):
        write_json_atomic(context.baseline, {"disks": baseline})


def _changed(area: Area, identity: str, region: str, before: str | None, now: str | None) -> None:
    meaning = _MEANING[region.partition(":")[0]]
    change = "is new" if not before else "is gone" if not now else "changed since the baseline"
    severity = "note" if region == "table" else "suspicious"
    area.find(
        "boot_sector_changed",
        severity,
        f"{identity.split(' ')[0]} {region}",
        f"{meaning} {change} (was {before or 'nothing'})",
        sha256=now or None,
    )


def _load(path: str | None) -> dict[str, dict[str, str]]:
    """The baseline. Raises ScannerError for a damaged one: to start anew would hide a change."""
    if path is None or not os.path.exists(path):
        return {}
    content: Any = read_json(path)
    disks = content.get("disks") if isinstance(content, dict) else None
    return {str(key): dict(value) for key, value in disks.items()} if isinstance(disks, dict) else {}
