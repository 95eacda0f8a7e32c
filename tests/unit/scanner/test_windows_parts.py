"""What is judged about Windows from recorded numbers and texts, on any machine."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path

import pytest
from ioc_scan.scanner.documents import UnavailableError, powershell, windows
from ioc_scan.scanner.longpaths import kernel_path, long_path, plain_path
from ioc_scan.scanner.protocol import is_absolute
from ioc_scan.scanner.sharing import patiently
from ioc_scan.scanner.winattributes import is_elsewhere, left_out
from ioc_scan.scanner.winplaces import choose_drives, critical_folders, system_folders
from ioc_scan.scanner.winrights import objection, private_descriptor
from ioc_scan.scanner.winsessions import Session, is_locked, session_in_use

OWN = "S-1-5-21-1-2-3-1001"
#: As Windows 10 and Server 2022 print them (icacls, Get-Acl): C:\, C:\ProgramData, C:\Users\Public.
DRIVE = (
    "O:S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
    "D:PAI(A;;LC;;;AU)(A;OICIIO;SDGXGWGR;;;AU)(A;;FA;;;SY)(A;OICIIO;GA;;;SY)(A;OICIIO;GA;;;BA)(A;;FA;;;BA)"
    "(A;OICI;0x1200a9;;;BU)"
)
PROGRAM_DATA = (
    "O:SYD:AI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICIIO;GA;;;CO)(A;OICI;0x1200a9;;;BU)(A;CI;DCLCRPCR;;;BU)"
)
PUBLIC = "O:BAD:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;;0x1301bf;;;IU)(A;OICIIO;SDGXGWGR;;;IU)"


@pytest.mark.parametrize(
    ("plain", "long", "kernel"),
    [
        ("C:\\", "\\\\?\\C:\\", "\\??\\C:\\"),
        ("C:\\a\\b. ", "\\\\?\\C:\\a\\b. ", "\\??\\C:\\a\\b. "),
        ("\\\\server\\share\\a", "\\\\?\\UNC\\server\\share\\a", "\\??\\UNC\\server\\share\\a"),
    ],
)
def test_spellings_of_paths(plain: str, long: str, kernel: str) -> None:
    assert (long_path(plain), kernel_path(plain), plain_path(long)) == (long, kernel, plain)
    assert long_path(long) == long and plain_path(plain) == plain


def test_volume_without_a_letter_has_no_plain_path() -> None:
    volume = "\\\\?\\Volume{00000000-0000-0000-0000-000000000043}\\a"
    assert plain_path(volume) == volume


@pytest.mark.parametrize(
    ("attributes", "tag", "folder", "reason"),
    [
        (0x20, 0, False, None),
        (0x10, 0, True, None),
        (0x410, 0xA0000003, True, "link"),  # a junction, or a volume mounted in a folder
        (0x410, 0xA000000C, True, "link"),
        (0x420, 0xA000000C, False, "link"),
        (0x420, 0xA000001D, False, "link"),  # of the Linux subsystem
        (0x420, 0x8000001B, False, "link"),  # WindowsApps\python.exe
        (0x420, 0x80000023, False, "socket"),
        (0x410, 0, True, "link"),
        (0x420, 0x80000013, False, None),  # deduplicated
        (0x410, 0x9000601A, True, None),  # OneDrive's own folder
        (0x400410, 0x9000601A, True, "offline"),
        (0x40010, 0, True, "offline"),
        (0x401620, 0x9000601A, False, None),  # its name is looked at
    ],
)
def test_reparse_points_and_placeholders(attributes: int, tag: int, folder: bool, reason: str | None) -> None:
    assert left_out(attributes, tag, folder) == reason


def test_files_whose_content_lies_elsewhere() -> None:
    assert all(is_elsewhere(attributes) for attributes in (0x1020, 0x40020, 0x400020, 0x501620))
    assert not any(is_elsewhere(attributes) for attributes in (0x20, 0x820, 0x80020, 0x100020, 0x2026))


def test_places_of_windows_follow_its_environment() -> None:
    environment = {
        "SystemRoot": "D:\\WINNT", "ProgramData": "E:\\Data", "ProgramFiles": "D:\\Programme",
        "ProgramFiles(x86)": "D:\\Programme (x86)", "PUBLIC": "D:\\Users\\Public",
    }  # fmt: skip
    critical, system = critical_folders(environment), system_folders(environment)
    assert {"D:\\Users", "E:\\Data", "D:\\WINNT\\Temp", "D:\\WINNT\\System32\\Tasks"} <= set(critical)
    assert "D:\\WINNT" not in critical and set(critical) < set(system)
    assert {"D:\\WINNT", "D:\\Programme", "D:\\Programme (x86)"} <= set(system)
    assert "C:\\Windows" in system_folders({})


def test_folders_of_any_system_may_be_asked_for() -> None:
    """The machine that makes a job is seldom of its devices' kind."""
    assert all(map(is_absolute, ("/srv", "C:\\", "d:\\data", "\\\\server\\share")))
    assert not any(map(is_absolute, ("srv", "", "C:", "C:data", "\\data", "\\\\", "..\\x", "C:/x")))


def test_drives_of_the_machine_itself() -> None:
    kinds = {"C": 3, "D": 5, "E": 2, "F": 6, "G": 4, "H": 1, "I": 0}
    left = [("D:\\", "optical_disc"), ("G:\\", "network_file_system")]
    assert choose_drives(kinds, network=False) == (["C:\\", "E:\\", "F:\\"], left)
    assert choose_drives(kinds, network=True) == (["C:\\", "E:\\", "F:\\", "G:\\"], left[:1])


@pytest.mark.parametrize("descriptor", [DRIVE, PROGRAM_DATA])
def test_folders_of_windows_may_hold_a_spool(descriptor: str) -> None:
    assert objection(descriptor, OWN, private=False) is None
    assert "is open to" in str(objection(descriptor, OWN, private=True))


@pytest.mark.parametrize(
    ("descriptor", "why"),
    [
        (PUBLIC, "can be changed by IU"),
        (f"O:{OWN}D:(A;;FA;;;WD)", "can be changed by WD"),
        (f"O:{OWN}D:(A;;0x40;;;BU)", "can be changed by BU"),
        (f"O:{OWN}D:(A;;GW;;;BU)", "can be changed by BU"),
        (f"O:{OWN}D:(XA;;WD;;;BU;(@User.Project Any_of 1))", "can be changed by BU"),
        (f"O:{OWN}D:(A;;QQ;;;BU)", "can be changed by BU"),
        ("O:BUD:P(A;;FA;;;SY)", "belongs to BU"),
        ("D:P(A;;FA;;;SY)", "belongs to nobody"),
        (f"O:{OWN}", "has no list"),
        (f"O:{OWN}D:NO_ACCESS_CONTROL", "has no list"),
    ],
)
def test_folders_that_others_can_change(descriptor: str, why: str) -> None:
    assert why in str(objection(descriptor, OWN, private=False))


def test_private_folder_is_for_three_only() -> None:
    mine = f"O:{OWN}" + private_descriptor(OWN)
    assert objection(mine, OWN, private=True) is None
    assert objection("O:BA" + private_descriptor(OWN), OWN, private=True) is None
    assert objection(mine, "S-1-5-21-1-2-3-1002", private=True) == f"belongs to {OWN}"
    assert "is open to BU" in str(objection(mine + "(A;;0x1200a9;;;BU)", OWN, private=True))
    assert objection(mine + "(D;;FA;;;BU)(A;OICIIO;FA;;;BU)", OWN, private=True) is None


@pytest.mark.parametrize(
    ("sessions", "used"),
    [
        ([], False),
        ([Session(0, False, None)], True),  # what is not known counts as used
        ([Session(0, False, 10.0)], True),
        ([Session(0, False, 1000.0)], False),
        ([Session(0, True, 1.0)], False),
        ([Session(4, False, None), Session(1, False, 1.0)], False),  # disconnected, connected without a user
        ([Session(0, True, None), Session(0, False, 299.0)], True),
    ],
)
def test_sessions_of_windows(sessions: list[Session], used: bool) -> None:
    assert session_in_use(sessions, 300) is used


def test_windows_7_says_locked_the_other_way_round() -> None:
    assert [is_locked(flags, (10, 0)) for flags in (0, 1, -1)] == [True, False, False]
    assert [is_locked(flags, (6, 1)) for flags in (0, 1, -1)] == [False, True, False]


def test_file_in_use_is_tried_again_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def busy_at_first() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise PermissionError(errno.EACCES, "in use")
        return "done"

    with pytest.raises(PermissionError):
        patiently(busy_at_first)
    monkeypatch.setattr("ioc_scan.scanner.sharing.NEEDED", True)
    assert patiently(busy_at_first) == "done" and len(calls) == 3
    with pytest.raises(FileNotFoundError):
        patiently(lambda: Path("/no/such/file").read_bytes())


def _say(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> list[object]:
    """``objects`` with a PowerShell that runs this Python instead."""
    program = folder / "powershell.exe"
    program.write_text(f"#!{sys.executable}\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr("ioc_scan.scanner.documents.commands._PATH", str(folder))
    return list(powershell.objects("Get-Thing", "things"))


def test_list_of_powershell_counts_only_when_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    line = json.dumps({"Name": "a"})
    assert _say(monkeypatch, tmp_path, f"print({line!r}); print('end 0')") == [{"Name": "a"}]
    assert _say(monkeypatch, tmp_path, "print('end 0')") == []
    for script in ("", f"print({line!r})", "print('end 1')", "print('not the end 0')"):
        with pytest.raises(UnavailableError, match="does not list its things"):
            _say(monkeypatch, tmp_path, script)


def test_pipeline_ends_with_the_word_that_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = "import sys; print('end 0' if sys.argv[-1].endswith(\"; 'end ' + $Error.Count\") else sys.argv)"
    assert _say(monkeypatch, tmp_path, script) == []


def test_process_of_windows_whose_file_is_hidden_is_said() -> None:
    item = windows.process_item(
        {"ProcessId": 900, "ParentProcessId": 4, "Name": "csrss.exe", "CreationDate": 1.5e9}
    )
    assert (item["path"], item["arguments"], item["Username"]) == (None, None, None)
    assert item["startTime"] == 1.5e9
