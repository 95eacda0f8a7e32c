"""The guard's policy for one source, from configuration and the operator's files."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from ioc_scan.detection.guard import GuardPolicy, Triage, classify
from ioc_scan.detection.known_good import KnownGoodList
from ioc_scan.detection.policy import KnownGood, load_policy
from ioc_scan.errors import SourceError
from ioc_scan.service.context import Context

#: In the store's folder: what was learned from clean images.
KNOWN_GOOD_LIST = "known_good.list"
#: Answers of the look-up over the network, by digest: all steps of a workflow must see the same ones.
LOOKED_UP = "hash_lookup:"
ANSWER_KEPT = timedelta(days=1)
#: No answer is kept too, but not for long: a step that got none must not be contradicted by the next.
SILENCE_KEPT = timedelta(minutes=30)


def guard_policy(context: Context, source: dict[str, Any]) -> GuardPolicy:
    """Raises ConfigError where a list file cannot be read: judging without it would be guessing."""
    return load_policy(
        context.config["guard"],
        source["trust"],
        known_good=_learned(context),
        remember=lambda look_up: _remembered(context, look_up),
    )


def _learned(context: Context) -> KnownGood | None:
    """The digests learned from clean images, where there are any."""
    path = context.folder / KNOWN_GOOD_LIST
    if not path.exists():
        return None
    known = KnownGoodList(path)
    return lambda sha256: known.is_known_good(sha256, context.clock())


def _remembered(context: Context, look_up: KnownGood) -> KnownGood:
    """The look-up with a memory in the store. Once it fails it is not asked again in this use case."""
    silent: list[SourceError] = []

    def is_known_good(sha256: str) -> bool:
        name, now = LOOKED_UP + sha256, context.clock()
        with context.store.reading() as tx:
            known = tx.flags.row(name)
        if known and now - known["updated_at"] < (SILENCE_KEPT if known["value"] is None else ANSWER_KEPT):
            if known["value"] is None:
                raise SourceError(
                    "hash_lookup_silent",
                    "the hash look-up gave no answer a little while ago",
                    "is guard.hash_lookup_url reachable?",
                )
            return bool(known["value"])
        answer: bool | None = None
        if not silent:
            try:
                answer = look_up(sha256)
            except SourceError as error:
                silent.append(error)
        with context.store.transaction() as tx:
            tx.flags.set(name, answer, now=now)
        if answer is None:
            raise silent[0]
        return answer

    return is_known_good


def judge(context: Context, detection: dict[str, Any], source_name: str) -> Triage:
    """The tiers of a stored detection under the present configuration."""
    return classify(detection, guard_policy(context, context.source_entry(source_name)))
