"""Reading what devices say, as if every one of them were hostile.

Nothing here touches a device: a manager fetches bytes and says which device they came from
(:class:`DeviceAnswer`), and gets back events and where to go on. Bytes, lines, line lengths, nesting and
numbers are capped; only known fields of the right shape pass; matches must name an IOC file of the job's
plan, and a hash they are proved by must be in it; responses must be about what was asked. A device that
names another device, replays or floods is held: its results for this job are read no further.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..scanner.protocol import FINAL_STATES, dump_json
from .base import Cursor, DeviceEvent, EventKind, Job
from .result_shapes import BadShape, PlanFacts, check_line, check_status

MAX_STATUS_BYTES = 512 * 1024
#: JSON deeper than this is no line of ours: {"item": {"List": ["x"]}} is 3.
MAX_DEPTH = 6


@dataclass(frozen=True)
class Limits:
    """Caps on one device's results for one job, and on one poll."""

    line_bytes: int = 256 * 1024
    poll_bytes_per_device: int = 2 * 1024 * 1024
    poll_bytes: int = 32 * 1024 * 1024
    job_bytes: int = 64 * 1024 * 1024
    job_matches: int = 20_000
    job_rejected: int = 500
    job_rewinds: int = 5


@dataclass(frozen=True)
class DeviceAnswer:
    """What a transport fetched of one device: status.json, and ``chunk`` of results.jsonl from the offset."""

    status: bytes | None = None
    chunk: bytes = b""
    results_bytes: int = 0


@dataclass
class DeviceCursor:
    """How far one device's results were read. Written to and read from the caller's cursor as plain JSON."""

    offset: int = 0
    seq: int = 0
    matches: int = 0
    rejected: int = 0
    rewinds: int = 0
    total: int = 0  # bytes taken so far, those read again included
    skipping: bool = False  # inside a line that was too long
    status: str = ""  # digest of the last state event
    spoke: bool = False  # it said itself how it is
    final: bool = False  # its last word was read, and everything before it
    held: str = ""

    @property
    def closed(self) -> bool:
        """Nothing more is read of this device for this job."""
        return self.final or bool(self.held)

    @classmethod
    def load(cls, raw: object) -> DeviceCursor:
        """Anything of the wrong shape starts over: at least once."""
        cursor = cls()
        if isinstance(raw, Mapping):
            for name, default in vars(cls()).items():
                value = raw.get(name, default)
                if type(value) is type(default) and (not isinstance(value, int) or value >= 0):
                    setattr(cursor, name, value)
        return cursor

    def dump(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value}


@dataclass
class ResultReader:
    """Reads the answers of all devices of one job. Build one per poll."""

    job: Job
    limits: Limits = field(default_factory=Limits)
    #: A match outside this folder tree is no match of a device that is only that tree.
    roots: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._facts = PlanFacts.of(self.job.plan) if self.job.plan is not None else PlanFacts()

    def read(self, device_id: str, answer: DeviceAnswer, cursor: DeviceCursor) -> list[DeviceEvent]:
        """Events of one device; ``cursor`` is moved on. Never raises because of what the device said."""
        if cursor.closed:
            return []
        more = answer.results_bytes > cursor.offset + len(answer.chunk)
        rewinds = cursor.rewinds
        rejected: Counter[tuple[str, str]] = Counter()
        events = []
        # Lines before the state: whoever sees "done" has been given everything that came before it.
        for kind, data in self._lines(device_id, answer, cursor, rejected):
            events.append(DeviceEvent(device_id, kind, data["seq"], data))
            if kind is EventKind.MATCH:
                cursor.matches += 1
        if not cursor.held and not more and cursor.rewinds == rewinds:  # a last word comes last
            events += self._state(device_id, answer, cursor, rejected)
        for (code, message), count in sorted(rejected.items()):
            data = {"code": code, "message": message, "count": count}
            events.append(DeviceEvent(device_id, EventKind.REJECTED, 0, data))
        if cursor.held:
            data = {"code": cursor.held, "message": _HELD[cursor.held]}
            events.append(DeviceEvent(device_id, EventKind.HELD, 0, data))
        return events

    # -- status.json

    def _state(
        self, device_id: str, answer: DeviceAnswer, cursor: DeviceCursor, rejected: Counter[tuple[str, str]]
    ) -> list[DeviceEvent]:
        if answer.status is None:
            return []
        try:
            status = check_status(parse_line(answer.status, MAX_STATUS_BYTES), self.job)
            if status["device_id"] != device_id:
                raise BadShape("wrong_device", "status.json names another device")
        except BadShape as bad:
            digest = hashlib.sha256(answer.status).hexdigest()[:16]
            if digest != cursor.status:  # said once, not on every poll
                cursor.status = digest
                self._reject(bad, cursor, rejected)
            return []
        cursor.spoke = True
        cursor.final = status["state"] in FINAL_STATES
        return state_event(device_id, status, cursor)

    # -- results.jsonl

    def _lines(
        self, device_id: str, answer: DeviceAnswer, cursor: DeviceCursor, rejected: Counter[tuple[str, str]]
    ) -> Iterator[tuple[EventKind, dict[str, Any]]]:
        if answer.results_bytes < cursor.offset:
            self._rewind(BadShape("rewound", "the device's results became shorter"), cursor, rejected)
            return
        for line in self._split(answer.chunk, cursor, rejected):
            if cursor.held:
                return
            try:
                kind, data = check_line(
                    parse_line(line, self.limits.line_bytes), self.job, device_id, self._facts
                )
                if data["seq"] <= cursor.seq:
                    self._rewind(BadShape("replayed", "a line came a second time"), cursor, rejected)
                    return
                root = self.roots.get(device_id)
                if (
                    kind is EventKind.MATCH
                    and root is not None
                    and not data["raw_path"].startswith(root + b"/")
                ):
                    raise BadShape("outside_root", "a match lies outside the device's folder tree")
            except BadShape as bad:
                self._reject(bad, cursor, rejected)
                continue
            cursor.seq = data["seq"]
            data.pop("raw_path", None)
            yield kind, data
            if cursor.matches >= self.limits.job_matches:
                cursor.held = "too_many_matches"
        if cursor.total >= self.limits.job_bytes:
            cursor.held = cursor.held or "too_many_bytes"

    def _split(
        self, chunk: bytes, cursor: DeviceCursor, rejected: Counter[tuple[str, str]]
    ) -> Iterator[bytes]:
        """Complete lines of the chunk; the offset follows. A line over the cap is skipped, not collected."""
        position = 0
        while (end := chunk.find(b"\n", position)) >= 0:
            line, position = chunk[position:end], end + 1
            cursor.offset += len(line) + 1
            cursor.total += len(line) + 1
            if cursor.skipping:
                cursor.skipping = False
            elif line:
                yield line
        rest = len(chunk) - position
        if cursor.skipping or rest > self.limits.line_bytes:
            if not cursor.skipping:
                self._reject(BadShape("line_too_long", "a line is longer than allowed"), cursor, rejected)
            cursor.offset += rest
            cursor.total += rest
            cursor.skipping = True

    def _reject(self, bad: BadShape, cursor: DeviceCursor, rejected: Counter[tuple[str, str]]) -> None:
        rejected[(bad.code, bad.message)] += 1
        if bad.code == "wrong_device":
            cursor.held = "wrong_device"
        cursor.rejected += 1
        if cursor.rejected > self.limits.job_rejected:
            cursor.held = cursor.held or "too_many_rejected"

    def _rewind(self, bad: BadShape, cursor: DeviceCursor, rejected: Counter[tuple[str, str]]) -> None:
        """Start over: after a power loss a scanner writes lines anew. Twice is allowed, lost is not."""
        self._reject(bad, cursor, rejected)
        cursor.offset, cursor.seq, cursor.skipping = 0, 0, False
        cursor.rewinds += 1
        if cursor.rewinds > self.limits.job_rewinds:
            cursor.held = "replayed"


_HELD = {
    "wrong_device": "the device's results name another device",
    "replayed": "the device sends results again and again",
    "too_many_rejected": "too many of the device's lines are not what a scanner writes",
    "too_many_matches": "the device reports more matches than a job may have",
    "too_many_bytes": "the device's results are larger than a job's may be",
}


def state_event(device_id: str, status: dict[str, Any], cursor: DeviceCursor) -> list[DeviceEvent]:
    """A state event, if it says something new since ``cursor``."""
    digest = hashlib.sha256(dump_json(status)).hexdigest()[:16]
    if digest == cursor.status:
        return []
    cursor.status = digest
    return [DeviceEvent(device_id, EventKind.STATE, 0, status)]


def parse_line(line: bytes, limit: int) -> dict[str, Any]:
    """One JSON object, finite numbers only, nested no deeper than MAX_DEPTH. Raises BadShape."""
    if len(line) > limit:
        raise BadShape("line_too_long", "a line is longer than allowed")
    try:
        value = json.loads(line.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        raise BadShape("not_json", "a line is not JSON") from None
    if not isinstance(value, dict):
        raise BadShape("not_json", "a line is not a JSON object")
    if _depth(value) > MAX_DEPTH:
        raise BadShape("too_deep", "a line is nested too deeply")
    return value


def _no_constant(text: str) -> float:
    raise ValueError(text)


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(text)
    return value


def _depth(value: object) -> int:
    """Nesting, counted level by level: json.loads has a recursion guard, we need none."""
    depth, level = 0, [value]
    while level and depth <= MAX_DEPTH:
        depth += 1
        inner: list[object] = []
        for node in level:
            if isinstance(node, dict):
                inner.extend(v for v in node.values() if isinstance(v, (dict, list)))
            elif isinstance(node, list):
                inner.extend(v for v in node if isinstance(v, (dict, list)))
        level = inner
    return depth


def load_cursors(cursor: Cursor | None) -> dict[str, DeviceCursor]:
    """The per-device cursors inside a manager's cursor."""
    devices = cursor.get("devices") if isinstance(cursor, Mapping) else None
    return {str(k): DeviceCursor.load(v) for k, v in devices.items()} if isinstance(devices, Mapping) else {}
