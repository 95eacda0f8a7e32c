"""What Linux knows of a file besides its content: packages, attributes, ACLs, the immutable flag."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ioc_scan.scanner import packages

from tests.unit.scanner.support import Device, item_for, objects_plan

EVIL = b"harmless stand-in\n" * 50
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path, objects_plan(EVIL))


def plant(device: Device, name: str = "evil") -> Path:
    path = device.tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(EVIL)
    return path


def there_and_back(device: Device, path: Path) -> str:
    """Quarantine a file and restore it; what the restore had to say."""
    [line] = device.do("respond", "r", [item_for(path, EVIL)]).of("response")
    assert line["outcome"] == "quarantined" and not path.exists()
    [line] = device.do("restore", "u", [{"quarantine_id": line["quarantine_id"]}]).of("restored")
    assert line["outcome"] == "restored" and path.read_bytes() == EVIL
    return str(line["message"])


# ------------------------------------------------------------------------------------------ attributes


def set_attribute(path: Path, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        pytest.skip(f"no {name} here: {error.strerror}")


def test_extended_attributes_come_back(device: Device) -> None:
    path = plant(device)
    set_attribute(path, "user.origin", b"https://example.org/\x00\xff")
    set_attribute(path, "user.empty", b"")
    assert there_and_back(device, path) == ""
    assert {name: os.getxattr(path, name) for name in os.listxattr(path)} == {
        "user.origin": b"https://example.org/\x00\xff",
        "user.empty": b"",
    }


def test_an_access_list_comes_back_with_its_permissions(device: Device) -> None:
    """As setfacl -m u:1000:r makes it: version 2, then (tag, rights, id) of each entry, acl(5)."""
    path = plant(device)
    anybody = 0xFFFFFFFF
    entries = [(1, 6, anybody), (2, 4, 1000), (4, 4, anybody), (0x10, 4, anybody), (0x20, 0, anybody)]
    access = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    set_attribute(path, "system.posix_acl_access", access)
    mode = path.stat().st_mode
    assert there_and_back(device, path) == ""
    assert os.getxattr(path, "system.posix_acl_access") == access
    assert path.stat().st_mode == mode


@root_only
def test_a_restored_file_has_no_capabilities(device: Device) -> None:
    path = plant(device)
    everything = struct.pack("<IIIII", 0x02000001, 0xFFFFFFFF, 0, 0x1FF, 0)
    set_attribute(path, "security.capability", everything)
    set_attribute(path, "user.kept", b"1")
    assert there_and_back(device, path) == "not given back: security.capability"
    assert "security.capability" not in os.listxattr(path)
    assert os.getxattr(path, "user.kept") == b"1"


# ------------------------------------------------------------------------------------------- immutable


@pytest.fixture
def immutable(device: Device) -> Iterator[Path]:
    path = plant(device)
    done = subprocess.run(["chattr", "+i", str(path)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("files cannot be made immutable here: " + done.stderr.strip())
    yield path
    subprocess.run(["chattr", "-i", str(path)], check=True)


@root_only
@pytest.mark.skipif(not shutil.which("chattr"), reason="needs chattr")
def test_an_immutable_file_stays_and_so_does_its_flag(device: Device, immutable: Path) -> None:
    [line] = device.do("respond", "r", [item_for(immutable, EVIL)]).of("response")
    assert (line["outcome"], line["code"]) == ("failed", "not_permitted")
    assert immutable.read_bytes() == EVIL
    with pytest.raises(PermissionError):
        immutable.unlink()
    assert device.quarantine_files() == [], "nothing was deleted, so nothing is kept"


# ------------------------------------------------------------------------------------------------- rpm

_SPEC = """
Name: tool
Version: 1
Release: 1
Summary: A package of one file
License: none
BuildArch: noarch
%description
A package of one file.
%install
mkdir -p %{buildroot}/opt/tool
cp %{content} %{buildroot}/opt/tool/evil
%files
/opt/tool/evil
"""
#: What `rpm -qa --queryformat '[%{FILENAMES}\\n]'` printed on Fedora for a few packages, and for ours.
_RECORDED = "/etc/pki/rpm-gpg\n/usr/lib/systemd/systemd\n(none)\n/opt/tool/evil\n"


@pytest.fixture(params=["real", "recorded"])
def packaged(device: Device, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Device:
    """A tree whose rpm database owns /opt/tool/evil."""
    if request.param == "real":
        if not (shutil.which("rpm") and shutil.which("rpmbuild")):
            pytest.skip("needs rpm and rpmbuild (apt-get install rpm)")
        install_package(device)
    else:
        command = device.base / "rpm"
        command.write_text(f"#!/bin/sh\ncat <<'END'\n{_RECORDED}END\n")
        command.chmod(0o755)
        monkeypatch.setattr(packages, "_RPM_COMMANDS", (str(command),))
        database = device.tree / "usr/lib/sysimage/rpm"
        database.mkdir(parents=True)
        (database / "rpmdb.sqlite").write_bytes(b"")
        plant(device, "opt/tool/evil")
    return device


def install_package(device: Device) -> None:
    content, spec = device.base / "content", device.base / "tool.spec"
    content.write_bytes(EVIL)
    spec.write_text(_SPEC)
    defines = ["--define", f"_topdir {device.base}/build", "--define", f"content {content}"]
    subprocess.run(["rpmbuild", *defines, "-bb", str(spec)], check=True, capture_output=True)
    [package] = (device.base / "build" / "RPMS").rglob("*.rpm")
    into = ["--root", str(device.tree), "--dbpath", "/var/lib/rpm"]
    subprocess.run(["rpm", *into, "--nodeps", "-i", str(package)], check=True, capture_output=True)
    assert (device.tree / "opt/tool/evil").read_bytes() == EVIL


def owned(device: Device, path: Path) -> bool:
    owners = packages.PackageOwners(os.fsencode(device.tree))
    try:
        owners.check_not_owned(os.fsencode(path), os.lstat(path))
    except packages.ScannerError as error:
        assert error.code == "package_owned"
        return True
    return False


def test_files_of_rpm_packages_are_known_however_they_are_spelled(packaged: Device) -> None:
    tree = packaged.tree
    (tree / "opt/other-name").symlink_to("tool")
    os.link(tree / "opt/tool/evil", tree / "opt/hard")
    before = sorted(tree.rglob("*"))
    assert owned(packaged, tree / "opt/tool/evil")
    assert owned(packaged, tree / "opt/other-name/evil")
    assert not owned(packaged, plant(packaged, "opt/evil"))
    assert not owned(packaged, plant(packaged, "home/evil"))
    assert set(tree.rglob("*")) - set(before) == {
        tree / "opt/evil",
        tree / "home",
        tree / "home/evil",
    }, "asking creates no database of its own"


def test_files_of_rpm_packages_are_refused(device: Device) -> None:
    if not (shutil.which("rpm") and shutil.which("rpmbuild")):
        pytest.skip("needs rpm and rpmbuild (apt-get install rpm)")
    install_package(device)
    path = device.tree / "opt/tool/evil"
    [line] = device.do("respond", "r1", [item_for(path, EVIL)]).of("response")
    assert (line["outcome"], line["code"]) == ("refused", "package_owned")
    [line] = device.do("respond", "r2", [item_for(plant(device, "opt/evil"), EVIL)]).of("response")
    assert line["outcome"] == "quarantined"


def test_an_rpm_database_that_cannot_be_read_protects_everything(device: Device) -> None:
    """Without rpm on this machine, and with one to whom the database says nothing."""
    database = device.tree / "var/lib/rpm"
    database.mkdir(parents=True)
    (database / "rpmdb.sqlite").write_bytes(b"no database at all" * 1000)
    [line] = device.do("respond", "r", [item_for(plant(device), EVIL)]).of("response")
    assert (line["outcome"], line["code"]) == ("refused", "package_check_failed")


@pytest.mark.skipif(not shutil.which("rpm"), reason="needs rpm")
def test_an_rpm_database_without_packages_owns_nothing(device: Device) -> None:
    """As an rpm leaves it that was only installed to look into packages."""
    subprocess.run(["rpm", "--root", str(device.tree), "--dbpath", "/var/lib/rpm", "--initdb"], check=True)
    assert not owned(device, plant(device))
