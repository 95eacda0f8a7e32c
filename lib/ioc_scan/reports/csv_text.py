"""Rows as CSV that a spreadsheet shows and never runs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..text import printable
from .tables import Column

#: A spreadsheet takes a cell that starts so for a formula (also in full width, also after blanks and quotes).
_FORMULA = re.compile(r"""[\s'"]*[=+\-@＝＋－＠\t\r\n|%]""")
#: The longest text a spreadsheet's cell holds.
_MAX_CELL = 32_000


def render(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column | str | tuple[str, str]]) -> str:
    """CSV (RFC 4180, CRLF) with a header. Every cell is quoted: another separator opens no new cell.

    Text that could start a formula gets an apostrophe in front; numbers stay numbers.
    """
    keys = [_key_and_title(column) for column in columns]
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow([cell(title) for _, title in keys])
    for row in rows:
        writer.writerow([cell(row.get(key)) for key, _ in keys])
    return out.getvalue()


def cell(value: object) -> str:
    """One value as harmless text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        value = ", ".join(printable(entry, 1000) for entry in value)
    raw = str(value)
    text = printable(raw, _MAX_CELL)
    return f"'{text}" if _FORMULA.match(raw) or _FORMULA.match(text) else text


def _key_and_title(column: Column | str | tuple[str, str]) -> tuple[str, str]:
    if isinstance(column, Column):
        return column.key, column.title
    return (column, column) if isinstance(column, str) else column
