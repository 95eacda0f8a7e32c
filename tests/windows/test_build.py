"""The folder for Windows devices without Python: built the same each time, from known archives, and it runs."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path

import pytest
from ioc_scan.cli import main
from ioc_scan.python_embed import PINS, read_archive

from tests.unit.scanner.support import objects_plan, sha256
from tests.windows.rig import Windows, embedded_python

EVIL = b"harmless stand-in " * 100


def build(out: Path, *arguments: str) -> int:
    return main(["build-scanner", "--windows", str(out), *arguments])


def snapshot(folder: Path) -> dict[str, tuple[str, float]]:
    return {
        str(path.relative_to(folder)): (sha256(path.read_bytes()), path.stat().st_mtime)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_built_folder_finds_a_file_on_a_machine_without_python(
    windows: Windows, version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, name = windows.folder("built")
    archive = embedded_python(version)
    assert build(folder / "ioc scan", "--python-embed", str(archive)) == 0
    said = capsys.readouterr().out
    assert sha256((folder / "ioc scan" / "scanner.pyz").read_bytes()) in said
    assert "signed by the Python Software Foundation" in said
    (folder / "plan.json").write_bytes(objects_plan(EVIL))
    (folder / "evil.exe").write_bytes(EVIL)
    arguments = ["scan", "--plan", name + "\\plan.json", "--root", name]
    done = windows.command_file(name + "\\ioc scan\\scanner.cmd", *arguments)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["path"] for line in lines if line["type"] == "match"] == [name + "\\evil.exe"], done
    assert windows.command_file(name + "\\ioc scan\\scanner.cmd", "nonsense").returncode == 2


def test_same_archive_gives_the_same_folder(tmp_path: Path) -> None:
    archive = embedded_python("3.13")
    for out in ("one", "two"):
        assert build(tmp_path / out, "--python-embed", str(archive.parent)) == 0
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")
    sums = subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path / "one", check=False
    )
    assert sums.returncode == 0


def repack(target: Path, program: bytes | None = None) -> Path:
    """An archive as python.org publishes it; with another ``python.exe`` if one is given."""
    files = read_archive(embedded_python("3.13"))
    if program is not None:
        files["python.exe"] = program
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target


def test_other_archives_need_their_digest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = repack(tmp_path / "python-3.13.2-embed-amd64.zip")
    digest = sha256(archive.read_bytes())
    assert build(tmp_path / "out", "--python-embed", str(archive)) == 2
    assert "python_embed_unknown" in capsys.readouterr().err
    assert build(tmp_path / "out", "--python-embed", str(archive), "--python-embed-sha256", "0" * 64) == 2
    assert not (tmp_path / "out").exists()
    assert (
        build(tmp_path / "out", "--python-embed", str(archive), "--python-embed-sha256", digest.upper()) == 0
    )
    assert (tmp_path / "out" / "python" / "python313._pth").exists()


def test_changed_python_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = read_archive(embedded_python("3.13"))["python.exe"]
    for number, content in enumerate((program.replace(b"This program", b"That program"), b"MZ")):
        archive = repack(tmp_path / f"{number}.zip", program=content)
        digest = sha256(archive.read_bytes())
        out = tmp_path / "out"
        assert build(out, "--python-embed", str(archive), "--python-embed-sha256", digest) == 2
        assert "python_embed_not_signed" in capsys.readouterr().err
        assert not out.exists() and not list(tmp_path.glob(".tmp-*"))


def test_without_a_checker_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = embedded_python("3.8")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build(tmp_path / "out", "--python-embed", str(archive)) == 0
    assert "its signature was NOT checked: there is no osslsigncode here" in capsys.readouterr().out


def test_what_is_no_archive_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, content in enumerate((b"", b"PK\x05\x06" + bytes(18), b"\x1f\x8b nonsense")):
        path = tmp_path / str(number)
        path.write_bytes(content)
        digest = sha256(content)
        assert build(tmp_path / "out", "--python-embed", str(path), "--python-embed-sha256", digest) == 2
        assert "python_embed_damaged" in capsys.readouterr().err
    assert build(tmp_path / "out", "--python-embed", str(tmp_path)) == 2
    said = capsys.readouterr().err
    assert "python_embed_missing" in said and list(PINS.values())[-1].version in said
    assert build(tmp_path, "--python-embed", str(tmp_path)) == 2
    assert "out_exists" in capsys.readouterr().err
