"""News from salt-api's event stream, listened to for as long as one action asks for results.

An action lives for seconds, so nothing listens in between: the first look of an action asks every device, and
from then on only those are asked that told of results, or that do not tell. What a device tells is proven to
be its own (:mod:`.salt_answers`) and is its progress at most: results and last words are read from the device.
Where there is no stream, or it breaks, or somebody floods it, every look asks again.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import requests

from ..errors import IocScanError
from ..scanner.protocol import FINAL_STATES
from .results import DeviceAnswer
from .salt_answers import Keys, read_news
from .spooled import Visit, Visited

#: A device that is silent for so long is asked, whatever the stream says.
TRUST_SECONDS = 10.0
#: The most one connection may last and bring, whoever sends it.
MAX_SECONDS = 60.0
MAX_BYTES = 64 * 1024 * 1024
MAX_LINE_BYTES = 512 * 1024
#: A connection that nobody looks at for so long is over: salt-api has a thread busy with each.
IDLE_SECONDS = 5.0
#: How long a look waits for the stream to be there; one that was not is tried again only after some time.
_PATIENCE_SECONDS = 2.0
_RETRY_SECONDS = 30.0
#: Jobs of one device whose news are kept until somebody takes them.
_KEPT_JOBS = 40


class News:
    """``connect`` opens the stream and gives its bytes as they come. Raises nothing: no stream, no news."""

    def __init__(self, connect: Callable[[], Iterator[bytes]], keys: Keys) -> None:
        self._connect = connect
        self._keys = keys
        self._stream: _Stream | None = None
        self._tried = -_RETRY_SECONDS
        #: When these were last asked, while the stream was there.
        self._asked: dict[str, float] = {}

    def listen(self) -> None:
        """Have the stream open before devices are asked, so that nothing falls in between."""
        if self._stream is not None and self._stream.open:
            self._stream.used = time.monotonic()
            return
        self._stream = None
        self._asked.clear()
        if time.monotonic() - self._tried < _RETRY_SECONDS:
            return
        stream = _Stream(self._connect, self._keys)
        if stream.ready.wait(_PATIENCE_SECONDS) and stream.open:
            self._stream = stream
        else:
            self._tried = time.monotonic()

    def asked(self, one: Visit, visited: Visited, tells: bool) -> None:
        """The device was asked just now. One that has more to say, or never tells, is asked again."""
        self._asked.pop(one.device_id, None)
        rest = any(
            answer.results_bytes > one.read[job_id]["offset"] + len(answer.chunk)
            for job_id, answer in visited.answers.items()
        )
        if tells and visited.reached and not rest and self._stream is not None:
            self._asked[one.device_id] = time.monotonic()
            self._stream.forget(one.device_id)

    def answer(self, one: Visit) -> Visited | None:
        """What is known of the device without asking it; None: ask it."""
        if self._stream is None or not self._stream.open or one.device_id not in self._asked:
            return None
        if time.monotonic() - self._asked[one.device_id] > TRUST_SECONDS:
            return None
        answers = {}
        for job_id, status in self._stream.take(one.device_id, one.read).items():
            if status is None or not _mere_progress(status, one.read[job_id]["offset"]):
                return None
            answers[job_id] = DeviceAnswer(status, b"", one.read[job_id]["offset"])
        return Visited(reached=bool(answers), answers=answers)


def _mere_progress(raw: bytes, offset: int) -> bool:
    """Whether nothing but the status is new. What is malformed is judged where answers are."""
    with suppress(ValueError, AttributeError, RecursionError):
        status = json.loads(raw)
        return status.get("state") not in FINAL_STATES and status.get("results_bytes", 0) == offset
    return False


class _Stream:
    """One connection, read by a thread that ends with it (and with the process)."""

    def __init__(self, connect: Callable[[], Iterator[bytes]], keys: Keys) -> None:
        self.ready = threading.Event()
        self.open = True
        self.used = time.monotonic()
        self._connect = connect
        self._keys = keys
        self._lock = threading.Lock()
        self._told: dict[str, dict[str, bytes | None]] = {}
        self._of_interest: set[str] = set()
        self._ours = False  # the next data line
        threading.Thread(target=self._run, name="salt events", daemon=True).start()

    def take(self, device_id: str, job_ids: Iterable[str]) -> dict[str, bytes | None]:
        """What the device told of these jobs since they were taken last."""
        with self._lock:
            told = self._told.get(device_id, {})
            return {job_id: told.pop(job_id) for job_id in job_ids if job_id in told}

    def forget(self, device_id: str) -> None:
        """What it told until now is known; what it tells from now on is of interest."""
        with self._lock:
            self._told.pop(device_id, None)
            self._of_interest.add(device_id)

    def _run(self) -> None:
        try:
            for line in _lines(self._connect()):
                self.ready.set()
                self._take_line(line)
                if time.monotonic() - self.used > IDLE_SECONDS:
                    break
        except (IocScanError, OSError, requests.RequestException, _TooMuch):
            pass  # devices are asked instead
        finally:
            self.open = False
            self.ready.set()

    def _take_line(self, line: bytes) -> None:
        """Events come as two lines, ``tag: ...`` and ``data: <JSON>``; of those of others no JSON is read."""
        if line.startswith(b"tag: "):
            self._ours = line.startswith(b"tag: salt/beacon/") and line.rstrip(b"/").endswith(b"/ioc_scan")
        elif self._ours and line.startswith(b"data: "):
            self._ours = False
            with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
                self._take_event(json.loads(line[len(b"data: ") :])["data"])

    def _take_event(self, data: Mapping[str, Any]) -> None:
        said = data.get("data", data)
        device_id = said["id"]
        with self._lock:
            if device_id not in self._of_interest:
                return
        told = read_news(said, device_id, self._keys)
        with self._lock:
            kept = self._told.setdefault(device_id, {})
            for job_id, status in told.items():
                if job_id in kept or len(kept) < _KEPT_JOBS:
                    kept[job_id] = status


class _TooMuch(Exception):
    pass


def _lines(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Lines as they come; one that is too long is passed over. Raises _TooMuch past all bounds."""
    end = time.monotonic() + MAX_SECONDS
    rest, size, skipping = b"", 0, False
    for part in parts:
        size += len(part)
        if size > MAX_BYTES or time.monotonic() > end:
            raise _TooMuch
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            if not skipping:
                yield line
            skipping = False
        if len(rest) > MAX_LINE_BYTES:
            rest, skipping = b"", True
