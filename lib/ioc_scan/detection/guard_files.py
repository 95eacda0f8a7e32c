"""The guard's rules for files."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import Any

from ioc_scan.detection.guard_reasons import Judgement, say
from ioc_scan.detection.kinds import (
    base_name,
    is_device,
    is_generic_file,
    is_program,
    is_system_path,
    is_user_writable,
    is_victim_folder,
    plain_path,
)
from ioc_scan.detection.policy import GuardPolicy
from ioc_scan.detection.wellknown import EMPTY_HASHES, TEST_HASHES
from ioc_scan.errors import SourceError

Indicator = dict[str, Any]

# cmd's and PowerShell's ways to copy: type A > B, copy A B, xcopy, robocopy, Copy-Item
_COPIES = re.compile(r"(?i)\b(type|copy|xcopy|robocopy|copy-item|cp|move)\b(?P<rest>.*)", re.DOTALL)
_QUOTED_OR_BARE = re.compile(r'"([^"]+)"|([^\s"<>&|]+)')


@dataclass
class Case:
    """What the rules need to know of the detection as a whole."""

    policy: GuardPolicy
    target_sha256: str | None
    confirmed: bool
    families: bool
    sample_names: tuple[str, ...]
    hashed_paths: frozenset[str]
    system_copies: frozenset[str]
    config_values: frozenset[str]
    alerts: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, detection: dict[str, Any], policy: GuardPolicy) -> Case:
        verdict, indicators = detection["verdict"], detection["indicators"]
        score = verdict.get("score")
        families = bool(verdict.get("families"))
        return cls(
            policy=policy,
            target_sha256=detection["target"].get("hashes", {}).get("SHA-256"),
            # a source without scores says all it can say by its result; a family alone says less
            confirmed=score >= policy.threshold_score if score is not None else not families,
            families=families,
            sample_names=_sample_names(detection["target"]),
            hashed_paths=frozenset(
                plain_path(item["path"]).lower()
                for item in indicators
                if item.get("hashes") and item.get("path")
            ),
            system_copies=_system_copies(indicators),
            config_values=frozenset(item.get("value", "") for item in indicators if item["role"] == "config"),
        )


def judge(indicator: Indicator, case: Case) -> Judgement:
    """The first rule that fits decides; refusals come before permissions."""
    if indicator["role"] == "payload":
        return say("memory_only")
    hashes = indicator.get("hashes", {})
    values = set(hashes.values())
    if indicator.get("size") == 0 or values & EMPTY_HASHES:
        return say("empty_file")
    if values & TEST_HASHES:
        if indicator["role"] == "target":
            case.alerts.add("test_file")
        return say("test_file")
    if _is_object(indicator, case):
        return _judge_object(indicator, case)
    return _judge_trace(indicator, case)


def _is_object(indicator: Indicator, case: Case) -> bool:
    """The target itself, a copy of it, or what the source marks: a candidate for the actionable tier."""
    return (
        indicator["role"] == "target" or _is_same(indicator, case) or indicator.get("verdict") == "malicious"
    )


def _is_same(indicator: Indicator, case: Case) -> bool:
    sha256 = indicator.get("hashes", {}).get("SHA-256")
    return indicator["role"] == "dropped" and sha256 is not None and sha256 == case.target_sha256


def _judge_object(indicator: Indicator, case: Case) -> Judgement:
    policy = case.policy
    is_target = indicator["role"] == "target" or _is_same(indicator, case)
    sha256 = indicator.get("hashes", {}).get("SHA-256")
    if sha256 is None:
        return say("no_sha256")
    try:
        if policy.is_known_good(sha256):
            case.alerts.add("known_good_conflict")
            return say("known_good_conflict")
    except SourceError:
        case.alerts.add("known_good_unchecked")
        return say("known_good_unchecked")
    if indicator.get("signature") == "valid" and indicator.get("signed_by") not in policy.may_delete_signers:
        case.alerts.add("signed_object")
        return say("signed_object")
    if indicator.get("signed_by", "").casefold() in policy.owners:
        case.alerts.add("owner_object")
        return say("owner_object")
    marked = indicator.get("verdict") == "malicious"
    if indicator["role"] == "target" and sha256 != case.target_sha256:
        return say("other_target")
    if not is_target and indicator.get("path") and is_system_path(indicator["path"]):
        return say("marked_in_system_path")
    if policy.trust == "hunt" or (not is_target and policy.trust != "artefacts"):
        return say("source_not_trusted")
    if not case.confirmed and not marked:
        return say("family_without_score")
    if policy.strict and not (case.confirmed and case.families):
        return say("strict_mode")
    if indicator["role"] == "target":
        return say("target")
    return say("same_as_target" if is_target else "source_marked")


def _judge_trace(indicator: Indicator, case: Case) -> Judgement:
    path = indicator.get("path")
    name = base_name(path) if path else indicator.get("name")
    sha256 = indicator.get("hashes", {}).get("SHA-256")
    if indicator.get("verdict") == "benign":
        return say("source_says_benign")
    if path and is_device(path):
        return say("device_or_pipe")
    if sha256 and _known_if_asked(sha256, case):
        return say("known_good")
    if path and _is_below(path, case.policy.allowed_paths):
        return say("allowed_path")
    if path and _is_below(path, case.policy.denied_paths):
        return say("denied_path")
    if path and plain_path(path).lower() in case.system_copies:
        return say("copy_of_system_file")
    if path and is_system_path(path):
        return say("system_path")
    if indicator.get("signed_by"):
        return say("signed_file")
    program = is_program(indicator.get("file_type"), name)
    if path and is_generic_file(path, program):
        return say("generic_file")
    if not program:
        return say("victim_file" if path and is_victim_folder(path) else "not_a_program")
    if indicator["role"] == "dropped":
        return say("dropped_program")
    if indicator["role"] == "written" and path:
        if plain_path(path).lower() in case.hashed_paths:
            return say("hash_known")
        return say("written_program" if is_user_writable(path) else "not_open_to_users")
    return say("unknown_role")


def _known_if_asked(sha256: str, case: Case) -> bool:
    """For what is never acted on a look-up that fails changes nothing, but it is said."""
    try:
        return case.policy.is_known_good(sha256)
    except SourceError:
        case.alerts.add("known_good_unchecked")
        return False


def _sample_names(target: dict[str, Any]) -> tuple[str, ...]:
    """What the sandbox called the object: traces named after that exist in no other place."""
    stem = base_name(target.get("name", "")).rsplit(".", 1)[0]
    names = [stem, *target.get("hashes", {}).values()]
    return tuple(name.lower() for name in names if len(name) >= 8)


def _is_below(path: str, beginnings: tuple[str, ...]) -> bool:
    lowered = plain_path(path).lower()
    return any(lowered.startswith(beginning.lower()) for beginning in beginnings)


def _system_copies(indicators: list[Indicator]) -> frozenset[str]:
    """Paths that a command line fills with a system file: QakBot overwrites itself with calc.exe this way."""
    found = set()
    for item in indicators:
        match = _COPIES.search(item.get("value", "")) if item["role"] == "executed" else None
        if not match:
            continue
        paths = [quoted or bare for quoted, bare in _QUOTED_OR_BARE.findall(match.group("rest"))]
        for source, destination in itertools.pairwise(paths):
            if is_system_path(source) and not is_system_path(destination):
                found.add(plain_path(destination).lower())
    return frozenset(found)
