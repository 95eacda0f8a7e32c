"""Text for chat: names come from malware, and a chat client would call people, load links and run markup.

Alias templates print ``chat`` of an answer and nothing else that came from outside.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ioc_scan.reports import tables
from ioc_scan.text import printable

#: Tables in chat are read in a narrow window, and chat systems cut messages near 4000 characters.
CHAT_WIDTH = 96
CHAT_ROWS = 20
MAX_CHAT_TEXT = 3500
_MAX_CELL = 200

# Mentions, markup and code fences by look-alikes; the dot of our own commands stays, so that they can be copied.
_SIGNS = str.maketrans({"<": "‹", ">": "›", "`": "'", "@": "[at]", "\N{FULLWIDTH COMMERCIAL AT}": "[at]"})
_SCHEME = re.compile(r"(?i)\bh(tt|xx)p(s?)(?=:)")
_DOT = re.compile(r"(?<=\w)(?<!\bioc_scan)\.(?=\w)")


def for_chat(text: object, limit: int = _MAX_CELL) -> str:
    """One line that no chat client turns into a mention, a link, a preview or a template.

    ``http://evil.example`` becomes ``hxxp[:]//evil[.]example``, ``@here`` becomes ``[at]here``.
    """
    shown = _SCHEME.sub(r"hxxp\2", printable(text, limit).translate(_SIGNS))
    return _DOT.sub("[.]", shown.replace("://", "[:]//"))


def chat_lines(text: str) -> str:
    """The same for several lines of ours with outside text in them."""
    return _cut("\n".join(for_chat(line, 500) for line in text.split("\n")))


def chat_table(rows: Sequence[dict[str, Any]], columns: Sequence[Any], total: int, empty: str) -> str:
    """A table whose cells are safe and still aligned; it says how many rows were left out."""
    shown = [{name: _cell(value) for name, value in row.items()} for row in rows[:CHAT_ROWS]]
    text = tables.render(shown, columns, CHAT_WIDTH, empty=empty)
    if total > len(shown):
        text = _cut(text, MAX_CHAT_TEXT - 40) + f"\n{len(shown)} of {total} shown"
    return _cut(text)


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float)) else for_chat(value)


def _cut(text: str, limit: int = MAX_CHAT_TEXT) -> str:
    if len(text) <= limit:
        return text
    return text[: text.rfind("\n", 0, limit - 1) if "\n" in text[: limit - 1] else limit - 1] + "\n…"
