"""``triage REPORT``: what a sandbox report says, and what this pack would do with each indicator."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ioc_scan.detection.guard import GuardPolicy, Triage, classify
from ioc_scan.detection.normalize import normalize_report
from ioc_scan.detection.policy import TRUSTS
from ioc_scan.detection.reading import DEFAULT_MAX_BYTES, Progress
from ioc_scan.text import printable

PROGRESS_FROM_BYTES = 1_000_000
_KINDS = {
    "ipv4-addr": "address",
    "ipv6-addr": "address",
    "domain-name": "domain",
    "windows-registry-key": "registry",
    "windows-service": "service",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("report", metavar="REPORT", help="a sandbox report (JSON, plain or gzip)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument(
        "--all", action="store_true", help="list every suppressed indicator, not only counts by reason"
    )
    parser.add_argument(
        "--instance", default="file", help="name of the sandbox in the detection id (default: file)"
    )
    parser.add_argument(
        "--threshold", type=float, default=70.0, help="score from which a verdict counts, 0-100"
    )
    parser.add_argument("--trust", choices=TRUSTS, default="target", help="how far the source is trusted")
    parser.add_argument("--max-bytes", type=int, default=DEFAULT_MAX_BYTES, help="refuse larger reports")


def run(args: argparse.Namespace) -> int:
    with _progress(args.report, args.json) as progress:
        detection = normalize_report(
            args.report, instance=args.instance, max_bytes=args.max_bytes, progress=progress
        )
    triage = classify(detection, GuardPolicy(threshold_score=args.threshold, trust=args.trust))
    if args.json:
        print(json.dumps(as_json(triage), ensure_ascii=True, sort_keys=False))
    else:
        width = shutil.get_terminal_size((100, 24)).columns
        print("\n".join(as_table(triage, detection, max(width, 40), show_all=args.all)))
    return 0


def as_json(triage: Triage) -> dict[str, Any]:
    """The one JSON object: indicators in normal form with ``reason``; ``tier`` is the list they stand in."""
    verdict = {"result": triage.verdict["result"], "score": triage.verdict.get("score")}
    tiers = {
        name: [{key: value for key, value in entry.items() if key != "tier"} for entry in entries]
        for name, entries in (
            ("actionable", triage.actionable), ("hunt", triage.hunt), ("suppressed", triage.suppressed),
        )
    }  # fmt: skip
    return {
        "detection_id": triage.detection_id,
        "verdict": verdict,
        "starts_task": triage.starts_task,
        **tiers,
    }


def as_table(triage: Triage, detection: dict[str, Any], width: int, *, show_all: bool) -> list[str]:
    """Lines of at most ``width`` characters. Text of the report is shown printable."""
    verdict = triage.verdict
    score = f", score {verdict['score']:g} of 100" if "score" in verdict else ""
    families = f", {', '.join(verdict['families'])}" if verdict.get("families") else ""
    target = detection["target"]
    name = target.get("name") or target.get("url") or "(no name)"
    lines = [
        f"detection  {triage.detection_id}",
        f"target     {name}",
        *(
            f"           {kind.replace('SHA-', 'sha').lower()} {value}"
            for kind, value in target.get("hashes", {}).items()
            if kind == "SHA-256"
        ),
        f"verdict    {verdict['result']}{score}{families}",
        f"task       {_task_line(triage)}",
        *(f"alert      {alert}" for alert in triage.alerts),
        *(f"loss       {code}: {count}" for code, count in detection.get("losses", {}).items()),
    ]
    for title, entries in (("ACTIONABLE", triage.actionable), ("HUNT", triage.hunt)):
        lines += ["", f"{title}  {len(entries)}"]
        lines += _rows(entries)
    lines += ["", f"SUPPRESSED  {len(triage.suppressed)}"]
    if show_all:
        lines += _rows(triage.suppressed)
    else:
        for reason, count in Counter(entry["reason"] for entry in triage.suppressed).most_common():
            lines.append(f"  {count:>5}  {reason.replace(': ', '  ', 1)}")
        if triage.suppressed:
            lines.append("         (--all lists them)")
    counted = ", ".join(
        f"{count} {kind.replace('_', ' ')}" for kind, count in detection.get("not_listed", {}).items()
    )
    if counted:
        lines += ["", f"counted only: {counted}"]
    return [_fit(line, width) for line in lines]


def _task_line(triage: Triage) -> str:
    if triage.starts_task:
        return "would start an IOC scan, if a threat response policy fits"
    return {"below_threshold": "none: the verdict is below the threshold"}.get(
        triage.reason, "none: nothing in the report can be looked for"
    )


def _rows(entries: list[dict[str, Any]]) -> list[str]:
    """One line an indicator, under one line for each reason."""
    rows = []
    for reason, group in itertools.groupby(sorted(entries, key=_reason), key=_reason):
        code, _, words = reason.partition(": ")
        rows.append(f"  {code}: {words}")
        rows += [f"    {_KINDS.get(entry['type'], entry['type']):<8} {_subject(entry)}" for entry in group]
    return rows


def _reason(entry: dict[str, Any]) -> str:
    return str(entry["reason"])


def _subject(entry: dict[str, Any]) -> str:
    if entry["type"] != "file":
        value = entry["value"]
        return f"{value}  ->  {entry['value_name']}" if entry.get("value_name") else value
    hashes = entry.get("hashes", {})
    digest = hashes.get("SHA-256") or hashes.get("SHA-1") or hashes.get("MD5") or ""
    place = entry.get("path_pattern") or entry.get("path") or entry.get("name") or ""
    return "  ".join(part for part in (f"{digest[:16]}…" if digest else "", place) if part)


def _fit(line: str, width: int) -> str:
    """Printable, and cut in the middle so that both ends (kind and file name) stay visible."""
    shown = printable(line, 4000)
    if len(shown) <= width:
        return shown
    head = (width - 1) * 2 // 3
    return f"{shown[:head]}…{shown[len(shown) - (width - 1 - head) :]}"


@contextmanager
def _progress(path: str, as_json_output: bool) -> Iterator[Progress | None]:
    """A bar on standard error for large reports, if a person is watching."""
    try:
        size = os.path.getsize(path)
    except (OSError, ValueError):
        size = 0
    if size < PROGRESS_FROM_BYTES or not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=size, unit="B", unit_scale=True, desc="reading", leave=False) as bar:

        def advance(count: int) -> None:
            bar.update(count)

        yield advance
