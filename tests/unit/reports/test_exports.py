"""CSV and JSON: exact for machines, harmless for spreadsheets and engines."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ioc_scan.reports import csv_text, json_text
from ioc_scan.reports.tables import Column

from .example import HOSTILE


@pytest.mark.parametrize(
    "value",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "  =1",
        "'=1",
        '"=1',
        "＝1",
        "=cmd|'/c calc'!A0",
        "|calc",
        "%0A=1",
    ],
)
def test_no_cell_starts_a_formula(value: str) -> None:
    assert csv_text.cell(value).startswith("'")


@pytest.mark.parametrize(
    ("value", "text"), [(-5, "-5"), (1.5, "1.5"), (True, "yes"), (None, ""), ("a-b", "a-b")]
)
def test_ordinary_cells_stay(value: object, text: str) -> None:
    assert csv_text.cell(value) == text


def test_csv_reads_back_with_any_text() -> None:
    rows = [{"path": HOSTILE, "n": 1}, {"path": 'a,b;"c"\td', "n": None}]
    text = csv_text.render(rows, [Column("path", "Path"), "n"])
    read = list(csv.reader(io.StringIO(text, newline="")))
    assert read[0] == ["Path", "n"]
    assert read[2] == ['a,b;"c"\\x09d', ""]
    assert all(len(row) == 2 for row in read)
    assert text.count("\r\n") == 3 and "\n" not in text.replace("\r\n", "")
    text.encode("utf-8")


@given(st.text())
def test_no_text_is_a_formula_after_parsing(text: str) -> None:
    read = next(csv.reader(io.StringIO(csv_text.render([], [text]), newline="")))
    assert not re.match(r"[=+\-@\t\r\n]", read[0])


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(values, st.sampled_from([None, 2]))
def test_json_reads_back_exactly_and_starts_no_engine(value: object, indent: int | None) -> None:
    text = json_text.render(value, indent=indent)
    assert json.loads(text) == value
    assert text.isascii()
    assert not any(opener in text for opener in ("{{", "{%", "{#", "<"))


def test_json_of_hostile_text() -> None:
    text = json_text.render({"name": HOSTILE, "{{ 7*7 }}": "{%raw%}"})
    assert json.loads(text)["name"] == HOSTILE
    assert not re.search(r"\{\{|\{%|<", text)


def test_json_refuses_what_is_no_json() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        json_text.render(float("nan"))
