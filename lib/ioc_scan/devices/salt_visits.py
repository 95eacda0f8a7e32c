"""Asking minions: all at once, those that are away not at all, and those that tell by themselves only for results."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress

from ..errors import DeviceError
from .salt_answers import UNPROVEN, Keys, read_visit
from .salt_api import SaltApi
from .salt_events import News
from .salt_presence import Presence, Signs
from .salt_shelf import Shelf
from .spooled import Visit, Visited

#: Minions named in one call.
_AT_ONCE = 500


class SaltVisits:
    """Of one manager, in one process: it remembers what this process has asked and heard."""

    def __init__(self, api: SaltApi, shelf: Shelf, presence: Presence, keys: Keys) -> None:
        self._api = api
        self._shelf = shelf
        self._presence = presence
        self._keys = keys
        self._news = News(api.events, keys)
        self._unproven: dict[str, DeviceError] = {}
        self._unproven_said: set[str] = set()

    def read(self, visits: Sequence[Visit]) -> dict[str, Visited]:
        """Results of devices: from those that have any, as far as that is known. Raises DeviceError."""
        self._news.listen()
        known = {one.device_id: self._news.answer(one) for one in visits}
        visited = {device: heard for device, heard in known.items() if heard is not None}
        asking = [one for one in visits if one.device_id not in visited]
        return visited | self.ask(asking, None) if asking else visited

    def ask(self, visits: Sequence[Visit], signs: Signs | None) -> dict[str, Visited]:
        """Visit the devices, with all that stands for them on the master if ``signs`` are given (the newest)."""
        pull, names = signs is not None, [one.device_id for one in visits]
        suspects = self._presence.silent(names)
        if suspects and signs is None:
            signs = self._shelf.noted(suspects).signs
        away = self._presence.away({name: (signs or {}).get(name) for name in suspects})
        self._push(away)
        visited = {name: Visited(False) for name in away}
        asking = [one for one in visits if one.device_id not in away]
        for at in range(0, len(asking), _AT_ONCE):
            visited |= self._ask_some(asking[at : at + _AT_ONCE], pull, signs)
        return visited

    def take_unproven(self) -> dict[str, DeviceError]:
        """Devices in whose name something was said that they cannot prove; of each once."""
        new = {d: error for d, error in self._unproven.items() if d not in self._unproven_said}
        self._unproven_said |= new.keys()
        return new

    # -- inside

    def _ask_some(self, visits: Sequence[Visit], pull: bool, signs: Signs | None) -> dict[str, Visited]:
        nonce, names = secrets.token_hex(16), [one.device_id for one in visits]
        if pull:
            answers = self._api.minions(names, "visit", {"nonce": nonce})
        else:
            wanted = {one.device_id: one.read for one in visits}
            answers = self._api.minions(names, "read", {"nonce": nonce, "jobs": wanted})
        visited = {}
        for one in visits:
            visited[one.device_id], tells = read_visit(answers.get(one.device_id), one, nonce, self._keys)
            error = visited[one.device_id].error
            if isinstance(error, DeviceError) and error.code == UNPROVEN:
                self._unproven[one.device_id] = error
            self._news.asked(one, visited[one.device_id], tells)
        silent = [one.device_id for one in visits if one.device_id not in answers]
        if silent and not pull:
            signs = self._shelf.noted(silent).signs
        self._presence.note(list(answers), {device: (signs or {}).get(device) for device in silent})
        return visited

    def _push(self, away: set[str]) -> None:
        """It costs the others nothing, and brings those back that are there again."""
        due = self._presence.due_for_push(away) if away else []
        with suppress(
            DeviceError
        ):  # master.conf of an earlier version does not allow it: their schedule does
            for at in range(0, len(due), _AT_ONCE):
                self._api.push(due[at : at + _AT_ONCE])
