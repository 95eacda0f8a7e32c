"""Quarantining files: the only place of the scanner that deletes what is not its own.

The order of one item, each step on the pinned object (:mod:`.safefs`):

1. walk to the parent; open the name; regular file; size, device, inode and SHA-256 as matched
2. refuse system folders, packaged files, and hashes that no actionable IOC file of the plan proves
3. end processes that run this very object, if asked
4. copy to quarantine while hashing again, verify by reading back, sync; write the entry (``copied``)
5. compare the open file, the name and the parent once more; unlink; sync the parent; entry ``quarantined``

A crash leaves the object in place or in quarantine, mostly both; :func:`reconcile` says which on the next
run.
"""

from __future__ import annotations

import contextlib
import os
from datetime import timedelta
from typing import Any

from . import machine
from .errors import ScannerError
from .evaluate import Evaluator
from .hashing import sha256_of
from .jobfolder import JobFolder
from .lastword import object_is_gone
from .names import decode_path, encode_path, shown_path
from .plan import Plan
from .protected import check_not_protected
from .protocol import from_iso, to_iso
from .quarantine import DEFAULT_QUOTA_BYTES, Quarantine, quarantine_id_of
from .safefs import Held, describe
from .spool import Spool

DEFAULT_MAX_ITEMS = 50
DEFAULT_QUARANTINE_DAYS = 30

#: Codes that say "this is no longer what was matched" or "this may not be touched"; all others are failures.
_OUTCOMES = {
    "missing": "missing",
    "changed": "changed",
    "not_a_regular_file": "changed",
    "link_in_path": "refused",
    "bad_path": "refused",
    "system_folder": "refused",
    "own_spool": "refused",
    "outside_root": "refused",
    "package_owned": "refused",
    "package_check_failed": "refused",
    "not_actionable": "refused",
    "over_limit": "refused",
    "expired": "refused",
    "cancelled": "refused",
    "protected_process": "refused",
    "offline": "refused",
    "alternate_streams": "refused",
    "network_file_system": "refused",
    "signed": "refused",
}


class Responder:
    """Works through one respond job."""

    def __init__(self, folder: JobFolder, spool: Spool, plan: Plan, system: str) -> None:
        self._folder = folder
        self._spool = spool
        self._evaluator = Evaluator(plan, system)
        self._job = folder.job
        self._settings: dict[str, Any] = folder.job.get("settings", {})
        self._dry_run: bool = folder.job.get("dry_run", False)
        self._quarantine = Quarantine(spool.folder("quarantine"))
        self._judge = machine.Judge(spool.root)

    def run(self) -> None:
        """All items, each with exactly one line in the results. Raises WithdrawnError."""
        limit = self._settings.get("max_items", DEFAULT_MAX_ITEMS)
        items = self._job["items"]
        for index, item in enumerate(items):
            if item["match_id"] not in self._folder.results.known:
                within = index < limit
                line = self._one(item, within)
                self._folder.results.append(line, durable=True)
            self._folder.status["progress"] = (index + 1) / len(items)
            self._folder.write_status()

    def _one(self, item: dict[str, Any], within_limit: bool) -> dict[str, Any]:
        line: dict[str, Any] = {
            "type": "response",
            "match_id": item["match_id"],
            "outcome": "failed",
            "code": "",
            "message": "",
            "quarantine_id": None,
            "sha256": item["sha256"],
            "size": item["size"],
            "terminated": [],
        }
        try:
            path = decode_path(item["path_b64"])
            line["path"] = shown_path(path)
            settled = self._reconcile(item)
            if settled is None:
                self._check_allowed(within_limit)
                self._quarantine_one(item, path, line)
            else:
                line.update(settled)
        except (ScannerError, OSError) as error:
            if line["outcome"] != "quarantined":  # else: what is done is done, and said so
                code, message = describe(error)
                line.update(outcome=_OUTCOMES.get(code, "failed"), code=code, message=message)
        return line

    def _check_allowed(self, within_limit: bool) -> None:
        """Asked before each item, and again right before each deletion."""
        if self._folder.control() == "cancel":
            raise ScannerError("cancelled", "the response was cancelled")
        if self._folder.clock() > from_iso(self._job["not_after"]):
            raise ScannerError("expired", "the response's time is over")
        if not within_limit:
            raise ScannerError("over_limit", "more files than one response may act on")

    # --------------------------------------------------------------------------------------- one object

    def _quarantine_one(self, item: dict[str, Any], path: bytes, line: dict[str, Any]) -> None:
        root = None if self._spool.root is None else os.fsencode(self._spool.root)
        spool = os.fsencode(os.path.realpath(self._spool.path))
        check_not_protected(path, spool, root)
        if not self._evaluator.acts_on(item["sha256"]):
            raise ScannerError("not_actionable", "no actionable IOC file of the task names this SHA-256")
        with machine.pin(path) as pinned:
            if pinned.real_path() != path:
                check_not_protected(pinned.real_path(), spool, root)
            with pinned.hold() as held:
                self._act(item, held, line)

    def _act(self, item: dict[str, Any], held: Held, line: dict[str, Any]) -> None:
        if not held.matched_as(item):
            raise ScannerError("changed", "size, device or inode are not those of the match")
        sha256, _ = sha256_of(held.descriptor, self._folder.check_present)
        if sha256 != item["sha256"]:
            raise ScannerError("changed", "the content is not that of the match")
        line["signature"] = self._judge.check(held, self._settings.get("may_delete_signers", []))
        quota = self._settings.get("quota_bytes", DEFAULT_QUOTA_BYTES)
        self._quarantine.check_room(sha256, held.size, quota)
        self._end_processes(held, line)
        if self._dry_run:
            line["outcome"] = "would_quarantine"
            return
        entry = self._entry(item, held)
        self._quarantine.store(held.descriptor, sha256, self._folder.check_present)
        self._quarantine.put(entry)
        try:
            self._check_allowed(within_limit=True)
            held.check_untouched()
        except BaseException:
            self._quarantine.remove(entry)  # nothing was deleted, so nothing is kept
            raise
        try:
            line["message"] = held.remove()
        except ScannerError:
            self._quarantine.remove(entry)
            raise
        line.update(outcome="quarantined", quarantine_id=entry["quarantine_id"])
        # The name is gone, whatever fails from here on: at worst a power cut brings it back, and an entry
        # that still says "copied" can be restored like any other.
        with contextlib.suppress(OSError):
            held.settle()
            self._quarantine.put({**entry, "state": "quarantined"})

    def _end_processes(self, held: Held, line: dict[str, Any]) -> None:
        """List the processes that run the object, and end them if the job says so and is no dry run."""
        line["terminated"] = machine.running(held.device, held.inode)
        if not self._settings.get("terminate_processes", False):
            line["running"], line["terminated"] = line["terminated"], []
        if self._dry_run:
            return
        try:
            machine.end(line["terminated"], held.device, held.inode)
        except ScannerError:
            alive = [one for one in line["terminated"] if machine.runs(one["pid"], held.device, held.inode)]
            line.update(terminated=[one for one in line["terminated"] if one not in alive], running=alive)
            raise

    def _entry(self, item: dict[str, Any], held: Held) -> dict[str, Any]:
        now = self._folder.clock()
        days = self._settings.get("quarantine_days", DEFAULT_QUARANTINE_DAYS)
        return {
            "quarantine_id": quarantine_id_of(self._job["job_id"], item["match_id"]),
            "state": "copied",
            "sha256": item["sha256"],
            "size": held.size,
            "path": shown_path(held.path),
            "path_b64": encode_path(held.path),
            "device": held.device,
            "inode": held.inode,
            "task_id": self._job["task_id"],
            "job_id": self._job["job_id"],
            "match_id": item["match_id"],
            "quarantined_at": to_iso(now),
            "expires_at": to_iso(now + timedelta(days=days)),
            **held.traits(),
        }

    # ----------------------------------------------------------------------------------- after a crash

    def reconcile(self) -> None:
        """Report what an earlier, broken-off run of this job did, without doing more.

        Raises WithdrawnError.
        """
        for item in self._job["items"]:
            if item["match_id"] in self._folder.results.known:
                continue
            line = self._one_settled(item)
            self._folder.results.append(line, durable=True)

    def _one_settled(self, item: dict[str, Any]) -> dict[str, Any]:
        line: dict[str, Any] = {
            "type": "response",
            "match_id": item["match_id"],
            "outcome": "refused",
            "code": "expired",
            "message": "the response's time is over",
            "quarantine_id": None,
            "sha256": item["sha256"],
            "size": item["size"],
            "terminated": [],
        }
        # Where nothing can be found under such a path it stays refused.
        with contextlib.suppress(ScannerError, OSError):
            line.update(self._reconcile(item) or {})
        return line

    def _reconcile(self, item: dict[str, Any]) -> dict[str, Any] | None:
        """What is already true of this item: None if its object is still in place and unhandled."""
        quarantine_id = quarantine_id_of(self._job["job_id"], item["match_id"])
        entry = self._quarantine.find(quarantine_id)
        if entry is None or (entry["state"] == "copied" and not object_is_gone(self._quarantine, entry)):
            return None
        return {"outcome": "quarantined", "code": "", "message": "", "quarantine_id": quarantine_id}
