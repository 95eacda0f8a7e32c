"""What the attributes of a file on Windows mean for a scan: links, and content that lies elsewhere.

Sources: Microsoft's "File Attribute Constants" and "Reparse Point Tags". Numbers only, so that recorded ones
can be judged anywhere.
"""

from __future__ import annotations

from .fileitem import OFFLINE

_REPARSE_POINT = 0x400
_OFFLINE = 0x1000
_RECALL_ON_OPEN = 0x40000
_RECALL_ON_DATA_ACCESS = 0x400000
#: Reading such a file fetches it from a cloud or a tape; listing such a folder does.
_ELSEWHERE = _OFFLINE | _RECALL_ON_OPEN | _RECALL_ON_DATA_ACCESS

#: This bit of a tag: the name stands for another one (symbolic link, junction, mounted volume ...).
_NAME_SURROGATE = 0x20000000
#: Tags of names without content of their own that do not carry the bit.
_TAGS = {
    0x00000000: "link",  # nothing is known of it
    0x8000001B: "link",  # a program of the Store, by an alias
    0x80000014: "link",  # link or special file on an NFS server
    0x80000023: "socket",
    0x80000024: "fifo",
    0x80000025: "device",
    0x80000026: "device",
}


def is_elsewhere(attributes: int) -> bool:
    """Whether opening the file would bring its content from somewhere else."""
    return bool(attributes & _ELSEWHERE)


def has_handler(attributes: int) -> bool:
    """Whether another driver supplies the content (deduplicated, compressed, a cloud's local copy)."""
    return bool(attributes & _REPARSE_POINT)


def left_out(attributes: int, tag: int, is_folder: bool) -> str | None:
    """Why a name in a folder is not even looked at, or None. ``tag``: of its reparse point, else 0."""
    if attributes & _REPARSE_POINT:
        if tag & _NAME_SURROGATE:
            return "link"
        if tag in _TAGS:
            return _TAGS[tag]
    return OFFLINE if is_folder and is_elsewhere(attributes) else None
