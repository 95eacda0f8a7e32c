"""The registry of a Windows device: keys and values below the places where software leaves its traces."""

from __future__ import annotations

import importlib
import sys
from datetime import datetime, timedelta, timezone
from typing import Any, Iterator

from .errors import ScannerError
from .protocol import to_iso

#: hive -> keys below which everything is looked at. The whole registry takes minutes and changes meanwhile.
_PLACES = {
    "HKEY_LOCAL_MACHINE": ("SOFTWARE", "SYSTEM\\CurrentControlSet"),
    "HKEY_USERS": ("",),
}
_MAX_KEYS = 500_000
_MAX_DEPTH = 40
_TYPES = {
    1: "REG_SZ",
    2: "REG_EXPAND_SZ",
    3: "REG_BINARY",
    4: "REG_DWORD",
    7: "REG_MULTI_SZ",
    11: "REG_QWORD",
}
#: Windows counts 100 nanoseconds from 1601.
_START = datetime(1601, 1, 1, tzinfo=timezone.utc)


def registry() -> Iterator[dict[str, Any]]:
    """RegistryItems: one per value, and one per key. Raises ScannerError elsewhere than on Windows."""
    if sys.platform != "win32":
        raise ScannerError("unavailable", "only Windows has a registry")
    budget = [_MAX_KEYS]
    for hive, places in _PLACES.items():
        for place in places:
            yield from _key(hive, place, budget, 0)


def _key(hive: str, path: str, budget: list[int], depth: int) -> Iterator[dict[str, Any]]:
    budget[0] -= 1
    if budget[0] < 0:
        raise ScannerError("unavailable", "the registry has more keys than are looked at")
    if depth > _MAX_DEPTH:
        return
    winreg: Any = importlib.import_module("winreg")
    try:
        access = winreg.KEY_READ | winreg.KEY_WOW64_64KEY
        key = winreg.OpenKey(getattr(winreg, hive), path, 0, access)
    except OSError:  # not for us; what may not be read cannot be judged
        return
    with key:
        subkeys, values, modified = winreg.QueryInfoKey(key)
        shared = {
            "Hive": hive,
            "KeyPath": path,
            "Path": hive + "\\" + path,
            "Modified": to_iso(_START + timedelta(microseconds=modified // 10)),
            "NumSubKeys": subkeys,
            "NumValues": values,
        }
        yield shared
        for number in range(values):
            try:
                name, value, kind = winreg.EnumValue(key, number)
            except OSError:
                break
            text = _text(value)
            yield {
                **shared,
                "Path": hive + "\\" + path + "\\" + name,
                "ValueName": name,
                "Value": text,
                "Text": text,
                "Type": _TYPES.get(kind, str(kind)),
            }
        names = []
        for number in range(subkeys):
            try:
                names.append(winreg.EnumKey(key, number))
            except OSError:
                break
    for name in names:
        yield from _key(hive, path + "\\" + name if path else name, budget, depth + 1)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return "\n".join(str(entry) for entry in value)
    return "" if value is None else str(value)
