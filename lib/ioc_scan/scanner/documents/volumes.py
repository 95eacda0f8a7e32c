"""VolumeItem: mounted file systems, and disks' volumes that are not mounted."""

from __future__ import annotations

import os
import re
from typing import Iterator

from ..mounts import NETWORK_FILE_SYSTEMS
from .base import IDENTITY, Fields, Item, Request, UnavailableError
from .commands import output

FIELDS: Fields = {
    "linux": frozenset(
        (
            "DevicePath", "FileSystemName", "Flags/ReadOnly", "FreeSize", "IsMounted", "MountPoint", "TotalSize",
            "Type",
        )
    ),
    "windows": frozenset(
        (
            "DevicePath", "DriveLetter", "FileSystemName", "IsMounted", "Name", "SerialNumber", "Type",
            "VolumeName",
        )
    ),
    "macos": frozenset(
        ("DevicePath", "FileSystemName", "Flags/ReadOnly", "FreeSize", "IsMounted", "MountPoint", "TotalSize")
    ),
}  # fmt: skip

_ESCAPE = re.compile(rb"\\([0-7]{3})")
_MEMORY = frozenset((b"tmpfs", b"ramfs", b"devtmpfs"))
_SECTOR_BYTES = 512


def collect(request: Request) -> Iterator[Item]:
    if request.system == "linux":
        return _from_kernel(request)
    if request.system == "windows":
        from .windows import volumes

        return volumes()
    return from_mount(output(["mount"]), request)


def _plain(raw: bytes) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda code: bytes([int(code.group(1), 8)]), raw))


def _from_kernel(request: Request) -> Iterator[Item]:
    seen: set[str] = set()
    with open("/proc/self/mountinfo", "rb") as stream:
        lines = stream.read().splitlines()
    for line in lines:
        before, _, after = line.partition(b" - ")
        fields, kind_source = before.split(b" "), after.split(b" ")
        if len(fields) < 6 or len(kind_source) < 3:
            continue
        number, point, options = fields[2].decode("ascii"), _plain(fields[4]), fields[5].split(b",")
        kind, source = kind_source[0], _plain(kind_source[1])
        seen.add(number)
        item: Item = {
            "DevicePath": source,
            "FileSystemName": os.fsdecode(kind),
            "Flags/ReadOnly": b"ro" in options or b"ro" in kind_source[2].split(b","),
            "IsMounted": True,
            "MountPoint": point,
            "Type": _type(number, os.fsdecode(kind)),
            IDENTITY: f"{number} {source} {point}",
        }
        _add_sizes(item, point, os.fsdecode(kind), request)
        yield item
    yield from _not_mounted(seen)


def _type(number: str, kind: str) -> str:
    """In the words of Windows' GetDriveType, which IOC files use."""
    if kind in NETWORK_FILE_SYSTEMS:
        return "DRIVE_REMOTE"
    if kind.encode() in _MEMORY:
        return "DRIVE_RAMDISK"
    if kind in ("iso9660", "udf"):
        return "DRIVE_CDROM"
    device = os.path.realpath("/sys/dev/block/" + number)
    for folder in (device, os.path.dirname(device)):  # a partition's flag is its disk's
        try:
            with open(os.path.join(folder, "removable"), "rb") as stream:
                return "DRIVE_REMOVABLE" if stream.read(1) == b"1" else "DRIVE_FIXED"
        except OSError:
            continue
    return "DRIVE_UNKNOWN"


def _add_sizes(item: Item, point: str, kind: str, request: Request) -> None:
    if not request.wants("FreeSize", "TotalSize"):
        return
    if kind in NETWORK_FILE_SYSTEMS or kind == "autofs":  # a dead server would hang the scan
        for field in ("FreeSize", "TotalSize"):
            request.gap(field, "the sizes of network file systems are not asked for")
        return
    try:
        space = os.statvfs(point)
    except OSError:
        return
    item["TotalSize"] = space.f_blocks * space.f_frsize
    item["FreeSize"] = space.f_bfree * space.f_frsize


def _not_mounted(mounted: set[str]) -> Iterator[Item]:
    """Partitions and whole disks without partitions that no mount shows (swap, encrypted, hidden)."""
    block = "/sys/class/block"
    for name in sorted(os.listdir(block)) if os.path.isdir(block) else ():
        folder = os.path.join(block, name)
        try:
            number = _read(os.path.join(folder, "dev"))
            sectors = int(_read(os.path.join(folder, "size")))
            parts = [part for part in os.listdir(folder) if os.path.exists(f"{folder}/{part}/partition")]
        except (OSError, ValueError):
            continue
        if number in mounted or parts or not sectors:
            continue
        device = "/dev/" + name.replace("!", "/")
        yield {
            "DevicePath": device,
            "FileSystemName": [],
            "IsMounted": False,
            "MountPoint": [],
            "TotalSize": sectors * _SECTOR_BYTES,
            "Type": _type(number, ""),
            IDENTITY: f"{number} {device}",
        }


def _read(path: str) -> str:
    with open(path, "rb") as stream:
        return stream.read(4096).decode("ascii", "replace").strip()


_MOUNT_LINE = re.compile(r"(.+?) on (.+) \(([^()]*)\)\Z")


def from_mount(content: bytes, request: Request) -> Iterator[Item]:
    """Entries of BSD's ``mount``: ``/dev/disk1s1 on / (apfs, local, read-only)``. Raises UnavailableError."""
    found = False
    for line in os.fsdecode(content).splitlines():
        match = _MOUNT_LINE.match(line)
        if match is None:
            continue
        found = True
        source, point, options = match.groups()
        words = [word.strip() for word in options.split(",")]
        item: Item = {
            "DevicePath": source,
            "FileSystemName": words[0],
            "Flags/ReadOnly": "read-only" in words,
            "IsMounted": True,
            "MountPoint": point,
            IDENTITY: f"{source} {point}",
        }
        _add_sizes(item, point, words[0], request)
        yield item
    if not found:
        raise UnavailableError("the command mount shows no file systems")
