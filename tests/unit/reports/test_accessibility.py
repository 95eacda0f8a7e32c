"""axe-core finds nothing to complain about in the reports, light and dark, on paper width and on a phone."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import lxml.html
import pytest
from ioc_scan.reports.html import render_overview, render_task

from .example import HOSTILE, overview_data, report_data
from .test_looks import CHROMIUM, needs_browser

_SPEC = importlib.util.find_spec("axe_core_python")
AXE = Path(str(_SPEC.origin)).parent / "axe.min.js" if _SPEC else Path("absent")
needs_axe = pytest.mark.skipif(not AXE.exists(), reason="no axe-core here: pip install axe-core-python")
PAGES = {
    "task": render_task(report_data()),
    "hostile task": render_task(report_data(4, HOSTILE)),
    "overview": render_overview(overview_data(HOSTILE)),
}


def violations(page: str, folder: Path, *options: str) -> list[dict[str, Any]]:
    """The page with axe-core beside it, which the page's own policy would forbid; what axe says of it."""
    page = re.sub(r"<meta[^>]*Content-Security-Policy[^>]*>", "", page, flags=re.IGNORECASE)
    runner = (
        "axe.run(document).then(r => { const p = document.createElement('pre'); p.id = 'axe-result';"
        "p.textContent = JSON.stringify(r.violations.map(v => ({id: v.id, impact: v.impact, help: v.help,"
        "nodes: v.nodes.slice(0, 3).map(n => n.html)}))); document.body.appendChild(p); });"
    )
    scripts = f"<script>{AXE.read_text(encoding='utf-8')}</script><script>{runner}</script>"
    file = folder / "page.html"
    file.write_text(page.replace("</body>", scripts + "</body>"), encoding="utf-8")
    ran = subprocess.run(
        [
            str(CHROMIUM),
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom", "--virtual-time-budget=20000"),
            *(f"--user-data-dir={folder / 'profile'}", *options, file.as_uri()),
        ],
        capture_output=True,
        timeout=120,
        check=True,
    )
    dom = lxml.html.document_fromstring(ran.stdout.decode(errors="replace"))
    (result,) = dom.xpath("//pre[@id='axe-result']")
    return list(json.loads(result.text_content()))


@needs_browser
@needs_axe
@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [(), ("--force-dark-mode", "--window-size=390,844")], ids=["light", "dark phone"]
)
@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_in_anybodys_way(name: str, options: tuple[str, ...], tmp_path: Path) -> None:
    assert violations(PAGES[name], tmp_path, *options) == []


@needs_browser
@needs_axe
@pytest.mark.slow
def test_the_check_can_fail(tmp_path: Path) -> None:
    bad = "<!DOCTYPE html><html><body><img src='x.png'><p style='color:#eee;background:#fff'>pale</p></body></html>"
    assert {"image-alt", "color-contrast", "html-has-lang"} <= {
        found["id"] for found in violations(bad, tmp_path)
    }
