"""Archives of reports in the watched folder."""

from __future__ import annotations

import gzip
import io
import json
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.detection.sources import archives
from ioc_scan.errors import InputError

from tests.unit.detection.samples import report
from tests.unit.detection.test_folder import folder, later, put, source

__all__ = ["folder"]

ONE, TWO = (json.dumps(report(malscore=score)).encode() for score in (9.0, 8.0))


def zipped(**entries: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return target.getvalue()


def tarred(mode: str = "w", **entries: bytes) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


def special(kind: bytes, name: str = "a", link: str = "") -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        archive.addfile(info)
    return target.getvalue()


def zip_link() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        info = zipfile.ZipInfo("link.json")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    return target.getvalue()


def scores(path: Path) -> list[float]:
    watched = source(path)
    return sorted(
        watched.fetch(row.report_id)["verdict"]["score"] for row in watched.list_new(None, later())[0]
    )


@pytest.mark.parametrize(
    "content",
    [
        zipped(**{"a/one.json": ONE, "two.json": TWO}),
        tarred(one=ONE, two=TWO),
        tarred("w:gz", one=ONE, two=TWO),
        zipped(one=gzip.compress(ONE), two=TWO),
    ],
)
def test_each_entry_is_a_report(folder: Path, content: bytes) -> None:
    put(folder, "reports.bin", content)
    assert scores(folder) == [80.0, 90.0]


def test_a_report_has_one_id_in_and_outside_of_an_archive(folder: Path) -> None:
    put(folder, "one.json", ONE)
    put(folder, "all.zip", zipped(one=ONE, two=TWO))
    assert len({row.report_id for row in source(folder).list_new(None, later())[0]}) == 2


def twice() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for content in (ONE, TWO):
            info = tarfile.TarInfo("same.json")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (zipped(**{"../up.json": ONE}), "archive_bad_name"),
        (zipped(**{"a/../../up.json": ONE}), "archive_bad_name"),
        (zipped(**{"/abs.json": ONE}), "archive_bad_name"),
        (zipped(**{"C:\\abs.json": ONE}), "archive_bad_name"),
        (zip_link(), "archive_link"),
        (twice(), "archive_bad_name"),
        (special(tarfile.SYMTYPE, link="/etc/passwd"), "archive_link"),
        (special(tarfile.LNKTYPE, link="b"), "archive_link"),
        (special(tarfile.FIFOTYPE), "archive_link"),
        (special(tarfile.CHRTYPE), "archive_link"),
        (zipped(inner=zipped(one=ONE)), "archive_nested"),
        (tarred(inner=tarred(one=ONE)), "archive_nested"),
        (zipped(**{f"{number}.json": b"{}" for number in range(1001)}), "archive_too_many_entries"),
        (zipped(bomb=b"x" * 3_000_000), "archive_too_large"),
        (tarred("w:gz", bomb=b"x" * 40_000_000), "archive_too_large"),
        (zipped(one=ONE)[:-30], "archive_damaged"),
        (tarred("w:gz", one=ONE)[:-30], "archive_damaged"),
    ],
)
def test_refused_as_a_whole_and_reported(folder: Path, content: bytes, code: str) -> None:
    put(folder, "reports.bin", content)
    watched = source(folder, max_report_bytes=2_000_000)
    (row,) = watched.list_new(None, later())[0]
    with pytest.raises(InputError) as caught:
        watched.fetch(row.report_id)
    assert caught.value.code == code


def test_the_sum_of_all_entries_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    content: dict[str, Any] = {f"{number}": b"x" * 90_000 for number in range(30)}
    packed = zipped(**content)
    with pytest.raises(InputError, match="archive_too_large"):
        archives.digests(io.BytesIO(packed), len(packed), 100_000)
    monkeypatch.setattr(archives, "MAX_REPORTS_WORTH", 100)
    monkeypatch.setattr(archives, "MAX_RATIO", 10_000)
    assert len(archives.digests(io.BytesIO(packed), len(packed), 100_000)) == 30


def test_a_report_that_merely_mentions_a_tar_is_none(folder: Path) -> None:
    put(folder, "a.json", json.dumps(report(strings=["ustar" * 100])).encode())
    assert scores(folder) == [100.0]
