"""Devices with a Salt minion: jobs wait for them in their own pillar, and a push only says "look".

The pack speaks to salt-api alone. What a device shall do stands on the master (:mod:`.salt_shelf`); the
execution module ``ioc_scan`` on the minion fetches it, when pushed, when the minion starts, and on its
schedule. A device that was off is thus served when it is back, without us.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..clock import Clock
from ..errors import ConfigError, DeviceError
from ..scanner_build import zipapp_bytes
from ..text import printable
from . import wire
from .base import (
    DEVICE_ID,
    Capability,
    ControlOp,
    Cursor,
    Device,
    DeviceEvent,
    Group,
    Online,
    Problem,
    Withdrawal,
)
from .results import Limits
from .salt_api import SaltApi, SaltSettings, check_url
from .salt_health import salt_problems
from .salt_shelf import Given, Shelf
from .spooled import SpooledManager, Visit, Visited

TARGET_TYPES = ("list", "glob", "grain", "nodegroup", "compound", "pcre")
#: Minions named in one call.
_AT_ONCE = 500
_SYSTEMS = ("linux", "windows", "macos")


@dataclass(frozen=True)
class SaltGroup:
    """A group of config: who is in it is Salt's word, what is said of single devices is the operator's."""

    group: Group
    target: str | tuple[str, ...]
    target_type: str
    tags: Mapping[str, tuple[str, ...]]


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
        self._shelf = Shelf(self._api, self._queue, self._job_document, self._scanner)
        self._members: dict[str, dict[str, str]] = {}
        self._digest = ""

    @classmethod
    def from_config(cls, entry: Mapping[str, Any], *, clock: Clock) -> SaltManager:
        """Raises ConfigError ``manager_invalid``; reads no file and reaches no master yet."""
        name = str(entry.get("name") or "salt")
        texts = {}
        for key in ("url", "username", "password_file", "spool"):
            value = entry.get(key)
            if not isinstance(value, str) or not value:
                raise _invalid(name, f"has no {key}", "docs/devices.md shows an entry of type salt")
            texts[key] = value
        check_url(name, texts["url"])
        groups: dict[str, SaltGroup] = {}
        for raw in entry.get("groups") or []:
            one = _group(name, raw)
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
        if group not in self._groups:
            return None
        tags = self._groups[group].tags
        return [
            Device(device, group, system, Online.UNKNOWN, tags.get(device, ()))
            for device, system in self._members_of(group).items()
        ]

    def _knows(self, device_id: str) -> bool:
        return any(device_id in self._members_of(group) for group in self._groups)

    def _members_of(self, name: str) -> dict[str, str]:
        """Minions of the group and their systems, on or off. Asked once: an action lives for seconds."""
        if name not in self._members:
            group = self._groups[name]
            target = list(group.target) if isinstance(group.target, tuple) else group.target
            answer = self._api.master("devices", target=target, target_type=group.target_type)
            found = answer.get("devices")
            pairs = [pair for pair in found if isinstance(pair, list) and len(pair) == 2] if found else []
            self._members[name] = {
                str(device): system if system in _SYSTEMS else "unknown"
                for device, system in pairs
                if DEVICE_ID.fullmatch(str(device))
            }
        return self._members[name]

    # -- the interface, where devices may take a job without us

    def poll(self, job_id: str, cursor: Cursor | None) -> tuple[list[DeviceEvent], Cursor]:
        self._notice(job_id)
        return super().poll(job_id, cursor)

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
                self._take_up(self._shelf.write(waiting, self._clock()))

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
            given = self._shelf.write(waiting, self._clock(), without=job_id)
        except DeviceError:  # it stands there still, so each of them may come to hold it
            given = {device: [job_id] for device in waiting}
        self._take_up(given)

    def _waiting(self, job_id: str) -> list[str]:
        """Devices the job is offered to, of which nothing is known yet."""
        return sorted(self._shelf.offered(job_id) - self._queue.sent(job_id).keys())

    def _notice(self, job_id: str) -> None:
        """Learn which waiting devices have taken the job by themselves."""
        if waiting := self._waiting(job_id):
            self._take_up(self._shelf.given(waiting))

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
        pull = not all(_only_reads(one) for one in visits)
        if pull:
            self._put(visits)
        visited: dict[str, Visited] = {}
        for at in range(0, len(visits), _AT_ONCE):
            part = visits[at : at + _AT_ONCE]
            asked = {
                "scanner": self._scanner(),
                "pull": pull,
                "read": {one.device_id: one.read for one in part if one.read},
            }
            answers = self._api.minions([one.device_id for one in part], "visit", asked)
            for one in part:
                visited[one.device_id] = _visited(answers.get(one.device_id), one)
                if one.place and visited[one.device_id].reached:
                    before(one)  # it holds them by now; what was withdrawn meanwhile is owed already
        return visited

    def _put(self, visits: Sequence[Visit]) -> None:
        """Let what is to be placed stand on the master, with everything else that stands for the devices."""
        with self._shelf.locked():
            offered = [job for one in visits for job in one.place if self._shelf.offer(job.id, one.device_id)]
            plans = {job.plan_digest: job for job in offered}.values()
            given = self._shelf.write([one.device_id for one in visits], self._clock(), plans=plans)
            self._take_up(given)

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


def _visited(said: object, one: Visit) -> Visited:
    """What a minion returned, judged before anything of it is used."""
    if said is None or said is False:
        return Visited(False)
    if isinstance(said, dict) and isinstance(said.get("answer"), str):
        limit = wire.answer_limit(one)
        try:
            inflate = zlib.decompressobj()
            raw = inflate.decompress(base64.b64decode(said["answer"], validate=True), limit)
            if inflate.eof:
                return wire.read_answer(raw, one)
        except (binascii.Error, zlib.error, ValueError):
            pass
        except DeviceError as error:
            return Visited(False, error=error)
    elif isinstance(said, str) and "is not available" in said:
        return Visited(
            False,
            error=DeviceError(
                "salt_module_missing",
                f"{one.device_id} has no execution module ioc_scan",
                "docs/salt/_modules/ioc_scan.py belongs under _modules of file_roots: salt '*' saltutil.sync_modules",
            ),
        )
    return Visited(
        False,
        error=DeviceError(
            "device_answer_bad",
            f"{one.device_id} did not answer as the module ioc_scan does",
            "salt-call ioc_scan.sync on the device; its log has the rest",
        ),
    )


def _group(name: str, raw: Mapping[str, Any]) -> SaltGroup:
    group = Group(str(raw.get("name") or ""), str(raw.get("description") or ""))
    devices = {str(d.get("id")): tuple(str(t) for t in d.get("tags") or ()) for d in raw.get("devices") or []}
    kind = str(raw.get("target_type") or ("glob" if raw.get("target") else "list"))
    target: str | tuple[str, ...] = str(raw["target"]) if raw.get("target") else tuple(devices)
    if kind == "list" and isinstance(target, str):
        target = tuple(part.strip() for part in target.split(","))
    if not group.name or not target or kind not in TARGET_TYPES:
        raise _invalid(
            name,
            f"has a group {printable(group.name, 100)} without a usable target",
            f"give target and target_type ({', '.join(TARGET_TYPES)}), or devices by id",
        )
    return SaltGroup(group, target, kind, devices)


def _invalid(name: str, why: str, hint: str) -> ConfigError:
    return ConfigError("manager_invalid", f"device manager {printable(name, 100)} {why}", hint)
