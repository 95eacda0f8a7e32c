"""Where macOS keeps what starts by itself: launchd's property lists, cron."""

from __future__ import annotations

import glob
import os
import plistlib
from typing import Any, Iterator

from .area import Area
from .autostart_linux import Found

_SYSTEM = ("/Library/LaunchDaemons", "/Library/LaunchAgents")
_OF_USERS = "/Users/*/Library/LaunchAgents"
_MAX_BYTES = 1024 * 1024


def objects(root: str, area: Area) -> Iterator[Found]:
    """All objects that are there."""
    for folder in _SYSTEM:
        for path in sorted(glob.glob(root + folder + "/*.plist")):
            yield Found(path, None, _programs(path))
    for folder in sorted(glob.glob(root + _OF_USERS)):
        owner = os.stat(folder).st_uid
        for path in sorted(glob.glob(folder + "/*.plist")):
            yield Found(path, owner, _programs(path))
    try:
        for name in sorted(os.listdir(root + "/usr/lib/cron/tabs")):
            yield Found(f"{root}/usr/lib/cron/tabs/{name}", None, [])
    except FileNotFoundError:
        return
    except OSError as error:
        area.refuse(f"cron's tables: {error.strerror}")


def _programs(path: str) -> list[str]:
    try:
        with open(path, "rb") as stream:
            content: Any = plistlib.loads(stream.read(_MAX_BYTES))
    except (OSError, ValueError, plistlib.InvalidFileException, AttributeError):
        return []
    if not isinstance(content, dict):
        return []
    words = content.get("ProgramArguments") or []
    program = content.get("Program") or (words[0] if isinstance(words, list) and words else "")
    return [program] if isinstance(program, str) and program.startswith("/") else []
