"""Column types that hold the store's promises: aware times, text without traps, numbers that fit."""

from __future__ import annotations

import json
import math
import re
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import BigInteger, DateTime, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

# PostgreSQL refuses NUL in text; neither database's driver can encode a lone surrogate.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_MAYBE_UNSTORABLE_JSON = re.compile(r"\\u(?:0000|d[89a-f][0-9a-f]{2})")
_BIGGEST = 2**63 - 1
_CANONICAL = json.JSONEncoder(ensure_ascii=True, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return "\\x00" if code == 0 else f"\\u{code:04x}"


def safe_text(text: str) -> str:
    r"""Text both databases can hold: NUL becomes ``\x00``, a lone surrogate ``\udcXX`` (as ASCII text).

    What must be acted on exactly (paths) is kept beside it as base64; this is for showing and finding.
    """
    if text.isascii() and "\x00" not in text:  # nearly always, and much quicker
        return text
    return _UNSTORABLE.sub(_escape, text)


def safe_data(value: Any) -> Any:
    """The same for plain JSON data, keys included; numbers JSON has no word for become null."""
    if isinstance(value, str):
        return safe_text(value)
    if isinstance(value, dict):
        return {safe_text(str(key)): safe_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [safe_data(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def dump_json(value: Any) -> str:
    """Canonical ASCII JSON: sorted keys, no spaces; the form that is stored and digested."""
    try:
        text = _CANONICAL.encode(value)
    except (ValueError, TypeError):  # NaN, or keys of mixed types
        return _CANONICAL.encode(safe_data(value))
    # Characters past U+FFFF are written as surrogate pairs, so the pattern asks for a second look only.
    return _CANONICAL.encode(safe_data(value)) if _MAYBE_UNSTORABLE_JSON.search(text) else text


class SafeText(TypeDecorator[str]):
    """Text of any length through :func:`safe_text`."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else safe_text(value)


class SafeJson(TypeDecorator[Any]):
    """Plain data as canonical JSON text; None is the JSON null and comes back as None."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else dump_json(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


class UtcTime(TypeDecorator[datetime]):
    """An aware datetime, kept in UTC; a naive one is a programming error."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("the store takes aware datetimes only")
        value = value.astimezone(timezone.utc)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value.astimezone(timezone.utc)


class Count(TypeDecorator[int]):
    """A number not below 0, held at what a signed 64-bit column can take (devices may claim anything)."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        return None if value is None else max(0, min(int(value), _BIGGEST))


class Unsigned64(TypeDecorator[int]):
    """Device and inode numbers use all 64 bits; kept as two's complement so that none is lost."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        if value is None:
            return None
        if not 0 <= int(value) < 2**64:
            raise ValueError("not an unsigned 64-bit number")
        return int(value) - 2**64 if int(value) > _BIGGEST else int(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> int | None:
        return value + 2**64 if value is not None and value < 0 else value
