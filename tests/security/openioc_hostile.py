# ruff: noqa: E501  (one case a line reads best)
# fmt: off
"""Files made to break a reader: each with the code it must be answered with.

``REFUSED``: not read. ``FLAGGED``: read, with that code among the problems. What a file weighs is built here, so
that the repository stays small.
"""

from __future__ import annotations

import codecs
import gzip
from collections.abc import Callable

NS_10 = "http://schemas.mandiant.com/2010/ioc"
NS_11 = "http://openioc.org/schemas/OpenIOC_1.1"
HEAD = '<?xml version="1.0" encoding="utf-8"?>'
DATE = "2026-01-01T00:00:00Z"
MD5 = "d41d8cd98f00b204e9800998ecf8427e"


def item(term: str = "FileItem/Md5sum", content: str = MD5, condition: str = "is", identifier: str = "i1", extra: str = "") -> str:
    name = term.split("/")[0]
    return (
        f'<IndicatorItem id="{identifier}" condition="{condition}"{extra}>'
        f'<Context document="{name}" search="{term}" type="mir"/><Content type="string">{content}</Content></IndicatorItem>'
    )


def group(*parts: str, operator: str = "OR", identifier: str = "g1") -> str:
    return f'<Indicator operator="{operator}" id="{identifier}">{"".join(parts)}</Indicator>'


def ioc(logic: str, head: str = HEAD, metadata: str = "") -> str:
    return (
        f'{head}<ioc xmlns="{NS_10}" id="8d4bd7ac-0000-4000-8000-000000000001" last-modified="{DATE}">'
        f"<short_description>t</short_description>{metadata}<authored_date>{DATE}</authored_date><links/>"
        f"<definition>{logic}</definition></ioc>"
    )


def nested(depth: int) -> str:
    return '<Indicator operator="OR" id="x">' * depth + item() + "</Indicator>" * depth


def doctype(body: str, content: str = MD5) -> str:
    return ioc(group(item(content=content)), head=f"{HEAD}<!DOCTYPE ioc [{body}]>")


def _laughs() -> str:
    entities = '<!ENTITY a0 "ha">' + "".join(
        f'<!ENTITY a{number} "{f"&a{number - 1};" * 10}">' for number in range(1, 10)
    )
    return doctype(entities, "&a9;")


def _quadratic() -> str:
    return doctype(f'<!ENTITY a "{"x" * 50_000}">', "&a;" * 20_000)


def _and_of_ors(width: int, ors: int) -> str:
    """Distributes into width ** ors branches."""
    parts = [
        group(
            *(item("FileItem/FileName", f"f{number}-{place}") for place in range(width - 1)),
            item("PortItem/remotePort", str(number + 1)),
            group(item("FileItem/FullPath", "p"), item("ProcessItem/name", f"n{number}"), operator="AND"),
        )
        for number in range(ors)
    ]
    return ioc(group(*parts, operator="AND"))


def _shared_alternatives() -> bytes:
    """One large OR beside 1,700 alternatives over two documents: each branch would hold all of it."""
    large = group(*(item("FileItem/FileName", f"n{number}") for number in range(3000)))
    pairs = [
        group(item("FileItem/FullPath", f"p{number}"), item("PortItem/remotePort", str(number)), operator="AND")
        for number in range(1500)
    ]
    return ioc(group(large, group(*pairs), operator="AND")).encode()


REFUSED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty": ("file_empty", lambda: b""),
    "blank": ("file_empty", lambda: b" \n\t"),
    "only a BOM": ("not_xml", lambda: codecs.BOM_UTF8),
    "text": ("not_xml", lambda: b"hello"),
    "json": ("not_xml", lambda: b'{"ioc": 1}'),
    "zeros": ("not_xml", lambda: b"\0" * 100_000),
    "html": ("not_openioc", lambda: b"<html><body>no such report</body></html>"),
    "STM32CubeMX project": ("not_xml", lambda: b"#MicroXplorer Configuration settings\nADC1.Channel=1\n"),
    "no namespace": ("not_openioc", lambda: ioc(group(item())).replace(f' xmlns="{NS_10}"', "").encode()),
    "root of one version in the namespace of the other": ("not_openioc", lambda: ioc(group(item())).replace(NS_10, NS_11).encode()),
    "external entity": ("doctype_refused", lambda: doctype('<!ENTITY x SYSTEM "file:///etc/passwd">', "&x;").encode()),
    "parameter entity": ("doctype_refused", lambda: doctype('<!ENTITY % p SYSTEM "http://127.0.0.1:1/x"> %p;').encode()),
    "billion laughs": ("doctype_refused", lambda: _laughs().encode()),
    "quadratic entity": ("doctype_refused", lambda: _quadratic().encode()),
    "attribute default": ("doctype_refused", lambda: doctype('<!ATTLIST IndicatorItem condition CDATA "contains">').encode()),
    "doctype after comments": (
        "doctype_refused",
        lambda: ioc("", head=HEAD + "<!-- > -->\n<?x <!DOCTYPE?>" + "<!DOCTYPE ioc>").encode(),
    ),
    "lower-case doctype": ("doctype_refused", lambda: ioc("", head=HEAD + "<!doctype ioc>").encode()),
    "doctype in UTF-16": ("doctype_refused", lambda: codecs.BOM_UTF16_LE + doctype("").replace("utf-8", "utf-16").encode("utf-16-le")),
    "undefined entity": ("xml_malformed", lambda: ioc(group(item(content="&nope;"))).encode()),
    "UTF-7": ("encoding_refused", lambda: ioc(group(item())).replace("utf-8", "utf-7").encode()),
    "EBCDIC": ("encoding_refused", lambda: ioc(group(item())).replace("utf-8", "cp037").encode()),
    "unknown encoding": ("encoding_refused", lambda: ioc(group(item())).replace("utf-8", "x-evil").encode()),
    "UTF-16 without a mark": ("encoding_refused", lambda: ioc(group(item())).encode("utf-16-le")),
    "UTF-32": ("encoding_refused", lambda: ioc(group(item())).encode("utf-32")),
    "says UTF-16, is UTF-8": ("encoding_refused", lambda: ioc(group(item())).replace("utf-8", "utf-16").encode()),
    "invalid UTF-8": ("encoding_invalid", lambda: ioc(group(item(content="\0AB"))).encode().replace(b"\0AB", b"\xff\xfe\xc0\x80")),
    "overlong UTF-8": ("encoding_invalid", lambda: ioc("\0AB").encode().replace(b"\0AB", b"\xc0\xbcIndicator")),
    "surrogate in UTF-8": ("encoding_invalid", lambda: ioc("\0AB").encode().replace(b"\0AB", b"\xed\xa0\x80")),
    "gzip": ("not_xml", lambda: gzip.compress(ioc(group(item())).encode())),
    "gzip bomb": ("not_xml", lambda: gzip.compress(b"\0" * 50_000_000)),
    "zip": ("not_xml", lambda: b"PK\x03\x04" + b"\0" * 100),
    "NUL inside": ("xml_malformed", lambda: ioc(group(item(content="a\0b"))).encode()),
    "control character": ("xml_malformed", lambda: ioc(group(item(content="a&#1;b"))).encode()),
    "truncated": ("xml_malformed", lambda: ioc(group(item())).encode()[:-40]),
    "two roots": ("xml_malformed", lambda: (ioc(group(item())) + "<x/>").encode()),
    "attribute twice": ("xml_malformed", lambda: ioc(group(item(extra=' condition="contains"'))).encode()),
    "unbound prefix": ("xml_malformed", lambda: ioc("<a:b/>").encode()),
    "endless comment": ("xml_malformed", lambda: (HEAD + "<!--" + "-" * 1000).encode()),
    "long prolog": ("prolog_too_long", lambda: (HEAD + "<!-- -->\n" * 40_000 + "<a/>").encode()),
    "deep, 40": ("too_deep", lambda: ioc(nested(40)).encode()),
    "deep, 300": ("too_deep", lambda: ioc(nested(300)).encode()),
    "deep, 20,000": ("too_deep", lambda: ioc(nested(20_000)).encode()),
    "too large": ("file_too_large", lambda: ioc(group(item(content="x" * 2_100_000))).encode()),
    "long attribute": ("attribute_too_long", lambda: ioc(group(item(identifier="i" * 100_000))).encode()),
    "many elements": ("too_many_elements", lambda: ioc(group("<a/>" * 250_000)).encode()),
    "many attributes": ("too_many_attributes", lambda: ioc(group(item(extra="".join(f' a{number}=""' for number in range(150_000))))).encode()),
    "element in Content": ("child_in_content", lambda: ioc(group(item(content=f"<b>{MD5}</b>"))).encode()),
    "Content twice": ("duplicate_element", lambda: ioc(group(item().replace("</Content>", "</Content><Content>x</Content>"))).encode()),
    "two definitions": ("duplicate_element", lambda: ioc(group(item()) + "</definition><definition>" + group(item())).encode()),
    "unknown operator": ("unknown_operator", lambda: ioc(group(item(), operator="XOR")).encode()),
    "no operator": ("missing_operator", lambda: ioc(f'<Indicator id="a">{item()}</Indicator>').encode()),
    "foreign logic": ("unknown_logic", lambda: ioc(group("<Not>" + item() + "</Not>")).encode()),
    "item in another namespace": ("unknown_logic", lambda: ioc(group('<z:IndicatorItem xmlns:z="urn:z"/>')).encode()),
    "item outside": ("item_outside_indicator", lambda: ioc(item()).encode()),
    "no context": ("missing_context", lambda: ioc(group('<IndicatorItem id="i" condition="is"><Content type="md5">x</Content></IndicatorItem>')).encode()),
    "negate is no flag": ("bad_flag", lambda: ioc(group(item(extra=' negate="maybe"'))).encode()),
    "no definition": ("no_logic", lambda: ioc("").replace("<definition></definition>", "").encode()),
    "empty definition": ("no_logic", lambda: ioc("").encode()),
    "many links": ("too_many_links", lambda: ioc(group(item())).replace("<links/>", f"<links>{'<link/>' * 5000}</links>").encode()),
}

FLAGGED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "UTF-16": ("encoding_unusual", lambda: ioc(group(item())).replace("utf-8", "utf-16").encode("utf-16")),
    "Latin-1": ("encoding_unusual", lambda: ioc(group(item("FileItem/FileName", "\u00fcber"))).replace("utf-8", "iso-8859-1").encode("latin-1")),
    "no digest": ("never_matches", lambda: ioc(group(item(content="xyz"))).encode()),
    "SHA 1 as digest": ("content_type", lambda: ioc(group(item("FileItem/Sha1sum", "SHA 1"), item())).encode()),
    "digest of another length": ("content_type", lambda: ioc(group(item("FileItem/Sha256sum", MD5), item())).encode()),
    "empty content": ("content_empty", lambda: ioc(group(item(content=""), item())).encode()),
    "no content element": ("missing_content", lambda: ioc(group(item().replace(f'<Content type="string">{MD5}</Content>', ""), item())).encode()),
    "very large number": ("content_type", lambda: ioc(group(item("FileItem/SizeInBytes", "9" * 5000), item())).encode()),
    "backward range": ("range_empty", lambda: ioc(group(item("FileItem/SizeInBytes", "[9 TO 1]"), item())).encode()),
    "impossible date": ("content_type", lambda: ioc(group(item("FileItem/Modified", "2024-02-31T25:00:00Z"), item())).encode()),
    "same id twice": ("duplicate_id", lambda: ioc(group(item(), item("FileItem/FileName", "abcd"))).encode()),
    "only negations": ("over_broad", lambda: ioc(group(item(condition="isnot"))).encode()),
    "every path": ("over_broad", lambda: ioc(group(item("FileItem/FullPath", "\\", "contains"))).encode()),
    "every name": ("over_broad", lambda: ioc(group(item("FileItem/FileName", ".*", "matches"))).encode()),
    "system folder": ("over_broad", lambda: ioc(group(item("FileItem/FullPath", "C:\\Windows\\", "contains"))).encode()),
    "exponential pattern": ("pattern_nested", lambda: ioc(group(item("FileItem/FileName", "^(a+)+$", "matches"))).encode()),
    "pattern with look-ahead": ("pattern_refused", lambda: ioc(group(item("FileItem/FileName", "(?=a)b", "matches"), item())).encode()),
    "pattern with back reference": ("pattern_refused", lambda: ioc(group(item("FileItem/FileName", r"(a+)\1", "matches"), item())).encode()),
    "pattern of great size": ("pattern_refused", lambda: ioc(group(item("FileItem/FileName", "(((a{50}){50}){50}){50}", "matches"), item())).encode()),
    "pattern of empty repeats": ("pattern_refused", lambda: ioc(group(item("FileItem/FileName", "((((){1000}){1000}){1000}){1000}", "matches"), item())).encode()),
    "pattern of many brackets": ("pattern_refused", lambda: ioc(group(item("FileItem/FileName", "(" * 900 + ")" * 900, "matches"), item())).encode()),
    "open escape": ("pattern_refused", lambda: ioc(group(item("FileItem/FileName", r"a\x{41", "matches"), item())).encode()),
    "open bracket": ("pattern_refused", lambda: ioc(group(item("FileItem/FileName", "[a-", "matches"), item())).encode()),
    "contradiction": ("contradiction", lambda: ioc(group(item("FileItem/FileName", "a"), item("FileItem/FileName", "b", identifier="i2"), operator="AND")).encode()),
    "branches without end": ("too_many_branches", lambda: _and_of_ors(4, 10).encode()),
    "alternatives copied without end": ("plan_too_large", _shared_alternatives),
    "patterns without end": ("too_many_patterns", lambda: ioc(group(*(item("FileItem/FileName", f"(a|b)*a(a|b){{12}}x{number}", "matches", f"i{number}") for number in range(7000)))).encode()),
    "large patterns": ("plan_too_large", lambda: ioc(group(*(item("FileItem/FileName", f"a{{900}}x{number}", "matches", f"i{number}") for number in range(499)))).encode()),
    "namespaces": ("ok", lambda: ioc(group(item(extra="".join(f' xmlns:n{number}="u{number}"' for number in range(50_000))))).encode()),
    "unknown elements": ("unknown_element", lambda: ioc(group(item()), metadata="<a/>" * 190_000).encode()),
    "content of comments": ("content_too_long", lambda: ioc(group(item(content="<!---->a" * 200_000), item())).encode()),
    "unknown condition": ("condition_unknown", lambda: ioc(group(item(condition="sounds-like"), item())).encode()),
    "no condition": ("condition_missing", lambda: ioc(group(item().replace(' condition="is"', ""), item())).encode()),
    "unknown term": ("unknown_term", lambda: ioc(group(item("HookItem/Foo", "x"), item())).encode()),
    "term is a path": ("unknown_term", lambda: ioc(group(item("../../etc/passwd", "x"), item())).encode()),
    "template in content": ("ok", lambda: ioc(group(item("FileItem/FileName", "{{ 7*7 }}&lt;% 1+1 %>.exe"))).encode()),
    "comment splits content": ("ok", lambda: ioc(group(item(content=MD5[:16] + "<!-- x -->" + MD5[16:]))).encode()),
    "CDATA": ("ok", lambda: ioc(group(item("FileItem/FileName", "<![CDATA[<a&b>]]>"))).encode()),
    "empty indicator": ("indicator_empty", lambda: ioc(group(item(), group(operator="AND", identifier="g2"))).encode()),
    "many items": ("ok", lambda: ioc(group(*(item(content=f"{number:032x}", identifier=f"i{number}") for number in range(8000)))).encode()),
    "many needles": ("ok", lambda: ioc(group(*(item("FileItem/FullPath", f"needle-{number}", "contains", f"i{number}") for number in range(7000)))).encode()),
    "wide AND of one term": ("contradiction", lambda: ioc(group(*(item("FileItem/FileName", f"n{number}", identifier=f"i{number}") for number in range(7000)), operator="AND")).encode()),
    "processing instructions": ("ok", lambda: ioc(group("<?evil x?>" + item())).encode()),
}
