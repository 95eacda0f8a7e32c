"""What a device answers to a visit is judged before anything of it is used."""

from __future__ import annotations

from typing import Any

import pytest
from ioc_scan.devices.base import LeftBehind
from ioc_scan.devices.spooled import Visit
from ioc_scan.devices.wire import MAX_LEFT, left_of

GOOD = {"match_id": "m1", "quarantine_id": "ab" * 16, "sha256": "cd" * 32, "size": 7}


def told(rows: Any, job_id: str = "j1") -> dict[str, tuple[LeftBehind, ...]]:
    return left_of({"left": {job_id: rows}}, Visit("ws01", withdraw=["j1"]))


def test_what_was_left_behind_belongs_to_the_device_that_was_asked() -> None:
    assert told([GOOD | {"device_id": "ws02"}]) == {
        "j1": (LeftBehind("ws01", "m1", "ab" * 16, "cd" * 32, 7),)
    }


@pytest.mark.parametrize(
    "row",
    [
        None,
        [],
        "m1",
        GOOD | {"match_id": "a b"},
        GOOD | {"match_id": "m" * 201},
        GOOD | {"match_id": None},
        GOOD | {"quarantine_id": "../../../etc/passwd"},
        GOOD | {"sha256": "CD" * 32},
        GOOD | {"size": -1},
        GOOD | {"size": True},
        GOOD | {"size": 2**63},
        GOOD | {"size": 1.5},
    ],
)
def test_a_row_of_another_shape_is_passed_over(row: Any) -> None:
    assert len(told([row, GOOD])["j1"]) == 1


def test_jobs_nobody_withdrew_and_floods_are_cut_off() -> None:
    assert told([GOOD], "j2") == {}
    assert told({"rows": [GOOD]}) == {}
    assert len(told([GOOD] * (MAX_LEFT + 1))["j1"]) == MAX_LEFT
    assert left_of({}, Visit("ws01", withdraw=["j1"])) == left_of({"left": 1}, Visit("ws01")) == {}
