"""The event log of a Linux device: systemd's journal, its last days."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any, Iterator

from .errors import ScannerError
from .linux_processes import user_name

_COMMAND = "/usr/bin/journalctl"
_DAYS = 7
_MAX_EVENTS = 200_000
_SECONDS = 120
_LEVELS = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")


def event_log() -> Iterator[dict[str, Any]]:
    """EventLogItems of the last days. Raises ScannerError where there is no journal."""
    if not os.path.exists(_COMMAND):
        raise ScannerError("unavailable", "there is no journalctl")
    arguments = ["-o", "json", "--no-pager", f"--since=-{_DAYS}d", f"--lines={_MAX_EVENTS}"]
    try:
        answer = subprocess.run(
            [_COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=True,
        )
    except subprocess.SubprocessError:
        raise ScannerError("unavailable", "journalctl does not answer") from None
    for line in answer.stdout.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        yield _item(entry)


def _item(entry: dict[str, Any]) -> dict[str, Any]:
    message = entry.get("MESSAGE")
    if isinstance(message, list):  # journald writes undecodable messages as lists of bytes
        message = bytes(message).decode("utf-8", "replace")
    level, uid, time = entry.get("PRIORITY"), entry.get("_UID"), entry.get("__REALTIME_TIMESTAMP")
    return {
        "message": message,
        "source": entry.get("SYSLOG_IDENTIFIER") or entry.get("_COMM"),
        "log": entry.get("_TRANSPORT"),
        "machine": entry.get("_HOSTNAME"),
        "type": _LEVELS[int(level)] if level and level.isdigit() and int(level) < 8 else None,
        "genTime": int(time) / 1e6 if time and time.isdigit() else None,
        "user": user_name(int(uid)) if uid and uid.isdigit() else None,
    }
