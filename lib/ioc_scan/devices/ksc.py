"""Kaspersky Security Center: groups and devices of the Administration Server, reached by cloning its own tasks.

The devices do the work with Kaspersky's own scanner, so a job is one task on the server per IOC file and target
instead of a folder on a device. Scans clone the report-only template; the responding one is cloned only for the
approved devices of a response, for exactly the approved objects, and deleted when its quarter of an hour is over.

Proved against the stand-in in tests/ only: see docs/kaspersky.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ..clock import Clock, from_iso, to_iso
from ..errors import ConfigError, DeviceError, IocScanError, NotFoundError, RefusedError
from ..ksc_client import Ksc, KscError, KscSettings, connect
from ..scanner.protocol import write_bytes_atomic
from ..text import printable
from . import ksc_template
from .base import (
    DEVICE_ID,
    Capability,
    ControlOp,
    Cursor,
    Device,
    DeviceEvent,
    Group,
    Health,
    Job,
    JobKind,
    Withdrawal,
)
from .ksc_answers import EventShape
from .ksc_groups import Tree, as_device, cover
from .ksc_health import problems_of
from .ksc_ioc import ioc_for
from .ksc_parts import Part, Record, Records, forget_old_iocs, part_name
from .ksc_reading import Reading
from .ksc_templates import Templates
from .private import ensure_private_folder
from .queue import JobQueue, check_job
from .result_shapes import PlanFacts
from .results import load_cursors

#: What the server's task group "IOC" holds at most, other people's tasks included (documented limit).
MAX_TASKS = 100


class KscManager:
    """``type: ksc``. Its memory, with the learned templates, is in ``<spool>/.manager/<name>``."""

    caps = frozenset(
        {
            Capability.OFFLINE_QUEUE,
            Capability.NATIVE_IDLE,
            Capability.PAUSE,
            Capability.PROGRESS,
            Capability.NATIVE_RESPONSE,
            Capability.IOC_FILES,
        }
    )

    def __init__(
        self, name: str, folder: Path, ksc: Ksc, *, clock: Clock, settings: Mapping[str, Any]
    ) -> None:
        self.name = name
        self.ksc = ksc
        self.memory = folder / ".manager" / name
        self.may_respond = bool(settings.get("native_response"))
        events = settings.get("events") or {}
        self.found_event = EventShape.from_config(name, events.get("ioc_found"))
        self.quarantined_event = EventShape.from_config(name, events.get("quarantined"))
        self._tags = {str(k): [str(t) for t in v] for k, v in (settings.get("device_tags") or {}).items()}
        self._clock = clock
        self._queue = JobQueue(self.memory)
        self._records = Records(self.memory / "tasks")
        self.templates = Templates(name, ksc, self.memory)

    @classmethod
    def from_config(cls, entry: Mapping[str, Any], *, clock: Clock) -> KscManager:
        """Raises ConfigError ``manager_invalid``, ``ksc_url``, ``ksc_setting_missing``, ``ksc_event_invalid``."""
        name = entry.get("name")
        if not isinstance(name, str) or not DEVICE_ID.fullmatch(name) or not entry.get("spool"):
            raise ConfigError("manager_invalid", "a device manager of type ksc needs a name and a spool")
        ksc = connect(KscSettings.from_config(dict(entry)))
        return cls(name, Path(str(entry["spool"])), ksc, clock=clock, settings=entry)

    # -- who is there

    def groups(self) -> list[Group]:
        return Tree.read(self.ksc).groups()

    def devices(self, group: str) -> list[Device]:
        tree = Tree.read(self.ksc)
        group_id = tree.find(group)
        if group_id is None:
            raise NotFoundError(
                "group_unknown",
                f"device manager {self.name} has no group {printable(group, 100)}",
                "st2 run ioc_scan.list_devices shows groups and devices",
            )
        rows = self.ksc.hosts(tree.subtree(group_id))
        found = (as_device(row, group, self._tags) for row in rows)
        return [device for device in found if device is not None]

    def _hosts(self, tree: Tree) -> dict[str, dict[str, Any]]:
        rows = self.ksc.hosts(tree.subtree(tree.root))
        return {
            row["KLHST_WKS_HOSTNAME"]: row for row in rows if isinstance(row.get("KLHST_WKS_HOSTNAME"), str)
        }

    # -- jobs

    def publish(self, job: Job) -> None:
        check_job(job, self._clock())
        kind = JobKind(job.kind)
        if kind not in (JobKind.SCAN, JobKind.RESPOND):
            raise RefusedError(
                "ksc_job_kind",
                f"device manager {self.name} cannot take a {kind.value} job",
                "quarantined objects are restored and removed in Kaspersky Security Center",
            )
        known = self._hosts(Tree.read(self.ksc))
        if unknown := next((d for d in job.device_ids if d not in known), None):
            raise NotFoundError(
                "device_unknown",
                f"device manager {self.name} has no device {printable(unknown, 100)}",
                "list_devices",
            )
        self._queue.put(replace(job, iocs={}))
        for digest, content in job.iocs.items():
            if hashlib.sha256(content).hexdigest() == digest:
                folder = ensure_private_folder(self.memory / "iocs")
                write_bytes_atomic(folder / f"{digest}.ioc", content)

    def deliver(self, job_id: str, device_ids: Sequence[str] | None = None) -> None:
        job = self._queue.get(job_id)
        now = self._clock()
        self._retire_owed(now)
        if not job.not_before <= now <= job.not_after:
            return
        control = self._queue.control(job_id)
        record = self._records.get(job_id) or Record(
            job_id, JobKind(job.kind) is JobKind.RESPOND, to_iso(job.not_after), ""
        )
        if record.retired:
            return
        chosen = [d for d in job.device_ids if device_ids is None or d in set(device_ids)]
        held = {ControlOp.CANCEL.value, ControlOp.PAUSE.value}
        waiting = [d for d in chosen if d not in record.covered() and control.get(d) not in held]
        try:
            learned = self.templates.needed()
            if waiting:
                self._plan_parts(job, record, waiting, learned)
                self._records.put(record)
            if not job.dry_run:
                self._carry_out(job, record, learned)
        except RefusedError as error:
            unserved = {device for part in record.parts if not part.started for device in part.devices}
            for device_id in sorted(unserved.union(waiting)):
                self._queue.mark_failed(job_id, device_id, error.as_dict())

    def poll(self, job_id: str, cursor: Cursor | None) -> tuple[list[DeviceEvent], Cursor]:
        try:
            job = self._queue.get(job_id)
        except NotFoundError:
            return [], dict(cursor or {})
        self._retire_owed(self._clock())
        record = self._records.get(job_id)
        reading = Reading(self, job, record, load_cursors(cursor), cursor, self._clock())
        events = reading.read(self._queue.failures(job_id), self._queue.control(job_id))
        if record is not None and record.respond and reading.all_closed and not record.retired:
            self._retire(record)  # what has done its work does not stay where it could work again
        if self._queue.withdrawn(job_id):
            return [], dict(cursor or {})
        return events, reading.cursor()

    def control(self, job_id: str, op: ControlOp | str, device_ids: Sequence[str] | None = None) -> None:
        word = ControlOp(op)
        job = self._queue.get(job_id)
        if device_ids is not None and set(device_ids) != set(job.device_ids):
            raise DeviceError(
                "ksc_whole_task_only",
                "Kaspersky Security Center pauses and cancels a task on all its devices, not on some",
                "name no devices",
            )
        before = set(self._queue.control(job_id).values())
        self._queue.set_control(job_id, word, job.device_ids)
        record = self._records.get(job_id)
        calls = {
            ControlOp.PAUSE: self.ksc.suspend_task,
            ControlOp.RESUME: self.ksc.resume_task,
            ControlOp.CANCEL: self.ksc.cancel_task,
        }
        for part in record.parts if record is not None and not record.retired else ():
            if part.task_id is None or not part.started:
                continue
            try:
                calls[word](part.task_id)
            except KscError as error:
                # A task that is over cannot be paused or cancelled: what it did is told by its states.
                if error.code not in ("ksc_not_found", "ksc_not_permitted"):
                    raise
        if word is ControlOp.RESUME and before:
            self.deliver(job_id)

    def withdraw(self, job_id: str) -> Withdrawal:
        now = self._clock()
        state = self._queue.start_withdrawal(job_id, now)
        if not state.pending:
            self._forget(job_id)
            return state
        record = self._records.get(job_id)
        if record is None or self._retire(record):
            self._forget(job_id)
            return self._queue.confirm_withdrawal(job_id, state.pending)
        return state

    def health(self) -> Health:
        return Health.of(problems_of(self))

    def learn_template(self, report: str, respond: str, marker: bytes, confirm: str | None) -> dict[str, Any]:
        """See :meth:`Templates.learn`."""
        hosts = {host_id: host_names(row) for host_id, row in self._hosts(Tree.read(self.ksc)).items()}
        return self.templates.learn(report, respond, marker, hosts, confirm)

    # -- making tasks

    def _plan_parts(
        self, job: Job, record: Record, waiting: Sequence[str], learned: Mapping[str, Any]
    ) -> None:
        """Decide which tasks the waiting devices need, and note them. Raises RefusedError if none may be made."""
        role = "respond" if record.respond else "report"
        shape = learned[role]
        record.kind = str(learned["kind"])
        if record.respond:
            self._may_respond(shape)
        ksc_template.check(shape, self.templates.now(shape))
        targets: list[tuple[int | None, list[str]]] = []
        if shape["aim"]["kind"] == "devices":
            targets.append((None, list(waiting)))
        else:
            targets += self._groups_for(job, waiting)
        number = len(record.parts)
        for group_id, devices in targets:
            for digest, tier in self._iocs_of(job, devices):
                number += 1
                name = part_name(job.id, number, tier)
                record.parts.append(Part(name, digest, tier, devices, group_id))

    def _may_respond(self, shape: Mapping[str, Any]) -> None:
        """Raises RefusedError: a response that may not be made, aimed or confirmed is refused."""
        if not self.may_respond:
            raise RefusedError(
                "ksc_response_off",
                f"device manager {self.name} may not respond with Kaspersky's own task",
                "set native_response: true once docs/kaspersky.md was read",
            )
        if shape["aim"]["kind"] != "devices":
            raise RefusedError(
                "ksc_cannot_aim",
                "the responding template is a group task: it cannot be aimed at the approved devices alone",
                "aim it at one managed device, and learn it again",
            )
        if self.quarantined_event is None:
            raise RefusedError(
                "ksc_response_unconfirmed",
                "no event that confirms a quarantine is configured",
                "name it under `events.quarantined`",
            )

    def _groups_for(self, job: Job, waiting: Sequence[str]) -> list[tuple[int | None, list[str]]]:
        tree = Tree.read(self.ksc)
        by_group: dict[int, list[str]] = {}
        for host_id, row in self._hosts(tree).items():
            by_group.setdefault(row.get("KLHST_WKS_GROUPID", -1), []).append(host_id)
        chosen, left = cover(tree, by_group, set(waiting))
        for device_id in sorted(left & set(job.device_ids)):
            error = {
                "code": "ksc_cannot_aim",
                "message": "a group task would reach devices of its group that are not meant",
                "hint": "learn a report-only template that names devices, or name the group without exceptions",
            }
            self._queue.mark_failed(job.id, device_id, error)
        return [(group_id, devices) for group_id, devices in sorted(chosen.items())]

    def _iocs_of(self, job: Job, devices: Sequence[str]) -> list[tuple[str, str]]:
        """The IOC files to clone with, as (digest, tier), each in this manager's folder."""
        if JobKind(job.kind) is JobKind.RESPOND:
            objects = {
                (item["sha256"], item.get("size")) for device in devices for item in job.items.get(device, ())
            }
            content = ioc_for(objects, job.id, to_iso(job.not_before))
            digest = hashlib.sha256(content).hexdigest()
            folder = ensure_private_folder(self.memory / "iocs")
            write_bytes_atomic(folder / f"{digest}.ioc", content)
            return [(digest, "actionable")]
        tiers = PlanFacts.of(job.plan or b"").tiers
        return sorted(tiers.items(), key=lambda entry: entry[1])

    def _ioc(self, digest: str) -> bytes:
        try:
            content = (self.memory / "iocs" / f"{digest}.ioc").read_bytes()
        except FileNotFoundError:
            content = b""
        if hashlib.sha256(content).hexdigest() != digest:
            raise RefusedError(
                "ksc_ioc_missing",
                f"the IOC file {digest[:12]} of this job is not here",
                "start the task again; IOC files come with their jobs",
            )
        return content

    def _carry_out(self, job: Job, record: Record, learned: Mapping[str, Any]) -> None:
        """Create and start what is noted and not there yet. Every step is noted before the next."""
        todo = [part for part in record.parts if not part.started]
        if not todo:
            return
        shape = learned["respond" if record.respond else "report"]
        raw = self.templates.now(shape)
        existing = self.ksc.tasks(record.kind)
        by_name = {task["name"]: task["id"] for task in existing}
        for part in todo:
            part.task_id = part.task_id or by_name.get(part.name)
        new = sum(part.task_id is None for part in todo)
        if len(existing) + new > MAX_TASKS:
            raise DeviceError(
                "ksc_group_full",
                f"the server holds {len(existing)} of at most {MAX_TASKS} IOC Scan tasks, {new} more are needed",
                "delete tasks that are no longer needed; older ones of ours go first by themselves",
            )
        names = (
            {h: host_names(r) for h, r in self._hosts(Tree.read(self.ksc)).items()}
            if shape["aim"]["kind"] != "group"
            else {}
        )
        for part in todo:
            for device_id in part.devices:
                if not self._queue.mark_sent(job.id, device_id):
                    return  # withdrawn meanwhile: nothing of it may arrive
            if part.task_id is None:
                hosts = [names[d] for d in part.devices if d in names] if part.group_id is None else []
                settings = ksc_template.clone(
                    dict(shape),
                    raw,
                    part.name,
                    self._ioc(part.ioc_digest),
                    group_id=part.group_id,
                    hosts=hosts,
                )
                part.task_id = self._add(settings, part)
                self._records.put(record)
            if self._queue.withdrawn(job.id):
                self._retire(record)
                return
            self.ksc.run_task(part.task_id)
            part.started = True
            self._records.put(record)
            self._queue.mark(job.id, part.devices, "placed")

    def _add(self, settings: dict[str, Any], part: Part) -> str:
        """Raises RefusedError where the server will never take the task so: it is not tried wider instead."""
        try:
            return self.ksc.add_task(settings)
        except KscError as error:
            if error.code not in ("ksc_bad_format", "ksc_not_permitted", "ksc_not_found"):
                raise
            code = "ksc_task_refused" if part.group_id is not None else "ksc_cannot_aim"
            raise RefusedError(code, f"the server refuses the task: {error.message}", error.hint) from error

    # -- taking tasks away

    def _retire_owed(self, now: datetime) -> None:
        """Withdrawals that are still owed, and responses whose time is over. Errors leave them for the next round."""
        owed = {job_id for jobs in self._queue.owed().values() for job_id in jobs}
        for record in list(self._records.all()):
            late = record.respond and not record.retired and now > from_iso(record.not_after)
            if record.job_id in owed:
                if self._retire(record):
                    state = self._queue.start_withdrawal(record.job_id, now)
                    self._queue.confirm_withdrawal(record.job_id, state.pending)
                    self._forget(record.job_id)
            elif late:
                self._retire(record)

    def _retire(self, record: Record) -> bool:
        """Cancel and delete the job's tasks; True once the server confirms that none is left."""
        if record.retired:
            return True
        try:
            by_name = {task["name"]: str(task["id"]) for task in self.ksc.tasks(record.kind)}
            for part in record.parts:
                for task_id in {part.task_id, by_name.get(part.name)} - {None}:
                    self._delete(str(task_id), record, part)
        except IocScanError as error:
            record.trouble = f"{error.code}: {error.message}"
            self._records.put(record)
            return False
        record.retired, record.trouble = True, ""
        self._records.put(record)
        return True

    def _delete(self, task_id: str, record: Record, part: Part) -> None:
        if record.respond and part.started:
            at_work, finished = Reading.last_look(self, task_id, part)
            record.cut_off += at_work
            record.finished += finished
        try:
            self.ksc.cancel_task(task_id)
        except KscError as error:
            if error.code not in ("ksc_not_found", "ksc_not_permitted"):  # it does not run: nothing to cancel
                raise
        try:
            self.ksc.delete_task(task_id)
        except KscError as error:
            if not error.not_found:
                raise
        if self.ksc.task_exists(task_id):
            raise DeviceError(
                "ksc_task_remains",
                f"the server still has task {printable(task_id, 40)} after its deletion",
                "delete it in the console",
            )

    def _forget(self, job_id: str) -> None:
        self._records.remove(job_id)
        forget_old_iocs(self.memory / "iocs", self._clock())

    # -- for its helpers

    def records(self) -> list[Record]:
        return list(self._records.all())

    def check_memory(self) -> None:
        """Raises DeviceError."""
        self._queue.check()


def host_names(row: Mapping[str, Any]) -> dict[str, str]:
    """What a template's device list may call a host."""
    return {
        "id": str(row.get("KLHST_WKS_HOSTNAME") or ""),
        "dn": str(row.get("KLHST_WKS_DN") or ""),
        "fqdn": str(row.get("KLHST_WKS_FQDN") or ""),
    }
