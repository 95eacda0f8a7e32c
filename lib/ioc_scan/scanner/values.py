"""Values of items brought to one form for comparing: numbers, moments, spans, addresses, digests.

Both sides use these readers: the compiler for what an IOC file says, the device for what it finds.
"""

from __future__ import annotations

from . import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

#: Microseconds; moments count from 1970-01-01T00:00:00Z.
SECOND = 1000000
DAY = 86400 * SECOND
MAX_NUMBER_CHARS = 64

_MOMENT = (
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?\s?([Zz]|[+-]\d\d:?\d\d)?)?\Z"
)
_ISO_SPAN = r"P(?:(\d{1,9})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,12})(?:\.(\d{1,6}))?S)?)?\Z"
_CLOCK_SPAN = r"(?:(\d{1,9})[. ])?(\d{1,9}):(\d\d):(\d\d)(?:\.(\d{1,6}))?\Z"
_INTEGER = r"[+-]?(?:0[xX][0-9a-fA-F]{1,16}|\d{1,20})\Z"
_FLOAT = r"[+-]?(?:\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})(?:[eE][+-]?\d{1,3})?\Z"


def _match(pattern: str, text: str) -> Any:
    """``re`` keeps what it compiled. It is loaded here: most scans compare no such values, and start quicker."""
    import re

    return re.match(pattern, text, re.ASCII)


def read_int(value: Any) -> int | None:
    """A whole number, decimal or ``0x``; None if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        text = value.strip()
        if _match(_INTEGER, text):
            return int(text, 16) if "x" in text.lower() else int(text)
    return None


def read_float(value: Any) -> float | None:
    """A finite number; None if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        if not _match(_FLOAT, value.strip()):
            return None
        value = float(value)
    if isinstance(value, (int, float)) and abs(value) < 1e300:
        return float(value)
    return None


def read_moment(value: Any) -> tuple[int, int] | None:
    """First and last microsecond of what a date says: a whole day, minute or second, or one instant.

    ISO 8601 text, UTC where it names no offset; numbers are seconds since 1970. None if it is none.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not abs(value) < 1e12:
            return None
        micros = int(value * SECOND) if isinstance(value, int) else round(value * SECOND)
        return micros, micros
    if not isinstance(value, str):
        return None
    match = _match(_MOMENT, value.strip())
    if match is None:
        return None
    from datetime import datetime, timedelta, timezone

    year, month, day, hour, minute, second, fraction, offset = match.groups()
    try:
        moment = datetime(
            int(year),
            int(month),
            int(day),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            0,
            timezone.utc,
        )
    except ValueError:
        return None
    micros = (moment - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)
    if fraction:
        micros += int(fraction[:6].ljust(6, "0"))
    if offset and offset not in "Zz":
        sign = -1 if offset[0] == "-" else 1
        micros -= sign * (int(offset[1:3]) * 3600 + int(offset[-2:]) * 60) * SECOND
    if hour is None:
        return micros, micros + DAY - 1
    if second is None:
        return micros, micros + 60 * SECOND - 1
    return micros, micros if fraction else micros + SECOND - 1


def read_span(value: Any) -> int | None:
    """Microseconds of a duration: seconds, ``P1DT2H3M4S`` or ``[days.]HH:MM:SS``; None if it is none."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return round(value * SECOND) if abs(value) < 1e12 else None
    if not isinstance(value, str):
        return None
    text = value.strip()
    match = _match(_ISO_SPAN, text)
    if match is not None and text not in ("P", "PT") and not text.endswith("T"):
        days, hours, minutes, seconds, fraction = match.groups()
    else:
        match = _match(_CLOCK_SPAN, text)
        if match is None:
            number = read_float(text)
            return round(number * SECOND) if number is not None and abs(number) < 1e12 else None
        days, hours, minutes, seconds, fraction = match.groups()
    total = int(days or 0) * 86400 + int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    return total * SECOND + int((fraction or "0").ljust(6, "0"))


def read_ip(value: Any) -> str | None:
    """An address in its one spelling; IPv4 inside IPv6 is IPv4. None if it is none."""
    if not isinstance(value, str) or len(value) > 100:
        return None
    import ipaddress

    text = value.strip().strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def ip_number(text: str) -> tuple[int, int]:
    """(4 or 6, the address as a number) of what :func:`read_ip` gave."""
    import ipaddress

    address = ipaddress.ip_address(text)
    return address.version, int(address)


def read_bool(value: Any) -> bool | None:
    """true/false, yes/no, 1/0; None if it is none."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in ("true", "1", "yes"):
        return True
    return False if word in ("false", "0", "no") else None


def read_hex(value: Any) -> str | None:
    """A digest as lower hex; None if it is none."""
    if isinstance(value, bytes):
        return value.hex()
    if not isinstance(value, str):
        return None
    return value.strip().lower()


def read_text(value: Any) -> str | None:
    """Text of any plain value."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else None
