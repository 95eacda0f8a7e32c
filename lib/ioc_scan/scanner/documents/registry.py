"""RegistryItem: keys and values of Windows' registry, one item per key and one per value."""

from __future__ import annotations

import importlib
import time
from datetime import datetime, timedelta, timezone
from typing import Any, Iterator

from .base import IDENTITY, MAX_TEXT_CHARS, Fields, Item, Request, UnavailableError

FIELDS: Fields = {
    "linux": frozenset(),
    "windows": frozenset(
        (
            "Hive", "KeyPath", "Modified", "NumSubKeys", "NumValues", "Path", "Text", "Type", "Value", "ValueName",
        )
    ),
    "macos": frozenset(),
}  # fmt: skip

_HIVES = ("HKEY_LOCAL_MACHINE", "HKEY_USERS")
#: Numbers of winreg, which is not there to be asked when tests replay a registry elsewhere.
_READ_64 = 0x20019 | 0x0100
_TYPES = {
    0: "REG_NONE", 1: "REG_SZ", 2: "REG_EXPAND_SZ", 3: "REG_BINARY", 4: "REG_DWORD", 5: "REG_DWORD_BIG_ENDIAN",
    6: "REG_LINK", 7: "REG_MULTI_SZ", 8: "REG_RESOURCE_LIST", 11: "REG_QWORD",
}  # fmt: skip
#: Windows counts 100 nanoseconds from 1601.
_START = datetime(1601, 1, 1, tzinfo=timezone.utc)
_SECONDS = 300.0
_MAX_DEPTH = 128


def collect(request: Request) -> Iterator[Item]:
    """The machine's hive and those of all users with a loaded profile, within a time that is told."""
    try:
        winreg: Any = importlib.import_module("winreg")
    except ImportError:
        raise UnavailableError("only Windows has a registry") from None
    return walk(winreg, request)


def walk(winreg: Any, request: Request) -> Iterator[Item]:
    """All keys, from the top; without recursion, so that no depth of keys ends it."""
    deadline = time.monotonic() + _SECONDS
    refused = keys = 0
    waiting = [(hive, "") for hive in reversed(_HIVES)]
    while waiting:
        hive, path = waiting.pop()
        try:
            with winreg.OpenKey(getattr(winreg, hive), path, 0, _READ_64) as key:
                subkeys, values, modified = winreg.QueryInfoKey(key)
                shared = _shared(hive, path, subkeys, values, modified)
                items = _items(winreg, key, shared, values)
                if path.count("\\") < _MAX_DEPTH:
                    waiting += _subkeys(winreg, key, hive, path, subkeys)
        except OSError:  # or a key that is none: texts of performance counters stand where keys do
            refused += 1
            continue
        keys += 1
        yield from items
        if time.monotonic() > deadline:
            request.incomplete(f"{keys} keys of the registry were read in {_SECONDS:.0f} s, not all")
            return
    if refused:
        request.incomplete(f"{refused} keys of the registry may not be read by this user")


def _items(winreg: Any, key: Any, shared: Item, values: int) -> list[Item]:
    """The item of a key, and those of its values."""
    items = [{**shared, "ValueName": [], "Value": [], "Text": [], "Type": [], IDENTITY: shared["Path"]}]
    for number in range(values):
        try:
            name, value, kind = winreg.EnumValue(key, number)
        except OSError:
            break  # fewer than a moment ago
        items.append(_value_item(shared, name, value, kind))
    return items


def _subkeys(winreg: Any, key: Any, hive: str, path: str, count: int) -> list[tuple[str, str]]:
    found = []
    for number in range(count):
        try:
            name = winreg.EnumKey(key, number)
        except OSError:
            break
        found.append((hive, path + "\\" + name if path else name))
    return found[::-1]


def _shared(hive: str, path: str, subkeys: int, values: int, modified: int) -> Item:
    try:
        moment: Any = (_START + timedelta(microseconds=modified // 10)).strftime("%Y-%m-%dT%H:%M:%SZ")
    except OverflowError:
        moment = None
    return {
        "Hive": hive,
        "KeyPath": path,
        "Path": hive + "\\" + path if path else hive,
        "Modified": moment,
        "NumSubKeys": subkeys,
        "NumValues": values,
    }


def _value_item(shared: Item, name: str, value: Any, kind: int) -> Item:
    path = shared["Path"] + "\\" + name
    text = _text(value)
    return {
        **shared,
        "Path": path,
        "ValueName": name,
        "Value": text,
        "Text": text,
        "Type": _TYPES.get(kind, str(kind)),
        IDENTITY: path + "\\",  # a key may be named like a value beside it
    }


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value[: MAX_TEXT_CHARS // 2].hex()
    if isinstance(value, list):
        return "\n".join(str(entry) for entry in value)[:MAX_TEXT_CHARS]
    return "" if value is None else str(value)[:MAX_TEXT_CHARS]
