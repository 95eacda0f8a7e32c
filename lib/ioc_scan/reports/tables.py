"""Plain-text tables that fit a terminal. Every cell is outside text until it was made printable."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..text import printable

_GAP = "  "
#: Narrower than this a column says nothing; it is then the terminal that wraps.
_MIN_WIDTH = 6
_MAX_CELL = 2000


@dataclass(frozen=True)
class Column:
    """One column: the ``key`` in each row, its ``title``, and how it gives way when space is short.

    ``keep`` "start", "end" or "middle" says which part of a long text stays; a path is known by its end.
    ``fixed`` columns (ids, numbers) are never shortened.
    """

    key: str
    title: str
    align: str = "left"
    keep: str = "start"
    fixed: bool = False


def terminal_width() -> int:
    """Columns of the terminal, 80 where there is none, never more than 160: longer lines cannot be read."""
    return min(shutil.get_terminal_size((80, 24)).columns, 160)


def render(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[Column | str | tuple[str, str]],
    width: int | None = None,
    *,
    empty: str = "nothing to show",
) -> str:
    """A table with a header line, at most ``width`` (default: the terminal's) characters wide.

    Columns may be keys, (key, title) pairs or :class:`Column`. None shows as ``-``, numbers align right
    unless the column says otherwise. No rows give the ``empty`` text. Nothing ends in spaces.
    """
    if not rows:
        return empty
    cols = [_as_column(column, rows) for column in columns]
    cells = [[_text(row.get(col.key)) for col in cols] for row in rows]
    widths = _fit(cols, cells, width or terminal_width())
    lines = [
        _line([_pad(_cut(c.title, w, "start"), w, c.align) for c, w in zip(cols, widths, strict=True)]),
        _line(["-" * w for w in widths]),
    ]
    for row in cells:
        parts = zip(cols, widths, row, strict=True)
        lines.append(_line([_pad(_cut(text, w, c.keep), w, c.align) for c, w, text in parts]))
    return "\n".join(lines)


def render_pairs(pairs: Sequence[tuple[str, Any]], width: int | None = None) -> str:
    """Labels and values, one a line, the values aligned; long values run on, indented, on further lines."""
    total = width or terminal_width()
    label_width = max((text_width(label) for label, _ in pairs), default=0)
    lines = []
    for label, value in pairs:
        room = max(total - label_width - len(_GAP), 20)
        parts = _wrap(_text(value), room)
        lines.append(_pad(label, label_width, "left") + _GAP + parts[0])
        lines += [" " * (label_width + len(_GAP)) + part for part in parts[1:]]
    return "\n".join(line.rstrip() for line in lines)


def text_width(text: str) -> int:
    """Terminal cells of a printable text: East Asian wide characters take two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(_char_width(char) for char in text)


def _char_width(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def _as_column(column: Column | str | tuple[str, str], rows: Sequence[Mapping[str, Any]]) -> Column:
    if isinstance(column, Column):
        return column
    key, title = (column, column.replace("_", " ")) if isinstance(column, str) else column
    values = [row.get(key) for row in rows if row.get(key) is not None]
    numeric = bool(values) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    return Column(key, title, "right" if numeric else "left", fixed=numeric)


def _text(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(_text(entry) for entry in value) or "-"
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return printable(value, _MAX_CELL)


def _fit(cols: Sequence[Column], cells: Sequence[Sequence[str]], total: int) -> list[int]:
    """Natural widths, then the widest column that may shrink gives way, one cell at a time."""
    widths = [
        max([text_width(col.title), *(text_width(row[i]) for row in cells)]) for i, col in enumerate(cols)
    ]
    over = sum(widths) + len(_GAP) * (len(cols) - 1) - total
    elastic = [i for i, col in enumerate(cols) if not col.fixed]
    while over > 0:
        widest = max(elastic, key=lambda i: widths[i], default=None)
        if widest is None or widths[widest] <= _MIN_WIDTH:
            break
        widths[widest] -= 1
        over -= 1
    return widths


def _cut(text: str, width: int, keep: str) -> str:
    if text_width(text) <= width:
        return text
    if keep == "end":
        return "…" + _take(text[::-1], width - 1)[::-1]
    if keep == "middle":
        head = (width - 1) // 2
        return _take(text, head) + "…" + _take(text[::-1], width - 1 - head)[::-1]
    return _take(text, width - 1) + "…"


def _take(text: str, width: int) -> str:
    taken, used = [], 0
    for char in text:
        used += _char_width(char)
        if used > width:
            break
        taken.append(char)
    return "".join(taken)


def _pad(text: str, width: int, align: str) -> str:
    space = " " * max(width - text_width(text), 0)
    return space + text if align == "right" else text + space


def _line(parts: Sequence[str]) -> str:
    return _GAP.join(parts).rstrip()


def _wrap(text: str, width: int) -> list[str]:
    parts = []
    while text_width(text) > width:
        head = _take(text, width)
        space = head.rfind(" ")
        if space > width // 2:
            head = head[:space]
        parts.append(head)
        text = text[len(head) :].lstrip(" ")
    return [*parts, text]
