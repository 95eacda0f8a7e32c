"""Devices with a Salt minion: jobs wait for them in their own pillar, and a push only says "look".

The pack speaks to salt-api alone. What a device shall do stands on the master (:mod:`.salt_shelf`); the
execution module ``ioc_scan`` on the minion fetches it, when pushed, when the minion starts, and on its
schedule. A device that was off is thus served when it is back, without us.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..clock import Clock
from ..errors import DeviceError
from ..scanner_build import zipapp_bytes
from .base import (
    DEVICE_ID,
    Capability,
    ControlOp,
    Cursor,
    Device,
    DeviceEvent,
    EventKind,
    Group,
    Online,
    Problem,
    Withdrawal,
)
from .results import Limits
from .salt_answers import Keys
from .salt_api import SaltApi, SaltSettings, check_url
from .salt_groups import SaltGroup, invalid, salt_group
from .salt_health import salt_problems
from .salt_presence import Presence
from .salt_shelf import Given, Shelf
from .salt_visits import SaltVisits
from .spooled import SpooledManager, Visit, Visited

_SYSTEMS = ("linux", "windows", "macos")


class SaltManager(SpooledManager):
    """``type: salt``. Keeps its queue in ``spool`` on this side."""

    caps = SpooledManager.caps | {Capability.OFFLINE_QUEUE}

    def __init__(
        self,
        name: str,
        folder: Path,
        groups: Mapping[str, SaltGroup],
        settings: SaltSettings,
        *,
        clock: Clock,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(name, folder, clock=clock, limits=limits)
        self._groups = groups
        self._api = SaltApi(settings, self.memory, clock=clock)
        keys = Keys(self.memory)
        self._shelf = Shelf(self._api, self._queue, self._job_document, self._scanner, keys.key)
        self._presence = Presence(self.memory, clock=clock)
        self._visits = SaltVisits(self._api, self._shelf, self._presence, keys)
        self._members: dict[str, dict[str, Device]] = {}
        self._digest = ""

    @classmethod
    def from_config(cls, entry: Mapping[str, Any], *, clock: Clock) -> SaltManager:
        """Raises ConfigError ``manager_invalid``; reads no file and reaches no master yet."""
        name = str(entry.get("name") or "salt")
        texts = {}
        for key in ("url", "username", "password_file", "spool"):
            value = entry.get(key)
            if not isinstance(value, str) or not value:
                raise invalid(name, f"has no {key}", "docs/devices.md shows an entry of type salt")
            texts[key] = value
        check_url(name, texts["url"])
        groups: dict[str, SaltGroup] = {}
        for raw in entry.get("groups") or []:
            one = salt_group(name, raw)
            groups[one.group.name] = one
        optional: dict[str, Any] = {k: entry[k] for k in ("eauth", "answer_timeout_seconds") if entry.get(k)}
        settings = SaltSettings(
            url=texts["url"],
            username=texts["username"],
            password_file=Path(texts["password_file"]),
            ca_file=Path(str(entry["ca_file"])) if entry.get("ca_file") else None,
            **optional,
        )
        return cls(name, Path(texts["spool"]), groups, settings, clock=clock)

    # -- who is there

    def groups(self) -> list[Group]:
        return [one.group for one in self._groups.values()]

    def _devices_of(self, group: str) -> list[Device] | None:
        return list(self._members_of(group).values()) if group in self._groups else None

    def _knows(self, device_id: str) -> bool:
        return any(device_id in self._members_of(group) for group in self._groups)

    def _members_of(self, name: str) -> dict[str, Device]:
        """Minions of the group, on or off. Asked once: an action lives for seconds."""
        if name not in self._members:
            group = self._groups[name]
            target = list(group.target) if isinstance(group.target, tuple) else group.target
            answer = self._api.master("devices", target=target, target_type=group.target_type)
            rows = [row for row in answer.get("devices") or () if isinstance(row, list) and len(row) == 3]
            found = {str(row[0]): row[1:] for row in rows if DEVICE_ID.fullmatch(str(row[0]))}
            away = self._presence.away({device: sign for device, (_, sign) in found.items()})
            self._members[name] = {
                device: Device(
                    device,
                    name,
                    system if system in _SYSTEMS else "unknown",
                    Online.NO if device in away else Online.UNKNOWN,
                    group.tags.get(device, ()),
                )
                for device, (system, _) in found.items()
            }
        return self._members[name]

    # -- the interface, where devices may take a job without us

    def poll(self, job_id: str, cursor: Cursor | None) -> tuple[list[DeviceEvent], Cursor]:
        self._notice(job_id)
        events, cursor = super().poll(job_id, cursor)
        if not self._queue.withdrawn(job_id):
            events += [
                DeviceEvent(device, EventKind.REJECTED, 0, {**error.as_dict(), "count": 1})
                for device, error in self._visits.take_unproven().items()
            ]
        return events, cursor

    def control(self, job_id: str, op: ControlOp | str, device_ids: Sequence[str] | None = None) -> None:
        job, word = self._queue.get(job_id), ControlOp(op)
        chosen = set(job.device_ids if device_ids is None else device_ids)
        self._queue.set_control(
            job_id, word, [d for d in job.device_ids if d in chosen]
        )  # holds, master or not
        self._notice(job_id)
        super().control(job_id, word, device_ids)
        with self._shelf.locked():  # for those who take the job later
            waiting = self._waiting(job_id)
            if waiting:
                self._take_up(self._shelf.write(waiting, self._clock()).given)

    def withdraw(self, job_id: str) -> Withdrawal:
        if not self._queue.withdrawn(job_id):
            with self._shelf.locked():
                self._queue.get(job_id)
                self._take_back(job_id)
                self._queue.start_withdrawal(job_id, self._clock())
        try:
            return super().withdraw(job_id)
        except DeviceError:  # the master is away: whoever may hold the job is asked when it is back
            return self._queue.confirm_withdrawal(job_id, ())

    def _take_back(self, job_id: str) -> None:
        """No device gets the job any more; those that were handed it are noted as such."""
        waiting = self._waiting(job_id)
        if not waiting:
            return
        try:
            given = self._shelf.write(waiting, self._clock(), without=job_id).given
        except DeviceError:  # it stands there still, so each of them may come to hold it
            given = {device: [job_id] for device in waiting}
        self._take_up(given)

    def _waiting(self, job_id: str) -> list[str]:
        """Devices the job is offered to, of which nothing is known yet."""
        return sorted(self._shelf.offered(job_id) - self._queue.sent(job_id).keys())

    def _notice(self, job_id: str) -> None:
        """Learn which waiting devices have taken the job by themselves."""
        if waiting := self._waiting(job_id):
            self._take_up(self._shelf.noted(waiting).given)

    def _take_up(self, given: Given) -> None:
        sent: dict[str, Mapping[str, str]] = {}
        for device, job_ids in given.items():
            for job_id in job_ids:
                if job_id not in sent:
                    sent[job_id] = self._queue.sent(job_id)
                if device not in sent[job_id]:
                    self._queue.mark_sent(job_id, device)

    # -- visits

    def _carry_out(self, visits: Sequence[Visit], before: Callable[[Visit], None]) -> dict[str, Visited]:
        if all(_only_reads(one) for one in visits):
            return self._visits.read(visits)
        with self._shelf.locked():  # what is to be placed stands there, with all else that stands for them
            offered = [job for one in visits for job in one.place if self._shelf.offer(job.id, one.device_id)]
            plans = {job.plan_digest: job for job in offered}.values()
            noted = self._shelf.write([one.device_id for one in visits], self._clock(), plans=plans)
            self._take_up(noted.given)
        visited = self._visits.ask(visits, noted.signs)
        for one in visits:
            if one.place and visited[one.device_id].reached:
                before(one)  # it holds them by now; what was withdrawn meanwhile is owed already
        return visited

    def _scanner(self) -> str:
        """The digest of the scanner of this version; the operator puts the file itself on the master."""
        if not self._digest:
            self._digest = hashlib.sha256(zipapp_bytes()).hexdigest()
        return self._digest

    # -- health

    def _health_problems(self) -> list[Problem]:
        return salt_problems(self._api, self._scanner(), list(self._groups), self._members_of)


# ------------------------------------------------------------------------------------------------ inside


def _only_reads(one: Visit) -> bool:
    return bool(one.read) and not (one.withdraw or one.place or one.control or one.start)
