"""What runs in the other tests of this folder is a Windows Python, and sees nothing of this machine."""

from __future__ import annotations

import pytest
from ioc_scan.python_embed import PINS

from tests.windows.rig import Windows

_WHAT = """
import string
print(json.dumps([os.name, sys.platform, sys.version.split()[0], sys.executable,
                  [letter for letter in string.ascii_uppercase if os.path.isdir(letter + ":\\\\")]]))
"""


def test_python_for_windows_runs_with_one_drive(windows: Windows, version: str) -> None:
    name, platform, python, program, drives = windows.python(version, _WHAT)
    assert (name, platform, python) == ("nt", "win32", PINS[version].python)
    assert program == f"C:\\py{version}\\python.exe"
    assert drives == ["C"]


def test_scanner_starts(windows: Windows, version: str) -> None:
    assert windows.scanner(version, "version") == [
        {"version": "0.1.0", "digest": windows.scanner_digest, "python": PINS[version].python}
    ]


@pytest.mark.parametrize("version", ["3.13"])
def test_wrong_usage_is_status_2(windows: Windows, version: str) -> None:
    assert b"bad_usage" in windows.run(version, "C:\\scanner.pyz", "nonsense", status=2).stderr
