"""Paths of Windows, judged anywhere: which are paths at all, and which lie in folders nobody may touch."""

from __future__ import annotations

import pytest
from ioc_scan.scanner.errors import ScannerError
from ioc_scan.scanner.names import check_path_somewhere
from ioc_scan.scanner.winnames import below, bytes_of, inside, is_same_name, is_system, parts_of


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("C:\\evil.exe", ["C:\\", "evil.exe"]),
        ("d:\\Ж\\a b.exe", ["d:\\", "Ж", "a b.exe"]),
        ("\\\\?\\C:\\folder\\evil.exe", ["C:\\", "folder", "evil.exe"]),
        ("C:\\folder.\\name ", ["C:\\", "folder.", "name "]),  # hidden from most programs, not from us
        ("C:\\con\\nul.txt", ["C:\\", "con", "nul.txt"]),  # no devices where names are taken as they are
        ("C:\\lone\ud800surrogate", ["C:\\", "lone\ud800surrogate"]),
    ],
)
def test_paths(path: str, parts: list[str]) -> None:
    assert parts_of(bytes_of(path)) == parts


@pytest.mark.parametrize(
    "path",
    [
        "C:",
        "C:\\",
        "C:evil.exe",
        "evil.exe",
        "\\evil.exe",
        "/evil",
        "C:/evil.exe",
        "C:\\a/b",
        "C:\\a\\\\b",
        "C:\\a\\..\\b",
        "C:\\.\\b",
        "C:\\a\\",
        "C:\\evil.exe:stream",
        "C:\\a\x00b",
        "C:\\a?",
        "C:\\a*",
        "C:\\a|b",
        "\\\\server\\share\\evil.exe",
        "\\\\?\\UNC\\server\\share\\evil.exe",
        "\\\\.\\C:\\evil.exe",
        "\\\\?\\GLOBALROOT\\Device\\HarddiskVolume1\\evil.exe",
        "\\??\\C:\\evil.exe",
        "CD:\\evil.exe",
        "",
    ],
)
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(ScannerError) as refused:
        parts_of(bytes_of(path))
    assert refused.value.code == "bad_path"


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(ScannerError):
        parts_of(b"C:\\\xff")


@pytest.mark.parametrize(
    "path",
    [
        "C:\\Windows\\System32\\evil.dll",
        "c:\\WINDOWS",
        "D:\\Windows\\evil.exe",
        "C:\\bootmgr",
        "C:\\pagefile.sys",
        "\\\\?\\C:\\Windows\\evil.exe",
        "C:\\Program Files\\WindowsApps\\x\\y.exe",
        "E:\\System Volume Information\\x",
        "C:\\ProgramData\\Microsoft\\Windows Defender\\Platform\\x.exe",
    ],
)
def test_folders_of_the_system(path: str) -> None:
    assert is_system(bytes_of(path))


@pytest.mark.parametrize(
    "path",
    [
        "C:\\Windows\\Temp\\evil.exe",
        "C:\\Users\\a\\Downloads\\evil.exe",
        "C:\\WindowsX\\evil.exe",
        "C:\\evil.exe",
        "C:\\ProgramData\\Microsoft\\Windows\\Start Menu\\Programs\\Startup\\evil.exe",
        "C:\\x\\bootmgr",
        "C:\\Program Files\\Maker\\evil.exe",
        "C:\\$Recycle.Bin\\S-1-5-21\\evil.exe",
    ],
)
def test_folders_of_people(path: str) -> None:
    assert not is_system(bytes_of(path))


def test_folders_are_compared_without_case_and_by_whole_names() -> None:
    assert inside(b"C:\\Spool\\Jobs\\x", b"c:\\spool")
    assert inside(b"\\\\?\\C:\\spool", b"C:\\spool\\")
    assert not inside(b"C:\\spool2\\x", b"C:\\spool")
    assert inside(b"D:\\x", b"D:\\") and not inside(b"C:\\x", b"D:\\")
    assert below(b"C:\\srv\\pc01\\Windows\\x", b"C:\\srv\\pc01") == b"C:\\Windows\\x"


def test_short_names_stand_for_long_ones() -> None:
    assert is_same_name("PROGRA~1", "Program Files") and is_same_name("evilpr~12.exe", "evil program.exe")
    assert is_same_name("Program files", "Program Files")
    assert not is_same_name("other", "Program Files") and not is_same_name("a~b", "Program Files")


def test_who_does_not_know_the_system_takes_paths_of_both() -> None:
    check_path_somewhere(b"/home/a/evil")
    check_path_somewhere("C:\\Users\\ä\\evil.exe".encode())
    for path in (b"relative", b"/a/../b", b"C:\\a\\..\\b", b"C:evil", b"\\\\server\\share\\evil", b""):
        with pytest.raises(ScannerError):
            check_path_somewhere(path)
