"""The shapes of a device's words: every field that may pass, with its bounds. Anything else is dropped.

Sources: the job folder protocol (``ioc_scan.scanner.protocol``) and the scanner's result lines. Text keeps
its characters, but NUL and lone surrogates, which no database or encoder takes, become escapes.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from ..scanner.errors import ScannerError
from ..scanner.evaluate import Evaluator
from ..scanner.names import check_path_somewhere
from ..scanner.plan import Plan, load_plan
from ..scanner.protocol import PROTOCOL_VERSION, STATES
from .base import EventKind, Job

MAX_TEXT = 40_000  # a path of 4,096 bytes with every byte escaped, and some
MAX_SHORT = 300
MAX_COUNT = 2**63 - 1
MAX_FIELDS = 64
MAX_LIST = 256

_CODE = re.compile(r"[a-z0-9_]{1,64}\Z")
_NAME = re.compile(r"[A-Za-z0-9_./-]{1,64}\Z")
_ID = re.compile(r"[A-Za-z0-9._:@-]{1,200}\Z")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")
_HEX64 = re.compile(r"[0-9a-f]{64}\Z")

RESPONSE_OUTCOMES = frozenset({"quarantined", "would_quarantine", "refused", "missing", "changed", "failed"})
#: Of restored and purged lines; both come as one kind of event, the outcome tells them apart.
RESTORE_OUTCOMES = frozenset(
    {"restored", "would_restore", "purged", "would_purge", "missing", "refused", "failed"}
)


#: As ``ioc_scan.scanner.critical`` reports them.
AREA_STATES = frozenset({"scanned", "refused", "unsupported"})
FINDING_SEVERITIES = frozenset({"match", "suspicious", "note"})
MAX_FINDINGS = 200


class BadShape(Exception):
    """A line that is not taken, with a stable code. Messages are ours: they never quote the device."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class PlanFacts:
    """What a plan says about matches: the tier of each IOC file, and whether an item satisfies it."""

    def __init__(self, plan: Plan | None = None, system: str = "linux") -> None:
        self._plan = plan
        self._system = system
        self.tiers: dict[str, str] = {ioc.digest: ioc.tier for ioc in plan.iocs} if plan is not None else {}

    @classmethod
    def of(cls, plan: bytes, system: str = "linux") -> PlanFacts:
        """Raises PlanError: the plan is our own and was published by us."""
        return cls(load_plan(plan), system)

    @cached_property
    def _evaluator(self) -> Evaluator:
        assert self._plan is not None
        return Evaluator(self._plan, self._system)

    def names_digest(self, digest: str) -> bool:
        """Does the plan name this MD5, SHA-1 or SHA-256 (hex)?"""
        return self._plan is not None and bytes.fromhex(digest) in self._evaluator.digests

    def proves(self, ioc_digest: str, document: str, item: Mapping[str, Any]) -> tuple[str, ...] | None:
        """The indicator items by which this item alone satisfies that IOC file, or None."""
        if self._plan is None:
            return None
        hits = self._evaluator.feed(document, item)
        return next((hit.item_ids for hit in hits if hit.ioc_digest == ioc_digest), None)


# -------------------------------------------------------------------------------------- single values


def clean(value: object, limit: int = MAX_TEXT) -> str:
    """Text a database and an encoder can take. Raises BadShape for anything that is not text."""
    if not isinstance(value, str):
        raise BadShape("bad_field", "a field that must be text is not")
    text = value[:limit].encode("utf-8", "backslashreplace").decode("utf-8")
    return text.replace("\0", "\\x00")


def _count(value: object, low: int = 0, high: int = MAX_COUNT) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadShape("bad_field", "a field that must be a whole number is not, or is out of bounds")
    return value


def _optional_count(value: object, high: int = MAX_COUNT) -> int | None:
    return None if value is None else _count(value, 0, high)


def _match(pattern: re.Pattern[str], value: object) -> str:
    if not isinstance(value, str) or not pattern.match(value):
        raise BadShape("bad_field", "an id, code or digest is not of its form")
    return value


def _scalar(value: object) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return _count(value, -MAX_COUNT, 2**64 - 1)
    return value if isinstance(value, float) else clean(value)


def _item(value: object) -> dict[str, Any]:
    """The fields of an item: terms with a text, a number or a list of them."""
    if not isinstance(value, dict) or len(value) > MAX_FIELDS:
        raise BadShape("bad_field", "an item is not an object of an acceptable size")
    item: dict[str, Any] = {}
    for name, field in value.items():
        if isinstance(field, list):
            item[_match(_NAME, name)] = [_scalar(entry) for entry in field[:MAX_LIST]]
        else:
            item[_match(_NAME, name)] = _scalar(field)
    return item


def _objects(value: object) -> list[dict[str, Any]]:
    """The objects of a list; of anything else none."""
    return [entry for entry in value[:MAX_LIST] if isinstance(entry, dict)] if isinstance(value, list) else []


def _path_bytes(value: object) -> bytes:
    try:
        return base64.b64decode(value.encode("ascii"), validate=True) if isinstance(value, str) else b""
    except (ValueError, binascii.Error):
        raise BadShape("bad_field", "a path is not base64") from None


# ------------------------------------------------------------------------------------------ result lines


def check_line(
    line: Mapping[str, Any], job: Job, device_id: str, facts: PlanFacts
) -> tuple[EventKind, dict[str, Any]]:
    """One line of results.jsonl as an event. Raises BadShape with the reason it is dropped.

    Matches carry ``raw_path`` (bytes) for the caller's own check of where they lie.
    """
    if line.get("device_id", device_id) != device_id:
        raise BadShape("wrong_device", "a line names another device")
    if line.get("job_id", job.id) != job.id:
        raise BadShape("wrong_job", "a line names another job")
    seq = _count(line.get("seq"), 1)
    kind = line.get("type")
    if kind == "match":
        data = _check_match(line, facts)
    elif kind == "response":
        data = _check_response(line, job, device_id)
    elif kind in ("restored", "purged"):
        data = _check_restored(line, job, device_id)
        kind = "restored"
    elif kind == "area":
        data = _check_area(line, facts)
    elif kind == "skip":
        data = {"path": clean(line.get("path")), "reason": clean(line.get("reason"), MAX_SHORT)}
    elif kind == "summary":
        data = _check_summary(line)
    else:
        raise BadShape("unknown_type", "a line is of a type that this kind of job does not write")
    return EventKind(kind), {"seq": seq, **data}


def _check_match(line: Mapping[str, Any], facts: PlanFacts) -> dict[str, Any]:
    ioc = _match(_HEX64, line.get("ioc"))
    tier = facts.tiers.get(ioc)
    if tier is None:
        raise BadShape("foreign_ioc", "a match names an IOC file that is not in the plan")
    item = _item(line.get("item"))
    document = _match(_NAME, line.get("document"))
    raw_path = _path_bytes(line.get("path_b64"))
    sha256 = None if line.get("sha256") is None else _match(_HEX64, line["sha256"])
    size = _optional_count(line.get("size"))
    # The device's word is put to the plan again: what does not satisfy the IOC file is no match of it.
    proof = facts.proves(ioc, document, item)
    if tier == "actionable":
        if proof is None or sha256 is None or not facts.names_digest(sha256):
            raise BadShape("foreign_hash", "a match is not of an object whose hash is in the plan")
        if item.get("Sha256sum") != sha256 or item.get("SizeInBytes", size) != size:
            raise BadShape("bad_field", "a match contradicts itself")
        try:
            check_path_somewhere(raw_path)
        except ScannerError:
            raise BadShape("bad_field", "a match has no usable path") from None
    given = line.get("proof")
    if not isinstance(given, list) or len(given) > MAX_LIST:
        raise BadShape("bad_field", "a match has no list of proof")
    return {
        "ioc": ioc,
        "tier": tier,
        "document": document,
        "item": item,
        "item_key": _match(_HEX64, line.get("item_key")),
        "path": clean(line.get("path") or ""),
        "path_b64": base64.b64encode(raw_path).decode("ascii") if raw_path else None,
        "raw_path": raw_path,
        "sha256": sha256,
        "size": size,
        "device": _optional_count(line.get("device"), 2**64 - 1),
        "inode": _optional_count(line.get("inode"), 2**64 - 1),
        "proof": list(proof) if proof is not None else [clean(entry, MAX_SHORT) for entry in given],
    }


def _check_response(line: Mapping[str, Any], job: Job, device_id: str) -> dict[str, Any]:
    match_id = _match(_ID, line.get("match_id"))
    asked = next((i for i in job.items.get(device_id, ()) if i.get("match_id") == match_id), None)
    if asked is None:
        raise BadShape("not_asked", "a response names a match that the job is not about")
    outcome = _match(_CODE, line.get("outcome"))
    if outcome not in RESPONSE_OUTCOMES:
        raise BadShape("bad_field", "a response has an unknown outcome")
    sha256 = None if line.get("sha256") is None else _match(_HEX64, line["sha256"])
    if outcome == "quarantined" and sha256 != asked.get("sha256"):
        raise BadShape("foreign_hash", "a response is about another object than the job")
    return {
        "match_id": match_id,
        "outcome": outcome,
        "code": _code(line.get("code")),
        "message": clean(line.get("message") or "", MAX_SHORT * 4),
        "quarantine_id": _optional_id(line.get("quarantine_id")),
        "sha256": sha256,
        "size": _optional_count(line.get("size")),
        "terminated": [
            {"pid": _count(entry.get("pid")), "name": clean(entry.get("name") or "", MAX_SHORT)}
            for entry in _objects(line.get("terminated"))
        ],
    }


def _check_restored(line: Mapping[str, Any], job: Job, device_id: str) -> dict[str, Any]:
    quarantine_id = _match(_ID, line.get("quarantine_id"))
    if not any(i.get("quarantine_id") == quarantine_id for i in job.items.get(device_id, ())):
        raise BadShape("not_asked", "a line names a quarantined object that the job is not about")
    outcome = _match(_CODE, line.get("outcome"))
    if outcome not in RESTORE_OUTCOMES:
        raise BadShape("bad_field", "a line has an unknown outcome")
    return {
        "quarantine_id": quarantine_id,
        "outcome": outcome,
        "code": _code(line.get("code")),
        "message": clean(line.get("message") or "", MAX_SHORT * 4),
        "path": clean(line.get("path") or ""),
    }


def _check_area(line: Mapping[str, Any], facts: PlanFacts) -> dict[str, Any]:
    state = line.get("state")
    if state not in AREA_STATES:
        raise BadShape("bad_field", "a critical area has an unknown state")
    findings = line.get("findings")
    if not isinstance(findings, list) or len(findings) > MAX_FINDINGS:
        raise BadShape("bad_field", "a critical area has no list of findings of an acceptable length")
    counts = line.get("counts")
    return {
        "area": _match(_CODE, line.get("area")),
        "state": state,
        "reason": clean(line.get("reason") or "", MAX_SHORT * 4),
        "looked_at": _count(line.get("looked_at") or 0),
        "counts": {severity: _count(counts.get(severity) or 0) for severity in sorted(FINDING_SEVERITIES)}
        if isinstance(counts, dict)
        else {},
        "findings": [_check_finding(entry, facts) for entry in findings],
    }


def _check_finding(entry: object, facts: PlanFacts) -> dict[str, Any]:
    if not isinstance(entry, dict) or entry.get("severity") not in FINDING_SEVERITIES:
        raise BadShape("bad_field", "a finding of a critical area has an unknown severity")
    finding: dict[str, Any] = {
        "code": _match(_CODE, entry.get("code")),
        "severity": entry["severity"],
        "what": clean(entry.get("what"), MAX_SHORT * 4),
        "detail": clean(entry.get("detail") or "", MAX_SHORT * 4),
    }
    if entry.get("pid") is not None:
        finding["pid"] = _count(entry["pid"])
    if entry.get("sha256") is not None:
        finding["sha256"] = _match(_HEX64, entry["sha256"])
    if (entry["severity"] == "match") != (entry.get("ioc") is not None):
        raise BadShape(
            "bad_field", "a finding is a match without naming its IOC file, or the other way round"
        )
    if entry.get("ioc") is not None:
        finding["ioc"] = _match(_HEX64, entry["ioc"])
        if finding["ioc"] not in facts.tiers:
            raise BadShape("foreign_ioc", "a finding names an IOC file that is not in the plan")
        proof = entry.get("proof")
        finding["proof"] = (
            [clean(text, MAX_SHORT) for text in proof[:MAX_LIST]] if isinstance(proof, list) else []
        )
    return finding


def _check_summary(line: Mapping[str, Any]) -> dict[str, Any]:
    """Counts and short lists, whatever the scanner sums up; one level, bounded."""
    data: dict[str, Any] = {}
    for name, value in list(line.items())[:MAX_FIELDS]:
        if name in ("type", "seq", "device_id", "job_id") or not _NAME.match(name):
            continue
        if isinstance(value, dict):
            data[name] = {
                clean(k, 100): _scalar(v) for k, v in value.items() if not isinstance(v, (dict, list))
            }
        elif not isinstance(value, list):
            data[name] = _scalar(value)
    return data


def _code(value: object) -> str:
    return value if isinstance(value, str) and _CODE.match(value) else ""


def _optional_id(value: object) -> str | None:
    return None if value is None else _match(_ID, value)


# ------------------------------------------------------------------------------------------- status.json


def check_status(raw: Mapping[str, Any], job: Job) -> dict[str, Any]:
    """status.json with every field that the protocol names, bounded. Raises BadShape."""
    if raw.get("protocol") != PROTOCOL_VERSION:
        raise BadShape("wrong_protocol", "status.json is of another version of the protocol")
    if raw.get("job_id") != job.id or raw.get("run", job.run) != job.run:
        raise BadShape("wrong_job", "status.json is about another job")
    if raw.get("state") not in STATES:
        raise BadShape("bad_field", "status.json has an unknown state")
    progress = raw.get("progress")
    if isinstance(progress, bool) or not isinstance(progress, (int, float)) or not 0 <= progress <= 1:
        progress = None
    skipped = raw.get("skipped")
    return {
        "device_id": clean(raw.get("device_id"), MAX_SHORT),
        "run": job.run,
        "state": raw["state"],
        "updated_at": _time(raw.get("updated_at")),
        "started_at": _time(raw.get("started_at")),
        "finished_at": _time(raw.get("finished_at")),
        "files_seen": _count(raw.get("files_seen") or 0),
        "bytes_hashed": _count(raw.get("bytes_hashed") or 0),
        "matches": _count(raw.get("matches") or 0),
        "results_bytes": _count(raw.get("results_bytes") or 0),
        "progress": progress,
        "skipped": {clean(k, 100): _count(v) for k, v in list(skipped.items())[:MAX_FIELDS]}
        if isinstance(skipped, dict)
        else {},
        "not_evaluated": [
            {"what": clean(entry.get("what"), MAX_SHORT), "reason": clean(entry.get("reason"), MAX_SHORT)}
            for entry in _objects(raw.get("not_evaluated"))
        ],
        "error": _error(raw.get("error")),
    }


def _time(value: object) -> str | None:
    return value if isinstance(value, str) and _TIME.match(value) else None


def _error(value: object) -> dict[str, str] | None:
    if not isinstance(value, dict):
        return None
    return {
        "code": _code(value.get("code")) or "device_error",
        "message": clean(value.get("message") or "", MAX_SHORT * 4),
        "hint": clean(value.get("hint") or "", MAX_SHORT * 4),
    }
