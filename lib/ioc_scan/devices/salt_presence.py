"""Which minions did not answer when they were asked last: they are not waited for again.

The master notes when a minion's module asks for its jobs, which it does when it starts, when pushed, and on
its schedule. While that note stands where it stood when the minion was silent, the minion is away. It is then
pushed now and then without waiting; once it has fetched its jobs it is asked again like the others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..clock import Clock
from ..scanner.errors import ScannerError
from ..scanner.protocol import read_json, write_json_atomic
from .private import locked

_LOCK = "silent.lock"
#: A minion that is away is pushed no more often.
_PUSH_SECONDS = 60
#: By device, the master's note of its last sign of life: a number that grows, None before the first.
Signs = Mapping[str, int | None]


class Presence:
    """A small file beside the queue. Several processes may use it at once."""

    def __init__(self, folder: Path, *, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock

    def silent(self, device_ids: Collection[str]) -> list[str]:
        """Those that did not answer when they were asked last."""
        known = self._read()
        return [device for device in device_ids if device in known] if known else []

    def away(self, signs: Signs) -> set[str]:
        """Those of them that gave no sign of life since."""
        known = self._read()
        return {d for d, sign in signs.items() if d in known and known[d].get("sign") == sign}

    def note(self, answered: Collection[str], silent: Signs) -> None:
        """What came of asking; ``silent``: with the signs of life from before."""
        known = self._read()
        if not silent and not known.keys() & set(answered):
            return
        with locked(self._folder, _LOCK):
            known = self._read()
            for device in answered:
                known.pop(device, None)
            for device, sign in silent.items():
                known[device] = {**known.get(device, {"pushed": 0}), "sign": sign}
            write_json_atomic(self._path, known)

    def due_for_push(self, device_ids: Collection[str]) -> list[str]:
        """Those to be pushed now; they are noted as pushed."""
        now = int(self._clock().timestamp())
        with locked(self._folder, _LOCK):
            known = self._read()
            due = [d for d in device_ids if d in known and abs(now - known[d]["pushed"]) >= _PUSH_SECONDS]
            for device in due:
                known[device]["pushed"] = now
            if due:
                write_json_atomic(self._path, known)
        return due

    # -- inside

    @property
    def _path(self) -> Path:
        return self._folder / "silent.json"

    def _read(self) -> dict[str, dict[str, Any]]:
        """A file that is not ours (any more) starts over: everybody is asked again."""
        with suppress(OSError, ScannerError):
            found = read_json(self._path)
            if isinstance(found, dict) and all(isinstance(v, dict) and "pushed" in v for v in found.values()):
                return found
        return {}
