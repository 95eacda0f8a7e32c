"""Builds the device side as one file, ``scanner.pyz``: the same bytes from the same sources, wherever it is
built.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import zipfile
from pathlib import Path

from ioc_scan.errors import InputError

_SOURCES = Path(__file__).resolve().parent / "scanner"
#: The package's name inside the archive: never "ioc_scan", which a device may have installed.
_PACKAGE = "ioc_scan_scanner"
_START = b"import sys\nfrom %s.__main__ import main\nsys.exit(main(sys.argv[1:]))\n" % _PACKAGE.encode()
_EPOCH = (1980, 1, 1, 0, 0, 0)


def zipapp_bytes() -> bytes:
    """The archive: all modules of ``scanner/``, in order, without dates."""
    buffer = io.BytesIO()
    buffer.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        members = {"__main__.py": _START}
        for source in _SOURCES.rglob("*.py"):
            members[f"{_PACKAGE}/{source.relative_to(_SOURCES).as_posix()}"] = source.read_bytes()
        for name in sorted(members):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, members[name])
    return buffer.getvalue()


def build_zipapp(out: str | os.PathLike[str]) -> str:
    """Write the scanner to ``out``, as a whole or not at all; its SHA-256.

    Raises InputError ``cannot_write``.
    """
    content = zipapp_bytes()
    target = Path(out)
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=".tmp-", dir=target.parent)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            os.fchmod(stream.fileno(), 0o755)
        os.replace(temporary, target)
    except OSError as error:
        raise InputError(
            "cannot_write", f"{target}: {error.strerror}", "give a file in a writable folder"
        ) from None
    return hashlib.sha256(content).hexdigest()
