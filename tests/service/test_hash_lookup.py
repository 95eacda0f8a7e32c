"""The look-up of known software may come and go: all steps of a workflow see the same tiers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ioc_scan.detection.policy import hash_lookup
from ioc_scan.service import intake, lifetimes, looking, tasks
from ioc_scan.service.guarding import LOOKED_UP

from tests.unit.detection.standin import as_json
from tests.unit.detection.test_hash_lookup import Lookup

from .world import World, cape_report, sample, sha256


@pytest.fixture()
def lookup(town: World) -> Iterator[Lookup]:
    server = Lookup()
    with server.serving() as url:
        town.config["guard"] = {"hash_lookup_url": url}
        yield server
    hash_lookup.cache_clear()


def tier(town: World, detection_id: str) -> str:
    """As a process of its own sees it: nothing is left in memory."""
    hash_lookup.cache_clear()
    with town.context() as context:
        (row,) = looking.explain_detection(context, detection_id)["rows"]
    return f"{row['tier']} {row['reason'].partition(':')[0]}"


def test_an_outage_that_ends_between_two_steps_changes_nothing(town: World, lookup: Lookup) -> None:
    detection_id = town.drop_report(cape_report(sample()))
    lookup.moods["/"] = as_json({}, 500)
    with town.context() as context:
        intake.fetch_detection(context, detection_id)
    lookup.moods.clear()
    assert tier(town, detection_id) == "hunt known_good_unchecked"
    hash_lookup.cache_clear()
    with town.context() as context:
        assert [ioc["tier"] for ioc in tasks.generate_ioc(context, detection_id)["iocs"]] == ["hunt"]
    town.ahead(hours=1)
    assert tier(town, detection_id) == "actionable target"


def test_an_outage_that_begins_between_two_steps_changes_nothing(town: World, lookup: Lookup) -> None:
    detection_id = town.drop_report(cape_report(sample()))
    with town.context() as context:
        intake.fetch_detection(context, detection_id)
    lookup.moods["/"] = as_json({}, 500)
    town.ahead(hours=20)
    assert tier(town, detection_id) == "actionable target"
    assert len(lookup.requests) == 1


def test_a_silent_service_is_asked_once_and_old_answers_go(town: World, lookup: Lookup) -> None:
    drops = [
        {"name": [f"{n}.exe"], "guest_paths": [f"C:\\Users\\u\\AppData\\{n}.exe"], "sha256": sha256(b"%d" % n),
         "size": 4096, "type": "PE32 executable (GUI) Intel 80386, for MS Windows"}
        for n in range(20)
    ]  # fmt: skip
    detection_id = town.drop_report(cape_report(sample(), dropped=drops))
    lookup.moods["/"] = as_json({}, 500)
    with town.context() as context:
        answer = intake.fetch_detection(context, detection_id)
        assert answer["actionable"] == 0 and answer["hunt"] == 21
        assert len(lookup.requests) == 1
        digest = LOOKED_UP + sha256(sample())
        with context.store.reading() as tx:
            assert tx.flags.row(digest) is not None
        town.ahead(days=2)
        lifetimes.prune(context)
        with context.store.reading() as tx:
            assert tx.flags.row(digest) is None
