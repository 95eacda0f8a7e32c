"""The logic of an IOC file as a person reads it: lines of plain text, safe to print."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ioc_scan.openioc.branches import item_label
from ioc_scan.openioc.content import ContentError, build_test
from ioc_scan.openioc.model import Indicator, Ioc, Item, Node
from ioc_scan.openioc.terms import find_term
from ioc_scan.text import printable

#: Lines after which the rest is counted only.
MAX_LINES = 2000
MAX_CONTENT_SHOWN = 160

_DOCUMENTS = {
    "ArpEntryItem": "ARP entry",
    "DnsEntryItem": "DNS cache",
    "EventLogItem": "event",
    "FileItem": "file",
    "Network": "network",
    "PortItem": "connection",
    "ProcessItem": "process",
    "RegistryItem": "registry",
    "RouteEntryItem": "route",
    "ServiceItem": "service",
    "SystemInfoItem": "system",
    "UrlHistoryItem": "browser history",
    "UserItem": "user",
    "VolumeItem": "volume",
}
_FIELDS = {
    "FileItem/FileExtension": "extension",
    "FileItem/FileName": "name",
    "FileItem/FilePath": "folder",
    "FileItem/FullPath": "path",
    "FileItem/Md5sum": "MD5",
    "FileItem/Sha1sum": "SHA-1",
    "FileItem/Sha256sum": "SHA-256",
    "FileItem/SizeInBytes": "size in bytes",
    "PortItem/localIP": "local address",
    "PortItem/localPort": "local port",
    "PortItem/remoteIP": "remote address",
    "PortItem/remotePort": "remote port",
    "ProcessItem/HandleList/Handle/Name": "handle name",
    "ProcessItem/HandleList/Handle/Type": "handle type",
    "ProcessItem/arguments": "command line",
    "RegistryItem/KeyPath": "key",
    "RegistryItem/Path": "path",
    "RegistryItem/Text": "value",
    "RegistryItem/ValueName": "value name",
}
_CONDITIONS = {
    "is": ("is", "is not"),
    "contains": ("contains", "does not contain"),
    "matches": ("matches the pattern", "does not match the pattern"),
    "starts-with": ("starts with", "does not start with"),
    "ends-with": ("ends with", "does not end with"),
    "greater-than": ("is greater than", "is not greater than"),
    "less-than": ("is less than", "is not less than"),
}


def explain(ioc: Ioc) -> list[str]:
    """A heading, what is known about the file, and its logic as a tree."""
    title = printable(ioc.short_description or "(no title)", 200)
    lines = [f"{title}  [OpenIOC {ioc.version}, {printable(ioc.id or 'no id', 80)}]"]
    author, moment = ioc.authored_by, ioc.authored_date or ioc.last_modified
    if author or moment:
        lines.append("  " + printable(f"by {author or 'unknown'}, {moment or 'no date'}", 200))
    if ioc.description:
        lines.append("  " + printable(" ".join(ioc.description.split()), 400))
    lines.append("Matches a device where" + (" any of these holds:" if len(ioc.roots) > 1 else ":"))
    for root in ioc.roots:
        for line in _tree(root, "  ", "  "):
            if len(lines) >= MAX_LINES:
                lines.append(f"  ... {sum(1 for _ in ioc.items())} indicator items in all")
                return lines
            lines.append(line)
    return lines


def explain_proof(ioc: Ioc, item_ids: Sequence[str]) -> list[str]:
    """The indicator items that proved a match, in words; an id that is not of this file is shown as it is."""
    known = {item_label(item): item for item in ioc.items()}
    return [describe_item(known[name]) if name in known else printable(name, 80) for name in item_ids]


def describe_node(node: Node) -> list[str]:
    """One part of the logic in words, as a tree."""
    return list(_tree(node, "", ""))


def _tree(node: Node, first: str, rest: str) -> Iterator[str]:
    if isinstance(node, Item):
        yield first + describe_item(node)
        return
    yield first + _heading(node)
    for position, child in enumerate(node.children):
        last = position == len(node.children) - 1
        yield from _tree(child, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))


def _heading(node: Indicator) -> str:
    if not node.children:
        return "nothing (an empty group never holds)"
    if len(node.children) == 1:
        return "this holds"
    return "ALL of these hold" if node.operator == "AND" else "ANY of these holds"


def describe_item(item: Item) -> str:
    """One indicator item in words; says so if it can never match."""
    term = find_term(item.search)
    document, _, field = (term.name if term else item.search).partition("/")
    subject = f"{_DOCUMENTS.get(document, document)} {_FIELDS.get(term.name if term else '', field)}"
    words = _CONDITIONS.get(item.condition, (item.condition or "(no condition)", f"not {item.condition}"))
    text = f"{printable(subject, 120)} {printable(words[item.negate], 60)} {_shown(item.content)}"
    if item.preserve_case:
        text += ", case matters"
    if term is None:
        return text + "   (unknown term: not evaluated)"
    try:
        build_test(term.name, term.type, item.condition, item.content, item.preserve_case)
    except ContentError as error:
        return text + f"   (never evaluated: {printable(error, 160)})"
    if not term.collectors:
        return text + "   (no scanner collects this: not evaluated)"
    return text


def _shown(content: str) -> str:
    return f'"{printable(content, MAX_CONTENT_SHOWN)}"'
