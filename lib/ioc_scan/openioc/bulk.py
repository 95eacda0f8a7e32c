"""Compiles an IOC file of any length in pieces: parsed logic is compiled and dropped as it arrives.

The same meaning as reading the document and compiling it, for UTF-8 files; the shape generated files have
(AND of size and hash) is recognised on the element itself.
"""

from __future__ import annotations

import hashlib
from typing import BinaryIO, cast

from lxml import etree

from ioc_scan.openioc.branches import BranchCompiler
from ioc_scan.openioc.model import Ioc
from ioc_scan.openioc.plan_builder import PlanBuilder
from ioc_scan.openioc.reader import NAMESPACES, DocumentReader, document_version
from ioc_scan.openioc.secure_xml import (
    MAX_DEPTH,
    MAX_PROLOG_CHARS,
    IocRefused,
    check_prolog,
    decode,
    line_of,
    malformed,
    pull_parser,
)
from ioc_scan.openioc.terms import HASH_TYPES, find_term
from ioc_scan.text import printable

_CHUNK_BYTES = 256 * 1024
_HASHES = {f"FileItem/{name}": find_term(f"FileItem/{name}") for name in ("Md5sum", "Sha1sum", "Sha256sum")}


def read_stream(builder: PlanBuilder, stream: BinaryIO, tier: str, max_bytes: int) -> None:
    """Add one IOC file to a plan. Raises InputError."""
    _Bulk(builder, tier, max_bytes).run(stream)


class _Bulk:
    def __init__(self, builder: PlanBuilder, tier: str, max_bytes: int) -> None:
        self.builder = builder
        self.max_bytes = max_bytes
        self.number = builder.add_ioc("", Ioc("1.0", ""), tier)
        self.compiler = BranchCompiler(builder, self.number)
        self.logic: etree._Element | None = None

    def run(self, stream: BinaryIO) -> None:
        first = stream.read(_CHUNK_BYTES)
        head = first[: MAX_PROLOG_CHARS + 1024]
        text, codec = decode(_whole_characters(head))
        if codec != "utf-8":
            raise IocRefused(
                "encoding_refused",
                "a file beyond the usual size has to be UTF-8",
                "save the file as UTF-8",
                1,
            )
        check_prolog(text)
        digest = hashlib.sha256()
        parser = pull_parser()
        size = 0
        chunk = first
        try:
            while chunk:
                size += len(chunk)
                if size > self.max_bytes:
                    raise IocRefused(
                        "file_too_large", f"the file has more than {self.max_bytes} bytes", "split it"
                    )
                digest.update(chunk)
                parser.feed(chunk)
                self.sweep(parser)
                chunk = stream.read(_CHUNK_BYTES)
            root = parser.close()
        except etree.XMLSyntaxError as error:
            raise malformed(error) from None
        self.finish(root)
        self.builder.iocs[self.number]["digest"] = digest.hexdigest()

    def sweep(self, parser: etree.XMLPullParser) -> None:
        """Compile what has arrived whole, and drop it."""
        for _, root in parser.read_events():
            self.start(cast(etree._Element, root))
        node = self.find_logic()
        while node is not None and len(node):
            for child in list(node)[:-1]:
                self.add(child)
                node.remove(child)
            last = node[-1]
            node = last if last.tag == self.indicator and last.get("operator") == "OR" else None

    def start(self, root: etree._Element) -> None:
        if hasattr(self, "root"):
            return
        self.root = root
        version = document_version(root)
        namespace = "{" + NAMESPACES[version] + "}"
        self.reader = DocumentReader(version)
        self.indicator, self.item = namespace + "Indicator", namespace + "IndicatorItem"
        self.context, self.content = namespace + "Context", namespace + "Content"
        self.logic_tag = namespace + ("definition" if version == "1.0" else "criteria")
        self.named = namespace + "short_description"

    def find_logic(self) -> etree._Element | None:
        if self.logic is None and hasattr(self, "root"):
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
        name = root.findtext(self.named) or root.findtext(
            f"{self.named[: self.named.index('}') + 1]}metadata/{self.named}"
        )
        identifier = root.get("id") or ""
        self.builder.iocs[self.number].update(
            id=printable(identifier, 120), name=printable(name or identifier, 120)
        )

    def add(self, element: etree._Element) -> None:
        tag = element.tag
        if tag == self.indicator:
            if not self.add_sized_hash(element):
                _check_depth(element, 0)
                self.compiler.add(self.reader.indicator(element))
        elif tag == self.item:
            self.compiler.add(self.reader.item(element))
        else:
            raise IocRefused(
                "unknown_logic", f"{printable(tag, 80)} has no meaning here", "", line_of(element)
            )
        self.reader.notes.clear()  # nobody reads them here, and there may be millions

    def add_sized_hash(self, element: etree._Element) -> bool:
        """AND(SizeInBytes is N, hash is X) in its plainest form; anything else is left to the reader."""
        if element.get("operator") != "AND" or len(element) != 2 or self.builder.binding != "item":
            return False
        size_item, hash_item = element
        size_id, size_search, size_text = self.plain(size_item)
        if size_search != "FileItem/SizeInBytes" or not (
            size_text.isascii() and size_text.isdigit() and len(size_text) < 19
        ):
            return False
        hash_id, hash_search, hash_text = self.plain(hash_item)
        term = _HASHES.get(hash_search)
        if term is None or len(hash_text) != HASH_TYPES[term.type] or not hash_text.isalnum():
            return False
        try:
            digest = bytes.fromhex(hash_text)
        except ValueError:
            return False
        self.compiler.add_sized_hash(term, int(size_text), digest, size_id, hash_id)
        return True

    def plain(self, item: etree._Element) -> tuple[str, str, str]:
        """Id, term and content of an item with condition ``is`` and nothing unusual; else empty texts."""
        if item.tag == self.item and len(item) == 2:
            attributes = item.items()
            context, content = item
            if (
                context.tag == self.context
                and content.tag == self.content
                and len(content) == 0
                and len(attributes) == 2
                and attributes[0][0] == "id"
                and attributes[0][1]
                and attributes[1] == ("condition", "is")
            ):
                return str(attributes[0][1]), context.get("search") or "", content.text or ""
        return "", "", ""


def _whole_characters(data: bytes) -> bytes:
    """Without a UTF-8 character cut off at the end of a chunk."""
    end = len(data)
    while end and end > len(data) - 4 and data[end - 1] & 0xC0 == 0x80:
        end -= 1
    return data[: end - 1] if end and data[end - 1] >= 0xC0 else data


def _check_depth(element: etree._Element, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise IocRefused(
            "too_deep",
            f"elements are nested deeper than {MAX_DEPTH}",
            "flatten the logic",
            line_of(element),
        )
    for child in element:
        if not isinstance(child.tag, str):
            raise IocRefused(
                "entity_refused",
                "the document uses an entity",
                "write the character itself",
                line_of(element),
            )
        _check_depth(child, depth + 1)
