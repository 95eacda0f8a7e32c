"""Alternate data streams of a quarantined file: small ones are kept with its entry and given back.

A download bears one as a rule (``Zone.Identifier``, where it came from). What is too large to be kept there
is not dropped: the file is refused.
"""

from __future__ import annotations

import base64
import os
import sys

from . import winapi
from .errors import ScannerError

assert sys.platform == "win32"

#: All streams of one file together.
MAX_BYTES = 64 * 1024
_SUFFIX = ":$DATA"


def kept_streams(handle: int) -> list[dict[str, str]]:
    """``[{"name": ":Zone.Identifier:$DATA", "content": base64}]``.

    Raises ScannerError ``alternate_streams``: too large, or not to be read. A file system without streams has
    none.
    """
    try:
        found = winapi.streams(handle)
    except OSError as error:
        if error.winerror in winapi.NOT_KNOWN_HERE:
            return []
        raise ScannerError("alternate_streams", "its data streams cannot be listed") from None
    if sum(size for _, size in found) > MAX_BYTES:
        raise ScannerError(
            "alternate_streams", "its alternate data streams are too large to be kept", "look at them by hand"
        )
    return [{"name": name, "content": _read(handle, name)} for name, _ in found]


def _read(handle: int, name: str) -> str:
    try:
        stream = winapi.open_name(handle, name, winapi.READ_DATA, winapi.SHARE_ALL, 0)
        with os.fdopen(winapi.descriptor_of(stream, os.O_RDONLY | os.O_BINARY), "rb") as reader:
            content = reader.read(MAX_BYTES + 1)
    except OSError as error:
        raise ScannerError("alternate_streams", f"a data stream cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise ScannerError("alternate_streams", "an alternate data stream grew while it was read")
    return base64.b64encode(content).decode("ascii")


def give_streams(handle: int, streams: list[dict[str, str]]) -> list[str]:
    """Write kept streams to a new file; the names of those that could not be written."""
    missing = []
    for stream in streams:
        name = stream["name"]
        try:
            if not (name.startswith(":") and name.endswith(_SUFFIX)):
                raise ValueError(name)
            new = winapi.open_name(handle, name, winapi.WRITE_DATA, winapi.SHARE_ALL, 0, winapi.CREATE_NEW)
            with os.fdopen(winapi.descriptor_of(new, os.O_WRONLY | os.O_BINARY), "wb") as writer:
                writer.write(base64.b64decode(stream["content"]))
        except (OSError, ValueError):
            missing.append(name)
    return missing
