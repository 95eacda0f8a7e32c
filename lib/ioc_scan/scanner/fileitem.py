"""A file of the device as an OpenIOC FileItem."""

from __future__ import annotations

import hashlib
import os
import stat
import time

from . import TYPE_CHECKING
from .names import encode_path, printable
from .prefilter import path_fields
from .records import Record

if TYPE_CHECKING:
    from typing import Any

#: Numbers of files and volumes have 64 bits in the protocol; ReFS has longer ones, which are compared as far.
_NUMBER = 2**64 - 1
#: bit of the algorithm -> field of a FileItem
HASH_FIELDS = {1: "Md5sum", 2: "Sha1sum", 4: "Sha256sum"}
#: The reason under which files are counted that were not opened because their content lies on another machine.
OFFLINE = "offline"


class Candidate(Record):
    """A file that may be (part of) a match, as a worker hands it over: plain values only."""

    path: str  #: as os.fsdecode gives it
    size: int
    device: int
    inode: int
    modified: float  #: seconds since 1970
    accessed: float
    changed: float  #: of its inode; on Windows the moment it was created
    uid: int
    gid: int
    mode: int
    digests: dict[int, str]  #: bit of the algorithm -> lower hex


def _time(seconds: float) -> str | None:
    """As :func:`.protocol.to_iso` spells it; None for what no calendar of four digits holds."""
    try:
        moment = time.gmtime(seconds)
    except (OverflowError, ValueError, OSError):
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", moment) if 1000 <= moment.tm_year <= 9999 else None


def file_item(path: str, size: int | None, modified: float | None = None) -> dict[str, Any]:
    """What is known of a file before it is opened. Times that are not asked for may be left out."""
    item: dict[str, Any] = dict(path_fields(path.rpartition(os.sep)[2], path, os.name == "nt"))
    if size is not None:
        item["SizeInBytes"] = size
    if modified is not None:
        item["Modified"] = _time(modified)
    return item


def candidate_item(candidate: Candidate) -> dict[str, Any]:
    """The whole FileItem of a candidate, as the evaluator judges it."""
    item = file_item(candidate.path, candidate.size, candidate.modified)
    item["Accessed"] = _time(candidate.accessed)
    if os.name == "nt":
        item["Created"] = _time(candidate.changed)
        item["Drive"] = _drive(candidate.path)
    else:
        from .accounts import group_name, user_name

        item["Changed"] = _time(candidate.changed)
        item["INode"] = candidate.inode
        item["Permissions"] = stat.S_IMODE(candidate.mode)
        item["SecurityID"] = str(candidate.uid)
        item["GroupID"] = str(candidate.gid)
        item["Username"] = user_name(candidate.uid)
        item["Group"] = group_name(candidate.gid)
    for bit, digest in candidate.digests.items():
        item[HASH_FIELDS[bit]] = digest
    return item


def _drive(path: str) -> list[str]:
    """As Mandiant's tools write it, and as people do; a share has none."""
    drive = os.path.splitdrive(path)[0]
    return [drive[0], drive] if drive[1:2] == ":" else []


def item_key(document: str, identity: bytes) -> str:
    """The key under which one item of a device is stored once."""
    return hashlib.sha256(document.encode() + b"\0" + identity).hexdigest()


def file_key(path: str, inode: object) -> str:
    """The key of a file, however it came to match."""
    return item_key("FileItem", os.fsencode(path) + b"\0" + str(inode).encode())


def match_line(candidate: Candidate, item: dict[str, Any]) -> dict[str, Any]:
    """The part of a match line that describes the file."""
    return {
        "document": "FileItem",
        "item": shown_item(item),
        "item_key": file_key(candidate.path, candidate.inode),
        "path": printable(candidate.path),
        "path_b64": encode_path(candidate.path),
        "sha256": candidate.digests.get(4),
        "size": candidate.size,
        "device": candidate.device & _NUMBER,
        "inode": candidate.inode & _NUMBER,
    }


def shown_item(item: dict[str, Any]) -> dict[str, Any]:
    """An item with all its text made printable: for showing, never for acting."""
    shown: dict[str, Any] = {}
    for name, value in item.items():
        if value is None:
            continue
        if isinstance(value, (list, tuple)):
            shown[name] = [printable(entry) if isinstance(entry, str) else entry for entry in value]
        else:
            shown[name] = printable(value) if isinstance(value, str) else value
    return shown
