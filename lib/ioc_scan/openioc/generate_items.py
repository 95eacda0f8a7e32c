"""What an indicator in normal form says in OpenIOC: ``(term, condition, content)``, or AND/OR over such.

Written for devices other than the sandbox: the sandbox's user name, hive spellings and session prefixes are
left out. 1.0 knows only is and contains; 1.1 may say ends-with. Nothing is said with process ids.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ioc_scan.openioc.writer import XML_UNSAFE
from ioc_scan.scanner.values import read_ip

#: (term, condition, content) or ("AND"|"OR", parts...)
Parts = tuple[Any, ...]

#: Longer texts do not help and make files large; Windows paths end at 32,767.
MAX_VALUE_CHARS = 4096

_HASHES = (("SHA-256", "FileItem/Sha256sum"), ("SHA-1", "FileItem/Sha1sum"), ("MD5", "FileItem/Md5sum"))
_HIVE = re.compile(
    r"\\?(?:REGISTRY\\)?(?:HKEY_LOCAL_MACHINE|HKLM|HKEY_CURRENT_USER|HKCU|HKEY_CLASSES_ROOT|HKCR|HKEY_CURRENT_CONFIG|HKCC"
    r"|MACHINE|(?:HKEY_USERS|HKU|USER)\\[^\\]+)(?=\\)",
    re.IGNORECASE,
)
_CONTROL_SET = re.compile(r"\\SYSTEM\\(?:ControlSet\d+|CurrentControlSet)(?=\\)", re.IGNORECASE)
_SESSION = re.compile(r"(?:Global|Local|Session\\\d+|Sessions\\\d+\\BaseNamedObjects)\\", re.IGNORECASE)


def _usable(text: object) -> bool:
    """Can the text stand in a file as it is, and still mean the same?"""
    return (
        isinstance(text, str)
        and 0 < len(text) <= MAX_VALUE_CHARS
        and bool(text.strip())
        and XML_UNSAFE.search(text) is None
    )


def _sized(indicator: Mapping[str, Any], hashed: Parts) -> Parts:
    size = indicator.get("size")
    if size is None:
        return hashed
    return ("AND", ("FileItem/SizeInBytes", "is", str(size)), hashed)


def actionable_parts(indicator: Mapping[str, Any], version: str) -> Parts | None:
    """AND(size, SHA-256), or the SHA-256 alone if no size is known; None without one."""
    digest = indicator.get("hashes", {}).get("SHA-256")
    return None if digest is None else _sized(indicator, ("FileItem/Sha256sum", "is", digest))


def hunt_parts(indicator: Mapping[str, Any], version: str) -> Parts | None:
    """What to look for; None if OpenIOC has no words for it."""
    make = _MAKERS.get(indicator["type"])
    return make(indicator, version) if make else None


def _file(indicator: Mapping[str, Any], version: str) -> Parts | None:
    hashes = [
        (term, "is", indicator["hashes"][name])
        for name, term in _HASHES
        if name in indicator.get("hashes", {})
    ]
    if hashes:
        return _sized(indicator, hashes[0] if len(hashes) == 1 else ("OR", *hashes))
    path = indicator.get("path_pattern") or indicator.get("path")
    if _usable(path):
        return _path(str(path), version)
    name = indicator.get("name")
    return ("FileItem/FileName", "is", name) if _usable(name) else None


def _path(path: str, version: str) -> Parts | None:
    """A path whose ``*`` stands for one user name; the name is asked first, as it costs least."""
    start, star, rest = path.partition("*")
    name = re.split(r"[\\/]", path)[-1]
    if not star:
        return ("FileItem/FullPath", "is", path)
    if "*" in rest or not rest or not name:
        return None
    ending = "ends-with" if version == "1.1" else "contains"
    beginning = "starts-with" if version == "1.1" else "contains"
    parts: list[Parts] = [("FileItem/FileName", "is", name), ("FileItem/FullPath", ending, rest)]
    if start:
        parts.append(("FileItem/FullPath", beginning, start))
    return ("AND", *parts)


def _address(indicator: Mapping[str, Any], version: str) -> Parts | None:
    value = read_ip(indicator["value"])
    return ("PortItem/remoteIP", "is", value) if value else None


def _host(host: str) -> Parts:
    return ("OR", ("DnsEntryItem/RecordName", "is", host), ("DnsEntryItem/Host", "is", host))


def _domain(indicator: Mapping[str, Any], version: str) -> Parts | None:
    value = str(indicator["value"]).rstrip(".")
    return _host(value) if _usable(value) else None


def _url(indicator: Mapping[str, Any], version: str) -> Parts | None:
    return ("UrlHistoryItem/URL", "is", indicator["value"]) if _usable(indicator["value"]) else None


def _registry(indicator: Mapping[str, Any], version: str) -> Parts | None:
    r"""The key without its hive: another user's hive, and control sets, have other names on every device."""
    key = str(indicator["value"])
    match = _HIVE.match(key)
    key = key[match.end() :] if match else key
    key = _CONTROL_SET.sub(lambda found: "", key, count=1).rstrip("\\")
    if not _usable(key) or len(key.strip("\\")) < 4:
        return None
    parts: list[Parts] = [("RegistryItem/Path", "contains", key)]
    for field, term in (("value_name", "RegistryItem/ValueName"), ("value_data", "RegistryItem/Text")):
        if _usable(indicator.get(field)):
            parts.append((term, "is", indicator[field]))
    return parts[0] if len(parts) == 1 else ("AND", *parts)


def _mutex(indicator: Mapping[str, Any], version: str) -> Parts | None:
    name = _SESSION.sub("", str(indicator["value"]), count=1)
    if not _usable(name):
        return None
    ending = "ends-with" if version == "1.1" else "contains"
    handle = "ProcessItem/HandleList/Handle"
    return ("AND", (f"{handle}/Type", "is", "Mutant"), (f"{handle}/Name", ending, name))


def _process(indicator: Mapping[str, Any], version: str) -> Parts | None:
    """A command line, or the path of a program."""
    value = indicator.get("path") or indicator["value"]
    if not _usable(value):
        return None
    term = "ProcessItem/path" if "path" in indicator else "ProcessItem/arguments"
    return (term, "is" if "path" in indicator else "contains", value)


def _service(indicator: Mapping[str, Any], version: str) -> Parts | None:
    return ("ServiceItem/name", "is", indicator["value"]) if _usable(indicator["value"]) else None


_MAKERS = {
    "file": _file,
    "ipv4-addr": _address,
    "ipv6-addr": _address,
    "domain-name": _domain,
    "url": _url,
    "windows-registry-key": _registry,
    "mutex": _mutex,
    "process": _process,
    "windows-service": _service,
}
