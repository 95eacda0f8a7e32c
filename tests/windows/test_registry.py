"""RegistryItem from a real registry, and a scan that asks for it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ioc_scan.openioc.plan import compile_plan

from tests.unit.scanner.support import any_ioc
from tests.windows.rig import Windows
from tests.windows.spools import WindowsDevice

_PLANT = r"""
import winreg
path = r"Software\ioc_scan test\Run"
with winreg.CreateKeyEx(winreg.HKEY_LOCAL_MACHINE, path, 0, winreg.KEY_ALL_ACCESS | winreg.KEY_WOW64_64KEY) as key:
    winreg.SetValueEx(key, "Evil", 0, winreg.REG_SZ, r"C:\Users\Public\evil.exe")
    winreg.SetValueEx(key, "", 0, winreg.REG_EXPAND_SZ, r"%TEMP%\x")
    winreg.SetValueEx(key, "Number", 0, winreg.REG_DWORD, 3735928559)
    winreg.SetValueEx(key, "Long", 0, winreg.REG_QWORD, 1 << 40)
    winreg.SetValueEx(key, "Raw", 0, winreg.REG_BINARY, b"\x00\xff")
    winreg.SetValueEx(key, "Many", 0, winreg.REG_MULTI_SZ, ["one", "zwei ü"])
with winreg.CreateKeyEx(winreg.HKEY_LOCAL_MACHINE, r"Software\ioc_scan test\32", 0,
                        winreg.KEY_ALL_ACCESS | winreg.KEY_WOW64_32KEY) as key:
    winreg.SetValueEx(key, "Small", 0, winreg.REG_SZ, "32 bit")
with winreg.CreateKeyEx(winreg.HKEY_CURRENT_USER, r"Software\ioc_scan test", 0, winreg.KEY_ALL_ACCESS) as key:
    winreg.SetValueEx(key, "Mine", 0, winreg.REG_SZ, "of a user")
"""
_COLLECT = (
    _PLANT
    + """
import time
from ioc_scan_scanner.documents import Request, registry
request = Request(registry.FIELDS["windows"], "windows")
begin = time.time()
items = [item for item in registry.collect(request)]
found = {item["Path"]: item for item in items if "ioc_scan test" in item["Path"]}
print(json.dumps([len(items), found, request.gaps]))
"""
)


@pytest.fixture(scope="module")
def found(windows: Windows) -> dict[str, dict[str, Any]]:
    count, items, gaps = windows.python("3.8", _COLLECT)
    assert count > 1000
    # Texts of performance counters stand where keys do.
    assert gaps == {"": "2 keys of the registry may not be read by this user"}
    return dict(items)


def test_values_of_all_kinds_are_read(found: dict[str, dict[str, Any]]) -> None:
    key = "HKEY_LOCAL_MACHINE\\Software\\ioc_scan test\\Run"
    kinds = {
        item["ValueName"]: (item["Type"], item["Text"])
        for path, item in found.items()
        if path.startswith(key + "\\")
    }
    assert kinds == {
        "Evil": ("REG_SZ", "C:\\Users\\Public\\evil.exe"),
        "": ("REG_EXPAND_SZ", "%TEMP%\\x"),
        "Number": ("REG_DWORD", "3735928559"),
        "Long": ("REG_QWORD", str(1 << 40)),
        "Raw": ("REG_BINARY", "00ff"),
        "Many": ("REG_MULTI_SZ", "one\nzwei ü"),
    }
    item = found[key]
    assert (item["NumValues"], item["NumSubKeys"], item["Hive"]) == (6, 0, "HKEY_LOCAL_MACHINE")
    assert item["KeyPath"] == "Software\\ioc_scan test\\Run"
    assert item["Modified"].startswith("20") and item["Modified"] > "2026"


def test_both_views_and_the_hives_of_users_are_read(found: dict[str, dict[str, Any]]) -> None:
    assert any(path.endswith("Wow6432Node\\ioc_scan test\\32\\Small") for path in found), sorted(found)
    mine = [path for path in found if path.endswith("ioc_scan test\\Mine")]
    assert mine and all(path.startswith("HKEY_USERS\\S-1-5-21-") for path in mine)


def test_scan_for_an_autostart_value_matches(windows: Windows) -> None:
    windows.python("3.13", _PLANT + "print('null')")
    content = any_ioc(("RegistryItem/Text", "contains", "string", "users\\public\\EVIL.exe"))
    device = WindowsDevice(windows, "3.13", compile_plan([(content, "hunt")]))
    outcome = device.do(device.job("scan-1"))
    assert outcome.status["state"] == "done", json.dumps(outcome.status)
    [line] = outcome.of("match")
    assert line["document"] == "RegistryItem" and line["item"]["ValueName"] == "Evil"
    assert line["item"]["Path"] == "HKEY_LOCAL_MACHINE\\Software\\ioc_scan test\\Run\\Evil"
