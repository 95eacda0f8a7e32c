"""How StackStorm 3.9 reads a chat command: enough of it to test this pack's aliases without a node.

A representation is a regular expression, anchored at both ends, in which ``{{ name }}`` stands for a value and
``{{ name=default }}`` for an optional one. ``name=value`` pairs at the end of a command become parameters,
whatever the representation says. Compared on a node with ``st2 action-alias match`` and ``execute``.
"""

from __future__ import annotations

import re
from typing import Any

_SLOT = re.compile(r"(\s*)\{\{\s*(\w+)\s*(?:=\s*([^}]*?)\s*)?\}\}")
_PAIR = re.compile(r"""(?:^|\s+)(\S+?)=("[^"]+"|'[^']+'|\{.+?\}|\S+)\s*$""", re.DOTALL)


def extract(representation: str, command: str) -> dict[str, Any] | None:
    """The parameters StackStorm would pass to the action; None where the command does not match."""
    pairs: dict[str, str] = {}
    while found := _PAIR.search(command):
        pairs.setdefault(found[1], found[2].strip("\"'"))
        command = command[: found.start()]
    defaults: dict[str, str] = {}

    def slot(match: re.Match[str]) -> str:
        space, name, default = match.groups()
        value = f"{space}[\"']?(?P<{name}>.+?)[\"']?"
        if default is None:
            return value
        defaults[name] = default
        return f"(?:{value})?"

    pattern = re.compile(rf"^\s*{_SLOT.sub(slot, representation)}\s*$", re.DOTALL)
    matched = pattern.match(f" {command} ")
    if matched is None:
        return None
    values = {name: value or defaults.get(name) for name, value in matched.groupdict().items()}
    return values | pairs
