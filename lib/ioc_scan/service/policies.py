"""Threat response policies: which detections start a task, on which groups, with which response. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

#: Response modes from harmless to acting by itself; a ceiling is the lower of two.
MODES = ("report", "ask", "auto")


@dataclass(frozen=True)
class Target:
    """One group a task aims at. ``response_mode`` is the policy's word under the source's ceiling."""

    group: str
    response_mode: str
    capped: bool = False


def lower_mode(*modes: str) -> str:
    """The most harmless of the given response modes."""
    return min(modes, key=MODES.index)


def fitting_policy(
    policies: Sequence[dict[str, Any]], source_name: str, score: float | None, families: Iterable[str]
) -> dict[str, Any] | None:
    """The first policy whose ``when`` fits decides; None if none does. A missing score fits no ``min_score``."""
    named = {family.casefold() for family in families}
    for policy in policies:
        when = policy["when"]
        if when.get("sources") and source_name not in when["sources"]:
            continue
        if when.get("min_score") is not None and (score is None or score < when["min_score"]):
            continue
        if when.get("families") and not named & {family.casefold() for family in when["families"]}:
            continue
        if named & {family.casefold() for family in when.get("families_not", [])}:
            continue
        return policy
    return None


def targets(policy: dict[str, Any], source: dict[str, Any]) -> list[Target]:
    """The groups of a policy with their response modes under the source's ``trust`` and ceiling."""
    ceiling = "report" if source["trust"] == "hunt" else source["max_response_mode"]
    found = []
    for entry in policy["run_ioc_scan_on"]:
        mode = lower_mode(entry["response_mode"], ceiling)
        found.append(Target(entry["group"], mode, mode != entry["response_mode"]))
    return found


def device_mode(group_mode: str, tags: Iterable[str], tag_ceilings: dict[str, str]) -> str:
    """The response mode for one device: its group's, lowered by the ceilings of its tags."""
    return lower_mode(group_mode, *(tag_ceilings[tag] for tag in tags if tag in tag_ceilings))


def task_settings(policy: dict[str, Any]) -> dict[str, Any]:
    """What a task takes over from its policy: from then on the task's own, whatever becomes of the policy."""
    copied = ("scope", "roots", "idle_only", "idle_max_wait_hours", "cpu_percent", "hunt", "exclude_devices")
    settings = {name: policy[name] for name in copied}
    settings["tag_ceilings"] = policy["tag_ceilings"]
    settings["on_detection"] = policy["on_detection"]
    settings["start"] = policy["start"]
    settings["canary_devices"] = policy["canary_devices"]
    timing = ("start_window", "start_time_zone", "start_period_hours")
    settings |= {name: policy[name] for name in timing if name in policy}
    return settings
