"""The guard: puts every indicator of a detection into exactly one tier, with the reason.

*Actionable* may be deleted from devices, so it holds whole objects known by SHA-256 only: the target, what
the source itself marks malicious (if the source is trusted that far), and programs identical to the target.
*Hunt* is looked for and reported. *Suppressed* is neither, and says why. When in doubt, the lower tier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ioc_scan.detection import guard_files, guard_traces
from ioc_scan.detection.guard_reasons import ACTIONABLE, HUNT, SUPPRESSED, TIERS, Judgement, say
from ioc_scan.detection.kinds import user_neutral
from ioc_scan.detection.policy import GuardPolicy

__all__ = ["ACTIONABLE", "HUNT", "SUPPRESSED", "TIERS", "GuardPolicy", "Triage", "classify"]

Indicator = dict[str, Any]


@dataclass(frozen=True)
class Triage:
    """``starts_task``: the verdict is malicious and there is something to look for; ``reason`` says which way
    it went (``malicious``, ``below_threshold``, ``nothing_to_do``). The three lists hold each indicator in
    normal form plus ``tier`` and ``reason`` (``code: text``), a hunted path below a user's folder also
    ``path_pattern`` with ``*`` for the sandbox's user name, a name or address on a list that only informs
    ``notes`` with the names of these lists. ``alerts`` are codes for people: ``known_good_conflict``,
    ``known_good_unchecked``, ``signed_object``, ``owner_object``, ``test_file``."""

    detection_id: str
    verdict: dict[str, Any]
    starts_task: bool
    reason: str
    actionable: list[Indicator]
    hunt: list[Indicator]
    suppressed: list[Indicator]
    alerts: list[str]


def classify(detection: dict[str, Any], policy: GuardPolicy | None = None) -> Triage:
    """Judge a detection that fits the schema. Pure: same detection and policy, same answer."""
    policy = policy or GuardPolicy()
    malicious = is_malicious(detection["verdict"], policy.threshold_score)
    case = guard_files.Case.of(detection, policy)
    tiers: dict[str, list[Indicator]] = {tier: [] for tier in TIERS}
    for indicator in detection["indicators"]:
        judged = _judge(indicator, case) if malicious else say("below_threshold")
        judged = _within_limits(judged, tiers, policy)
        entry = {**indicator, "tier": judged.tier, "reason": judged.reason}
        if (
            judged.tier == HUNT
            and "path" in indicator
            and (pattern := user_neutral(indicator["path"])) != indicator["path"]
        ):
            entry["path_pattern"] = pattern
        if policy.lists and (notes := policy.lists.notes(indicator)):
            entry["notes"] = notes
        tiers[judged.tier].append(entry)
    starts = malicious and bool(tiers[ACTIONABLE] or tiers[HUNT])
    return Triage(
        detection_id=detection["detection_id"],
        verdict=detection["verdict"],
        starts_task=starts,
        reason="below_threshold" if not malicious else "malicious" if starts else "nothing_to_do",
        actionable=tiers[ACTIONABLE],
        hunt=tiers[HUNT],
        suppressed=tiers[SUPPRESSED],
        alerts=sorted(case.alerts) if malicious else [],
    )


def is_malicious(verdict: dict[str, Any], threshold_score: float) -> bool:
    """By the score where there is one, by the source's word or a family name where there is none."""
    score = verdict.get("score")
    if verdict["result"] == "benign":
        return False
    if score is not None and score >= threshold_score:
        return True
    return verdict["result"] == "malicious" and (score is None or bool(verdict.get("families")))


def _judge(indicator: Indicator, case: guard_files.Case) -> Judgement:
    if indicator["type"] == "file":
        return guard_files.judge(indicator, case)
    return guard_traces.judge(indicator, case)


def _within_limits(judged: Judgement, tiers: dict[str, list[Indicator]], policy: GuardPolicy) -> Judgement:
    if judged.tier == HUNT and not policy.hunt:
        return say("hunt_off")
    limit = {ACTIONABLE: policy.max_actionable, HUNT: policy.max_hunt}.get(judged.tier)
    if limit is not None and len(tiers[judged.tier]) >= limit:
        return say("over_limit")
    return judged
