"""Reading, writing and converting: nothing is lost, and what is written is valid against the public schemas."""

from __future__ import annotations

from pathlib import Path

import pytest
from ioc_scan.errors import InputError
from ioc_scan.openioc.convert import convert
from ioc_scan.openioc.model import Indicator, Ioc, Item, Link, Parameter
from ioc_scan.openioc.reader import read_ioc
from ioc_scan.openioc.writer import write_ioc
from lxml import etree

from tests.fixtures.shared import shared_data
from tests.unit.openioc.builders import MD5_1, document


def dev_files() -> list[Path]:
    return sorted(shared_data("openioc", "dev").rglob("*.ioc"))


def schema(version: str) -> etree.XMLSchema:
    path = shared_data("openioc", "xsd", f"openioc_{version.replace('.', '')}_schema.xsd")
    return etree.XMLSchema(etree.parse(str(path)))


FULL_1_1 = Ioc(
    version="1.1",
    id="d-1",
    last_modified="2026-01-01T00:00:00Z",
    published_date="2026-01-02T00:00:00Z",
    short_description="s <&> \"'",
    description="line one\nline two\ttab\r\nend",
    keywords="k",
    authored_by="a",
    authored_date="2026-01-01T00:00:00Z",
    links=[Link("report", "https://example.com/?a=1&b=2", "t", "x", "text"), Link(rel="")],
    roots=[
        Indicator(
            "g-1",
            "OR",
            [
                Item("i-1", "is", "FileItem", "FileItem/Md5sum", MD5_1, "md5", "mir"),
                Item(
                    "i-2", "matches", "FileItem", "FileItem/FileName", "^a$", negate=True, preserve_case=True
                ),
                Indicator("g-2", "AND", [], node_context="c"),
            ],
        )
    ],
    parameters=[
        Parameter("p-1", "i-1", "comment", "why", "string"),
        Parameter("p-2", "i-2", "score", "5", "int"),
    ],
)


def test_every_part_of_1_1_is_kept() -> None:
    data = write_ioc(FULL_1_1)
    assert read_ioc(data) == FULL_1_1
    schema("1.1").assertValid(etree.fromstring(data))


def test_every_part_of_1_0_is_kept() -> None:
    ioc = document(
        ["OR", ["FileItem/Md5sum", "isnot", MD5_1], ["AND", ["FileItem/FileName", "contains", "x"]]], "1.0"
    )
    item = next(ioc.items())
    item.comment = "because of\n<this>"
    ioc.links = [Link("r", "h", "t", "x", "y"), Link()]
    ioc.description, ioc.keywords, ioc.authored_by = "d", "k", "a"
    data = write_ioc(ioc)
    assert read_ioc(data) == ioc
    assert b'condition="isnot"' in data and b"negate" not in data
    schema("1.0").assertValid(etree.fromstring(data))


def test_real_files_survive_the_round_trip() -> None:
    files = dev_files()
    assert len(files) >= 50
    for path in files:
        ioc = read_ioc(path.read_bytes())
        again = read_ioc(write_ioc(ioc))
        assert again == ioc, path.name
        schema(ioc.version).assertValid(etree.fromstring(write_ioc(ioc)))


def test_real_files_convert_to_1_1_and_back() -> None:
    for path in dev_files():
        ioc = read_ioc(path.read_bytes())
        if ioc.version != "1.0":
            continue
        modern = convert(ioc, "1.1").ioc
        data = write_ioc(modern)
        schema("1.1").assertValid(etree.fromstring(data))
        assert write_ioc(convert(ioc, "1.1").ioc) == data
        back = convert(read_ioc(data), "1.0")
        assert not back.notes
        assert write_ioc(read_ioc(write_ioc(back.ioc))) == write_ioc(back.ioc)
        assert [
            (item.search, item.condition, item.content, item.negate, item.comment)
            for item in back.ioc.items()
        ] == [(item.search, item.condition, item.content, item.negate, item.comment) for item in ioc.items()]


def test_comments_travel_as_parameters() -> None:
    ioc = document(["OR", ["FileItem/Md5sum", "is", MD5_1]], "1.0")
    next(ioc.items()).comment = "seen in March"
    modern = convert(ioc, "1.1").ioc
    assert [(entry.name, entry.ref_id, entry.value) for entry in modern.parameters] == [
        ("comment", "n2", "seen in March")
    ]
    assert next(convert(modern, "1.0").ioc.items()).comment == "seen in March"


@pytest.mark.parametrize(
    ("leaf", "code"),
    [
        (["FileItem/FileName", "matches", "a"], "convert_condition"),
        (["FileItem/FileName", "starts-with", "a"], "convert_condition"),
        (["FileItem/FileName", "ends-with", "a"], "convert_condition"),
        (["FileItem/Modified", "greater-than", "2024-01-01"], "convert_condition"),
        (["FileItem/FileName", "is", "A", {"preserve-case": True}], "convert_preserve_case"),
        (["FileItem/SizeInBytes", "greater-than", "many"], "convert_content"),
    ],
)
def test_what_1_0_cannot_say_is_refused_with_its_place(leaf: list, code: str) -> None:
    with pytest.raises(InputError) as refused:
        convert(document(leaf), "1.0")
    assert refused.value.code == code
    assert "line 0, item n1" in refused.value.message


def test_comparisons_of_numbers_become_ranges() -> None:
    more = convert(document(["FileItem/SizeInBytes", "greater-than", "9"]), "1.0").ioc
    less = convert(document(["PortItem/remotePort", "less-than", "9", {"negate": True}]), "1.0").ioc
    assert next(more.items()).content == "[10 TO 18446744073709551615]"
    assert next(less.items()).content == "[-9223372036854775808 TO 8]"
    assert b'condition="isnot"' in write_ioc(less)


def test_parameters_without_a_place_are_refused_or_dropped() -> None:
    simple = document(["FileItem/Md5sum", "is", MD5_1])
    simple.parameters = [Parameter("p", "n1", "score", "5")]
    with pytest.raises(InputError) as refused:
        convert(simple, "1.0")
    assert refused.value.code == "convert_parameter"
    conversion = convert(simple, "1.0", drop_parameters=True)
    assert [note.code for note in conversion.notes] == ["parameter_dropped", "published_date_dropped"]
    assert simple.parameters  # the original is left alone


def test_harmless_deviations_are_noted_with_their_line() -> None:
    data = b"""<?xml version="1.0"?>
<ioc xmlns="http://schemas.mandiant.com/2010/ioc" id="x">
  <description>d</description>
  <short_description>s</short_description>
  <definition>
    <Indicator operator="or" id="g">
      <Indicator operator="AND" id="h"/>
      <IndicatorItem id="i" condition="starts-with">
        <Context document="FileItem" search="FileItem/FileName" type="mir"/>
        <Content type="string">abc</Content>
        <Unheard/>
      </IndicatorItem>
    </Indicator>
  </definition>
</ioc>"""
    notes = [(note.code, note.line) for note in read_ioc(data).notes]
    assert ("element_order", 4) in notes
    assert ("missing_last_modified", 2) in notes
    assert ("operator_spelling", 6) in notes
    assert ("item_order", 8) in notes
    assert ("condition_of_1_1", 8) in notes
    assert ("unknown_element", 11) in notes


def test_text_xml_cannot_carry_is_refused_when_written() -> None:
    ioc = document(["FileItem/FileName", "is", "a\0b"])
    with pytest.raises(InputError) as refused:
        write_ioc(ioc)
    assert refused.value.code == "xml_unsafe_text"
