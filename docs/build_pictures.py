"""Make the README's pictures: `make pictures`. Runs the demo, then shows its report and its output in a browser.

Needs chromium. The pictures change with every run (ids and times): commit them when they are worth it.
"""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
PICTURES = CHECKOUT / "docs" / "pictures"
REPORT = CHECKOUT / ".demo" / "report.html"
COLUMNS = 112
_COLOR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_TERMINAL = """<!DOCTYPE html><meta charset="utf-8"><style>
body {{ margin: 0; background: #16181d; }}
pre {{ margin: 0; padding: 24px 28px; color: #d8dee9; font: 15px/1.38 "DejaVu Sans Mono", monospace; }}
b {{ color: #88c0ff; }} i {{ color: #7fd1a8; font-style: normal; }}
</style><pre><b>$ make demo</b>
{text}</pre>"""


def main() -> int:
    browser = next(
        (
            found
            for name in ("chromium", "chromium-browser", "google-chrome")
            if (found := shutil.which(name))
        ),
        None,
    )
    if browser is None:
        print("no chromium here: apt-get install chromium", file=sys.stderr)
        return 2
    ran = subprocess.run(
        [sys.executable, "-m", "standalone", "demo"], cwd=CHECKOUT, capture_output=True, text=True
    )
    if ran.returncode != 0:
        print(ran.stdout + ran.stderr, file=sys.stderr)
        return 1
    lines = _COLOR.sub("", ran.stdout).replace(str(CHECKOUT), ".").rstrip().splitlines()
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "terminal.html"
        page.write_text(_TERMINAL.format(text="\n".join(_line(line) for line in lines)), encoding="utf-8")
        _shoot(browser, page, PICTURES / "terminal.png", int(COLUMNS * 9.1 + 56), int(len(lines) * 20.8 + 72))
        _shoot(browser, REPORT, PICTURES / "report.png", 1200, 1500)
    return 0


def _line(line: str) -> str:
    """Cut as a terminal of this width would wrap it, headings and good news in colour."""
    shown = html.escape(line if len(line) <= COLUMNS else line[: COLUMNS - 1] + "…")
    if line.startswith("== "):
        return f"<b>{shown}</b>"
    return shown.replace(" succeeded ", " <i>succeeded</i> ").replace("  yes", "  <i>yes</i>")


def _shoot(browser: str, page: Path, picture: Path, width: int, height: int) -> None:
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                browser,
                *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
                *(f"--user-data-dir={profile}", f"--window-size={width},{height}", f"--screenshot={picture}"),
                page.as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
    print(f"{picture.relative_to(CHECKOUT)}  {picture.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    sys.exit(main())
