"""The guard's policy for one source, from configuration and the operator's files."""

from __future__ import annotations

from typing import Any

from ioc_scan.detection.guard import GuardPolicy, Triage, classify
from ioc_scan.detection.known_good import KnownGoodList
from ioc_scan.detection.policy import KnownGood, load_policy
from ioc_scan.service.context import Context

#: In the store's folder: what was learned from clean images.
KNOWN_GOOD_LIST = "known_good.list"


def guard_policy(context: Context, source: dict[str, Any]) -> GuardPolicy:
    """Raises ConfigError where a list file cannot be read: judging without it would be guessing."""
    return load_policy(context.config["guard"], source["trust"], known_good=_learned(context))


def _learned(context: Context) -> KnownGood | None:
    """The digests learned from clean images, where there are any."""
    path = context.folder / KNOWN_GOOD_LIST
    if not path.exists():
        return None
    known = KnownGoodList(path)
    return lambda sha256: known.is_known_good(sha256, context.clock())


def judge(context: Context, detection: dict[str, Any], source_name: str) -> Triage:
    """The tiers of a stored detection under the present configuration."""
    return classify(detection, guard_policy(context, context.source_entry(source_name)))
