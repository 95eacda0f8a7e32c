"""From rows to what a person reads: sentences, counts, commands. No markup here: templates escape it all."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..text import printable
from .coverage import picture
from .filters import number, safe_link, words
from .timeline import sentences

#: More rows than this make a page nobody can open on a phone; the page says how many were left out.
MAX_ROWS = 500
MAX_INDICATORS = 200
MAX_LINES = 2000

_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

_TIERS = (
    (
        "actionable",
        "Actionable",
        "A response may quarantine these exact files, known by their SHA-256.",
        True,
    ),
    ("hunt", "Hunted", "Only reported: none of these ever leads to a response.", False),
    ("suppressed", "Left out", "Not searched for, each for the reason given.", False),
)


def task_view(data: Mapping[str, Any]) -> dict[str, Any]:
    """Everything ``task.html.j2`` shows."""
    task = dict(data["task"])
    devices = _rows(data, "devices")
    matches = _rows(data, "matches")
    quarantine = _rows(data, "quarantine")
    events = _oldest_first(_rows(data, "events"))
    coverage = picture(data.get("coverage") or {})
    texts = {
        str(item): str(text) for ioc in _rows(data, "iocs") for item, text in (ioc.get("items") or {}).items()
    }
    return {
        "task": {
            "task_id": task.get("task_id"),
            "name": task.get("name") or task.get("task_id"),
            "state": task.get("state") or "created",
            "end_reason": task.get("end_reason"),
        },
        "generated_at": data["generated_at"],
        "headline": _headline(coverage, matches),
        "numbers": _numbers(coverage, matches, quarantine, data),
        "facts": _facts(task, _rows(data, "groups")),
        "detections": [_detection(row, data.get("link_hosts")) for row in _rows(data, "detections")[:50]],
        "tiers": _tiers(data.get("triage") or {}),
        "left_out_of_tiers": _left_out(data.get("triage") or {}),
        "iocs": [
            {
                "tier": ioc.get("tier") or "hunt",
                "digest": ioc.get("digest"),
                "lines": list(ioc.get("explain") or [])[:MAX_LINES],
            }
            for ioc in _rows(data, "iocs")
        ],
        "coverage": coverage,
        "devices": [_device(row) for row in _interesting(devices)[:MAX_ROWS]],
        "matches": [_match(row, texts) for row in matches[:MAX_ROWS]],
        "responses": [_response(row) for row in _rows(data, "responses")],
        "quarantine": [_quarantined(row) for row in quarantine[:MAX_ROWS]],
        "not_evaluated": _not_evaluated(devices),
        "skipped": _skipped(devices),
        "timeline": sentences(events),
        "events": [_event(event) for event in events[-MAX_ROWS:]],
        "totals": {
            name: max(len(_rows(data, name)), int((data.get("totals") or {}).get(name) or 0))
            for name in ("detections", "devices", "matches", "quarantine", "events")
        },
    }


def overview_view(data: Mapping[str, Any]) -> dict[str, Any]:
    """Everything ``overview.html.j2`` shows."""
    tasks: list[dict[str, Any]] = []
    for row in _rows(data, "tasks"):
        report = row.get("report")
        tasks.append(
            {
                **{key: row.get(key) for key in ("task_id", "created_at", "ended_at", "end_reason")},
                "name": row.get("name") or row.get("task_id"),
                "state": row.get("state") or "created",
                "matches": row.get("matches") or 0,
                "quarantined": row.get("quarantined") or 0,
                "awaiting": row.get("awaiting_approval") or 0,
                "coverage": picture(row.get("coverage") or {}),
                "report": report if isinstance(report, str) and _SAFE_ID.fullmatch(report) else None,
            }
        )
    states = Counter(task["state"] for task in tasks)
    totals = data.get("totals") or {}
    return {
        "generated_at": data["generated_at"],
        "tasks": tasks[:MAX_ROWS],
        "total": max(len(tasks), int(totals.get("tasks") or 0)),
        "numbers": [
            _number(len(tasks), "tasks"),
            _number(states["running"] + states["created"], "live now"),
            _number(sum(t["matches"] for t in tasks), "matches", "match"),
            _number(sum(t["quarantined"] for t in tasks), "quarantined", "good"),
            _number(sum(t["awaiting"] for t in tasks), "awaiting approval", "warn"),
        ],
    }


# ------------------------------------------------------------------------------------------ the top


def _headline(coverage: Mapping[str, Any], matches: Sequence[Mapping[str, Any]]) -> str:
    targeted = number(coverage["targeted"])
    answered = number(next(s["count"] for s in coverage["steps"] if s["title"] == "Answered"))
    exact = {(m.get("manager"), m.get("device_id")) for m in matches if m.get("tier") == "actionable"}
    hunted = {(m.get("manager"), m.get("device_id")) for m in matches} - exact
    if exact:
        first = f"This exact file was found on {number(len(exact))} of {targeted} targeted devices."
    elif hunted:
        first = "This exact file was not reported by any device that answered, but traces worth a look were."
    else:
        first = "No device that answered reported this exact file."
    left = Counter(str(m.get("response_state") or "none") for m in matches)
    parts = [
        f"{number(left[state])} {text}"
        for state, text in (
            ("quarantined", "quarantined"),
            ("awaiting_approval", "awaiting approval"),
            ("refused", "refused by the device"),
            ("restored", "restored"),
        )
        if left[state]
    ]
    return " ".join(
        [first, f"{answered} of {targeted} answered."] + ([", ".join(parts) + "."] if parts else [])
    )


def _number(count: int, title: str, tone: str = "") -> dict[str, str]:
    return {"value": number(count), "title": title, "tone": tone if count else ""}


def _numbers(
    coverage: Mapping[str, Any],
    matches: Sequence[Mapping[str, Any]],
    quarantine: Sequence[Mapping[str, Any]],
    data: Mapping[str, Any],
) -> list[dict[str, str]]:
    answered = next(s["count"] for s in coverage["steps"] if s["title"] == "Answered")
    total = max(len(matches), int((data.get("totals") or {}).get("matches") or 0))
    waiting = sum(1 for m in matches if m.get("response_state") == "awaiting_approval")
    held = sum(1 for q in quarantine if q.get("state") == "quarantined")
    return [
        {
            "value": f"{number(answered)} / {number(coverage['targeted'])}",
            "title": "answered / targeted devices",
            "tone": "",
        },
        _number(total, "matches", "match"),
        _number(held, "in quarantine", "good"),
        _number(waiting, "awaiting approval", "warn"),
    ]


def _facts(task: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]) -> list[tuple[str, Any, str]]:
    named = [
        f"{g.get('group')} ({g.get('manager')}, {words(g.get('response_mode') or 'report')})" for g in groups
    ]
    facts: list[tuple[str, Any, str]] = [
        ("Object", task.get("object_sha256"), "hash"),
        ("Groups", ", ".join(named), "text"),
        ("Policy", task.get("policy_name"), "text"),
        ("Detected", _times(task.get("detections_count")), "text"),
        ("Run", task.get("run"), "text"),
        ("Created", task.get("created_at"), "time"),
        ("Last start", task.get("last_start_at"), "time"),
        ("Ends", task.get("expires_at") if not task.get("ended_at") else None, "time"),
        ("Ended", task.get("ended_at"), "time"),
        ("Lifetime profile", task.get("profile"), "text"),
    ]
    return [fact for fact in facts if fact[1] not in (None, "")]


def _times(count: object) -> str | None:
    return None if not isinstance(count, int) else "once" if count == 1 else f"{number(count)} times"


# ------------------------------------------------------------------------------------------ single rows


def _detection(row: Mapping[str, Any], hosts: object) -> dict[str, Any]:
    families = row.get("families")
    return {
        **{key: row.get(key) for key in ("detection_id", "source_name", "detected_at", "policy_name")},
        "verdict_result": row.get("verdict_result") or "unknown",
        "score": row.get("score"),
        "families": [str(f) for f in families][:10] if isinstance(families, list) else [],
        "degraded": bool(row.get("degraded")),
        "reason": _reason(row.get("reason")),
        "link": safe_link(row.get("link"), hosts),
    }


def _tiers(triage: Mapping[str, Any]) -> list[dict[str, Any]]:
    tiers = []
    for name, title, meaning, is_open in _TIERS:
        rows = list(triage.get(name) or [])
        tiers.append(
            {
                "title": title,
                "meaning": meaning,
                "open": is_open,
                "total": len(rows),
                "rows": [_indicator(row) for row in rows[:MAX_INDICATORS]],
            }
        )
    return tiers


def _left_out(triage: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What of the sandbox report is in no tier, by kind: cut at a limit, unreadable, or counted only."""
    counts = [(triage.get(name) or {}).items() for name in ("losses", "not_listed")]
    return [{"what": words(what), "count": count} for part in counts for what, count in part][:MAX_ROWS]


def _indicator(row: Mapping[str, Any]) -> dict[str, Any]:
    value = row.get("path") or row.get("name") or row.get("value") or ""
    if row.get("port") is not None:
        value = f"{value} port {row['port']}"
    if row.get("value_name"):
        value = f"{value} → {row['value_name']}"
    hashes = row.get("hashes")
    digests = sorted(hashes.items(), reverse=True) if isinstance(hashes, Mapping) else []
    if row.get("size") is not None:
        digests = [*digests, ("size", f"{number(row['size'])} bytes")]
    return {
        "what": f"{words(row.get('type') or 'object')}, {words(row.get('role') or 'seen')}".replace("-", " "),
        "value": value,
        "digests": digests[:4],
        "reason": _reason(row.get("reason")),
    }


def _reason(value: object) -> str:
    if isinstance(value, Mapping):
        return str(value.get("text") or value.get("message") or words(value.get("code") or ""))
    return "" if value is None else str(value)


def _interesting(devices: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Matches first, then failures, then the rest by name: what is cut away is what says least."""
    return sorted(
        devices,
        key=lambda d: (
            -(d.get("matches") or 0),
            d.get("state") not in ("failed", "refused"),
            str(d.get("device_id")),
        ),
    )


def _device(row: Mapping[str, Any]) -> dict[str, Any]:
    keys = (
        "device_id",
        "group",
        "files_seen",
        "bytes_hashed",
        "matches",
        "error_message",
        "updated_at",
        "finished_at",
    )
    return {**{key: row.get(key) for key in keys}, "state": row.get("state") or "pending"}


def _match(row: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    item = row.get("item") if isinstance(row.get("item"), Mapping) else {}
    proof = [texts[str(entry)] for entry in row.get("proof") or [] if str(entry) in texts]
    return {
        **{key: row.get(key) for key in ("device_id", "found_at", "size", "sha256", "response_message")},
        "tier": row.get("tier") or "hunt",
        "path": row.get("path") or _item_text(item or {}) or row.get("document"),
        "response_state": row.get("response_state") or "none",
        "proof_lines": (proof or _item_lines(row.get("document"), item or {}))[:20],
    }


def _item_text(item: Mapping[str, Any]) -> str:
    return next((str(value) for value in item.values() if isinstance(value, str) and value), "")


def _item_lines(document: object, item: Mapping[str, Any]) -> list[str]:
    """Without the indicators' own words: what the item was seen to be."""
    return [
        f"{document or 'item'}/{name} is {value}"
        for name, value in item.items()
        if value not in (None, "", [])
    ]


def _response(row: Mapping[str, Any]) -> dict[str, Any]:
    counts = row.get("counts")
    return {
        **{key: row.get(key) for key in ("actor", "requested_at")},
        "state": row.get("state") or "running",
        "dry_run": bool(row.get("dry_run")),
        "counts": [(name, n) for name, n in sorted(counts.items()) if n]
        if isinstance(counts, Mapping)
        else [],
    }


def _quarantined(row: Mapping[str, Any]) -> dict[str, Any]:
    state = row.get("state") or "quarantined"
    return {
        **{key: row.get(key) for key in ("device_id", "path", "quarantined_at", "expires_at")},
        "state": state,
        "undo": undo_command(row) if state == "quarantined" else None,
    }


def undo_command(row: Mapping[str, Any]) -> str | None:
    """The line that restores a quarantined object; None where an id is not one (nothing to paste then)."""
    names = ("device_id", "quarantine_id", "manager")
    if not all(isinstance(row.get(name), str) and _SAFE_ID.fullmatch(row[name]) for name in names):
        return None
    return shlex.join(["st2", "run", "ioc_scan.restore_object", *(f"{name}={row[name]}" for name in names)])


def _not_evaluated(devices: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    counted: Counter[tuple[str, str]] = Counter()
    for device in devices:
        entries = device.get("not_evaluated") or []
        counted.update(
            {(str(e.get("what")), str(e.get("reason"))) for e in entries if isinstance(e, Mapping)}
        )
    return [
        {"what": what, "reason": reason, "devices": count}
        for (what, reason), count in sorted(counted.items(), key=lambda entry: (-entry[1], entry[0]))[
            :MAX_ROWS
        ]
    ]


def _skipped(devices: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    files: Counter[str] = Counter()
    on: Counter[str] = Counter()
    for device in devices:
        for reason, count in (device.get("skipped") or {}).items():
            files[str(reason)] += count
            on[str(reason)] += 1
    return [{"reason": r, "files": count, "devices": on[r]} for r, count in files.most_common(MAX_INDICATORS)]


def _event(row: Mapping[str, Any]) -> dict[str, Any]:
    data = row.get("data")
    details = json.dumps(data, sort_keys=True, ensure_ascii=False, default=str) if data else ""
    return {
        **{key: row.get(key) for key in ("at", "type", "device_id", "actor")},
        "details": printable(details, 400),
    }


def _oldest_first(events: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """By time, and within one second as they were recorded, whichever way round the rows came."""
    newest_first = len(events) > 1 and str(events[0].get("at")) > str(events[-1].get("at"))
    ordered = list(reversed(events)) if newest_first else list(events)
    return sorted(ordered, key=lambda event: (str(event.get("at")), event.get("event_id") or 0))


def _rows(data: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return list(data.get(name) or [])
