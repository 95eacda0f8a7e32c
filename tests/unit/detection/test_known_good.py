"""The known-good list: right, small and fast."""

from __future__ import annotations

import hashlib
import os
import random
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ioc_scan.detection.known_good import (
    KnownGoodEntry,
    KnownGoodList,
    learn_folder,
    learn_into,
    parse_expiry,
    write_list,
)
from ioc_scan.errors import ConfigError, InputError

NOW = datetime(2024, 5, 1, 12, 0, tzinfo=timezone.utc)


def entry(number: int, origin: str = "image", expires_at: datetime | None = None) -> KnownGoodEntry:
    return KnownGoodEntry(hashlib.sha256(str(number).encode()).hexdigest(), origin, expires_at)


def test_finds_what_was_written_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "list"
    entries = [entry(number, f"origin {number % 3}") for number in range(2000)]
    assert write_list(path, entries, now=NOW) == 2000
    with KnownGoodList(path) as known:
        assert all(known.find(item.sha256) == item for item in entries)
        assert not any(known.find(entry(number).sha256) for number in range(2000, 4000))
        assert {item.sha256 for item in known} == {item.sha256 for item in entries}
        assert known.origins() == {"origin 0": 667, "origin 1": 667, "origin 2": 666}


@pytest.mark.parametrize("digest", ["0" * 64, "f" * 64, "00" * 31 + "01", "ff" * 31 + "fe"])
def test_the_edges(tmp_path: Path, digest: str) -> None:
    path = tmp_path / "list"
    write_list(path, [KnownGoodEntry(digest, "x", None)], now=NOW)
    with KnownGoodList(path) as known:
        assert known.is_known_good(digest, NOW) and not known.is_known_good("7" * 64, NOW)
    write_list(path, [], now=NOW)
    with KnownGoodList(path) as known:
        assert len(known) == 0 and known.find(digest) is None


def test_entries_expire_to_the_day(tmp_path: Path) -> None:
    path = tmp_path / "list"
    end = datetime(2024, 5, 10, tzinfo=timezone.utc)
    write_list(path, [entry(1, expires_at=end)], now=NOW)
    with KnownGoodList(path) as known:
        digest = entry(1).sha256
        assert known.is_known_good(digest, end - timedelta(seconds=1)) and not known.is_known_good(
            digest, end
        )
        found = known.find(digest)
        assert found and found.expires_at == end
    assert write_list(path, [entry(1, expires_at=end)], now=end) == 0


def test_the_longer_lasting_entry_counts(tmp_path: Path) -> None:
    path = tmp_path / "list"
    near, far = NOW + timedelta(days=2), NOW + timedelta(days=9)
    for order in ([near, far, None], [None, near, far], [far, None, near]):
        write_list(path, [entry(1, str(end), end) for end in order], now=NOW)
        with KnownGoodList(path) as known:
            found = known.find(entry(1).sha256)
            assert found and found.expires_at is None


def test_readers_keep_what_they_opened(tmp_path: Path) -> None:
    path = tmp_path / "list"
    write_list(path, [entry(1)], now=NOW)
    with KnownGoodList(path) as known:
        write_list(path, [entry(2)], now=NOW)
        assert known.find(entry(1).sha256)
    assert os.listdir(tmp_path) == ["list"]


@pytest.mark.parametrize(
    "content", [b"", b"{}\n", b"not json\n", b'{"format": "ioc_scan known good 1", "origins": []}\nxx']
)
def test_damaged_lists_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "list"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="known_good_unreadable"):
        KnownGoodList(path)


def test_cut_or_writable_lists_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "list"
    write_list(path, [entry(1), entry(2)], now=NOW)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(ConfigError, match="damaged"):
        KnownGoodList(path)
    path.write_bytes(whole)
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="everybody"):
        KnownGoodList(path)


@pytest.mark.parametrize("digest", ["", "x" * 64, "a" * 63, "a" * 32])
def test_bad_digests_are_refused(tmp_path: Path, digest: str) -> None:
    with pytest.raises(InputError, match="known_good_bad_digest"):
        write_list(tmp_path / "list", [KnownGoodEntry(digest, "x", None)], now=NOW)


def test_learns_a_folder_without_following_links(tmp_path: Path) -> None:
    root = tmp_path / "image"
    (root / "deep").mkdir(parents=True)
    (root / "a").write_bytes(b"a")
    (root / "deep" / "b\n{{ 1 }}").write_bytes(b"b")
    (root / "empty").touch()
    os.mkfifo(root / "fifo")
    (tmp_path / "outside").write_bytes(b"outside")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "up").symlink_to(tmp_path)
    found = {item.sha256 for item in learn_folder(root, origin="x", expires_at=None)}
    assert found == {hashlib.sha256(content).hexdigest() for content in (b"a", b"b")}


def test_expiry_texts() -> None:
    assert parse_expiry(None) is None and parse_expiry("2024-05-01T12:00:00Z") == NOW
    with pytest.raises(InputError, match="known_good_bad_expiry"):
        parse_expiry("soon")


@pytest.mark.slow
def test_a_million_digests(tmp_path: Path) -> None:
    path = tmp_path / "list"
    chance = random.Random(1)
    digests = [chance.randbytes(32).hex() for _ in range(1_000_000)]
    write_list(path, (KnownGoodEntry(digest, "image", None) for digest in digests), now=NOW)
    assert path.stat().st_size <= 100 * 1024 * 1024
    asked = chance.sample(digests, 10_000) + [chance.randbytes(32).hex() for _ in range(10_000)]
    with KnownGoodList(path) as known:
        best = min(_seconds(known, asked) for _ in range(3))
    assert best / len(asked) <= 10e-6


def _seconds(known: KnownGoodList, asked: list[str]) -> float:
    start = time.process_time()
    for digest in asked:
        known.is_known_good(digest, NOW)
    return time.process_time() - start


def test_learning_adds_to_what_is_there(tmp_path: Path) -> None:
    path, image = tmp_path / "list", tmp_path / "image"
    image.mkdir()
    (image / "a").write_bytes(b"a")
    assert learn_into(path, image, origin="one", expires_at=NOW + timedelta(days=3), now=NOW) == (1, 1)
    (image / "a").write_bytes(b"b")
    (image / "same").write_bytes(b"b")
    assert learn_into(path, image, origin="two", expires_at=None, now=NOW) == (2, 2)
    with KnownGoodList(path) as known:
        assert known.origins() == {"one": 1, "two": 1}
    assert learn_into(path, image, origin="two", expires_at=None, now=NOW + timedelta(days=4)) == (2, 1)
    with pytest.raises(InputError, match="known_good_no_folder"):
        learn_into(path, tmp_path / "absent", origin="x", expires_at=None, now=NOW)
    path.write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="known_good_unreadable"):
        learn_into(path, image, origin="x", expires_at=None, now=NOW)
    assert path.read_bytes() == b"damaged", "a damaged list is not silently replaced by a shorter one"
