"""Putting quarantined objects back, and removing them for good.

The file appears under its name only when it is complete and verified: it is written without a name
(O_TMPFILE) and linked into the pinned parent, which fails if the name exists. Where the file system cannot
do that, the name is created exclusively and removed again if anything fails. Set-user-id and set-group-id
bits never come back.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Any

from .errors import ScannerError
from .hashing import sha256_of
from .jobfolder import JobFolder
from .names import decode_path, encode_path, shown_path
from .protected import check_not_protected
from .protocol import from_iso
from .quarantine import LIVE_STATES, Quarantine
from .safefs import Pinned, as_scanner_error, describe, pin, same_object
from .spool import Spool

_REFUSALS = frozenset(
    {
        "unknown_quarantine_id",
        "not_quarantined",
        "exists",
        "link_in_path",
        "bad_path",
        "system_folder",
        "own_spool",
    }
    | {"outside_root", "expired", "cancelled"}
)
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_NAMELESS = getattr(os, "O_TMPFILE", 0)
#: What file systems without nameless files answer.
_NO_NAMELESS = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT})


class Restorer:
    """Works through one restore or purge job."""

    def __init__(self, folder: JobFolder, spool: Spool) -> None:
        self._folder = folder
        self._spool = spool
        self._dry_run: bool = folder.job.get("dry_run", False)
        self._quarantine = Quarantine(spool.folder("quarantine"))

    def restore(self) -> None:
        """All items, each with exactly one ``restored`` line. Raises WithdrawnError."""
        self._each("restored", self._restore_one)

    def purge(self) -> None:
        """All items, each with exactly one ``purged`` line: an object that is not there counts as purged."""
        self._each("purged", self._purge_one)

    def _each(self, kind: str, handle: Any) -> None:
        items = self._folder.job["items"]
        for index, item in enumerate(items):
            if item["quarantine_id"] not in self._folder.results.known:
                line = {"type": kind, "quarantine_id": item["quarantine_id"], "outcome": "failed"}
                line.update(code="", message="", path="")
                try:
                    self._check_allowed()
                    handle(item, line)
                except (ScannerError, OSError) as error:
                    if line["outcome"] != "restored":  # else: what is done is done, and said so
                        code, message = describe(error)
                        outcome = "refused" if code in _REFUSALS else "failed"
                        line.update(outcome=outcome, code=code, message=message)
                self._folder.results.append(line, durable=True)
            self._folder.status["progress"] = (index + 1) / len(items)
            self._folder.write_status()

    def _check_allowed(self) -> None:
        if self._folder.control() == "cancel":
            raise ScannerError("cancelled", "the job was cancelled")
        if self._folder.clock() > from_iso(self._folder.job["not_after"]):
            raise ScannerError("expired", "the job's time is over")

    # ------------------------------------------------------------------------------------------- restore

    def _restore_one(self, item: dict[str, Any], line: dict[str, Any]) -> None:
        entry = self._quarantine.find(item["quarantine_id"])
        if entry is None:
            raise ScannerError("unknown_quarantine_id", "no such object in this device's quarantine")
        path = decode_path(item.get("target_path_b64") or entry["path_b64"])
        line["path"] = shown_path(path)
        if self._already_linked(entry, path, self._folder.job_id):
            self._done(entry, line)
            return
        if entry["state"] not in LIVE_STATES:
            raise ScannerError("not_quarantined", "the object is " + str(entry["state"]))
        root = None if self._spool.root is None else os.fsencode(self._spool.root)
        check_not_protected(path, os.fsencode(os.path.realpath(self._spool.path)), root)
        self._quarantine.verify(entry["sha256"], self._folder.check_present)
        with pin(path) as pinned:
            with contextlib.suppress(FileNotFoundError):
                pinned.stat()
                raise ScannerError("exists", "there is a file of that name", "give another target path")
            if self._dry_run:
                line["outcome"] = "would_restore"
                return
            try:
                self._create(entry, pinned)
            except OSError as error:
                raise as_scanner_error(error, path) from None
        self._done(entry, line)

    def _done(self, entry: dict[str, Any], line: dict[str, Any]) -> None:
        line.update(outcome="restored", sha256=entry["sha256"], size=entry["size"])
        self._quarantine.put({**entry, "state": "restored"})

    @staticmethod
    def _already_linked(entry: dict[str, Any], path: bytes, job_id: str) -> bool:
        """Whether an earlier, broken-off run of this job brought the object to this very place."""
        intent = entry.get("restoring")
        if not intent or intent["job_id"] != job_id or intent["path_b64"] != encode_path(path):
            return False
        try:
            with pin(path) as pinned:
                info = pinned.stat()
        except (ScannerError, OSError):
            return False
        return (info.st_dev, info.st_ino) == (intent["device"], intent["inode"]) and info.st_size == entry[
            "size"
        ]

    def _create(self, entry: dict[str, Any], pinned: Pinned) -> None:
        descriptor, named = self._open_new(pinned)
        try:
            self._fill(entry, descriptor)
            info = os.fstat(descriptor)
            entry["restoring"] = {
                "job_id": self._folder.job_id,
                "path_b64": encode_path(pinned.path),
                "device": info.st_dev,
                "inode": info.st_ino,
            }
            self._quarantine.put(entry)
            self._check_allowed()
            if not pinned.parent_in_place():
                raise ScannerError("changed", "the folder moved while the file was written")
            if not named:
                # linkat on our own descriptor: fails if the name exists, and follows no link that bears it.
                os.link(
                    f"/proc/self/fd/{descriptor}", pinned.name, dst_dir_fd=pinned.parent, follow_symlinks=True
                )
            if not same_object(pinned.stat(), info):
                raise ScannerError("changed", "the name stands for another file by now")
            with contextlib.suppress(OSError):
                os.fsync(pinned.parent)
        except BaseException:
            if named:
                self._take_back(pinned, descriptor)
            raise
        finally:
            os.close(descriptor)

    @staticmethod
    def _open_new(pinned: Pinned) -> tuple[int, bool]:
        """A new file of ours, mode 0600, and whether it already bears its name."""
        if _NAMELESS and os.path.isdir("/proc/self/fd"):
            try:
                flags = os.O_RDWR | _NAMELESS | os.O_CLOEXEC
                return os.open(b".", flags, 0o600, dir_fd=pinned.parent), False
            except OSError as error:
                if error.errno not in _NO_NAMELESS:
                    raise
        return os.open(pinned.name, _CREATE, 0o600, dir_fd=pinned.parent), True

    def _fill(self, entry: dict[str, Any], descriptor: int) -> None:
        for block in self._quarantine.read(entry["sha256"]):
            view = memoryview(block)
            while view:
                view = view[os.write(descriptor, view) :]
            self._folder.check_present()
        sha256, _ = sha256_of(descriptor)
        if sha256 != entry["sha256"]:
            raise ScannerError("copy_broken", "what was written is not what was in quarantine")
        if os.geteuid() == 0:
            os.fchown(descriptor, entry["uid"], entry["gid"])
        # After the owner, since a change of owner may clear bits; without set-id and sticky bits.
        os.fchmod(descriptor, stat.S_IMODE(entry["mode"]) & 0o777)
        os.utime(descriptor, ns=(entry["accessed_ns"], entry["modified_ns"]))
        os.fsync(descriptor)

    @staticmethod
    def _take_back(pinned: Pinned, descriptor: int) -> None:
        if pinned.still_is(os.fstat(descriptor)):
            os.unlink(pinned.name, dir_fd=pinned.parent)

    # --------------------------------------------------------------------------------------------- purge

    def _purge_one(self, item: dict[str, Any], line: dict[str, Any]) -> None:
        entry = self._quarantine.find(item["quarantine_id"])
        if entry is not None:
            line["path"] = entry["path"]
            if not self._dry_run:
                self._quarantine.remove(entry)
        line["outcome"] = "would_purge" if self._dry_run else "purged" if entry is not None else "missing"
