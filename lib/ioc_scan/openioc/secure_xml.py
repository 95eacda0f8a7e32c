"""From untrusted bytes to an element tree, or a refusal; nothing is fetched, expanded or guessed.

Every bound is a named constant. The bytes are decoded by us, from an allow-list of encodings, and handed on
as UTF-8: the parser never chooses a decoder. A DOCTYPE is refused before parsing: an internal subset can
inject attributes (``condition="contains"``) whatever the parser's flags are.
"""

from __future__ import annotations

import re
from typing import Any

from lxml import etree

from ioc_scan.errors import InputError
from ioc_scan.text import printable

#: Kaspersky's limit for one file, and ours: the largest public file has 421 KB.
MAX_FILE_BYTES = 2 * 1024 * 1024
#: Elements above each other, all kinds; public files reach 7 levels of indicators.
MAX_DEPTH = 32
MAX_ELEMENTS = 200_000
MAX_ATTRIBUTE_CHARS = 4096
#: Of one element; OpenIOC knows four. The parser's own access to them grows with their square.
MAX_ATTRIBUTES = 64
#: XML declaration, comments and processing instructions before the root element.
MAX_PROLOG_CHARS = 64 * 1024

#: declared encoding -> Python codec. UTF-7 and the like hide markup from whoever looks at the bytes.
ENCODINGS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "iso-8859-1": "latin-1",
    "windows-1252": "cp1252",
    "utf-16": "utf-16",
}

_DECLARATION = re.compile(
    r"""<\?xml\s+version\s*=\s*(?:"1\.[0-9]"|'1\.[0-9]')"""
    r"""(?:\s+encoding\s*=\s*(?:"(?P<a>[A-Za-z][A-Za-z0-9._-]{0,39})"|'(?P<b>[A-Za-z][A-Za-z0-9._-]{0,39})'))?"""
    r"""(?:\s+standalone\s*=\s*(?:"(?:yes|no)"|'(?:yes|no)'))?\s*\?>"""
)
_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "zip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"%PDF", "PDF"),
    (b"MZ", "a Windows executable"),
    (b"\x7fELF", "an ELF executable"),
)
_WHITESPACE = " \t\r\n"


class IocRefused(InputError):
    """The bytes are not an OpenIOC document that may be used; ``line`` is where, or 0."""

    def __init__(self, code: str, message: str, hint: str = "", line: int = 0) -> None:
        super().__init__(code, message, hint)
        self.line = line

    def __reduce__(self) -> tuple[type, tuple[str, str, str, int]]:  # type: ignore[override]
        return (type(self), (self.code, self.message, self.hint, self.line))


def decode(data: bytes) -> tuple[str, str]:
    """Text without BOM and XML declaration (its line break stays), and the codec. Raises IocRefused."""
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            raise IocRefused(
                "not_xml", f"the content is {kind}, not XML", "unpack it and hand in the .ioc file itself"
            )
    codec, bom = "utf-8", 0
    if data.startswith(b"\xef\xbb\xbf"):
        bom = 3
    elif data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        raise IocRefused("encoding_refused", "UTF-32 is not accepted", "save the file as UTF-8", 1)
    elif data.startswith((b"\xff\xfe", b"\xfe\xff")):
        codec = "utf-16-le" if data.startswith(b"\xff\xfe") else "utf-16-be"
        bom = 2
    body = data[bom:]
    if codec == "utf-8" and bom == 0 and data[:2] in (b"<\0", b"\0<"):
        raise IocRefused(
            "encoding_refused",
            "UTF-16 without a byte order mark is not accepted",
            "save the file as UTF-8",
            1,
        )
    head = _text(body[:2048], codec, final=False) if codec != "utf-8" else body[:2048].decode("latin-1")
    match = _DECLARATION.match(head)
    if match is None and head.startswith("<?xml") and head[5:6] in (*_WHITESPACE, ""):
        raise IocRefused("xml_declaration", "the XML declaration is not well formed", "", 1)
    declared = (match.group("a") or match.group("b") or "") if match else ""
    if declared:
        wanted = ENCODINGS.get(declared.lower())
        if wanted is None:
            raise IocRefused(
                "encoding_refused",
                f"the encoding {printable(declared, 40)} is not accepted",
                "save the file as UTF-8",
                1,
            )
        if (wanted == "utf-16") != codec.startswith("utf-16"):
            raise IocRefused(
                "encoding_refused",
                "the declared encoding is not that of the bytes",
                "save the file as UTF-8",
                1,
            )
        if bom == 3 and wanted not in ("utf-8", "ascii"):
            raise IocRefused(
                "encoding_refused",
                "the declared encoding is not that of the bytes",
                "save the file as UTF-8",
                1,
            )
        if not codec.startswith("utf-16"):
            # whoever declares us-ascii and writes UTF-8 means UTF-8; strict decoding catches the rest
            codec = "utf-8" if wanted == "ascii" else wanted
    text = _text(body, codec)
    if match:
        text = text[match.end() :]
    return text, codec


def _text(data: bytes, codec: str, final: bool = True) -> str:
    try:
        return data.decode(codec, "strict" if final else "replace")
    except UnicodeDecodeError as error:
        raise IocRefused(
            "encoding_invalid",
            f"byte {error.start} is not valid {codec}",
            "save the file as UTF-8",
            data.count(b"\n", 0, error.start) + 1,
        ) from None


def check_prolog(text: str) -> None:
    """Refuse a DOCTYPE and anything else but comments and processing instructions before the root element."""
    at, end = 0, len(text)
    while True:
        while at < end and text[at] in _WHITESPACE:
            at += 1
        if at > MAX_PROLOG_CHARS:
            raise IocRefused("prolog_too_long", "too much stands before the root element", "")
        if text.startswith("<!--", at):
            closing, length = text.find("-->", at + 4), 3
        elif text.startswith("<?", at):
            closing, length = text.find("?>", at + 2), 2
        elif text.startswith("<!", at):
            raise IocRefused(
                "doctype_refused",
                "the document has a DOCTYPE; it could inject content from elsewhere",
                "remove the DOCTYPE",
                text.count("\n", 0, at) + 1,
            )
        elif text.startswith("<", at):
            return
        else:
            raise IocRefused(
                "not_xml", "the content does not start with an XML element", "is it an OpenIOC file?", 1
            )
        if closing < 0:
            raise IocRefused(
                "xml_malformed",
                "a comment or processing instruction has no end",
                "",
                text.count("\n", 0, at) + 1,
            )
        at = closing + length


#: Nothing is resolved, fetched or added; the input is UTF-8 by our own decoding.
_FLAGS: dict[str, Any] = {
    "resolve_entities": False,
    "no_network": True,
    "load_dtd": False,
    "dtd_validation": False,
    "attribute_defaults": False,
    "huge_tree": False,
    "recover": False,
    "remove_comments": True,
    "remove_pis": True,
    "strip_cdata": True,
}


def parser() -> etree.XMLParser:
    """For a whole document."""
    return etree.XMLParser(encoding="utf-8", **_FLAGS)


def pull_parser() -> etree.XMLPullParser:
    """For a document in pieces; its events are the starts of OpenIOC root elements."""
    roots = ["{*}ioc", "{*}OpenIOC"]
    return etree.XMLPullParser(events=("start",), tag=roots, encoding="utf-8", **_FLAGS)


def parse(data: bytes, max_bytes: int = MAX_FILE_BYTES) -> tuple[etree._Element, str]:
    """The root element and the codec of an untrusted XML document. Raises IocRefused.

    ``max_bytes``: hand in at most one byte more than that.
    """
    if len(data) > max_bytes:
        raise IocRefused(
            "file_too_large", f"the file has more than {max_bytes} bytes", "split it into several IOC files"
        )
    if not data.strip():
        raise IocRefused("file_empty", "the file is empty", "")
    text, codec = decode(data)
    check_prolog(text)
    try:
        root = etree.fromstring(text.encode("utf-8"), parser())
    except etree.XMLSyntaxError as error:
        raise malformed(error) from None
    except UnicodeEncodeError:
        raise IocRefused(
            "encoding_invalid", "the text holds half of a surrogate pair", "save the file as UTF-8"
        ) from None
    _check_bounds(root)
    return root, codec


def _check_bounds(root: etree._Element) -> None:
    depth = count = 0
    for event, element in etree.iterwalk(root, events=("start", "end")):
        if event == "end":
            depth -= 1
            continue
        depth += 1
        count += 1
        if count > MAX_ELEMENTS:
            raise IocRefused(
                "too_many_elements", f"more than {MAX_ELEMENTS} elements", "split the file", line_of(element)
            )
        check_element(element, depth)


def check_element(element: etree._Element, depth: int) -> None:
    """The bounds of one element at this depth. Raises IocRefused."""
    if depth > MAX_DEPTH:
        raise IocRefused(
            "too_deep", f"elements are nested deeper than {MAX_DEPTH}", "flatten the logic", line_of(element)
        )
    if not isinstance(element.tag, str):  # an entity reference left in place
        raise IocRefused(
            "entity_refused",
            "the document uses an entity",
            "write the character itself",
            line_of(element),
        )
    if len(element.attrib) > MAX_ATTRIBUTES:  # counted first: reading very many takes lxml very long
        raise IocRefused(
            "too_many_attributes",
            f"an element has more than {MAX_ATTRIBUTES} attributes",
            "",
            line_of(element),
        )
    if any(len(value) > MAX_ATTRIBUTE_CHARS for value in element.attrib.values()):
        raise IocRefused(
            "attribute_too_long",
            f"an attribute is longer than {MAX_ATTRIBUTE_CHARS}",
            "",
            line_of(element),
        )


def malformed(error: etree.XMLSyntaxError) -> IocRefused:
    """The refusal for what the parser says."""
    line = error.lineno or 0
    if "depth" in str(error).lower():
        return IocRefused(
            "too_deep", f"elements are nested deeper than {MAX_DEPTH}", "flatten the logic", line
        )
    return IocRefused("xml_malformed", printable(error.msg or "not well formed", 200), "", line)


def line_of(element: etree._Element) -> int:
    """The line of an element, 0 if it is not known."""
    line = element.sourceline
    return line if isinstance(line, int) else 0
