"""The event stream as whoever writes there might make it, and who counts as away. No Salt here."""

from __future__ import annotations

import base64
import json
import queue
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.devices import salt_events
from ioc_scan.devices.results import DeviceAnswer
from ioc_scan.devices.salt_answers import Keys
from ioc_scan.devices.salt_events import News
from ioc_scan.devices.salt_presence import Presence
from ioc_scan.devices.spooled import Visit, Visited

from .harness import wait_for
from .salt_fleet import signed

JOB = "task1.1"
LOOK = Visit("ws01", read={JOB: {"offset": 100, "limit": 1000}})


class Stream:
    """Bytes put in come out of the connection; None ends it."""

    def __init__(self) -> None:
        self.parts: queue.Queue[bytes | None] = queue.Queue()
        self.opened = 0

    def connect(self) -> Iterator[bytes]:
        self.opened += 1
        yield b"retry: 400\n"
        while (part := self.parts.get()) is not None:
            yield part

    def event(self, tag: str, data: object) -> None:
        self.parts.put(f"tag: {tag}\ndata: {json.dumps({'tag': tag, 'data': data})}\n\n".encode())


@pytest.fixture
def stream() -> Iterator[Stream]:
    stream = Stream()
    yield stream
    stream.parts.put(None)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture
def news(stream: Stream, keys: Keys) -> News:
    """Listening; ws01 was asked just now and had no more to say."""
    news = News(stream.connect, keys)
    news.listen()
    news.asked(LOOK, Visited(True, answers={JOB: DeviceAnswer(b"{}", b"x" * 10, 110)}), True)
    assert known(news) == Visited(False)
    return news


def known(news: News) -> Visited | None:
    return news.answer(LOOK)


def told(keys: Keys, status: dict[str, Any] | None, device: str = "ws01", job: str = JOB) -> dict[str, Any]:
    raw = None if status is None else base64.b64encode(json.dumps(status).encode()).decode()
    packed = zlib.compress(json.dumps({"jobs": {job: raw}}).encode())
    return signed(base64.b64encode(packed).decode(), keys.key(device), "news", device)


RUNNING = {"state": "running", "results_bytes": 100, "files_seen": 7}


class TestNews:
    def test_progress_is_taken_as_it_was_told(self, news: News, stream: Stream, keys: Keys) -> None:
        stream.event("salt/beacon/ws01/ioc_scan/", told(keys, RUNNING))
        wait_for(lambda: (found := known(news)) and found.reached and found.answers, "the news")

    @pytest.mark.parametrize(
        "status",
        [
            None,
            {"state": "done", "results_bytes": 100},
            {"state": "running", "results_bytes": 101},
            {"state": "running", "results_bytes": 0},
            {"state": "running", "results_bytes": "many"},
            [],
        ],
    )
    def test_anything_more_is_read_from_the_device(
        self, news: News, stream: Stream, keys: Keys, status: Any
    ) -> None:
        stream.event("salt/beacon/ws01/ioc_scan/", told(keys, status))
        wait_for(lambda: known(news) is None, "a reason to ask")

    @pytest.mark.parametrize(
        "make",
        [
            lambda keys: told(keys, None, "ws02"),
            lambda keys: {**told(keys, None, "ws02"), "id": "ws01"},
            lambda keys: {**told(keys, None), "proof": "0" * 64},
            lambda keys: told(keys, None, job="../escape"),
            lambda keys: told(keys, None, job="task2.1"),
            lambda keys: {"id": ["ws01"]},
            lambda keys: ["ws01"],
            lambda keys: signed("not zlib", keys.key("ws01"), "news", "ws01"),
        ],
    )
    def test_what_is_not_the_devices_own_is_nothing(
        self, news: News, stream: Stream, keys: Keys, make: Callable[[Keys], Any]
    ) -> None:
        stream.event("salt/beacon/ws01/ioc_scan/", make(keys))
        stream.event("salt/job/1/ret/ws01", told(keys, None))
        stream.parts.put(b"data: \xff{[\ntag: salt/beacon/ws01/ioc_scan/\ndata: " + b"[" * 100_000 + b"\n\n")
        wait_for(stream.parts.empty, "the events to be read")
        time.sleep(0.1)
        assert known(news) == Visited(False)

    def test_a_line_without_end_and_a_flood_end_the_stream(
        self, news: News, stream: Stream, keys: Keys, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(salt_events, "MAX_BYTES", 4 * 1024 * 1024)
        stream.parts.put(b"tag: salt/beacon/ws01/ioc_scan/\ndata: " + b"x" * 1024 * 1024)
        stream.parts.put(b"x" * 1024 * 1024 + b"\n")
        stream.event("salt/beacon/ws01/ioc_scan/", told(keys, RUNNING))  # still heard
        wait_for(lambda: (found := known(news)) and found.reached, "the news")
        for _ in range(4):
            stream.parts.put(b"tag: spam\n" * 100_000)
        wait_for(lambda: known(news) is None, "the end")

    def test_a_stream_that_ends_is_opened_anew_and_everybody_asked(self, news: News, stream: Stream) -> None:
        stream.parts.put(None)
        wait_for(lambda: known(news) is None, "the end")
        news.listen()
        assert stream.opened == 2
        assert known(news) is None

    def test_a_stream_that_nobody_looks_at_ends(
        self, news: News, stream: Stream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(salt_events, "IDLE_SECONDS", 0.0)
        stream.event("salt/job/1/new", {})
        wait_for(lambda: known(news) is None, "the end")

    def test_a_device_is_not_trusted_for_ever(self, news: News, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(salt_events, "TRUST_SECONDS", 0.0)
        assert known(news) is None

    @pytest.mark.parametrize("tells", [True, False])
    def test_one_with_more_to_say_or_that_never_tells_is_asked(self, news: News, tells: bool) -> None:
        rest = 1 if tells else 0
        news.asked(LOOK, Visited(True, answers={JOB: DeviceAnswer(b"{}", b"", 100 + rest)}), tells)
        assert known(news) is None

    def test_where_there_is_no_stream_nobody_waits_for_it_twice(self, keys: Keys) -> None:
        tried: list[int] = []

        def refused() -> Iterator[bytes]:
            tried.append(1)
            raise OSError

        news = News(refused, keys)
        for _ in range(3):
            news.listen()
            assert known(news) is None
        assert len(tried) == 1


class TestPresence:
    @pytest.fixture
    def now(self) -> list[datetime]:
        return [datetime(2026, 1, 1, tzinfo=timezone.utc)]

    @pytest.fixture
    def presence(self, tmp_path: Path, now: list[datetime]) -> Presence:
        return Presence(tmp_path / "memory", clock=lambda: now[0])

    def test_away_until_a_sign_of_life(self, presence: Presence) -> None:
        presence.note(["ws01"], {"ws02": 5, "ws03": None})
        assert presence.silent(["ws01", "ws02", "ws03"]) == ["ws02", "ws03"]
        assert presence.away({"ws01": 1, "ws02": 5, "ws03": None}) == {"ws02", "ws03"}
        assert presence.away({"ws02": 6, "ws03": 1}) == set()
        presence.note(["ws02"], {})
        assert presence.away({"ws02": 5, "ws03": None}) == {"ws03"}

    def test_pushed_now_and_then(self, presence: Presence, now: list[datetime]) -> None:
        presence.note([], {"ws02": 5})
        assert presence.due_for_push(["ws01", "ws02"]) == ["ws02"]
        assert presence.due_for_push(["ws02"]) == []
        now[0] += timedelta(seconds=60)
        assert presence.due_for_push(["ws02"]) == ["ws02"]
        presence.note([], {"ws02": 6})  # asked and silent again: that was no push
        assert presence.due_for_push(["ws02"]) == []

    @pytest.mark.parametrize("content", ["", "[]", '{"ws02": 7}', '{"ws02": {}}', "[" * 1000])
    def test_a_damaged_memory_asks_everybody(self, presence: Presence, tmp_path: Path, content: str) -> None:
        presence.note([], {"ws02": 5})
        (tmp_path / "memory" / "silent.json").write_text(content)
        assert presence.silent(["ws02"]) == []
        presence.note([], {"ws02": 5})
        assert presence.silent(["ws02"]) == ["ws02"]
