"""Reports as one self-contained HTML file: no script, no request, every outside byte escaped.

``render_task(data)`` takes plain rows as the store gives them; ``task`` and ``generated_at`` must be there::

    task         task_id, name, object_sha256, state, end_reason, created_at, first_start_at, last_start_at,
                 ended_at, expires_at, run, policy_name, profile, detections_count
    groups       [{manager, group, response_mode}]
    detections   [{detection_id, source_name, verdict_result, score, families, detected_at, degraded, reason,
                 policy_name, link}]; ``link`` is shown only where ``link_hosts`` names its https host
    triage       {actionable, hunt, suppressed}: normalized indicators with ``reason`` (text or {code, text});
                 {losses, not_listed}: {what: how many} of the sandbox report that is in none of the three
    iocs         [{tier, digest, explain: [lines], items: {indicator item id: what it says}}]
    coverage     {targeted, reached, answered, matched, clean, failed, running, waiting_idle, never_seen}
    devices      [{manager, device_id, group, state, files_seen, bytes_hashed, matches, skipped: {reason: n},
                 not_evaluated: [{what, reason}], error_code, error_message, updated_at, finished_at}]
    matches      [{device_id, manager, tier, document, path, size, sha256, item, proof: [item ids], found_at,
                 response_state, response_message}]
    responses    [{response_id, dry_run, state, actor, requested_at, finished_at, counts: {outcome: n}}]
    quarantine   [{quarantine_id, manager, device_id, path, sha256, state, quarantined_at, expires_at}]
    events       [{event_id, at, type, device_id, manager, actor, data}], newest or oldest first
    link_hosts   hosts of the configured sources
    totals       {detections, devices, matches, quarantine, events}: how many there are, where rows were cut
    generated_at time

``render_overview(data)``: ``tasks`` [{task_id, name, state, end_reason, created_at, ended_at, coverage,
matches, quarantined, awaiting_approval, report: file name}], ``totals``, ``generated_at``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from . import filters
from .view import overview_view, task_view


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(filters.ALL)
    return environment


def render_task(data: Mapping[str, Any]) -> str:
    """The report of one task. Raises KeyError without ``task`` or ``generated_at``."""
    return _environment().get_template("task.html.j2").render(view=task_view(data))


def render_overview(data: Mapping[str, Any]) -> str:
    """One page of all tasks, newest first as given."""
    return _environment().get_template("overview.html.j2").render(view=overview_view(data))
