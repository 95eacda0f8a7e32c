"""Reads lists that people keep in files: one entry a line, ``#`` begins a comment."""

from __future__ import annotations

from pathlib import Path

from ioc_scan.errors import ConfigError
from ioc_scan.text import printable

MAX_LIST_BYTES = 64 * 1024 * 1024


def read_lines(path: Path) -> list[str]:
    """The entries of a list file. Raises ConfigError ``list_unreadable``."""
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise ConfigError(
                "list_unreadable",
                f"{printable(path)} is larger than {MAX_LIST_BYTES} bytes",
                "split it, or use learn_known_good for long lists of hashes",
            )
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(
            "list_unreadable",
            f"{printable(path)}: {printable(error)}",
            "one entry a line, UTF-8, readable to the pack",
        ) from None
    entries = (line.split(" #", 1)[0].strip() for line in text.splitlines())
    return [entry for entry in entries if entry and not entry.startswith("#")]
