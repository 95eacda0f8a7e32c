"""Single files, read once: their hashes, and what the task's IOC files say of them."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import NamedTuple

from ..evaluate import MD5, SHA1, SHA256, Hit
from ..fileitem import Candidate, candidate_item
from .area import Area, Context

_ALGORITHMS = ((SHA256, hashlib.sha256), (SHA1, hashlib.sha1), (MD5, hashlib.md5))
_FIELDS = {MD5: "Md5sum", SHA1: "Sha1sum"}
_BLOCK_BYTES = 256 * 1024


class Known(NamedTuple):
    """A file that was read. ``sha256`` is None if it is larger than may be hashed."""

    sha256: str | None
    info: os.stat_result
    hits: tuple[Hit, ...]


class Files:
    """Reads each object (device and inode) once, however many names or processes lead to it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        wanted = context.evaluator.file_fields if context.evaluator is not None else frozenset()
        self._algorithms = [
            (bit, algorithm) for bit, algorithm in _ALGORITHMS if bit == SHA256 or _FIELDS[bit] in wanted
        ]
        self._known: dict[tuple[int, int], Known] = {}

    @property
    def count(self) -> int:
        return len(self._known)

    def look(self, opened: str, path: str) -> Known:
        """``opened`` is where the file is opened, ``path`` the name it is judged by.

        Raises OSError: not there, not to be read, not a file.
        """
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(opened, flags | getattr(os, "O_BINARY", 0))
        try:
            info = os.fstat(descriptor)
            if not stat.S_ISREG(info.st_mode):
                raise FileNotFoundError(2, "not a regular file")
            key = (info.st_dev, info.st_ino)
            known = self._known.get(key)
            if known is None:
                known = self._known[key] = self._read(descriptor, info, path)
            return known
        finally:
            os.close(descriptor)

    def _read(self, descriptor: int, info: os.stat_result, path: str) -> Known:
        limit = self._context.max_hash_bytes
        digests: dict[int, str] = {}
        if limit is None or info.st_size <= limit:
            hashes = [(bit, algorithm()) for bit, algorithm in self._algorithms]
            while True:
                block = os.read(descriptor, _BLOCK_BYTES)
                if not block:
                    break
                for _, value in hashes:
                    value.update(block)
                self._context.go_on()
            digests = {bit: value.hexdigest() for bit, value in hashes}
        hits: tuple[Hit, ...] = ()
        if self._context.evaluator is not None:
            candidate = Candidate(
                path,
                info.st_size,
                info.st_dev,
                info.st_ino,
                info.st_mtime,
                info.st_atime,
                info.st_ctime,
                info.st_uid,
                info.st_gid,
                info.st_mode,
                digests,
            )
            hits = tuple(self._context.evaluator.feed("FileItem", candidate_item(candidate)))
        return Known(digests.get(SHA256), info, hits)

    def report(self, area: Area, known: Known, what: str, path: str, pid: int | None = None) -> None:
        """Findings of the IOC files that name this file."""
        for hit in known.hits:
            item = {"FileName": os.path.basename(path)}
            area.match(hit, what, item, sha256=known.sha256, pid=pid)
