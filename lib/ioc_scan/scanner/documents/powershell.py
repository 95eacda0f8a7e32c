"""Lists of Windows through PowerShell: fixed commands that print one JSON object a line."""

from __future__ import annotations

import json
import re
from typing import Any, Iterator

from .base import UnavailableError
from .commands import Lines

_SECONDS = 60.0
_MAX_BYTES = 256 * 1024 * 1024
_UTF8 = "[Console]::OutputEncoding = [Text.Encoding]::UTF8; "
_TO_LINES = " | ForEach-Object { ConvertTo-Json -Compress -Depth 3 -InputObject $_ }; 'end ' + $Error.Count"
#: The last line, with the number of errors: without it the list is not whole, or it was no PowerShell that answered.
_END = re.compile(rb"end (\d+)\s*\Z")
#: How Windows PowerShell 5 writes a moment.
_MOMENT = re.compile(r"/Date\((-?\d{1,17})\)/\Z")


def objects(command: str, what: str) -> Iterator[dict[str, Any]]:
    """The objects a pipeline yields. Raises UnavailableError where there is no PowerShell or it fails."""
    arguments = ["powershell.exe", "-NoProfile", "-NonInteractive", "-Command", _UTF8 + command + _TO_LINES]
    lines = Lines(arguments, _SECONDS, _MAX_BYTES)
    count, errors = 0, -1
    for line in lines:
        end = _END.match(line)
        if end is not None:
            errors = int(end.group(1))
        for found in from_lines([line]):
            count += 1
            yield found
    if lines.truncated:
        raise UnavailableError(f"Windows took too long to list its {what}")
    if errors < 0 or (errors and not count):
        raise UnavailableError(f"Windows does not list its {what} to this user")


def from_lines(lines: Any) -> Iterator[dict[str, Any]]:
    """Objects of lines of JSON; a line that is none is passed over."""
    for line in lines:
        try:
            value = json.loads(line.decode("utf-8-sig", "replace"))
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def seconds(value: Any) -> float | None:
    """Seconds since 1970 of a moment as PowerShell writes it."""
    if isinstance(value, float):  # it was asked of Windows itself
        return value
    if isinstance(value, dict):  # PowerShell 5 wraps some moments
        value = value.get("value")
    match = _MOMENT.match(value) if isinstance(value, str) else None
    return int(match.group(1)) / 1000 if match else None
