"""What the server tells of a task becomes events of the pack: states of hosts, and events of found objects.

Which event says "an IOC was found", and which of its parameters is what, is not published: configuration says so.
An event that lacks what a match needs, or names an object that is not in the plan, is rejected and counted.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..clock import to_iso
from ..errors import ConfigError
from ..text import printable
from .base import Job
from .ksc_ioc import Matcher, item_key
from .ksc_parts import Part
from .result_shapes import MAX_SHORT, BadShape, clean
from .status import own_status

#: Bits of a task's state on a host (KSC Open API, task states).
PENDING, RUNNING, OK, WARNING, FAILED, SCHEDULED, PAUSED = 1, 2, 4, 8, 16, 32, 64
_STATES = {
    PENDING: "delivered",
    SCHEDULED: "delivered",
    RUNNING: "running",
    PAUSED: "paused",
    OK: "done",
    WARNING: "done",
    FAILED: "failed",
}
#: Of several tasks on one device, the state that says most about what is still to come.
_ORDER = ("running", "paused", "delivered", "failed", "done")
_EVENT_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}\Z")
_PARAMETER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_MD5 = re.compile(r"[0-9a-f]{32}\Z")
MAX_PATH_CHARS = 32_767


@dataclass(frozen=True)
class EventShape:
    """One configured type of event, and the parameters that hold an object's hash and path."""

    type: str
    sha256: str = "GNRL_EA_PARAM_1"
    path: str = "GNRL_EA_PARAM_2"
    details: str = "GNRL_EA_PARAM_9"

    @classmethod
    def from_config(cls, name: str, raw: Mapping[str, Any] | None) -> EventShape | None:
        """Raises ConfigError ``ksc_event_invalid``."""
        if not raw or not raw.get("type"):
            return None
        shape = cls(
            str(raw["type"]),
            str(raw.get("sha256") or cls.sha256),
            str(raw.get("path") or cls.path),
            str(raw.get("details") or cls.details),
        )
        for text, pattern in (
            (shape.type, _EVENT_TYPE),
            (shape.sha256, _PARAMETER),
            (shape.path, _PARAMETER),
        ):
            if not pattern.match(text):
                raise ConfigError(
                    "ksc_event_invalid", f"{name}: {printable(text, 80)} cannot be an event or parameter"
                )
        return shape

    @property
    def fields(self) -> list[str]:
        known = ["event_db_id", "event_type", "rise_time", "hostname", "task_display_name"]
        return [*known, *dict.fromkeys((self.sha256, self.path, self.details))]


@dataclass(frozen=True)
class FoundObject:
    """An event's object. ``digest`` is its SHA-256, or its MD5 where it names nothing better."""

    sha256: str | None
    md5: str | None
    path: str

    @classmethod
    def of(cls, row: Mapping[str, Any], shape: EventShape) -> FoundObject:
        """Raises BadShape: a missing hash or path, or parameters in another order than configured."""
        sha256 = _hex(row.get(shape.sha256), _SHA256)
        md5 = _hex(_details(row.get(shape.details)).get("md5"), _MD5)
        path = row.get(shape.path)
        if not isinstance(path, str) or not path or len(path) > MAX_PATH_CHARS:
            raise BadShape("ksc_event_path", "an event names no path")
        if sha256 is None and md5 is None:
            raise BadShape("ksc_event_hash", "an event names no hash where configuration says it does")
        if _SHA256.match(path.lower()):
            raise BadShape("ksc_event_swapped", "an event has a hash where its path should be")
        return cls(sha256, md5, path)

    @property
    def digest(self) -> str:
        return self.sha256 or self.md5 or ""


def match_data(found: FoundObject, device_id: str, part: Part, matcher: Matcher) -> dict[str, Any]:
    """A match's data, without seq. Raises BadShape: the plan has no such object."""
    path = clean(found.path)
    item: dict[str, Any] = {"FullPath": path, "FileName": re.split(r"[\\/]", path)[-1]}
    if found.sha256 is not None:
        item["Sha256sum"] = found.sha256
    if found.md5 is not None:
        item["Md5sum"] = found.md5
    item, proof = matcher.match(part.ioc_digest, item)
    tier = matcher.tiers[part.ioc_digest]
    if tier == "actionable" and (proof is None or found.sha256 is None):
        raise BadShape("foreign_hash", "a match is not of an object whose hash is in the plan")
    return {
        "ioc": part.ioc_digest,
        "tier": tier,
        "document": "FileItem",
        "item": item,
        "item_key": item_key(device_id, path, found.digest),
        "path": path,
        "path_b64": base64.b64encode(found.path.encode("utf-8", "surrogatepass")).decode("ascii"),
        "sha256": found.sha256,
        "size": item.get("SizeInBytes"),
        "device": None,
        "inode": None,
        "proof": list(proof or ()),
    }


def device_status(
    job: Job, device_id: str, rows: Sequence[Mapping[str, Any] | None], *, cancelled: bool, unseen: bool
) -> dict[str, Any]:
    """The state of one device from the rows of all tasks that are about it (None: it has none yet).

    ``unseen``: no event of found objects is configured, so that "done" does not mean "nothing there".
    """
    words, errors, notes = [], [], []
    for row in rows:
        word = _STATES.get(_bits(row), "delivered") if row is not None else "delivered"
        described = (
            clean(row["state_descr"], MAX_SHORT) if row and isinstance(row.get("state_descr"), str) else ""
        )
        if word == "failed" and cancelled:
            word = "cancelled"
        if word == "failed":
            message = described or "the task failed on the device"
            errors.append(
                {"code": "ksc_task_failed", "message": message, "hint": "see the device in the console"}
            )
        if row is not None and _bits(row) == WARNING:
            notes.append({"what": "task", "reason": described or "it finished with a warning"})
        words.append(word)
    if unseen:
        notes.append({"what": "found objects", "reason": "no event of found IOCs is configured"})
    state = next((word for word in _ORDER if word in words), "cancelled")
    told = [row for row in rows if row is not None]
    return {
        **own_status(job, device_id, state, errors[0] if errors and state == "failed" else None),
        "started_at": _moment(told, "start_time", min),
        "finished_at": _moment(told, "finish_time", max)
        if state in ("done", "failed", "cancelled")
        else None,
        "progress": _progress(rows),
        "not_evaluated": notes,
    }


def _bits(row: Mapping[str, Any] | None) -> int:
    value = row.get("state_code") if row is not None else None
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _progress(rows: Sequence[Mapping[str, Any] | None]) -> float | None:
    percents = [row.get("completed_percent") if row is not None else 0 for row in rows]
    known = [p for p in percents if isinstance(p, int) and not isinstance(p, bool) and 0 <= p <= 100]
    return round(sum(known) / len(known) / 100, 2) if known and len(known) == len(percents) else None


def _moment(rows: Sequence[Mapping[str, Any]], name: str, pick: Any) -> str | None:
    moments = [row[name] for row in rows if isinstance(row.get(name), datetime)]
    return to_iso(pick(moments)) if moments else None


def _hex(value: object, pattern: re.Pattern[str]) -> str | None:
    text = value.strip().lower() if isinstance(value, str) else ""
    return text if pattern.match(text) else None


def _details(value: object) -> Mapping[str, Any]:
    if not isinstance(value, str) or len(value) > 10_000:
        return {}
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}
