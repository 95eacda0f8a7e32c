"""EventLogItem: what the system and its services noted, newest first, within bounds that are told."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any, Iterator

from ..accounts import user_name
from .base import IDENTITY, MAX_TEXT_CHARS, Fields, Item, Request, UnavailableError
from .commands import Lines

_COMMON = frozenset(("genTime", "log", "machine", "message", "source", "type", "user"))
FIELDS: Fields = {
    "linux": _COMMON,
    "windows": _COMMON | {"category", "categoryNum", "EID", "index", "writeTime"},
    "macos": frozenset(),
}
DAYS = 30
MAX_EVENTS = 100000
_SECONDS = 60.0
_MAX_BYTES = 512 * 1024 * 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LEVELS = (
    ["emerg", "Error"], ["alert", "Error"], ["crit", "Error"], ["err", "Error"], ["warning", "Warning"],
    ["notice", "Information"], ["info", "Information"], ["debug", "Information"],
)  # fmt: skip
_FACILITIES = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
)  # fmt: skip
#: Field of an item -> fields of the journal it is made from; only these are printed.
_SOURCES = {
    "message": ("MESSAGE",),
    "source": ("SYSLOG_IDENTIFIER", "_COMM"),
    "log": ("_TRANSPORT", "SYSLOG_FACILITY"),
    "machine": ("_HOSTNAME",),
    "type": ("PRIORITY",),
    "user": ("_UID",),
}


def collect(request: Request) -> Iterator[Item]:
    if request.system == "linux":
        return _from_journal(request)
    if request.system == "windows":
        from .windows import events

        return events(request)
    raise UnavailableError("this scanner has no collector for it on this system")


def _from_journal(request: Request) -> Iterator[Item]:
    wanted = {"MESSAGE", "SYSLOG_IDENTIFIER", "_HOSTNAME"}
    for field in request.fields & frozenset(_SOURCES):
        wanted.update(_SOURCES[field])
    lines = Lines(
        [
            "journalctl", "-o", "json", "--no-pager", "--quiet", "--all", "--reverse", f"--since=-{DAYS}d",
            f"--lines={MAX_EVENTS}", "--output-fields=" + ",".join(sorted(wanted)),
        ],
        _SECONDS,
        _MAX_BYTES,
    )  # fmt: skip
    count = 0
    for line in lines:
        item = journal_item(line)
        if item is not None:
            count += 1
            yield item
    if lines.truncated:
        request.incomplete(f"only the newest {count} events were read in {_SECONDS:.0f} s")
    elif lines.status != 0:
        raise UnavailableError("journalctl does not show the journal to this user")
    elif count == MAX_EVENTS:
        request.incomplete(f"only the newest {count} events were read")
    elif not count:
        raise UnavailableError("the journal of this device is empty or cannot be read")
    else:
        request.incomplete(f"events of more than {DAYS} days ago were not read")


def journal_item(line: bytes) -> Item | None:
    """One line of ``journalctl -o json``; None for one that is damaged or was cut."""
    try:
        entry = json.loads(line.decode("utf-8", "replace"))
    except ValueError:
        return None
    if not isinstance(entry, dict):
        return None
    moment = entry.get("__REALTIME_TIMESTAMP")
    level, uid = _text(entry.get("PRIORITY")), _text(entry.get("_UID"))
    facility = _text(entry.get("SYSLOG_FACILITY"))
    item: Item = {
        "genTime": _moment(moment),
        "message": _text(entry.get("MESSAGE")),
        "source": _text(entry.get("SYSLOG_IDENTIFIER")) or _text(entry.get("_COMM")),
        "log": [text for text in (_text(entry.get("_TRANSPORT")), _facility(facility)) if text],
        "machine": _text(entry.get("_HOSTNAME")),
        "type": _LEVELS[int(level)] if level and level in "01234567" else [],
        "user": user_name(int(uid)) if uid and uid.isdigit() else [],  # the kernel has no user
    }
    item[IDENTITY] = f"{moment} {item['machine']} {item['source']} {item['message']}"
    return item


def _text(value: Any) -> str | None:
    """A field of the journal: text, a list of bytes where it is no UTF-8, several values, or null if huge."""
    if isinstance(value, list):
        if value and all(isinstance(entry, int) and 0 <= entry < 256 for entry in value):
            value = bytes(value).decode("utf-8", "replace")
        else:
            value = next((entry for entry in value if isinstance(entry, str)), None)
    return value[:MAX_TEXT_CHARS] if isinstance(value, str) else None


def _moment(micros: Any) -> str | None:
    text = _text(micros)
    if not text or not text.isdigit() or len(text) > 18:
        return None
    return (_EPOCH + timedelta(microseconds=int(text))).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _facility(text: str | None) -> str | None:
    if not text or not text.isdigit():
        return None
    number = int(text)
    return _FACILITIES[number] if number < len(_FACILITIES) else f"local{number - 16}"
