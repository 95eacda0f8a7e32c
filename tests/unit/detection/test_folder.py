"""The watched folder: real files, real links."""

from __future__ import annotations

import gzip
import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.detection.sources import Source, SourceUnavailable, build_source
from ioc_scan.errors import ConfigError, InputError, SourceError

from tests.unit.detection.samples import report


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "reports"
    path.mkdir(mode=0o750)
    return path


def source(folder: Path, **settings: Any) -> Source:
    return build_source({"name": "lab", "type": "folder", "path": str(folder), **settings})


def later(seconds: float = 60) -> datetime:
    return datetime.now(timezone.utc) + timedelta(seconds=seconds)


def put(folder: Path, name: str, content: bytes | None = None) -> Path:
    path = folder / name
    path.write_bytes(json.dumps(report()).encode() if content is None else content)
    return path


def test_lists_and_fetches_by_content(folder: Path) -> None:
    put(folder, "b.json")
    put(folder, "a.json.gz", gzip.compress(json.dumps(report(malscore=1)).encode()))
    watched = source(folder)
    rows, cursor = watched.list_new(None, later())
    assert len(rows) == 2 and json.loads(json.dumps(cursor)) == cursor
    for row in rows:
        assert row.detection_id == f"cape:lab:{row.report_id}"
        assert source(folder).fetch(row.report_id)["detection_id"] == row.detection_id
    assert [row.report_id for row in watched.list_new(cursor, later())[0]] == [row.report_id for row in rows]


def test_the_same_content_twice_is_one_report(folder: Path) -> None:
    put(folder, "a.json")
    put(folder, "b.json")
    assert len({row.report_id for row in source(folder).list_new(None, later())[0]}) == 1


def test_an_old_file_that_arrives_late_is_listed(folder: Path) -> None:
    path = put(folder, "old.json")
    os.utime(path, (1, 1))
    assert len(source(folder).list_new(None, later())[0]) == 1


def test_the_window_reaches_back_from_the_last_look(folder: Path) -> None:
    put(folder, "a.json")
    watched = source(folder, look_back_hours=1)
    assert not watched.list_new(None, later(7200))[0]
    # nobody looked for three days: what came in between is not lost
    assert watched.list_new({"listed_at": int(later(0).timestamp())}, later(3 * 86400))[0]
    assert watched.list_new({"listed_at": "nonsense"}, later())[0]


def test_files_still_being_written_wait(folder: Path) -> None:
    put(folder, "a.json")
    assert not source(folder).list_new(None, later(0.2))[0]
    assert source(folder).list_new(None, later(3))[0]


def test_what_is_passed_over(folder: Path, tmp_path: Path) -> None:
    secret = put(tmp_path, "secret.json")
    (folder / "link.json").symlink_to(secret)
    os.link(secret, folder / "hard.json")
    os.mkfifo(folder / "fifo.json")
    (folder / "sub.json").mkdir()
    put(folder, ".hidden.json")
    put(folder, "a.json.part")
    watched = source(folder)
    assert not watched.list_new(None, later())[0]
    assert len(watched.health().problems) == 3


def test_a_world_writable_folder_is_refused(folder: Path) -> None:
    put(folder, "a.json")
    folder.chmod(0o777)
    watched = source(folder)
    with pytest.raises(SourceUnavailable) as caught:
        watched.list_new(None, later())
    assert caught.value.code == "folder_world_writable" and caught.value.lasting
    with pytest.raises(SourceError, match="folder_world_writable"):
        watched.fetch("x")
    assert not watched.health().ok


def test_an_absent_folder_is_a_clear_error(tmp_path: Path) -> None:
    watched = source(tmp_path / "nothing\n{{ 1 }}")
    with pytest.raises(SourceUnavailable, match="folder_unreachable") as caught:
        watched.list_new(None, later())
    assert "\n" not in str(caught.value) and "{{" not in str(caught.value)
    assert not watched.health().ok


def test_a_report_that_is_gone(folder: Path) -> None:
    with pytest.raises(SourceError, match="report_gone"):
        source(folder).fetch("sha256-" + "0" * 32)


def test_a_huge_file_is_listed_and_refused(folder: Path) -> None:
    put(folder, "big.json", b"{" + b" " * 5000)
    watched = source(folder, max_report_bytes=4096)
    (row,) = watched.list_new(None, later())[0]
    with pytest.raises(InputError, match="report_too_large"):
        watched.fetch(row.report_id)


def test_names_are_never_shown_raw(folder: Path) -> None:
    put(folder, "{{ 7*7 }}<% 1+1 %>\n.json")
    (row,) = source(folder).list_new(None, later())[0]
    assert source(folder).fetch(row.report_id)["target"]["name"] == "x.exe"


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({"name": "x", "type": "carrier pigeon"}, "source_type"),
        ({"name": "x"}, "source_type"),
        ({"name": "x", "type": ["folder"]}, "source_type"),
        ({"name": "x", "type": "folder"}, "source_path"),
        ({"name": "x", "type": "folder", "path": "relative"}, "source_path"),
    ],
)
def test_configuration_errors(entry: dict[str, Any], code: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_source(entry)
    assert caught.value.code == code


def test_a_webhook_source_has_nothing_to_list() -> None:
    pushed = build_source({"name": "webhook", "type": "webhook"})
    assert pushed.list_new(None, later())[0] == [] and pushed.health().ok
    with pytest.raises(SourceError, match="source_is_push_only"):
        pushed.fetch("1")
