"""Reports: everything a person needs is there, and nothing from outside is ever markup."""

from __future__ import annotations

import re
from typing import Any

import lxml.html
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ioc_scan.reports.html import render_overview, render_task
from ioc_scan.reports.view import MAX_ROWS, undo_command

from .example import DIGEST, HOSTILE, overview_data, report_data

#: Elements that the templates themselves use; a page of hostile data holds no other.
ELEMENTS = {
    *[
        "html",
        "head",
        "meta",
        "link",
        "title",
        "style",
        "body",
        "header",
        "main",
        "section",
        "nav",
        "footer",
        "h1",
        "h2",
        "h3",
        "p",
        "ul",
        "ol",
        "li",
        "a",
        "b",
        "br",
    ],
    *[
        "dl",
        "dt",
        "dd",
        "table",
        "caption",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "details",
        "summary",
        "pre",
        "code",
        "span",
        "bdi",
        "time",
        "div",
        "svg",
        "rect",
    ],
}
ATTRIBUTES = {
    *[
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "rel",
        "href",
        "class",
        "id",
        "aria-label",
        "aria-hidden",
        "role",
        "datetime",
    ],
    *["data-label", "scope", "open", "viewbox", "width", "height", "x", "y", "rx"],
}

UNSAFE = r"\{\{|\{%|<%|[\x00-\x09\x0b-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"


def parse(page: str) -> Any:
    return lxml.html.document_fromstring(page)


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", parse(page).text_content())


@pytest.fixture(scope="module")
def page() -> str:
    return render_task(report_data())


def section(page: str, name: str) -> str:
    (found,) = parse(page).xpath(f"//section[@id='{name}']")
    return re.sub(r"\s+", " ", found.text_content())


def test_the_page_says_first_what_matters(page: str) -> None:
    (headline,) = parse(page).xpath("//p[@class='headline']")
    assert headline.text == (
        "This exact file was found on 2 of 12 targeted devices. 6 of 12 answered. "
        "1 quarantined, 1 awaiting approval."
    )


def test_verdict_and_reason(page: str) -> None:
    verdict = section(page, "verdict")
    for words in ("malicious", "score 100 of 100", "Emotet", "threshold 70", "cape:inbox:sha256-"):
        assert words in verdict


def test_what_is_searched_for_with_tiers_and_tree(page: str) -> None:
    searched = section(page, "searched")
    for words in ("Actionable: 1", "Hunted: 2", "Left out: 1", "system_file: part of the operating system"):
        assert words in searched
    assert "1,234 × over limit dropped, 7 × mutexes" in " ".join(searched.split())
    (tree,) = parse(page).xpath("//section[@id='searched']//pre[contains(., 'SHA-256')]")
    assert tree.text.splitlines()[1] == "  all of, about one file"


def test_coverage_has_its_denominator_and_its_picture(page: str) -> None:
    coverage = section(page, "coverage")
    assert "6 of 12 targeted devices have answered" in coverage
    assert "With matches2 of 1217 %" in coverage
    (picture,) = parse(page).xpath("//section[@id='coverage']//svg[@role='img']")
    assert "12 targeted" in picture.get("aria-label")
    bars = picture.xpath(".//rect[starts-with(@class, 'seg-')]")[1:]
    assert [bar.get("class") for bar in bars] == [
        f"seg-{name}"
        for name in ("matched", "clean", "failed", "running", "waiting_idle", "open", "never_seen")
    ]
    assert float(bars[-1].get("x")) + float(bars[-1].get("width")) == pytest.approx(1000, abs=0.5)


@pytest.mark.parametrize("targeted", [0, 1, 2, 3, 10_000])
def test_every_coverage_fits_its_bar(targeted: int) -> None:
    data = report_data(0)
    data["coverage"] = {"targeted": targeted, "answered": targeted // 2, "clean": targeted // 2, "failed": 1}
    (picture,) = parse(render_task(data)).xpath("//section[@id='coverage']//svg[@role='img']")
    bars = picture.xpath(".//rect")[1:]
    assert all(float(bar.get("width")) >= 6 for bar in bars)
    assert sum(float(bar.get("width")) for bar in bars) <= 1000.5


def test_matches_carry_their_proof(page: str) -> None:
    matches = section(page, "matches")
    assert "/srv/ws00/home/anna/Downloads/invoice 2026-11.exe" in matches
    assert "size is 51,234 bytes" in matches
    assert f"SHA-256 is {DIGEST}" in matches
    assert "awaiting approval" in matches


def test_proof_without_words_shows_the_item() -> None:
    data = report_data()
    data["iocs"] = []
    assert f"FileItem/Sha256sum is {DIGEST}" in section(render_task(data), "matches")


def test_every_quarantined_file_has_its_undo(page: str) -> None:
    command = "st2 run ioc_scan.restore_object device_id=ws00 quarantine_id=q-0001 manager=local"
    assert command in section(page, "responses")


@pytest.mark.parametrize("bad", ["$(reboot)", "a b", "a;b", "", None, 7, "--help\nx", "x" * 200])
def test_no_command_is_offered_for_an_id_that_is_none(bad: Any) -> None:
    assert undo_command({"device_id": "ws00", "quarantine_id": bad, "manager": "local"}) is None


def test_not_evaluated_is_counted_against_all(page: str) -> None:
    missing = section(page, "not-evaluated")
    assert "DnsEntryItem" in missing
    assert "12 of 12" in missing
    assert "never “clean”" in missing


def test_timeline_tells_runs_once(page: str) -> None:
    timeline = section(page, "timeline")
    assert "2 matches were reported. ws00, ws01" in timeline
    assert timeline.index("created") < timeline.index("quarantine")


def test_events_of_one_second_keep_their_order_whichever_way_they_come() -> None:
    data = report_data()
    kinds = ("task_created", "task_started", "match_found", "task_completed")
    events = [
        {"event_id": n, "at": f"2026-11-22T03:00:0{n // 3}Z", "type": kind} for n, kind in enumerate(kinds, 1)
    ]
    pages = set()
    for rows in (
        events,
        events[::-1],
        [{k: v for k, v in e.items() if k != "event_id"} for e in events[::-1]],
    ):
        pages.add(section(render_task({**data, "events": rows}), "timeline"))
    (timeline,) = pages
    order = [timeline.index(word) for word in ("created", "started", "match", "Every device")]
    assert order == sorted(order)


def test_audit_trail_has_every_event(page: str) -> None:
    assert len(parse(page).xpath("//section[@id='audit']//tbody/tr")) == 6


def test_a_task_with_nothing_yet_has_a_page() -> None:
    page = render_task({"task": {"task_id": "t-1"}, "generated_at": "2026-11-22T03:05:00Z"})
    for words in (
        "No device reported a match",
        "Nothing was done to any device",
        "No device is targeted yet",
    ):
        assert words in text_of(page)


def test_a_fleet_of_thousands_is_cut_with_a_word_about_it() -> None:
    page = render_task(report_data(3000))
    assert len(page) < 2_000_000
    assert f"{MAX_ROWS} of 3,000 shown" in text_of(page)
    assert "ws00" in section(page, "coverage")  # devices with matches come first


# ------------------------------------------------------------------------------------------- hostile data


@pytest.mark.parametrize(
    "render",
    [lambda: render_task(report_data(text=HOSTILE)), lambda: render_overview(overview_data(HOSTILE))],
)
def test_hostile_text_is_only_ever_text(render: Any) -> None:
    page = render()
    document = parse(page)
    for element in document.iter():
        assert isinstance(element.tag, str), "a comment or instruction came through"
        assert element.tag in ELEMENTS, element.tag
        assert set(element.attrib) <= ATTRIBUTES, dict(element.attrib)
    assert not document.xpath("//script | //img | //@style | //@*[starts-with(name(), 'on')]")
    assert len(document.xpath("//style")) == 1
    assert "alert" not in document.xpath("//style")[0].text
    assert "alert(1)" in document.text_content(), "the text is there to be read"
    assert all(href.startswith(("#", "data:,")) for href in document.xpath("//@href"))
    # no engine finds a template in it, no terminal a control character, no eye a reversed name
    assert not re.search(UNSAFE, page)
    page.encode("utf-8")


@settings(max_examples=25, deadline=None)
@given(st.text(min_size=1, max_size=60))
def test_any_text_leaves_the_page_the_same_shape(text: str) -> None:
    def shape(page: str) -> list[str]:
        return [element.tag for element in parse(page).iter() if isinstance(element.tag, str)]

    data, plain = report_data(2), report_data(2)
    for rows in (data, plain):
        rows["matches"][0]["path"] = text if rows is data else "x"
        rows["task"]["name"] = text if rows is data else "x"
        rows["iocs"][0]["explain"] = [text if rows is data else "x"]
    assert shape(render_task(data)) == shape(render_task(plain))


@pytest.mark.parametrize(
    "render", [lambda: render_task(report_data()), lambda: render_overview(overview_data())]
)
def test_the_page_needs_nobody(render: Any) -> None:
    page = render()
    document = parse(page)
    (policy,) = document.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert not document.xpath(
        "//script | //img | //iframe | //object | //embed | //link[@rel='stylesheet'] | //base"
    )
    assert not re.search(r"url\(|@import", document.xpath("//style")[0].text)
    sources = document.xpath("//@src | //link/@href")
    assert sources == ["data:,"]


@pytest.mark.parametrize(
    ("link", "shown"),
    [
        ("https://cape.example.org/analysis/7/", True),
        ("http://cape.example.org/analysis/7/", False),
        ("https://cape.example.org.evil.example/", False),
        ("https://cape.example.org@evil.example/", False),
        ("https://evil.example/?cape.example.org", False),
        ("javascript:alert(1)//cape.example.org", False),
        ('https://cape.example.org/" onclick="x', False),
        ("https://cape.example.org\n.evil.example/", False),
        ("https://[::1", False),
        ("https://cape.example.org:99999/", False),
        (None, False),
    ],
)
def test_only_links_to_the_sources_own_host(link: Any, shown: bool) -> None:
    data = report_data()
    data["detections"][0]["link"] = link
    links = [href for href in parse(render_task(data)).xpath("//a/@href") if not href.startswith("#")]
    assert links == ([link] if shown else [])


def test_the_overview_shows_every_task_with_its_end() -> None:
    page = render_overview(overview_data())
    text = text_of(page)
    assert "7 days after its last start" in text
    assert "1 awaiting approval" in text
    assert parse(page).xpath("//a/@href") == ["t-5d61a0c2.html"]
    assert len(parse(page).xpath("//svg[@role='img']")) == 3


def test_the_same_data_gives_the_same_page() -> None:
    assert render_task(report_data()) == render_task(report_data())
