"""Putting quarantined objects back, and removing them for good.

The file appears under its name only when it is complete and verified, never over another one: how, say
:class:`.posixfiles.PosixFresh` and :class:`.winfresh.WindowsFresh`.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

from . import machine
from .errors import ScannerError
from .hashing import sha256_of
from .jobfolder import JobFolder
from .names import decode_path, encode_path, printable, shown_path
from .protected import check_not_protected
from .protocol import from_iso
from .quarantine import LIVE_STATES, Quarantine
from .safefs import Pinned, as_scanner_error, describe
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
    | {"outside_root", "expired", "cancelled", "network_file_system"}
)


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
        spool = os.fsencode(os.path.realpath(self._spool.path))
        check_not_protected(path, spool, root)
        self._quarantine.verify(entry["sha256"], self._folder.check_present)
        with machine.pin(path) as pinned:
            if pinned.real_path() != path:
                check_not_protected(pinned.real_path(), spool, root)
            with contextlib.suppress(FileNotFoundError):
                pinned.identity()
                raise ScannerError("exists", "there is a file of that name", "give another target path")
            if self._dry_run:
                line["outcome"] = "would_restore"
                return
            try:
                missing = self._create(entry, pinned)
            except OSError as error:
                raise as_scanner_error(error, path) from None
        if missing:
            line["message"] = "not given back: " + printable(", ".join(missing))[:300]
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
            with machine.pin(path) as pinned:
                identity, size = pinned.identity(), pinned.size()
        except (ScannerError, OSError):
            return False
        return identity == (intent["device"], intent["inode"]) and size == entry["size"]

    def _create(self, entry: dict[str, Any], pinned: Pinned) -> list[str]:
        """Bring the object to its place; what it lacks there."""
        self._clear_leftover(entry)
        work_name = pinned.work_name()
        if work_name is not None:  # so that a killed run's file is found again
            self._note_intent(entry, pinned, work_name, (0, 0))
        with pinned.create(work_name) as fresh:
            if work_name is not None:
                self._note_intent(entry, pinned, work_name, fresh.identity())
            self._fill(entry, fresh.descriptor)
            missing = fresh.dress(entry)
            self._note_intent(entry, pinned, work_name, fresh.identity())
            fresh.publish(self._check_allowed)
        return missing

    def _note_intent(
        self, entry: dict[str, Any], pinned: Pinned, work_name: str | None, identity: tuple[int, int]
    ) -> None:
        intent = {
            "job_id": self._folder.job_id,
            "path_b64": encode_path(pinned.path),
            "device": identity[0],
            "inode": identity[1],
        }
        if work_name is not None:
            intent["work_name"] = work_name
        entry["restoring"] = intent
        self._quarantine.put(entry)

    @staticmethod
    def _clear_leftover(entry: dict[str, Any]) -> None:
        """Remove the half-written file of an earlier, killed run, wherever that was at work."""
        intent = entry.get("restoring") or {}
        if "work_name" in intent:
            with contextlib.suppress(ScannerError, OSError), machine.pin(
                decode_path(intent["path_b64"])
            ) as pinned:
                pinned.discard(intent["work_name"], intent["device"], intent["inode"])

    def _fill(self, entry: dict[str, Any], descriptor: int) -> None:
        for block in self._quarantine.read(entry["sha256"]):
            view = memoryview(block)
            while view:
                view = view[os.write(descriptor, view) :]
            self._folder.check_present()
        sha256, _ = sha256_of(descriptor)
        if sha256 != entry["sha256"]:
            raise ScannerError("copy_broken", "what was written is not what was in quarantine")

    # --------------------------------------------------------------------------------------------- purge

    def _purge_one(self, item: dict[str, Any], line: dict[str, Any]) -> None:
        entry = self._quarantine.find(item["quarantine_id"])
        if entry is not None:
            line["path"] = entry["path"]
            if not self._dry_run:
                self._clear_leftover(entry)
                self._quarantine.remove(entry)
        line["outcome"] = "would_purge" if self._dry_run else "purged" if entry is not None else "missing"
