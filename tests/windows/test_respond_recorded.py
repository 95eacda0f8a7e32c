"""What Wine has not: put in as Windows says it, and answered by the scanner's own code on Windows' Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.scanner.support import objects_plan
from tests.windows.rig import VERSIONS, Windows

EVIL = b"MZ harmless stand-in\n" * 20
_CODE = (Path(__file__).parent / "recorded_inside.py").read_text("utf-8")


@pytest.fixture(scope="module", params=VERSIONS)
def answers(windows: Windows, request: pytest.FixtureRequest) -> Any:
    base, where = windows.folder("recorded")
    (base / "plan.json").write_bytes(objects_plan(EVIL))
    return windows.python(request.param, _CODE, where)


@pytest.mark.parametrize(
    ("case", "outcome", "code"),
    [
        ("offline", "refused", "offline"),
        ("recall_on_open", "refused", "offline"),
        ("recall_on_access", "refused", "offline"),
        ("link", "refused", "link_in_path"),
        ("deduplicated", "refused", "link_in_path"),
        ("junction_above", "refused", "link_in_path"),
        ("large_stream", "refused", "alternate_streams"),
        ("unreadable_stream", "refused", "alternate_streams"),
        ("installed", "refused", "package_owned"),
        ("owner_unknown", "refused", "package_check_failed"),
        ("in_a_catalog", "refused", "signed"),
        ("remote", "refused", "network_file_system"),
        ("substituted", "refused", "link_in_path"),
        ("disk_full", "failed", "disk_full"),
        ("own_process", "refused", "protected_process"),
        ("critical_process", "refused", "protected_process"),
    ],
)
def test_what_is_left_alone(answers: Any, case: str, outcome: str, code: str) -> None:
    line = answers[case]
    assert (line["outcome"], line["code"]) == (outcome, code), line
    assert line["in_place"] and line["stored"] == 0


@pytest.mark.parametrize("case", ["offline", "recall_on_open", "recall_on_access"])
def test_what_lies_elsewhere_is_never_opened(answers: Any, case: str) -> None:
    assert answers[case]["opened"] is False


@pytest.mark.parametrize(
    "case",
    ["cloud_folder", "cloud_file_that_is_here", "newer_deletion", "no_final_path", "other_serial", "streams"],
)
def test_what_is_taken(answers: Any, case: str) -> None:
    line = answers[case]
    assert (line["outcome"], line["code"]) == ("quarantined", ""), line
    assert not line["in_place"] or case == "streams"


def test_alternate_streams_come_back(answers: Any) -> None:
    line = answers["streams"]
    assert line["restored"]["outcome"] == "restored" and line["restored"]["message"] == ""
    assert line["given_back"] == ["[ZoneTransfer]\r\nZoneId=3\r\n", "by hand"]


def test_the_newer_call_takes_the_name_at_once_and_read_only_files_too(answers: Any) -> None:
    delete, posix_semantics, ignore_read_only = 0x1, 0x2, 0x10
    assert answers["newer_deletion"]["flags"] == [delete | posix_semantics | ignore_read_only]


def test_while_a_file_is_worked_on_nobody_moves_or_changes_it(answers: Any) -> None:
    assert (answers["held_folders"]["outcome"], answers["held_folders"]["done"]) == ("quarantined", [])
