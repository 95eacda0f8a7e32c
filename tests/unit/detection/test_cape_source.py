"""The CAPEv2 source against a strict stand-in over real HTTP."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.detection.sources import Source, SourceUnavailable, build_source
from ioc_scan.detection.sources.cape import CapeSource
from ioc_scan.detection.sources.http import HttpClient, HttpRefused, HttpSettings
from ioc_scan.errors import ConfigError, InputError, SourceError

from tests.unit.detection.samples import report
from tests.unit.detection.standin import HTML, Cape, StandIn, as_json, drops_in_the_middle, sends_for_ever
from tests.unit.detection.test_cape_shapes import iocs
from tests.unit.detection.test_real_reports import HARMLESS, MALICIOUS, detection_of, path_of

NOW = datetime(2024, 5, 2, 12, 0, tzinfo=timezone.utc)
SECRET = "s3cr3t-t0ken"


@pytest.fixture()
def cape() -> Iterator[Cape]:
    server = Cape()
    with server.serving() as url:
        server.url = url  # type: ignore[attr-defined]
        yield server
    assert not server.refused


def source(server: StandIn, **settings: Any) -> Source:
    return build_source({"name": "cape1", "type": "cape", "url": server.url, **settings})  # type: ignore[attr-defined]


def test_lists_all_pages_oldest_first(cape: Cape) -> None:
    for number in range(1, 121):
        cape.add(number, f"2024-05-01 {number // 60:02}:{number % 60:02}:00")
    rows, cursor = source(cape).list_new(None, NOW)
    assert [row.report_id for row in rows] == [str(number) for number in range(1, 121)]
    assert rows[0].detection_id == "cape:cape1:1" and rows[0].hashes["SHA-256"] == f"{1:064x}"
    assert rows[0].reported_at == datetime(2024, 5, 1, 0, 1, tzinfo=timezone.utc)
    asked = cape.requests[0][2]
    assert NOW.timestamp() - int(asked["completed_after"]) == (24 + 26) * 3600
    assert cursor == {"listed_at": int(NOW.timestamp())}


def test_pages_that_shift_while_read_lose_nothing(cape: Cape) -> None:
    for number in range(1, 131):
        cape.add(number, f"2024-05-01 {number // 60:02}:{number % 60:02}:00")
    more = iter(range(200, 300))

    def arrive() -> None:
        for _ in range(7):
            cape.add(next(more), "2024-05-02 11:00:00")

    cape.between_pages = arrive
    found = {int(row.report_id) for row in source(cape).list_new(None, NOW)[0]}
    assert set(range(1, 131)) <= found


def test_a_loop_of_pages_ends(cape: Cape) -> None:
    cape.moods["/apiv2/tasks/list/"] = as_json({"data": [{"id": number} for number in range(50)]})
    assert len(source(cape).list_new(None, NOW)[0]) == 50
    assert len(cape.requests) == 2


def test_odd_rows_are_passed_over(cape: Cape) -> None:
    rows = [
        5,
        None,
        {},
        {"id": None},
        {"id": "x"},
        {"id": -1},
        {"id": 7, "sample": [], "completed_on": {}},
        {"id": "8"},
    ]
    cape.moods["/apiv2/tasks/list/"] = as_json({"data": rows})
    assert [row.report_id for row in source(cape).list_new(None, NOW)[0]] == ["7", "8"]


def test_fetches_iocs(cape: Cape) -> None:
    cape.add(1, "2024-05-01 10:00:00", report(), iocs())
    detection = source(cape).fetch("1")
    assert detection["detection_id"] == "cape:cape1:1" and detection["verdict"]["families"] == ["QakBot"]
    assert [path for _, path, _, _ in cape.requests] == ["/apiv2/tasks/get/iocs/1/"]


@pytest.mark.parametrize(
    "mood",
    [
        None,
        (500, HTML, b"<h1>Server Error</h1>"),
        (200, HTML, b"<html>debug page</html>"),
        (302, {"Location": "/dashboard/"}, b""),
        as_json({"error": True, "error_value": "Unable to retrieve records"}),
        as_json({"error": False, "data": {}}),
        as_json({}),
        (200, {"Content-Type": "application/json"}, b'{"error": false, "data": {"info"'),
        (404, HTML, b"nothing"),
    ],
)
def test_falls_back_to_the_report(cape: Cape, mood: Any) -> None:
    cape.add(1, "2024-05-01 10:00:00", report())
    if mood:
        cape.moods["/apiv2/tasks/get/iocs/"] = mood
    assert source(cape).fetch("1")["verdict"]["score"] == 100.0


def test_the_whole_report_first_if_asked_for(cape: Cape) -> None:
    cape.add(1, "2024-05-01 10:00:00", report(CAPE={"configs": [{"F": {"C2": "44.1.1.1"}}]}), iocs())
    detection = source(cape, detail="report").fetch("1")
    assert any(item["role"] == "config" for item in detection["indicators"])


LARGEST = "f5c93ac7"


@pytest.mark.parametrize(
    "start",
    [*sorted({*MALICIOUS, *HARMLESS} - {LARGEST}), pytest.param(LARGEST, marks=pytest.mark.slow)],
)
def test_real_reports_come_through(cape: Cape, start: str) -> None:
    content = gzip.decompress(path_of(start).read_bytes())
    cape.moods["/apiv2/tasks/get/report/7/"] = (200, {"Content-Type": "application/json"}, content)
    detection = source(cape, detail="report").fetch("7")
    for part in ("verdict", "target", "indicators"):
        assert detection[part] == detection_of(start)[part]


def test_when_neither_works_the_first_trouble_is_named(cape: Cape) -> None:
    cape.add(1, "2024-05-01 10:00:00")
    with pytest.raises(HttpRefused) as caught:
        source(cape).fetch("1")
    assert caught.value.code == "source_failed"
    cape.moods["/apiv2/tasks/get/"] = (404, HTML, b"")
    with pytest.raises(SourceError, match="report_gone"):
        source(cape).fetch("1")


@pytest.mark.parametrize("report_id", ["../../admin", "1/../2", "x", "1\n", "sha256-00"])
def test_only_task_ids_reach_the_address(cape: Cape, report_id: str) -> None:
    with pytest.raises(SourceError, match="report_gone"):
        source(cape).fetch(report_id)
    assert not cape.requests


def test_a_report_over_the_limit(cape: Cape) -> None:
    cape.add(1, "2024-05-01 10:00:00", report(strings=["x" * 10_000]))
    with pytest.raises((InputError, SourceError)) as caught:
        source(cape, max_report_bytes=5000, detail="report").fetch("1")
    assert caught.value.code == "report_too_large"


def test_the_list_entry_when_the_report_is_lost(cape: Cape) -> None:
    cape.add(1, "2024-05-01 10:00:00")
    cape.add(2, "2024-05-01 10:00:00")
    assert source(cape).fetch_degraded("1") is None
    cape.search_hits = {1, 77}
    detection = source(cape).fetch_degraded("1")
    assert detection and detection["degraded"] is True and detection["verdict"]["score"] == 70.0
    assert detection["target"]["hashes"]["SHA-256"] == f"{1:064x}"
    assert detection["detected_at"] == "2024-05-01T10:00:00Z"
    assert source(cape).fetch_degraded("2") is None


# -- the strict client


@pytest.mark.parametrize(
    ("mood", "code", "attributes"),
    [
        (as_json({"detail": "no"}, 401), "source_unauthorized", {"lasting": True}),
        (as_json({"detail": "no"}, 403), "source_unauthorized", {"lasting": True}),
        (
            as_json({"detail": "slow"}, 429, **{"Retry-After": "37"}),
            "source_throttled",
            {"retry_after_seconds": 37.0},
        ),
        (
            as_json({"detail": "slow"}, 429, **{"Retry-After": "soon"}),
            "source_throttled",
            {"retry_after_seconds": None},
        ),
        (as_json({"detail": "slow"}, 429), "source_throttled", {}),
        (as_json({}, 503, **{"Retry-After": "9"}), "source_throttled", {"retry_after_seconds": 9.0}),
        (drops_in_the_middle, "source_unreachable", {"blames_report": True}),
        (lambda handler: None, "source_unreachable", {"blames_report": True}),
    ],
)
def test_troubles_of_the_whole_source(cape: Cape, mood: Any, code: str, attributes: dict[str, Any]) -> None:
    cape.moods["/"] = mood
    for attempt in (lambda: source(cape).list_new(None, NOW), lambda: source(cape).fetch("1")):
        with pytest.raises(SourceUnavailable) as caught:
            attempt()
        assert caught.value.code == code
        for name, value in attributes.items():
            assert getattr(caught.value, name) == value


@pytest.mark.parametrize(
    ("mood", "code"),
    [
        ((302, {"Location": "http://127.0.0.1:9/"}, b""), "source_redirected"),
        ((200, HTML, b"<html>login</html>"), "source_not_json"),
        ((200, {}, b"{}"), "source_not_json"),
        (
            (200, {"Content-Type": "application/json", "Content-Encoding": "gzip"}, b"\x1f\x8b"),
            "source_not_json",
        ),
        ((200, {"Content-Type": "application/json"}, b"[" * 100_000), "source_not_json"),
        ((500, HTML, b"<h1>{{ 7*7 }}</h1>"), "source_failed"),
        (as_json({"error": True, "error_value": "{{ 7*7 }}"}), "source_wrong_answer"),
        (as_json({"data": {"a": 1}}), "source_wrong_answer"),
        (as_json([]), "source_wrong_answer"),
        (sends_for_ever, "source_answer_too_large"),
    ],
)
def test_wrong_answers_to_the_list(cape: Cape, mood: Any, code: str) -> None:
    cape.moods["/"] = mood
    with pytest.raises(SourceError) as caught:
        source(cape).list_new(None, NOW)
    assert caught.value.code == code and "{{" not in str(caught.value)
    assert not source(cape).health().ok


def test_an_answer_that_never_ends_meets_the_deadline(cape: Cape) -> None:
    def drips(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        try:
            for _ in range(100):
                handler.wfile.write(b" ")
                time.sleep(0.05)
        except OSError:
            pass

    cape.moods["/"] = drips
    settings = HttpSettings("x", cape.url, total_timeout_seconds=0.3)  # type: ignore[attr-defined]
    started = time.monotonic()
    with pytest.raises(SourceUnavailable, match="source_timeout"):
        HttpClient(settings).get_json("/a")
    assert time.monotonic() - started < 3


def test_nobody_listens() -> None:
    with pytest.raises(SourceUnavailable, match="source_unreachable"):
        build_source({"name": "x", "type": "cape", "url": "http://127.0.0.1:9"}).list_new(None, NOW)


def test_the_secret_is_read_at_each_use_and_never_shown(tmp_path: Path) -> None:
    server = Cape(token=SECRET)
    path = tmp_path / "token"
    with server.serving() as url:
        entry = {"name": "cape1", "type": "cape", "url": url, "token_file": str(path)}
        source_ = build_source(entry)
        assert not source_.health().ok
        path.write_text(f"wrong-{SECRET}\n")
        messages = [str(source_.health().problems)]
        path.write_text(f"{SECRET}\n")
        assert source_.health().ok
        path.write_text("two words")
        messages.append(str(source_.health().problems))
        server.moods["/"] = drops_in_the_middle
        path.write_text(SECRET)
        messages.append(str(source_.health().problems))
        with pytest.raises(SourceUnavailable) as caught:
            source_.list_new(None, NOW)
        messages += [
            str(caught.value),
            repr(caught.value),
            repr(HttpSettings.from_config({**entry, "token": SECRET})),
        ]
    assert all(SECRET not in message for message in messages), messages


def test_the_environment_is_not_consulted(
    cape: Cape, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    source(cape).list_new(None, NOW)
    assert "authorization" not in cape.requests[0][3]


def test_a_rate_limit_defers(cape: Cape) -> None:
    cape.add(1, "2024-05-01 10:00:00", report(), iocs())
    now = [0.0]
    settings = HttpSettings("x", cape.url, max_requests_per_minute=2)  # type: ignore[attr-defined]
    limited = CapeSource(
        "x",
        HttpClient(settings, monotonic=lambda: now[0]),
        look_back_hours=1,
        max_report_bytes=10**6,
        detail="iocs",
    )
    limited.fetch("1")
    now[0] = 20
    limited.fetch("1")
    with pytest.raises(SourceUnavailable) as caught:
        limited.fetch("1")
    assert (caught.value.code, caught.value.retry_after_seconds) == ("source_rate_limited", 40.0)
    assert not caught.value.blames_report
    now[0] = 60
    limited.fetch("1")


@pytest.mark.parametrize(
    "url", ["", "ftp://x", "http://", "http://user:pw@x", "http://x/?token=1", "file:///etc"]
)
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="source_url") as caught:
        build_source({"name": "x", "type": "cape", "url": url})
    assert "pw" not in str(caught.value)
