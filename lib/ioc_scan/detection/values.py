"""Values from a report made fit for the normal form: bounded, typed, without NUL and lone surrogates."""

from __future__ import annotations

import ipaddress
import math
import re
from collections import Counter
from datetime import datetime, timezone
from typing import Any

from ioc_scan.clock import from_iso, to_iso

_BAD_TEXT = re.compile("[\x00\ud800-\udfff]")
_HEX = {
    "MD5": re.compile(r"[0-9a-f]{32}"),
    "SHA-1": re.compile(r"[0-9a-f]{40}"),
    "SHA-256": re.compile(r"[0-9a-f]{64}"),
}
_DOMAIN = re.compile(
    r"(?=.{1,253}\Z)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)+[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
MAX_SIZE = 2**53 - 1


def clean_text(value: Any, limit: int, losses: Counter[str]) -> str | None:
    """A string of at most ``limit`` characters, or None. NUL and lone surrogates become U+FFFD, counted."""
    if not isinstance(value, str) or not value:
        return None
    if len(value) > limit:
        losses["text_cut"] += 1
        value = value[:limit]
    mended = _BAD_TEXT.sub("\ufffd", value)
    # one line break at the very end would slip through patterns that end in $
    mended = mended.rstrip("\n")
    if mended != value:
        losses["text_repaired"] += 1
    return mended or None


def clean_hashes(record: dict[str, Any], losses: Counter[str]) -> dict[str, str]:
    """The hashes of a record with keys md5, sha1, sha256; malformed ones are left out and counted."""
    found = {}
    for key, name in (("md5", "MD5"), ("sha1", "SHA-1"), ("sha256", "SHA-256")):
        value = record.get(key)
        if value in (None, ""):
            continue
        text = value.strip().lower() if isinstance(value, str) else ""
        if _HEX[name].fullmatch(text):
            found[name] = text
        else:
            losses["bad_hash"] += 1
    return found


def clean_size(value: Any) -> int | None:
    """A size in bytes, or None for anything that is no whole number of bytes."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SIZE:
        return None
    return value


def clean_number(value: Any) -> float | None:
    """A finite number, also from a string that holds one; None for anything else."""
    if isinstance(value, str):
        try:
            value = float(value[:40])
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def clean_time(value: Any) -> str | None:
    """``YYYY-MM-DDTHH:MM:SSZ`` from ISO text (without zone: taken as UTC) or from epoch seconds."""
    try:
        if isinstance(value, str):
            return to_iso(from_iso(value.strip()[:40]))
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return to_iso(datetime.fromtimestamp(value, timezone.utc))
    except (ValueError, OverflowError, OSError):
        pass
    return None


def clean_address(value: Any) -> tuple[str, str] | None:
    """``("ipv4-addr" | "ipv6-addr", canonical text)``, or None."""
    if not isinstance(value, str):
        return None
    try:
        address = ipaddress.ip_address(value.strip().strip("[]")[:60])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address.scope_id):
        return ("ipv4-addr", str(address.ipv4_mapped)) if address.ipv4_mapped else None
    return f"ipv{address.version}-addr", str(address)


def clean_domain(value: Any) -> str | None:
    """A lower-case host name with at least two labels, or None."""
    if not isinstance(value, str) or not _DOMAIN.match(value.strip().rstrip(".")):
        return None
    return value.strip().rstrip(".").lower()


def clean_url(value: Any, losses: Counter[str]) -> str | None:
    """An absolute http(s) or ftp URL without control characters, or None."""
    if (
        not isinstance(value, str)
        or not re.match(r"(?i)(https?|ftp)://[^\s/]", value)
        or _CONTROL.search(value)
    ):
        return None
    return clean_text(value.strip(), 8192, losses)
