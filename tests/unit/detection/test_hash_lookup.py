"""The opt-in look-up of known software."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ioc_scan.detection.guard import classify
from ioc_scan.detection.policy import load_policy
from ioc_scan.errors import ConfigError

from tests.unit.detection.samples import TARGET_SHA256, codes, dropped, normalize, report
from tests.unit.detection.standin import Answer, StandIn, as_json


class Lookup(StandIn):
    """CIRCL's hashlookup: 200 with what is known, 404 for the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, dict[str, Any]] = {}

    def respond(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> Answer:
        parts = path.strip("/").split("/")
        if method != "GET" or parts[:2] != ["lookup", "sha256"] or len(parts) != 3 or query:
            return self.refuse(f"{method} {path}")
        if parts[2] not in self.known:
            return as_json({"message": "Non existing SHA-256", "query": parts[2]}, 404)
        return as_json({"SHA-256": parts[2].upper(), "source": "NSRL", **self.known[parts[2]]})


@pytest.fixture()
def lookup() -> Iterator[tuple[Lookup, str]]:
    server = Lookup()
    with server.serving() as url:
        yield server, url
    assert not server.refused


@pytest.mark.parametrize(
    ("known", "code"),
    [
        (None, "target"),
        ({}, "known_good_conflict"),
        ({"hashlookup:trust": 55}, "known_good_conflict"),
        ({"hashlookup:trust": 20}, "target"),
        ({"hashlookup:trust": "55"}, "target"),
        ({"KnownMalicious": "Malshare.com"}, "target"),
    ],
)
def test_what_the_service_knows(lookup: tuple[Lookup, str], known: dict[str, Any] | None, code: str) -> None:
    server, url = lookup
    if known is not None:
        server.known[TARGET_SHA256] = known
    judged = classify(normalize(report()), load_policy({"hash_lookup_url": url}, "target"))
    assert codes(judged.actionable + judged.hunt) == [code]


def test_answers_are_remembered(lookup: tuple[Lookup, str]) -> None:
    server, url = lookup
    for _ in range(3):
        classify(normalize(report()), load_policy({"hash_lookup_url": url}, "target"))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "mood",
    [
        as_json({}, 500),
        as_json({}, 429),
        as_json([]),
        as_json({"SHA-256": "0" * 64}),
        (302, {"Location": "/"}, b""),
    ],
)
def test_a_service_that_cannot_be_asked_is_no_permission(lookup: tuple[Lookup, str], mood: Any) -> None:
    server, url = lookup
    server.moods["/"] = mood
    content = report(dropped=[dropped("C:\\Users\\u\\AppData\\a.exe")])
    judged = classify(normalize(content), load_policy({"hash_lookup_url": url}, "target"))
    assert not judged.actionable and judged.alerts == ["known_good_unchecked"]
    assert codes(judged.hunt) == ["known_good_unchecked", "dropped_program"]


def test_a_bad_address_is_refused() -> None:
    with pytest.raises(ConfigError, match="source_url"):
        load_policy({"hash_lookup_url": "hashlookup"}, "target")
