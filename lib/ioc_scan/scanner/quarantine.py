"""The quarantine of a device: content kept once per SHA-256, encoded so that it cannot run.

::

    <spool>/quarantine/<sha256>/content                 the encoded bytes, mode 0600
                                <quarantine_id>.json    what is needed to put it back

States of an entry: ``copied`` (the content is safe, the object may still be in place), ``quarantined`` (the
object is gone), ``restored``. An entry is only removed by a purge, or when its object turned out not to be
removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from typing import Any, Callable, Iterator

from .errors import ScannerError
from .hashing import blocks_of
from .protocol import fsync_folder, is_sha256, read_json, write_json_atomic

CONTENT = "content"
#: First bytes of a stored object: neither MZ, ELF, ``#!`` nor anything else that a system would start.
_MAGIC = b"ioc_scan quarantine 1\n"
#: Each byte XOR 0xA5: enough that nothing runs it and no other scanner raises an alarm about it.
_ENCODE = bytes(value ^ 0xA5 for value in range(256))
_ID = re.compile(r"[0-9a-f]{32}\Z")
DEFAULT_QUOTA_BYTES = 10 * 1024**3
#: What a quarantine leaves free on its file system.
RESERVE_BYTES = 64 * 1024 * 1024

_SAFE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_READ = os.O_RDONLY | _SAFE
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _SAFE

LIVE_STATES = frozenset({"copied", "quarantined"})


def quarantine_id_of(job_id: str, match_id: str) -> str:
    """The same job and match always give the same entry, so that a broken-off response finds its own."""
    return hashlib.sha256(f"{job_id}\0{match_id}".encode()).hexdigest()[:32]


class Quarantine:
    """The folder of all quarantined objects; private and checked by :class:`.spool.Spool`."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def _object(self, sha256: str) -> str:
        if not is_sha256(sha256):
            raise ScannerError("bad_item", "not a SHA-256")
        return os.path.join(self.folder, sha256)

    def _entry_path(self, sha256: str, quarantine_id: str) -> str:
        if not _ID.match(quarantine_id):
            raise ScannerError("unknown_quarantine_id", "not the id of a quarantined object")
        return os.path.join(self._object(sha256), quarantine_id + ".json")

    def entries(self) -> Iterator[dict[str, Any]]:
        """All entries that can be read."""
        for sha256 in sorted(os.listdir(self.folder)):
            if is_sha256(sha256):
                yield from self._entries_of(sha256)

    def _entries_of(self, sha256: str) -> Iterator[dict[str, Any]]:
        for name in sorted(os.listdir(self._object(sha256))):
            if name.endswith(".json") and _ID.match(name[:-5]):
                yield read_json(os.path.join(self._object(sha256), name))

    def find(self, quarantine_id: str) -> dict[str, Any] | None:
        """The entry of that id, whatever its content."""
        if not _ID.match(quarantine_id):
            return None
        for sha256 in os.listdir(self.folder):
            if is_sha256(sha256) and os.path.exists(self._entry_path(sha256, quarantine_id)):
                entry = read_json(self._entry_path(sha256, quarantine_id))
                return entry if isinstance(entry, dict) else None
        return None

    def put(self, entry: dict[str, Any]) -> None:
        """Write or replace an entry, durably."""
        write_json_atomic(self._entry_path(entry["sha256"], entry["quarantine_id"]), entry)

    def used_bytes(self) -> int:
        """What all stored content takes."""
        total = 0
        for sha256 in os.listdir(self.folder):
            if is_sha256(sha256):
                try:
                    total += os.stat(os.path.join(self.folder, sha256, CONTENT)).st_size
                except FileNotFoundError:
                    continue
        return total

    def check_room(self, sha256: str, size: int, quota_bytes: int) -> None:
        """Raises ScannerError ``quota_exceeded`` or ``disk_full`` if one more object of this size does not
        fit.
        """
        if os.path.exists(os.path.join(self._object(sha256), CONTENT)):
            return
        if self.used_bytes() + size > quota_bytes:
            raise ScannerError("quota_exceeded", "the device's quarantine is full", "purge old objects")
        from .machine import free_bytes  # here: a runner with nothing but scans does without

        if free_bytes(self.folder) < size + RESERVE_BYTES:
            raise ScannerError(
                "disk_full", "too little space for a copy in quarantine", "free space on the device"
            )

    # ------------------------------------------------------------------------------------------ content

    def store(self, descriptor: int, sha256: str, per_block: Callable[[], None]) -> None:
        """Keep the content of an open file, which must have this digest; verified by reading it back.

        Raises ScannerError ``changed`` (the file is another by now), ``copy_broken``, OSError (disk full
        ...).
        """
        folder = self._object(sha256)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        fsync_folder(self.folder)
        content = os.path.join(folder, CONTENT)
        if os.path.exists(content):
            try:
                self.verify(sha256, per_block)
                return
            except ScannerError:
                pass  # damaged on disk: the file in hand is good, keep that
        temporary = content + ".part"
        digest = hashlib.sha256()
        target = os.open(temporary, _WRITE, 0o600)
        try:
            _write_all(target, _MAGIC)
            for block in blocks_of(descriptor):
                digest.update(block)
                _write_all(target, block.tobytes().translate(_ENCODE))
                per_block()
            if digest.hexdigest() != sha256:
                raise ScannerError("changed", "the file changed while it was copied")
            os.fsync(target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(target)  # first: an open file cannot be removed on Windows
            os.unlink(temporary)
            raise
        os.close(target)
        os.replace(temporary, content)
        fsync_folder(folder)
        self.verify(sha256, per_block)

    def read(self, sha256: str) -> Iterator[bytes]:
        """The decoded content, block by block. Raises ScannerError ``copy_broken``."""
        path = os.path.join(self._object(sha256), CONTENT)
        try:
            descriptor = os.open(path, _READ)
        except FileNotFoundError:
            raise ScannerError("content_missing", "the content is no longer in quarantine") from None
        with os.fdopen(descriptor, "rb") as stream:
            if stream.read(len(_MAGIC)) != _MAGIC:
                raise ScannerError("copy_broken", "the content in quarantine is damaged")
            while True:
                block = stream.read(256 * 1024)
                if not block:
                    return
                yield block.translate(_ENCODE)

    def verify(self, sha256: str, per_block: Callable[[], None] = lambda: None) -> None:
        """Read the stored content back. Raises ScannerError ``copy_broken``, ``content_missing``."""
        digest = hashlib.sha256()
        for block in self.read(sha256):
            digest.update(block)
            per_block()
        if digest.hexdigest() != sha256:
            raise ScannerError("copy_broken", "the content in quarantine is damaged")

    def remove(self, entry: dict[str, Any]) -> None:
        """Remove an entry, and its content if no other live entry needs that."""
        sha256 = entry["sha256"]
        os.unlink(self._entry_path(sha256, entry["quarantine_id"]))
        folder = self._object(sha256)
        fsync_folder(folder)
        if any(other.get("state") in LIVE_STATES for other in self._entries_of(sha256)):
            return
        if os.path.exists(os.path.join(folder, CONTENT)):
            os.unlink(os.path.join(folder, CONTENT))
        if not os.listdir(folder):
            os.rmdir(folder)

    def sweep(self) -> None:
        """Remove content that no entry names: its copy was broken off before the object could be deleted."""
        for sha256 in os.listdir(self.folder):
            if is_sha256(sha256) and not any(True for _ in self._entries_of(sha256)):
                folder = self._object(sha256)
                for name in os.listdir(folder):
                    os.unlink(os.path.join(folder, name))
                os.rmdir(folder)


def _write_all(descriptor: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(descriptor, view) :]
