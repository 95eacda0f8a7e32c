"""Compiles an IOC file of any length in pieces: logic is compiled and dropped as it arrives.

The same plan as reading the document and compiling it, for UTF-8 files. The plainest form of generated files (an OR
of AND(size, hash)) is read off the text by :mod:`ioc_scan.openioc.plain_groups`; the parser gets everything else.
"""

from __future__ import annotations

import hashlib
from typing import Any, BinaryIO, cast

from lxml import etree

from ioc_scan.openioc.branches import BranchCompiler
from ioc_scan.openioc.model import Ioc
from ioc_scan.openioc.plain_groups import PlainGroups, opening_end
from ioc_scan.openioc.plan_builder import PlanBuilder
from ioc_scan.openioc.reader import NAMESPACES, DocumentReader, document_version
from ioc_scan.openioc.secure_xml import (
    MAX_PROLOG_CHARS,
    IocRefused,
    check_element,
    check_prolog,
    decode,
    line_of,
    malformed,
    pull_parser,
)
from ioc_scan.text import printable

_CHUNK_BYTES = 256 * 1024


def read_stream(builder: PlanBuilder, stream: BinaryIO, tier: str, max_bytes: int) -> None:
    """Add one IOC file to a plan. Raises InputError."""
    _Bulk(builder, stream, tier, max_bytes).run()


class _Bulk:
    def __init__(self, builder: PlanBuilder, stream: BinaryIO, tier: str, max_bytes: int) -> None:
        self.builder = builder
        self.stream = stream
        self.max_bytes = max_bytes
        self.size = 0
        self.digest = hashlib.sha256()
        self.number = builder.add_ioc("", Ioc("1.0", ""), tier)
        self.compiler = BranchCompiler(builder, self.number)
        self.parser = pull_parser()
        self.root: etree._Element | None = None
        self.logic: etree._Element | None = None

    def read(self) -> bytes:
        chunk = self.stream.read(_CHUNK_BYTES)
        self.size += len(chunk)
        if self.size > self.max_bytes:
            raise IocRefused("file_too_large", f"the file has more than {self.max_bytes} bytes", "split it")
        self.digest.update(chunk)
        return chunk

    def run(self) -> None:
        chunk = self.read()
        text, codec = decode(_whole_characters(chunk[: MAX_PROLOG_CHARS + 1024]))
        if codec != "utf-8":
            raise IocRefused(
                "encoding_refused", "a file of this size has to be UTF-8", "save the file as UTF-8", 1
            )
        check_prolog(text)
        try:
            chunk = self.take_plain_groups(chunk)
            while chunk:
                self.parser.feed(chunk)
                self.sweep()
                chunk = self.read()
            root = self.parser.close()
        except etree.XMLSyntaxError as error:
            raise malformed(error) from None
        self.finish(root)

    def take_plain_groups(self, chunk: bytes) -> bytes:
        """Compile plain groups that follow the opening of the logic; what is left of the text read so far."""
        end = opening_end(chunk)
        if end is None:
            return chunk
        self.parser.feed(chunk[:end])
        self.sweep()
        logic, rest = self.find_logic(), chunk[end:]
        # the parser's own word that we stand right inside the first OR
        if logic is None or len(logic) != 1 or logic[0].get("operator") != "OR" or len(logic[0]):
            return rest
        if self.builder.binding != "item":
            return rest
        groups = PlainGroups(self.compiler)
        while True:
            rest = groups.take(rest)
            more = b"" if groups.stopped else self.read()
            if not more:
                break
            rest += more
        # the parser counts lines for its messages
        self.parser.feed(b"\n" * groups.lines)
        return rest or self.read()

    def sweep(self) -> None:
        """Compile what the parser has whole, and drop it."""
        for _, root in self.parser.read_events():
            self.start(cast(etree._Element, root))
        node = self.find_logic()
        while node is not None and len(node):
            whole = list(node)[:-1]
            for child in whole:
                self.add(child)
            del cast(Any, node)[: len(whole)]
            last = node[-1]
            node = last if last.tag == self.indicator and last.get("operator") == "OR" else None

    def start(self, root: etree._Element) -> None:
        if self.root is not None:
            return
        self.root = root
        version = document_version(root)
        namespace = "{" + NAMESPACES[version] + "}"
        self.reader = DocumentReader(version)
        self.indicator, self.item = namespace + "Indicator", namespace + "IndicatorItem"
        self.logic_tag = namespace + ("definition" if version == "1.0" else "criteria")
        self.title = namespace + "short_description"
        self.metadata = namespace + "metadata"

    def find_logic(self) -> etree._Element | None:
        if self.logic is None and self.root is not None:
            self.logic = self.root.find(self.logic_tag)
        return self.logic

    def finish(self, root: etree._Element) -> None:
        logic = self.find_logic()
        if logic is None:
            raise IocRefused(
                "no_logic", "there is no definition or criteria element", "nothing could ever match"
            )
        for child in logic:
            self.add(child)
        name = root.findtext(self.title) or root.findtext(f"{self.metadata}/{self.title}")
        identifier = root.get("id") or ""
        self.builder.iocs[self.number].update(
            id=printable(identifier, 120),
            name=printable(name or identifier, 120),
            digest=self.digest.hexdigest(),
        )

    def add(self, element: etree._Element) -> None:
        tag = element.tag
        _check_tree(element, 0)
        if tag == self.indicator:
            self.compiler.add(self.reader.indicator(element))
        elif tag == self.item:
            self.compiler.add(self.reader.item(element))
        else:
            raise IocRefused(
                "unknown_logic", f"{printable(tag, 80)} has no meaning here", "", line_of(element)
            )
        self.reader.notes.clear()  # nobody reads them here, and there may be millions


def _whole_characters(data: bytes) -> bytes:
    """Without a UTF-8 character cut off at the end of a chunk."""
    end = len(data)
    while end and end > len(data) - 4 and data[end - 1] & 0xC0 == 0x80:
        end -= 1
    return data[: end - 1] if end and data[end - 1] >= 0xC0 else data


def _check_tree(element: etree._Element, depth: int) -> None:
    check_element(element, depth)
    for child in element:
        _check_tree(child, depth + 1)
