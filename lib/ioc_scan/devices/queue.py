"""A manager's memory between calls: published jobs, which devices were sent them, and withdrawals still owed.

It is a private folder, because an action's process lives for seconds and several may run at once::

    jobs/<job_id>/job.json, plan.json, control.json, sent/<device_id>
    withdrawn/<job_id>.json

A device is marked as sent *before* anything goes out, so that a crash leaves a device asked once too often
and never one forgotten. Withdrawals are written before anything is taken away, for the same reason.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ..clock import from_iso, to_iso
from ..errors import InputError, NotFoundError, RefusedError
from ..scanner.protocol import dump_json, is_job_id, write_bytes_atomic, write_json_atomic
from ..text import printable
from .base import DEVICE_ID, ControlOp, Job, JobKind, LeftBehind, Withdrawal
from .private import ensure_private_folder, locked

#: How long past its ``not_after`` a completed withdrawal is remembered; publishing it is refused anyway.
_REMEMBER = timedelta(days=1)
_LOCK = "lock"


@dataclass(frozen=True)
class _Tombstone:
    not_after: datetime
    devices: tuple[str, ...]
    pending: tuple[str, ...]
    left: tuple[LeftBehind, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "not_after": to_iso(self.not_after),
            "devices": list(self.devices),
            "pending": list(self.pending),
            "left": [asdict(left) for left in self.left],
        }


def check_job(job: Job, now: datetime) -> None:
    """Raises InputError ``job_invalid`` or RefusedError ``job_expired``: what no manager may take."""
    problem = ""
    if not is_job_id(job.id):
        problem = (
            f"the job id {printable(job.id, 100)} is not a letter or digit and up to 79 of [A-Za-z0-9._-]"
        )
    elif bad := next((d for d in job.device_ids if not DEVICE_ID.fullmatch(d)), None):
        problem = f"the device id {printable(bad, 100)} has characters a folder name cannot have"
    elif not job.device_ids:
        problem = "it names no device"
    elif job.not_after <= job.not_before:
        problem = "not_after is not later than not_before"
    elif JobKind(job.kind) in (JobKind.SCAN, JobKind.RESPOND) and job.plan is None:
        problem = "it carries no plan"
    elif job.plan is None and job.plan_digest is not None:
        problem = "it names a plan and carries none"
    elif job.plan is not None and hashlib.sha256(job.plan).hexdigest() != job.plan_digest:
        problem = "plan_digest is not the SHA-256 of its plan"
    elif strangers := set(job.items) - set(job.device_ids):
        problem = f"it has items for {printable(min(strangers))}, which is not among its devices"
    if problem:
        raise InputError(
            "job_invalid", f"the job cannot be published: {problem}", "build jobs through the service"
        )
    if job.not_after <= now:
        raise RefusedError(
            "job_expired", f"job {job.id} ended at {to_iso(job.not_after)}", "publish a new job"
        )


class JobQueue:
    """The folder above. Methods raise NotFoundError ``job_unknown`` for jobs never published or withdrawn."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # -- jobs

    def put(self, job: Job) -> None:
        """Keep the job, or add devices to it. Raises RefusedError ``job_id_reused`` or ``job_withdrawn``."""
        with locked(self.folder, _LOCK):
            if self._tombstone(job.id) is not None:
                raise RefusedError("job_withdrawn", f"job {job.id} was withdrawn", "publish a new job")
            folder = self._job_folder(job.id)
            try:
                known = self.get(job.id)
            except NotFoundError:
                known = None
            if known is not None:
                job = _merged(known, job)
                if set(job.device_ids) == set(known.device_ids):
                    return
            ensure_private_folder(folder / "sent")
            if job.plan is not None:
                write_bytes_atomic(folder / "plan.json", job.plan)
            write_json_atomic(folder / "job.json", _job_to_json(job))

    def get(self, job_id: str) -> Job:
        folder = self._job_folder(job_id)
        try:
            raw = json.loads((folder / "job.json").read_bytes())
            plan = (folder / "plan.json").read_bytes() if raw["plan_digest"] else None
        except FileNotFoundError:
            raise NotFoundError(
                "job_unknown",
                f"no job {printable(job_id, 100)} is published here",
                "it may have been withdrawn",
            ) from None
        return _job_from_json(raw, plan)

    def job_ids(self) -> list[str]:
        return sorted(p.parent.name for p in self.folder.glob("jobs/*/job.json"))

    # -- which devices were sent it

    def mark_sent(self, job_id: str, device_id: str) -> bool:
        """Note that the job is about to go to the device. False: it was withdrawn meanwhile, do not send."""
        with locked(self.folder, _LOCK):
            folder = self._job_folder(job_id) / "sent"
            if not folder.is_dir():
                return False
            marker = folder / device_id
            if not marker.exists():
                marker.write_bytes(b"sent")
            return True

    def mark(self, job_id: str, device_ids: Iterable[str], word: str) -> None:
        """The devices hold the job now ("placed"), or have said their last word on it ("done")."""
        marked = list(device_ids)
        if not marked:
            return
        with locked(self.folder, _LOCK):
            folder = self._job_folder(job_id)
            for device_id in marked if (folder / "sent").is_dir() else ():
                (folder / "sent" / device_id).write_text(word, encoding="ascii")
                (folder / "failed" / device_id).unlink(missing_ok=True)  # earlier failures are over

    def mark_failed(self, job_id: str, device_id: str, error: Mapping[str, str]) -> None:
        """The device was reached and could not take the job; a later delivery tries again."""
        with locked(self.folder, _LOCK):
            folder = self._job_folder(job_id)
            if (folder / "sent").is_dir():
                ensure_private_folder(folder / "failed")
                write_json_atomic(folder / "failed" / device_id, dict(error))

    def sent(self, job_id: str) -> dict[str, str]:
        """Devices the job was "sent" to or about to be; "placed" where it arrived, "done" where it is over."""
        try:
            markers = sorted((self._job_folder(job_id) / "sent").iterdir())
            return {marker.name: marker.read_text(encoding="ascii") for marker in markers}
        except FileNotFoundError:
            return {}

    def failures(self, job_id: str) -> dict[str, dict[str, str]]:
        """Why devices could not take the job, by device."""
        try:
            notes = sorted((self._job_folder(job_id) / "failed").iterdir())
            return {note.name: json.loads(note.read_bytes()) for note in notes}
        except FileNotFoundError:
            return {}

    # -- pause, resume, cancel

    def set_control(self, job_id: str, op: ControlOp, device_ids: Iterable[str]) -> None:
        with locked(self.folder, _LOCK):
            self.get(job_id)
            wanted = self.control(job_id)
            for device_id in device_ids:
                wanted[device_id] = op.value
            write_json_atomic(self._job_folder(job_id) / "control.json", wanted)

    def control(self, job_id: str) -> dict[str, str]:
        """The last operation asked for, by device."""
        try:
            return dict(json.loads((self._job_folder(job_id) / "control.json").read_bytes()))
        except FileNotFoundError:
            return {}

    # -- withdrawal

    def start_withdrawal(self, job_id: str, now: datetime) -> Withdrawal:
        """From now on the job is gone; what still has to be asked is ``pending``. Idempotent."""
        with locked(self.folder, _LOCK):
            self._forget_old(now)
            tombstone = self._tombstone(job_id)
            if tombstone is None:
                job = self.get(job_id)
                tombstone = _Tombstone(job.not_after, tuple(job.device_ids), tuple(self.sent(job_id)))
                ensure_private_folder(self.folder / "withdrawn")
                write_json_atomic(self._tombstone_path(job_id), tombstone.as_json())
            shutil.rmtree(self._job_folder(job_id), ignore_errors=True)
        return _withdrawal(tombstone)

    def confirm_withdrawal(
        self, job_id: str, device_ids: Iterable[str], left: Iterable[LeftBehind] = ()
    ) -> Withdrawal:
        """These devices no longer hold the job, and left this behind."""
        done = set(device_ids)
        with locked(self.folder, _LOCK):
            tombstone = self._tombstone(job_id)
            if tombstone is None:
                return Withdrawal((), ())
            if done:
                pending = tuple(d for d in tombstone.pending if d not in done)
                known = dict.fromkeys((*tombstone.left, *left))
                tombstone = replace(tombstone, pending=pending, left=tuple(known))
                write_json_atomic(self._tombstone_path(job_id), tombstone.as_json())
        return _withdrawal(tombstone)

    def withdrawn(self, job_id: str) -> bool:
        return self._tombstone(job_id) is not None

    def owed(self) -> dict[str, list[str]]:
        """Withdrawn jobs that devices may still hold: they go first, before anything runs there."""
        owed: dict[str, list[str]] = {}
        for job_id, tombstone in self._tombstones():
            for device_id in tombstone.pending:
                owed.setdefault(device_id, []).append(job_id)
        return owed

    def check(self) -> None:
        """Raises DeviceError ``spool_not_writable`` or ``unsafe_spool``."""
        with locked(self.folder, _LOCK):
            pass

    # -- inside

    def _job_folder(self, job_id: str) -> Path:
        if not is_job_id(job_id):
            raise InputError(
                "job_invalid", f"{printable(job_id, 100)} is not a job id", "use [A-Za-z0-9._-]{1,80}"
            )
        return self.folder / "jobs" / job_id

    def _tombstone_path(self, job_id: str) -> Path:
        return self.folder / "withdrawn" / f"{self._job_folder(job_id).name}.json"

    def _tombstone(self, job_id: str) -> _Tombstone | None:
        try:
            raw = json.loads(self._tombstone_path(job_id).read_bytes())
        except FileNotFoundError:
            return None
        left = tuple(LeftBehind(**row) for row in raw.get("left", ()))
        return _Tombstone(from_iso(raw["not_after"]), tuple(raw["devices"]), tuple(raw["pending"]), left)

    def _tombstones(self) -> Iterator[tuple[str, _Tombstone]]:
        for path in sorted(self.folder.glob("withdrawn/*.json")):
            tombstone = self._tombstone(path.name[: -len(".json")])
            if tombstone is not None:
                yield path.name[: -len(".json")], tombstone

    def _forget_old(self, now: datetime) -> None:
        for job_id, tombstone in list(self._tombstones()):
            if not tombstone.pending and tombstone.not_after + _REMEMBER < now:
                self._tombstone_path(job_id).unlink(missing_ok=True)


def _withdrawal(tombstone: _Tombstone) -> Withdrawal:
    pending = set(tombstone.pending)
    confirmed = tuple(d for d in tombstone.devices if d not in pending)
    return Withdrawal(confirmed, tombstone.pending, tombstone.left)


def _merged(known: Job, job: Job) -> Job:
    """The known job with the new one's devices added. Raises RefusedError if anything else differs."""
    both = set(known.device_ids) & set(job.device_ids)
    same_items = all(_plain(known.items.get(d, ())) == _plain(job.items.get(d, ())) for d in both)
    if not same_items or _core(known) != _core(job):
        raise RefusedError(
            "job_id_reused",
            f"job {job.id} was published with other content",
            "use a new job id for another job",
        )
    devices = list(dict.fromkeys([*known.device_ids, *job.device_ids]))
    return replace(known, device_ids=devices, items={**job.items, **known.items})


def _core(job: Job) -> bytes:
    return dump_json(_job_to_json(replace(job, device_ids=(), items={})))


def _plain(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [dict(item) for item in items]


def _job_to_json(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "kind": JobKind(job.kind).value,
        "task_id": job.task_id,
        "run": job.run,
        "device_ids": list(job.device_ids),
        "not_before": to_iso(job.not_before),
        "not_after": to_iso(job.not_after),
        "plan_digest": job.plan_digest,
        "settings": dict(job.settings),
        "items": {device: _plain(items) for device, items in job.items.items()},
        "dry_run": job.dry_run,
    }


def _job_from_json(raw: dict[str, Any], plan: bytes | None) -> Job:
    times = {"not_before": from_iso(raw["not_before"]), "not_after": from_iso(raw["not_after"])}
    return Job(**{**raw, **times, "kind": JobKind(raw["kind"]), "plan": plan})
