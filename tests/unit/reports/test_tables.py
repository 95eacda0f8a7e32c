"""Tables fit the width they are given, whatever the cells hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ioc_scan.reports.tables import Column, render, render_pairs, text_width

ROWS = [
    {"device": "ws01", "path": "/srv/ws01/home/anna/Downloads/invoice.exe", "size": 51200, "state": None},
    {"device": "a-much-longer-device-name", "path": "/tmp/x", "size": 7, "state": True},
]


def test_a_table_reads_like_one() -> None:
    assert render(ROWS, ["device", "size", ("state", "answered")], 60) == (
        "device                      size  answered\n"
        "-------------------------  -----  --------\n"
        "ws01                       51200  -\n"
        "a-much-longer-device-name      7  yes"
    )


def test_the_end_of_a_path_stays() -> None:
    table = render(ROWS, [Column("device", "device", fixed=True), Column("path", "path", keep="end")], 50)
    assert max(map(text_width, table.splitlines())) == 50
    assert "…nna/Downloads/invoice.exe" in table or table.splitlines()[2].endswith("invoice.exe")


def test_no_rows_say_so() -> None:
    assert render([], ["a"], empty="no tasks") == "no tasks"


def test_control_and_template_characters_do_not_reach_the_terminal() -> None:
    table = render([{"name": "a\x1b[31m\n{{ 7*7 }}<% 1+1 %>\u202eexe.txt\x00\ud800"}], ["name"], 100)
    assert len(table.splitlines()) == 3
    assert not any(ord(char) < 32 and char != "\n" for char in table)
    assert "\\x1b[31m\\x0a{ { 7*7 }}< % 1+1 %>\\u202eexe.txt\\x00\\ud800" in table


def test_wide_characters_take_two_cells() -> None:
    table = render([{"a": "日本語の名前がとても長い", "b": "x"}, {"a": "short", "b": "y"}], ["a", "b"], 20)
    assert [text_width(line) for line in table.splitlines()][2] <= 20
    assert table.splitlines()[3].endswith("y")


def test_fixed_columns_are_never_cut() -> None:
    digest = "f" * 64
    table = render([{"id": digest, "name": "n" * 50}], [Column("id", "id", fixed=True), "name"], 60)
    assert digest in table


def test_pairs_wrap_under_their_value() -> None:
    text = render_pairs([("task", "t-1"), ("why", "word " * 30)], 40)
    lines = text.splitlines()
    assert lines[0] == "task  t-1"
    assert all(len(line) <= 40 for line in lines)
    assert lines[2].startswith("      word")


@given(st.lists(st.text(max_size=80), min_size=1, max_size=5), st.integers(30, 120))
def test_any_text_fits(texts: list[str], width: int) -> None:
    table = render([{"a": text, "b": text[::-1]} for text in texts], ["a", ("b", "the other")], width)
    assert len(table.split("\n")) == len(texts) + 2
    assert all(text_width(line) <= width for line in table.split("\n"))


@pytest.mark.parametrize("width", [1, 5, 12])
def test_a_terminal_too_narrow_still_gets_its_table(width: int) -> None:
    assert render(ROWS, ["device", "path"], width).count("\n") == 3
