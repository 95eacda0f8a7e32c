"""docs/guard.md says what the code does."""

from __future__ import annotations

import subprocess
import sys

from ioc_scan.detection.guard_reasons import REASONS

from tests.fixtures.shared import REPOSITORY, shared_data

PAGE = REPOSITORY / "docs" / "guard.md"


def test_the_page_is_what_its_command_makes() -> None:
    folders = [str(shared_data(product)) for product in ("cape", "cuckoo3", "vmray")]
    command = [sys.executable, "docs/build_guard_page.py", *folders]
    made = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=120
    ).stdout
    assert made == PAGE.read_text(encoding="utf-8"), (
        "run: python docs/build_guard_page.py FOLDER > docs/guard.md"
    )


def test_every_reason_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"`{code}`" in text for code in REASONS)
