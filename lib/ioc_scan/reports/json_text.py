"""Data as JSON that any engine on its way leaves alone, and that reads back exactly."""

from __future__ import annotations

import json
from typing import Any

#: Characters that start markup or a template; inside JSON text their escapes mean the same.
_INERT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
_OPENERS = {"{{": "\\u007b\\u007b", "{%": "\\u007b%", "{#": "\\u007b#"}


def render(value: Any, *, indent: int | None = 2) -> str:
    """ASCII JSON with sorted keys; the same value gives the same text. Raises ValueError for NaN or infinity.

    No ``<``, ``{{``, ``{%`` or ``<%`` is in it, so it can stand in a page or pass a template engine.
    """
    text = json.dumps(value, indent=indent, sort_keys=True, ensure_ascii=True, allow_nan=False, default=str)
    for char, escape in _INERT.items():
        text = text.replace(char, escape)
    # JSON's own "{" is followed by a quote, a line break or "}": an opener is always inside a text.
    for opener, escape in _OPENERS.items():
        text = text.replace(opener, escape)
    return text
