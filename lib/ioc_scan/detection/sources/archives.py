"""Archives of reports (zip, tar, tar.gz): listed and read entry by entry, never unpacked to disk.

Strict on purpose: an archive with a link, an absolute name, a ``..``, an archive inside, too many entries or
too much in them is refused as a whole. Somebody who packs reports has no need for any of these.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from ioc_scan.errors import InputError
from ioc_scan.text import printable

MAX_ENTRIES = 1000
MAX_RATIO = 200
#: All entries together, as a multiple of what one report may have.
MAX_REPORTS_WORTH = 10
_TAR_MAGIC_AT = 257
_UNSAFE_NAME = re.compile(r"(\A[/\\])|(\A[A-Za-z]:)|((\A|[/\\])\.\.([/\\]|\Z))|\x00")


@dataclass(frozen=True)
class Entry:
    """One report in an archive; ``open`` gives its bytes as a stream."""

    name: str
    open: Callable[[], BinaryIO]


def is_archive(stream: BinaryIO) -> bool:
    """By content: a zip, a tar, or a gzip with a tar in it. Leaves the stream at its start."""
    head = stream.read(_TAR_MAGIC_AT + 5)
    stream.seek(0)
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return True
    if head[:2] == b"\x1f\x8b":
        packed = stream.read(4096)
        stream.seek(0)
        with contextlib.suppress(zlib.error):
            head = zlib.decompressobj(31).decompress(packed, 1024)
    return head[_TAR_MAGIC_AT:][:5] == b"ustar"


@contextlib.contextmanager
def opened(stream: BinaryIO, size: int) -> Iterator[list[Entry]]:
    """The entries of an archive of ``size`` bytes. Raises InputError ``archive_*``."""
    try:
        if stream.read(2) == b"PK":
            stream.seek(0)
            with zipfile.ZipFile(stream) as archive:
                yield _zip_entries(archive)
        else:
            stream.seek(0)
            plain = stream.read(2) != b"\x1f\x8b"
            stream.seek(0)
            content = (
                stream if plain else cast(BinaryIO, _Capped(gzip.GzipFile(fileobj=stream), MAX_RATIO * size))
            )
            with tarfile.open(fileobj=content, mode="r:") as archive:
                yield _tar_entries(archive)
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
    ) as error:
        raise InputError(
            "archive_damaged", f"the archive cannot be read: {printable(error, 120)}", "pack it again"
        ) from None


class _Capped:
    """A packed stream that refuses to go beyond ``limit`` unpacked bytes, also when told to skip there."""

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        self._stream, self._limit = stream, limit

    def read(self, size: int = -1) -> bytes:
        self._check(self._stream.tell() + (size if size >= 0 else self._limit))
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._check(offset + (self._stream.tell() if whence == 1 else 0))
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def _check(self, position: int) -> None:
        if position > self._limit + (1 << 20):
            raise _refused("archive_too_large", "it unpacks to too much")


@dataclass(frozen=True)
class Digested:
    """An entry that was read through: its digest and its first bytes."""

    sha256: str
    name: str
    head: bytes


def digests(stream: BinaryIO, size: int, max_report_bytes: int) -> list[Digested]:
    """Every entry, read once. Raises InputError ``archive_*``."""
    found: list[Digested] = []
    total = 0
    with opened(stream, size) as entries:
        for entry in entries:
            digest = hashlib.sha256()
            length = 0
            head = b""
            with entry.open() as content:
                while chunk := content.read(1 << 18):
                    head = head or chunk[:4096]
                    if not length and _is_packed(chunk):
                        raise _refused("archive_nested", f"{printable(entry.name, 100)} is an archive itself")
                    length += len(chunk)
                    total += len(chunk)
                    if length > max_report_bytes:
                        raise _refused(
                            "archive_too_large",
                            f"{printable(entry.name, 100)} is larger than one report may be",
                        )
                    if total > MAX_REPORTS_WORTH * max_report_bytes or total > MAX_RATIO * max(size, 4096):
                        raise _refused("archive_too_large", "its entries unpack to too much")
                    digest.update(chunk)
            if any(entry.name == known.name for known in found):
                raise _refused("archive_bad_name", f"two entries are called {printable(entry.name, 100)}")
            found.append(Digested(digest.hexdigest(), entry.name, head))
    return found


def _zip_entries(archive: zipfile.ZipFile) -> list[Entry]:
    infos = archive.infolist()
    _check_count(len(infos))
    entries = []
    for info in infos:
        mode = info.external_attr >> 16
        if info.is_dir():
            continue
        if mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode):
            raise _refused("archive_link", f"{printable(info.filename, 100)} is a link or no regular file")
        if info.flag_bits & 1:
            raise _refused("archive_encrypted", f"{printable(info.filename, 100)} is encrypted")
        _check_name(info.filename)
        entries.append(Entry(info.filename, lambda info=info: cast(BinaryIO, archive.open(info))))  # type: ignore[misc]
    return entries


def _tar_entries(archive: tarfile.TarFile) -> list[Entry]:
    entries = []
    for count, member in enumerate(archive, start=1):
        _check_count(count)
        if member.isdir():
            continue
        if not member.isreg():
            raise _refused("archive_link", f"{printable(member.name, 100)} is a link or no regular file")
        _check_name(member.name)
        entries.append(Entry(member.name, lambda member=member: cast(BinaryIO, archive.extractfile(member))))  # type: ignore[misc]
    return entries


def _check_count(count: int) -> None:
    if count > MAX_ENTRIES:
        raise _refused("archive_too_many_entries", f"it has more than {MAX_ENTRIES} entries")


def _check_name(name: str) -> None:
    if _UNSAFE_NAME.search(name):
        raise _refused("archive_bad_name", f"an entry is called {printable(name, 100)}")


def _is_packed(start: bytes) -> bool:
    return start[:2] == b"PK" or start[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar"


def _refused(code: str, why: str) -> InputError:
    return InputError(code, f"the archive is refused: {why}", "pack plain report files, nothing else")
