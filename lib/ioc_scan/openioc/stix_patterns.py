"""STIX 2.1 patterns of OpenIOC logic, only where both say the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from ioc_scan.openioc.content import ContentError, build_test
from ioc_scan.openioc.model import Indicator, Item, Node
from ioc_scan.openioc.terms import Term, find_term
from ioc_scan.scanner.values import SECOND

#: OpenIOC term -> object path of STIX that holds the same value
_PATHS = {
    "ArpEntryItem/IPv4Address": "ipv4-addr:value",
    "ArpEntryItem/IPv6Address": "ipv6-addr:value",
    "ArpEntryItem/PhysicalAddress": "mac-addr:value",
    "DnsEntryItem/Host": "domain-name:value",
    "DnsEntryItem/RecordName": "domain-name:value",
    "FileItem/Accessed": "file:atime",
    "FileItem/Created": "file:ctime",
    "FileItem/FileName": "file:name",
    "FileItem/FilePath": "file:parent_directory_ref.path",
    "FileItem/Md5sum": "file:hashes.MD5",
    "FileItem/Modified": "file:mtime",
    "FileItem/Sha1sum": "file:hashes.'SHA-1'",
    "FileItem/Sha256sum": "file:hashes.'SHA-256'",
    "FileItem/SizeInBytes": "file:size",
    "Network/DNS": "domain-name:value",
    "Network/URI": "url:value",
    "Network/UserAgent": "network-traffic:extensions.'http-request-ext'.request_header.'User-Agent'",
    "PortItem/localIP": "network-traffic:src_ref.value",
    "PortItem/localPort": "network-traffic:src_port",
    "PortItem/protocol": "network-traffic:protocols[*]",
    "PortItem/remoteIP": "network-traffic:dst_ref.value",
    "PortItem/remotePort": "network-traffic:dst_port",
    "ProcessItem/arguments": "process:command_line",
    "ProcessItem/name": "process:image_ref.name",
    "ProcessItem/parentpid": "process:parent_ref.pid",
    "ProcessItem/pid": "process:pid",
    "ProcessItem/startTime": "process:created_time",
    "RegistryItem/Text": "windows-registry-key:values[*].data",
    "RegistryItem/ValueName": "windows-registry-key:values[*].name",
    "ServiceItem/descriptiveName": "process:extensions.'windows-service-ext'.display_name",
    "ServiceItem/name": "process:extensions.'windows-service-ext'.service_name",
    "UrlHistoryItem/URL": "url:value",
    "UserItem/Username": "user-account:account_login",
    "UserItem/fullname": "user-account:display_name",
}
_MUTEX_NAME, _HANDLE_TYPE = "ProcessItem/HandleList/Handle/Name", "ProcessItem/HandleList/Handle/Type"
_SPECIAL = re.compile(r"([\\.^$|?*+()\[\]{}])")


class CannotSay(ValueError):
    """A STIX pattern would say something else, or nothing; the text says why."""


def observation_pattern(node: Node) -> str:
    """The pattern of a branch: one observation per document, joined by AND. Raises CannotSay."""
    documents = _documents(node)
    if len(documents) == 1:
        return f"[{_comparison(node)}]"
    if not isinstance(node, Indicator) or node.operator != "AND":
        raise CannotSay("alternatives over several kinds of object")
    groups: dict[str, list[Node]] = {}
    for child in node.children:
        names = _documents(child)
        if len(names) > 1:
            raise CannotSay("what is said of one object is nested with what is said of another")
        groups.setdefault(next(iter(names)), []).append(child)
    return " AND ".join(f"[{_joined(nodes, ' AND ')}]" for nodes in groups.values())


def _documents(node: Node) -> set[str]:
    if isinstance(node, Item):
        term = find_term(node.search)
        return {term.document if term else node.search.partition("/")[0]}
    return {name for child in node.children for name in _documents(child)}


def _joined(nodes: list[Node], operator: str) -> str:
    return operator.join(_nested(node) for node in nodes)


def _nested(node: Node) -> str:
    text = _comparison(node)
    return f"({text})" if isinstance(node, Indicator) and len(node.children) > 1 else text


def _comparison(node: Node) -> str:
    if isinstance(node, Item):
        return _item(node)
    if not node.children:
        raise CannotSay("an empty group")
    if node.operator == "AND":
        mutex = _mutex(node)
        if mutex is not None:
            return mutex
    return _joined(node.children, f" {node.operator} ")


def _mutex(node: Indicator) -> str | None:
    """AND(handle type is Mutant, handle name ...) is a mutex in STIX."""
    items = [child for child in node.children if isinstance(child, Item)]
    kinds = [
        item for item in items if item.search == _HANDLE_TYPE and item.content.strip().lower() == "mutant"
    ]
    names = [item for item in items if item.search == _MUTEX_NAME]
    if len(items) == len(node.children) == 2 and len(kinds) == 1 and len(names) == 1 and not kinds[0].negate:
        return _text_comparison("mutex:name", names[0])
    return None


def _item(item: Item) -> str:
    term = find_term(item.search)
    if term is None:
        raise CannotSay(f"unknown term {item.search[:100]!a}")
    try:
        operation, value = build_test(term.name, term.type, item.condition, item.content, item.preserve_case)
    except ContentError as error:
        raise CannotSay(f"{term.name}: {error}") from None
    path = _PATHS.get(term.name)
    if path is None:
        raise CannotSay(f"STIX has no object path for {term.name}")
    if operation == "hash":
        return f"{path} {'!=' if item.negate else '='} {_quoted(value)}"
    if operation == "range":
        return _range(path, term, value, item.negate)
    if operation == "ip":
        return f"{path} {'!=' if item.negate else '='} {_quoted(value)}"
    if operation in ("ip_range", "bool"):
        raise CannotSay(f"STIX cannot say this of {term.name}")
    return _text_comparison(path, item)


def _range(path: str, term: Term, value: list[Any], negate: bool) -> str:
    show: Callable[[Any], str] = _timestamp if term.type == "date" else str
    if term.type == "duration":
        raise CannotSay("STIX has no durations")
    low, high = value
    if low is not None and low == high:
        return f"{path} {'!=' if negate else '='} {show(low)}"
    ends = [(low, ">=", "<"), (high, "<=", ">")]
    parts = [
        f"{path} {against if negate else word} {show(end)}" for end, word, against in ends if end is not None
    ]
    joined = (" OR " if negate else " AND ").join(parts)
    return f"({joined})" if len(parts) > 1 else joined


def _timestamp(micros: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=micros)
    return f"t'{moment.strftime('%Y-%m-%dT%H:%M:%S')}.{micros % SECOND:06d}Z'"


def _text_comparison(path: str, item: Item) -> str:
    """Text is compared by MATCHES, so that case and place are as OpenIOC says; exact equality by ``=``."""
    negation = "NOT " if item.negate else ""
    if item.condition == "is" and item.preserve_case:
        return f"{path} {'!=' if item.negate else '='} {_quoted(item.content)}"
    text = item.content if item.condition == "matches" else _SPECIAL.sub(r"\\\1", item.content)
    if item.condition in ("is", "starts-with"):
        text = "^" + text
    if item.condition in ("is", "ends-with"):
        text += "$"
    return f"{path} {negation}MATCHES {_quoted(text if item.preserve_case else '(?i)' + text)}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
