"""A valid signature protects a file, one that anybody can make does not."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from ioc_scan.scanner import signatures
from ioc_scan.scanner.errors import ScannerError

pytestmark = pytest.mark.skipif(
    not (shutil.which("osslsigncode") and shutil.which("openssl")), reason="needs osslsigncode and openssl"
)


def smallest_program() -> bytes:
    """A PE32+ file of one empty section: all that a signature needs."""
    dos = b"MZ" + bytes(58) + struct.pack("<I", 64)
    coff = b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, 240, 0x22)
    optional = struct.pack("<HBBIIIII", 0x20B, 14, 0, 512, 0, 0, 4096, 4096)
    optional += struct.pack(
        "<QIIHHHHHHIIIIHH", 0x140000000, 4096, 512, 6, 0, 0, 0, 6, 0, 0, 8192, 512, 0, 3, 0
    )
    optional += struct.pack("<QQQQII", 1 << 20, 4096, 1 << 20, 4096, 0, 16) + bytes(128)
    section = struct.pack("<8sIIIIIIHHI", b".text", 512, 4096, 512, 512, 0, 0, 0, 0, 0x60000020)
    return (dos + coff + optional + section).ljust(512, b"\0") + b"\xc3".ljust(512, b"\0")


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(a signed program, the certificate it was signed with)."""
    folder = tmp_path_factory.mktemp("signed")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            key,
            "-out",
            certificate,
            "-days",
            "30",
            "-subj",
            "/O=Test/CN=A Maker of Programs",
            "-addext",
            "extendedKeyUsage=codeSigning",
        ],
        check=True,
        capture_output=True,
    )
    plain, program = folder / "plain.exe", folder / "signed.exe"
    plain.write_bytes(smallest_program())
    subprocess.run(
        ["osslsigncode", "sign", "-certs", certificate, "-key", key, "-in", plain, "-out", program],
        check=True,
        capture_output=True,
    )
    return program, certificate


def check(path: Path, signers: list[str]) -> str:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return signatures.check_signature(descriptor, signers)
    finally:
        os.close(descriptor)


def test_a_trusted_signer_protects_his_files_unless_named(
    signed: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    program, certificate = signed
    monkeypatch.setattr(signatures, "CA_FILES", (str(certificate),))
    with pytest.raises(ScannerError) as refused:
        check(program, [])
    assert refused.value.code == "signed"
    assert "A Maker of Programs" in refused.value.message
    assert check(program, ["A Maker of Programs"]).startswith("signed by A Maker of Programs")


def test_a_signature_nobody_here_trusts_protects_nothing(signed: tuple[Path, Path]) -> None:
    assert check(signed[0], []) == "no valid signature"


def test_a_changed_file_is_no_longer_signed(
    signed: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signatures, "CA_FILES", (str(signed[1]),))
    content = bytearray(signed[0].read_bytes())
    content[600] ^= 1
    (tmp_path / "changed.exe").write_bytes(content)
    assert check(tmp_path / "changed.exe", []) == "no valid signature"


def test_without_a_tool_it_says_so(signed: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "_COMMANDS", ())
    assert check(signed[0], []).startswith("signature not checked")


def test_other_files_are_not_asked(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\n")
    assert check(tmp_path / "script", []) == ""
