"""Which indicators match too much: they may be reported, a response never acts on them."""

from __future__ import annotations

import re

from ioc_scan.openioc.content import ContentError, build_test
from ioc_scan.openioc.model import Item, Node
from ioc_scan.openioc.pattern_syntax import PatternError
from ioc_scan.openioc.patterns import compile_pattern
from ioc_scan.openioc.terms import find_term
from ioc_scan.scanner.automaton import Automaton

#: Letters and digits below which a part of a text is found nearly everywhere.
FEW_LETTERS = 3

#: Folders every device has; a path that says no more than this says nothing.
_SYSTEM_PATHS = frozenset(
    {
        "",
        "c:",
        "windows",
        "windows/system32",
        "windows/syswow64",
        "windows/temp",
        "winnt",
        "system32",
        "syswow64",
        "drivers",
        "windows/system32/drivers",
        "program files",
        "program files (x86)",
        "programdata",
        "users",
        "temp",
        "appdata",
        "appdata/local",
        "appdata/roaming",
        "appdata/local/temp",
        "bin",
        "boot",
        "dev",
        "etc",
        "home",
        "lib",
        "lib64",
        "opt",
        "root",
        "sbin",
        "srv",
        "tmp",
        "usr",
        "usr/bin",
        "usr/lib",
        "usr/local",
        "usr/local/bin",
        "usr/sbin",
        "usr/share",
        "var",
        "var/tmp",
        "system",
        "library",
        "applications",
    }
)
_VAGUE_TERMS = {
    "FileItem/FileExtension": "a file extension alone",
    "FileItem/SizeInBytes": "a size alone",
    "PortItem/localPort": "a port alone",
    "PortItem/protocol": "a protocol alone",
    "PortItem/remotePort": "a port alone",
    "PortItem/state": "the state of a connection alone",
    "ProcessItem/HandleList/Handle/Type": "a kind of handle alone",
    "ProcessItem/parentpid": "a process id alone",
    "ProcessItem/pid": "a process id alone",
    "VolumeItem/DriveLetter": "a drive letter alone",
    "VolumeItem/Type": "a kind of volume alone",
}
_PATH_TERMS = frozenset(
    {"FileItem/FullPath", "FileItem/FilePath", "ProcessItem/path", "ServiceItem/path", "PortItem/path"}
)


def broad_reason(node: Node) -> str:
    """Why a branch matches too much, or "": an AND is as narrow as its narrowest part, an OR not."""
    if isinstance(node, Item):
        return _broad_item(node)
    reasons = [broad_reason(child) for child in node.children]
    if node.operator == "OR":
        return next((reason for reason in reasons if reason), "")
    return "; ".join(dict.fromkeys(reasons)) if reasons and all(reasons) else ""


def _broad_item(item: Item) -> str:
    term = find_term(item.search)
    if term is None:
        return ""  # it is not evaluated at all, nor is what fails below
    try:
        build_test(term.name, term.type, item.condition, item.content, item.preserve_case)
    except ContentError:
        return ""
    if item.negate:
        return "it only says what something is not"
    if term.name in _VAGUE_TERMS:
        return f"it says {_VAGUE_TERMS[term.name]}"
    if term.type == "date":
        return "it says a date alone"
    if item.condition == "matches":
        return _broad_pattern(item.content)
    if term.type != "string":
        return ""
    if item.condition in ("contains", "starts-with", "ends-with"):
        letters = sum(char.isalnum() for char in item.content)
        if letters < FEW_LETTERS and item.content.strip():
            return f"it holds for every text with {item.content.strip()[:20]!a}"
    if term.name in _PATH_TERMS and _is_system_path(item.content):
        return "it says a folder every device has"
    return ""


def _is_system_path(content: str) -> bool:
    path = content.strip().lower().replace("\\", "/")
    path = re.sub(r"^(?:[a-z]:|%systemdrive%|\?\?)(?=/|$)", "", path)
    return path.strip("/") in _SYSTEM_PATHS


def _broad_pattern(pattern: str) -> str:
    try:
        automaton = Automaton(compile_pattern(pattern, ignore_case=True))
    except PatternError:
        return ""
    if automaton.search(""):
        return "the pattern matches an empty text, and so every one"
    # three texts with nothing in common: what finds all of them finds nearly everything
    if all(automaton.search(text) for text in ("a", "\\0", "/Z-9")):
        return "the pattern matches nearly every text"
    return ""
