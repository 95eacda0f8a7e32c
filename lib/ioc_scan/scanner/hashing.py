"""Hashing a file through one reused buffer."""

from __future__ import annotations

import hashlib
import os

from . import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable, Iterable, Sequence

MD5, SHA1, SHA256 = 1, 2, 4
#: One read of this size covers most files whole; larger buffers leave the CPU's cache.
BUFFER_BYTES = 256 * 1024

_buffer = memoryview(bytearray(BUFFER_BYTES))


def _read_into(descriptor: int, buffers: Sequence[memoryview]) -> int:
    """``os.readv`` with one buffer, for systems without it."""
    content = os.read(descriptor, len(buffers[0]))
    buffers[0][: len(content)] = content
    return len(content)


#: Fills a buffer from a descriptor; the number of bytes read.
read_into: Callable[[int, Sequence[memoryview]], int] = getattr(os, "readv", _read_into)


def blocks_of(descriptor: int) -> Iterable[memoryview]:
    """The content of a descriptor from its start, block by block; a block is only good until the next one."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    while True:
        count = read_into(descriptor, [_buffer])
        if not count:
            return
        yield _buffer[:count]


def sha256_of(descriptor: int, per_block: Callable[[], None] | None = None) -> tuple[str, int]:
    """SHA-256 (hex) and number of bytes of an open file, read from its start. Raises OSError."""
    digest = hashlib.sha256()
    size = 0
    for block in blocks_of(descriptor):
        digest.update(block)
        size += len(block)
        if per_block is not None:
            per_block()
    return digest.hexdigest(), size
