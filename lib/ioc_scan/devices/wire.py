"""A visit over a wire: the request as bytes, and the answer judged before anything of it is used."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

from ..errors import DeviceError
from ..scanner.protocol import PROTOCOL_VERSION
from ..scanner.visit import MAX_STATUS_BYTES, encode_request
from ..text import printable
from .base import LeftBehind
from .result_shapes import BadShape, clean
from .results import DeviceAnswer
from .spooled import Visit, Visited

#: What an answer may hold beside the bytes asked for.
_OVERHEAD_BYTES = 1024 * 1024
#: Objects that one withdrawn job may have left in quarantine: what a response may be about; and a row of those.
MAX_LEFT, _LEFT_BYTES = 10_000, 400
_SHORT_ID = re.compile(r"[A-Za-z0-9._:@-]{1,200}", re.ASCII)
_QUARANTINE_ID = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def request_for(one: Visit, jobs: list[dict[str, Any]], root: str | None, digest: str) -> bytes:
    """The request of one visit, with the plans its jobs need. ``digest``: of the scanner that is there."""
    request = {
        "protocol": PROTOCOL_VERSION,
        "device_id": one.device_id,
        "root": root,
        "withdraw": one.withdraw,
        "place": jobs,
        "control": one.control,
        "start": one.start,
        "scanner_digest": digest,
        "read": one.read,
    }
    plans = {job.plan_digest: job.plan for job in one.place if job.plan is not None and job.plan_digest}
    return encode_request(request, plans)


def answer_limit(one: Visit) -> int:
    """The most bytes an honest answer can have."""
    wanted = sum(part["limit"] + MAX_STATUS_BYTES for part in one.read.values())
    return _OVERHEAD_BYTES + wanted * 4 // 3 + (MAX_LEFT * _LEFT_BYTES if one.withdraw else 0)


def read_answer(raw: bytes, one: Visit) -> Visited:
    """The device's answer, as far as it is about what was asked. Raises DeviceError ``device_answer_bad``."""
    try:
        answer = json.loads(raw)
        if not isinstance(answer, dict) or answer.get("protocol") != PROTOCOL_VERSION:
            raise BadShape("wrong_protocol", "another protocol")
        if isinstance(answer.get("error"), dict):
            return Visited(False, error=_device_error(answer["error"]))
        jobs = answer["jobs"]
        return Visited(
            reached=True,
            withdrawn=tuple(job_id for job_id in one.withdraw if job_id in answer["withdrawn"]),
            held=tuple(job.id for job in one.place if job.id in answer["held"]),
            failed={
                j.id: _device_error(answer["failed"][j.id]).as_dict()
                for j in one.place
                if j.id in answer["failed"]
            },
            answers={job_id: _answer(jobs[job_id], part["limit"]) for job_id, part in one.read.items()},
            left=left_of(answer, one),
            health=_health(answer.get("health")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error, BadShape):
        raise DeviceError(
            "device_answer_bad",
            f"{one.device_id} did not answer as a scanner does",
            "see what the log-in shell of that account prints, and which Python it finds",
        ) from None


def left_of(answer: Mapping[str, Any], one: Visit) -> dict[str, tuple[LeftBehind, ...]]:
    """By withdrawn job: what it left in quarantine there. What has not the shape of that is passed over."""
    told = answer.get("left")
    if not isinstance(told, dict):
        return {}
    found: dict[str, tuple[LeftBehind, ...]] = {}
    for job_id in one.withdraw:
        rows = told.get(job_id)
        if isinstance(rows, list):
            parsed = (_left(one.device_id, row) for row in rows[:MAX_LEFT])
            found[job_id] = tuple(left for left in parsed if left is not None)
    return found


def _left(device_id: str, row: object) -> LeftBehind | None:
    if not isinstance(row, dict):
        return None
    match_id, quarantine_id, sha256, size = (
        row.get(n) for n in ("match_id", "quarantine_id", "sha256", "size")
    )
    texts = ((match_id, _SHORT_ID), (quarantine_id, _QUARANTINE_ID), (sha256, _SHA256))
    if not all(isinstance(text, str) and shape.fullmatch(text) for text, shape in texts):
        return None
    if type(size) is not int or not 0 <= size < 2**63:
        return None
    return LeftBehind(device_id, str(match_id), str(quarantine_id), str(sha256), size)


def _answer(raw: Mapping[str, Any], limit: int) -> DeviceAnswer:
    status = None if raw["status"] is None else base64.b64decode(raw["status"], validate=True)
    chunk = base64.b64decode(raw["chunk"], validate=True)
    size = raw["results_bytes"]
    if not isinstance(size, int) or len(chunk) > limit or size < 0:
        raise BadShape("bad_field", "more than was asked for")
    return DeviceAnswer(status, chunk, size)


def _health(raw: object) -> dict[str, Any]:
    if not isinstance(raw, dict):
        return {}
    free = raw.get("free_bytes")
    return {
        "python": printable(raw.get("python"), 40),
        "free_bytes": free if isinstance(free, int) else None,
        "private_tmp": raw.get("private_tmp") is True,
    }


def _device_error(raw: Mapping[str, Any]) -> DeviceError:
    code = clean(raw.get("code"), 64)
    known = code if code.replace("_", "").isalnum() and code.isascii() else "device_error"
    return DeviceError(known, printable(raw.get("message"), 500), printable(raw.get("hint") or "", 500))
