"""How values look in a report. Everything returned is plain text: the templates escape it."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import urlsplit

from ..clock import from_iso
from ..text import printable

#: State or verdict -> the tone of its badge.
_TONES = {
    **dict.fromkeys(
        ("done", "completed", "quarantined", "restored", "benign", "fetched", "approved"), "good"
    ),
    **dict.fromkeys(("malicious", "failed", "refused", "changed", "rejected"), "bad"),
    **dict.fromkeys(
        ("suspicious", "awaiting_approval", "expired", "never_seen", "paused", "rotated", "missing"), "warn"
    ),
    **dict.fromkeys(
        ("running", "delivered", "waiting_idle", "claimed", "created", "would_quarantine"), "info"
    ),
    "actionable": "match",
    "matched": "match",
}


def show(value: object, limit: int = 300) -> str:
    """Outside text as one printable line."""
    return "–" if value is None or value == "" else printable(value, limit)


def words(value: object) -> str:
    """A stable code such as ``waiting_idle`` as words."""
    return printable(value, 100).replace("_", " ")


def tone(state: object) -> str:
    return _TONES.get(str(state), "off")


def number(value: object) -> str:
    """12,345; a score of 8.0 as 8; no number as a dash."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "–"
    return f"{value:,.1f}".removesuffix(".0") if isinstance(value, float) else f"{value:,}"


def size(value: object) -> str:
    """Bytes in the unit a person would use."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "–"
    amount = float(value)
    for unit in ("bytes", "KB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            return f"{amount:.0f} {unit}" if unit == "bytes" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError("unreachable")


def moment(value: object) -> str:
    """A time of the pack, in UTC, to the second."""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S UTC")
    try:
        return from_iso(str(value)).strftime("%Y-%m-%d %H:%M:%S UTC")
    except ValueError:
        return show(value, 40)


def share(count: int, total: int) -> str:
    """Percent without a false 0 or 100: one of 10,000 is "<1 %", all but one "99 %"."""
    if total <= 0:
        return "–"
    percent = 100 * count / total
    if 0 < percent < 1:
        return "<1 %"
    if 99 < percent < 100:
        return "99 %"
    return f"{percent:.0f} %"


def safe_link(url: object, hosts: object) -> str | None:
    """The URL if it is https, without user or odd characters, on one of the sources' own hosts; else None."""
    if not isinstance(url, str) or not isinstance(hosts, (list, tuple, set, frozenset)) or len(url) > 2000:
        return None
    if not url.isascii() or any(
        char.isspace() or not char.isprintable() or char in "\"'<>\\`" for char in url
    ):
        return None
    try:
        parts = urlsplit(url)
        host = parts.hostname
        port = parts.port
    except ValueError:
        return None
    if parts.scheme != "https" or parts.username is not None or parts.password is not None or not host:
        return None
    return url if host in hosts or f"{host}:{port}" in hosts else None


ALL = {
    "show": show,
    "words": words,
    "tone": tone,
    "number": number,
    "size": size,
    "moment": moment,
}
