"""The guard's policy for one source, from configuration and the operator's files."""

from __future__ import annotations

from typing import Any

from ioc_scan.detection.guard import GuardPolicy, Triage, classify
from ioc_scan.detection.policy import load_policy
from ioc_scan.service.context import Context


def guard_policy(context: Context, source: dict[str, Any]) -> GuardPolicy:
    """Raises ConfigError where a list file cannot be read: judging without it would be guessing."""
    return load_policy(context.config["guard"], source["trust"])


def judge(context: Context, detection: dict[str, Any], source_name: str) -> Triage:
    """The tiers of a stored detection under the present configuration."""
    return classify(detection, guard_policy(context, context.source_entry(source_name)))
