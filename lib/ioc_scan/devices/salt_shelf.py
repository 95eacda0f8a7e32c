"""What lies on the Salt master for each device: the jobs it shall hold, whole, computed from the queue.

A device is *offered* a job when the job is first delivered to it; from then on it stands in the device's
part of pillar until it is done, over or withdrawn, and the device may fetch it whenever it is there. The
master notes what was handed out. So "may hold the job" is known even of devices that never answered.

Writing is serialised: what is computed from the queue is on the master before anybody computes it anew.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..clock import to_iso
from ..errors import NotFoundError
from ..scanner.protocol import PROTOCOL_VERSION
from .base import ControlOp, Job
from .private import locked
from .queue import JobQueue
from .salt_api import SaltApi

#: salt-api takes 1 MiB in one request, and the master's event bus no more either.
_PART_CHARACTERS = 400 * 1024

Given = dict[str, list[str]]


@dataclass(frozen=True)
class Noted:
    """What the master has noted of devices: the jobs each was ever handed, and its last sign of life."""

    given: Given
    signs: dict[str, int | None]


class Shelf:
    """The standing jobs of all devices of one manager."""

    def __init__(
        self,
        api: SaltApi,
        queue: JobQueue,
        document: Callable[[Job, str, str], dict[str, Any]],
        scanner_digest: Callable[[], str],
        key_of: Callable[[str], str],
    ) -> None:
        self._api = api
        self._queue = queue
        self._document = document
        self._scanner_digest = scanner_digest
        self._key_of = key_of

    # -- offers, in the job's folder of the queue: gone with the job

    def offer(self, job_id: str, device_id: str) -> bool:
        """The job stands for the device from the next write on. False: it was withdrawn meanwhile."""
        folder = self._offers(job_id)
        if not folder.parent.is_dir():
            return False
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / device_id).touch(mode=0o600)
        return True

    def offered(self, job_id: str) -> set[str]:
        try:
            return set(os.listdir(self._offers(job_id)))
        except FileNotFoundError:
            return set()

    def _offers(self, job_id: str) -> Path:
        return self._queue.folder / "jobs" / job_id / "offered"

    # -- the master

    def write(
        self,
        device_ids: Sequence[str],
        now: datetime,
        *,
        without: str | None = None,
        plans: Iterable[Job] = (),
    ) -> Noted:
        """Put what stands for these devices on the master; what it has noted of them.

        ``without``: a job that is about to be withdrawn. ``plans``: jobs whose plans may not be there yet.
        Call it with :meth:`locked` held. Raises DeviceError.
        """
        standing, needed = self._standing(device_ids, now, without)
        sent = {job.plan_digest: job.plan for job in plans if job.plan_digest in needed}
        answer = self._upload({"devices": standing, "plans": _texts(sent)})
        missing = {digest: needed[digest] for digest in answer.get("missing", []) if digest in needed}
        if missing:
            self._upload({"devices": {}, "plans": _texts(missing)})
        return _noted(answer, device_ids)

    def noted(self, device_ids: Sequence[str]) -> Noted:
        """What the master has noted of these devices. Raises DeviceError."""
        return _noted(self._api.master("given", devices=list(device_ids)), device_ids)

    def locked(self) -> AbstractContextManager[None]:
        """Held from reading what stands on the master to writing it anew."""
        return locked(self._queue.folder, "shelf.lock")

    # -- inside

    def _standing(
        self, device_ids: Sequence[str], now: datetime, without: str | None
    ) -> tuple[dict[str, Any], dict[str, bytes]]:
        """What stands for each device (None: nothing), and the plans that takes."""
        digest, owed = self._scanner_digest(), self._queue.owed()
        standing: dict[str, dict[str, Any]] = {
            device: {
                "protocol": PROTOCOL_VERSION,
                "scanner_digest": digest,
                "withdraw": owed.get(device, []),
                "place": [],
                "control": {},
                "start_after": None,
                "key": self._key_of(device),
            }
            for device in device_ids
        }
        needed: dict[str, bytes] = {}
        concerned = {device for device in device_ids if device in owed}
        for job_id in self._queue.job_ids():
            devices = self.offered(job_id) & standing.keys()
            if job_id == without or not devices:
                continue
            try:
                job = self._queue.get(job_id)
            except NotFoundError:  # withdrawn by another process just now
                continue
            concerned |= devices
            sent, control = self._queue.sent(job_id), self._queue.control(job_id)
            for device in devices:
                own = standing[device]
                if device in control:
                    own["control"][job_id] = control[device]
                cancelled = control.get(device) == ControlOp.CANCEL.value
                if now > job.not_after or cancelled or sent.get(device) == "done":
                    continue
                own["place"].append({"job": self._document(job, device, digest)})
                begin = to_iso(job.not_before)
                own["start_after"] = min(own["start_after"] or begin, begin)
                if job.plan is not None and job.plan_digest is not None:
                    needed[job.plan_digest] = job.plan
        return {d: own if d in concerned else None for d, own in standing.items()}, needed

    def _upload(self, bundle: dict[str, Any]) -> dict[str, Any]:
        packed = zlib.compress(json.dumps(bundle, ensure_ascii=True).encode("ascii"))
        text = base64.b64encode(packed).decode("ascii")
        parts = [text[at : at + _PART_CHARACTERS] for at in range(0, len(text), _PART_CHARACTERS)]
        name = secrets.token_hex(16)
        answer: dict[str, Any] = {}
        for number, data in enumerate(parts):
            answer = self._api.master("write", upload=name, part=number, parts=len(parts), data=data)
        return answer


def _texts(plans: dict[Any, Any]) -> dict[str, str]:
    return {digest: plan.decode("ascii") for digest, plan in plans.items()}


def _noted(answer: dict[str, Any], device_ids: Sequence[str]) -> Noted:
    given, seen = (found if isinstance(found := answer.get(k), dict) else {} for k in ("given", "seen"))
    return Noted(
        {d: [str(job) for job in given[d]] for d in device_ids if isinstance(given.get(d), list)},
        {d: sign if isinstance(sign := seen.get(d), int) else None for d in device_ids},
    )
