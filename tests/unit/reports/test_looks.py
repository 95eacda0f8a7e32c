"""The page in a real browser, and what can be said of its looks without one."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import lxml.html
import pytest
from ioc_scan.reports.html import render_overview, render_task

from .example import HOSTILE, overview_data, report_data

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")
STYLE = (Path(render_task.__code__.co_filename).parent / "templates" / "style.css").read_text()


def browse(page: str, folder: Path) -> tuple[list[str], list[str], str]:
    """Load a page from disk: console lines, URLs asked for beyond the file itself, and the DOM it made."""
    file, log = folder / "page.html", folder / "net.json"
    file.write_text(page, encoding="utf-8")
    ran = subprocess.run(
        [
            str(CHROMIUM),
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"),
            *(
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
            ),
            *(f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", file.as_uri()),
        ],
        capture_output=True,
        timeout=60,
        check=True,
    )
    console = [line for line in ran.stderr.decode(errors="replace").splitlines() if ":CONSOLE" in line]
    raw = log.read_text(errors="replace")
    try:
        events = json.loads(raw)["events"]
    except ValueError:  # the browser did not close its log
        events = json.loads(raw.rstrip().rstrip(",") + "]}")["events"]
    urls = {event["params"]["url"] for event in events if "url" in event.get("params", {})}
    outside = sorted(url for url in urls if url.startswith(("http", "ws")) and "evil" in url)
    return console, outside, ran.stdout.decode(errors="replace")


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        render_task(report_data()),
        render_task(report_data(4, HOSTILE)),
        render_overview(overview_data(HOSTILE)),
    ],
    ids=["task", "hostile task", "hostile overview"],
)
def test_a_browser_finds_nothing_to_run_or_fetch(page: str, tmp_path: Path) -> None:
    console, outside, dom = browse(page, tmp_path)
    assert console == []
    assert outside == []
    assert not lxml.html.document_fromstring(dom).xpath("//script | //img")


@needs_browser
@pytest.mark.slow
def test_the_browser_test_can_fail(tmp_path: Path) -> None:
    bad = "<!DOCTYPE html><title>x</title><img src='http://evil.invalid/x.png'><script>console.error('ran')</script>"
    console, outside, _ = browse(bad, tmp_path)
    assert any("ran" in line for line in console)
    assert outside == ["http://evil.invalid/x.png"]
    allowed = render_task(report_data())
    console, outside, _ = browse(allowed.replace("<main>", "<main>" + bad[15:]), tmp_path)
    assert len(console) >= 2, "the policy stops and reports both"
    assert outside == []


# ------------------------------------------------------------------------------------------ without a browser


def palettes() -> dict[str, dict[str, str]]:
    found = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    names = ("light", "dark", "print")
    assert len(found) == len(names)
    return {
        name: dict(re.findall(r"--([a-z]+): (#[0-9a-f]{3,6})", block))
        for name, block in zip(names, found, strict=True)
    }


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(char * 2 for char in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
@pytest.mark.parametrize("ink", ["ink", "soft", "accent", "match", "good", "bad", "warn"])
@pytest.mark.parametrize("ground", ["paper", "card", "tint"])
def test_text_can_be_read(theme: str, ink: str, ground: str) -> None:
    """WCAG 2.1, 1.4.3: at least 4.5 to 1."""
    palette = palettes()[theme]
    assert contrast(palette[ink], palette[ground]) >= 4.5


def test_headings_tables_and_pictures_are_named_for_who_cannot_see_them() -> None:
    page = lxml.html.document_fromstring(render_task(report_data()))
    assert page.get("lang") == "en"
    levels = [int(h.tag[1]) for h in page.xpath("//h1 | //h2 | //h3")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(th.get("scope") == "col" for th in page.xpath("//th"))
    assert all(svg.get("aria-label") or svg.get("aria-hidden") == "true" for svg in page.xpath("//svg"))
    ids = page.xpath("//@id")
    assert len(ids) == len(set(ids))
    assert {href[1:] for href in page.xpath("//nav//@href")} <= set(ids)
