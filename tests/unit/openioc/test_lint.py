"""What linting says, with its line, and what it leaves in peace."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.openioc import problem_codes
from ioc_scan.openioc.lint import is_actionable, lint, lint_collection
from ioc_scan.openioc.reader import read_ioc
from ioc_scan.openioc.writer import write_ioc

from tests.fixtures.shared import REPOSITORY
from tests.unit.openioc.builders import MD5_1, SHA_1, SHA_2, document


def codes(tree: list[Any], **options: Any) -> list[str]:
    return [entry.code for entry in lint(read_ioc(write_ioc(document(tree))), **options)]


SOUND = ["AND", ["FileItem/SizeInBytes", "is", "10"], ["FileItem/Sha256sum", "is", SHA_1]]


def test_a_sound_file_has_no_problem() -> None:
    assert codes(SOUND) == []
    assert codes(SOUND, profile="kaspersky") == []


@pytest.mark.parametrize(
    ("tree", "code"),
    [
        (["AND", ["FileItem/FileName", "is", "a"], ["FileItem/FileName", "is", "b"]], "contradiction"),
        (
            ["AND", ["FileItem/FileName", "is", "abc"], ["FileItem/FileName", "contains", "x"]],
            "contradiction",
        ),
        (["AND", ["FileItem/FileName", "is", "abc"], ["FileItem/FileName", "isnot", "ABC"]], "contradiction"),
        (
            ["AND", ["FileItem/FullPath", "starts-with", "c:"], ["FileItem/FullPath", "starts-with", "d:"]],
            "contradiction",
        ),
        (
            ["AND", ["FileItem/SizeInBytes", "less-than", "5"], ["FileItem/SizeInBytes", "is", "[5 TO 9]"]],
            "contradiction",
        ),
        (["AND", ["FileItem/Md5sum", "is", MD5_1], ["FileItem/Md5sum", "is", "3" * 32]], "contradiction"),
        (
            [
                "AND",
                ["PortItem/remoteIP", "is", "10.0.0.1"],
                ["PortItem/remoteIP", "is", "10.0.0.2 TO 10.0.0.9"],
            ],
            "contradiction",
        ),
        (
            [
                "AND",
                ["FileItem/FileName", "is", "a"],
                [
                    "OR",
                    ["FileItem/FileName", "is", "b"],
                    ["AND", ["FileItem/FileName", "is", "c"], ["FileItem/SizeInBytes", "is", "1"]],
                ],
            ],
            "contradiction",
        ),
        (["FileItem/Sha256sum", "is", "xyz"], "content_type"),
        (["FileItem/Modified", "is", "yesterday"], "content_type"),
        (["FileItem/Modified", "is", "2024-01-01T00:00:00"], "date_zone"),
        (["FileItem/FileName", "greater-than", "a"], "condition_type"),
        (["FileItem/FileName", "is", " abc "], "content_spaces"),
        (["FileItem/SizeInBytes", "is", "7", {"preserve-case": True}], "preserve_case_type"),
        (["UrlHistoryItem/URL", "is", "http://example.com/abc"], "term_unsupported"),
        (["fileitem/filename", "is", "abc"], "term_spelling"),
        (["OR", ["FileItem/FileName", "is", "abc"], ["FileItem/FileName", "is", "abc"]], "item_repeated"),
        (["OR", ["FileItem/FileName", "is", "abc"], ["AND"]], "indicator_empty"),
        (["FileItem/FileName", "contains", "."], "over_broad"),
        (["FileItem/FullPath", "starts-with", "C:\\Windows\\"], "over_broad"),
        (["FileItem/FileName", "matches", "x*"], "over_broad"),
        (["FileItem/FileName", "matches", "."], "over_broad"),
        (["FileItem/FileName", "isnot", "abc"], "over_broad"),
        (
            ["AND", ["FileItem/FileExtension", "is", "exe"], ["FileItem/SizeInBytes", "greater-than", "1"]],
            "over_broad",
        ),
        (["OR", SOUND, ["AND", ["FileItem/FileName", "isnot", "a"]]], "over_broad"),
    ],
)
def test_problems(tree: list[Any], code: str) -> None:
    assert code in codes(tree)


@pytest.mark.parametrize(
    "tree",
    [
        ["AND", ["FileItem/FileName", "contains", "abc"], ["FileItem/FileName", "contains", "bcd"]],
        [
            "AND",
            ["FileItem/FullPath", "starts-with", "c:\\abc"],
            ["FileItem/FullPath", "starts-with", "C:\\ABCDE"],
        ],
        ["AND", ["FileItem/StringList/string", "is", "one"], ["FileItem/StringList/string", "is", "two"]],
        [
            "AND",
            ["FileItem/FileName", "is", "a"],
            ["OR", ["FileItem/FileName", "is", "b"], ["FileItem/FileName", "is", "A"]],
        ],
        ["OR", ["FileItem/FileName", "is", "a"], ["FileItem/FileName", "is", "b"]],
        ["AND", ["FileItem/FileName", "is", "abc"], ["FileItem/FullPath", "containsnot", "\\Tools\\"]],
    ],
)
def test_what_can_hold_is_no_contradiction_and_not_broad(tree: list[Any]) -> None:
    assert not {"contradiction", "over_broad"} & set(codes(tree))


def test_problems_name_their_line() -> None:
    ioc = read_ioc(write_ioc(document(["OR", SOUND, ["FileItem/Md5sum", "is", "xyz"]])))
    (entry,) = lint(ioc)
    line = (
        write_ioc(document(["OR", SOUND, ["FileItem/Md5sum", "is", "xyz"]]))
        .decode()
        .splitlines()[entry.line - 1]
    )
    assert "IndicatorItem" in line and 'id="n5"' in line
    assert entry.severity == "warning" and entry.hint is not None


def test_profiles_and_systems() -> None:
    assert "term_unsupported" in codes(["FileItem/Sha1sum", "is", "1" * 40], profile="kaspersky")
    registry = ["RegistryItem/Path", "contains", "\\Run\\evil"]
    assert codes(registry) == []
    assert codes(registry, systems=("linux",)) == ["term_unsupported"]
    assert codes(registry, systems=("linux", "windows")) == []


def test_files_of_one_task() -> None:
    found = lint_collection([("a", 6 << 20), ("b", 3 << 20), ("a", 2 << 20)])
    assert [(index, entry.code) for index, entry in found] == [
        (2, "duplicate_document_id"),
        (2, "collection_too_large"),
    ]


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (SOUND, True),
        (["FileItem/Sha256sum", "is", SHA_1], True),
        (
            [
                "AND",
                ["FileItem/FileName", "is", "a"],
                ["OR", ["FileItem/Sha256sum", "is", SHA_1], ["FileItem/Sha256sum", "is", SHA_2]],
            ],
            True,
        ),
        (["FileItem/Md5sum", "is", MD5_1], False),
        (["OR", SOUND, ["FileItem/FileName", "is", "abc"]], False),
        (["FileItem/Sha256sum", "isnot", SHA_1], False),
        (["AND", SOUND, ["PortItem/remotePort", "is", "1"]], False),
        (["AND"], False),
    ],
)
def test_only_what_a_sha256_proves_is_actionable(tree: list[Any], expected: bool) -> None:
    assert is_actionable(document(tree)) is expected


def test_every_code_in_the_source_is_in_the_catalogue() -> None:
    source = "".join(path.read_text("utf-8") for path in (REPOSITORY / "lib/ioc_scan/openioc").glob("*.py"))
    used = set(re.findall(r'IocRefused\(\s*"([a-z0-9_]+)"', source)) | set(
        re.findall(r'(?:\bnote|\badd|ContentError|\bproblem)\(\s*"([a-z0-9_]+)"', source)
    )
    assert len(used) > 50
    for code in used:
        problem_codes.severity_of(code)


def test_the_generated_pages_are_up_to_date(tmp_path: Path) -> None:
    from ioc_scan.openioc.pages import write_pages

    write_pages(tmp_path)
    for name in ("terms.md", "openioc_problems.md"):
        assert (REPOSITORY / "docs" / name).read_text("utf-8") == (tmp_path / name).read_text("utf-8"), (
            "run: python -m ioc_scan.openioc.pages docs"
        )
