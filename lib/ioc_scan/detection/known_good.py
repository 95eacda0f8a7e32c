"""The list of digests that the organisation's clean images hold: nothing on it is ever acted on.

One file, made for look-ups in place: a JSON header line with the origins, 65,537 offsets (one for each first
two bytes of a digest), then records in ascending order. A million digests take 38 MB, and a look-up reads a
few records. The file is written anew and put in place at once; readers keep the one they opened.
"""

from __future__ import annotations

import bisect
import fcntl
import hashlib
import itertools
import json
import mmap
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from ioc_scan.clock import from_iso, to_iso
from ioc_scan.errors import ConfigError, InputError
from ioc_scan.text import printable

FORMAT = "ioc_scan known good 1"
MAX_DIGESTS = 20_000_000
MAX_ORIGINS = 60_000
_HEADER_BYTES = 1 << 20
_OFFSETS = struct.Struct("<65537I")
#: digest, index of the origin, expiry in days since 1970 (0: never)
_RECORD = struct.Struct("<32sHI")
_DAY_SECONDS = 86400


@dataclass(frozen=True)
class KnownGoodEntry:
    """Where a digest was learned, and until when that counts."""

    sha256: str
    origin: str
    expires_at: datetime | None


class KnownGoodList:
    """An open list; use as a context manager, or keep it open for many look-ups."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError ``known_good_unreadable``."""
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_mode & stat.S_IWOTH:
                    raise ValueError("everybody may write to it")
                header = file.readline(_HEADER_BYTES)
                described = json.loads(header)
                if described.get("format") != FORMAT:
                    raise ValueError("it is no known-good list")
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._origins: list[str] = [str(origin) for origin in described["origins"]]
            self._offsets = _OFFSETS.unpack_from(self._map, len(header))
            self._start = len(header) + _OFFSETS.size
            if len(self._map) != self._start + self._offsets[-1] * _RECORD.size:
                raise ValueError("it is damaged or incomplete")
        except (OSError, ValueError, KeyError, AttributeError, struct.error) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError(
                "known_good_unreadable",
                f"known-good list {printable(path)}: {printable(reason)}",
                "learn it again, or take it out of the configuration",
            ) from None

    def __len__(self) -> int:
        return self._offsets[-1]

    def __enter__(self) -> KnownGoodList:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._map.close()

    def find(self, sha256: str) -> KnownGoodEntry | None:
        """The entry of a digest (hex), expired or not."""
        wanted = bytes.fromhex(sha256)
        first = wanted[0] << 8 | wanted[1]
        low, high = self._offsets[first], self._offsets[first + 1]
        index = bisect.bisect_left(range(low, high), wanted, key=self._digest) + low
        if index >= high or self._digest(index) != wanted:
            return None
        return self._entry(index)

    def is_known_good(self, sha256: str, now: datetime) -> bool:
        """On the list and not expired."""
        entry = self.find(sha256)
        return entry is not None and (entry.expires_at is None or now < entry.expires_at)

    def __iter__(self) -> Iterator[KnownGoodEntry]:
        return (self._entry(index) for index in range(len(self)))

    def origins(self) -> dict[str, int]:
        """How many digests each origin brought."""
        counts = [0] * len(self._origins)
        for index in range(len(self)):
            counts[_RECORD.unpack_from(self._map, self._start + index * _RECORD.size)[1]] += 1
        return dict(zip(self._origins, counts, strict=True))

    def _digest(self, index: int) -> bytes:
        at = self._start + index * _RECORD.size
        return self._map[at : at + 32]

    def _entry(self, index: int) -> KnownGoodEntry:
        digest, origin, days = _RECORD.unpack_from(self._map, self._start + index * _RECORD.size)
        expires = datetime.fromtimestamp(days * _DAY_SECONDS, timezone.utc) if days else None
        return KnownGoodEntry(digest.hex(), self._origins[origin], expires)


def write_list(path: Path, entries: Iterable[KnownGoodEntry], *, now: datetime) -> int:
    """Write a list; of a digest given twice the longer lasting entry counts, expired ones are left out.

    Returns the number of digests. Raises InputError ``known_good_too_large`` or ``known_good_bad_digest``.
    """
    origins: dict[str, int] = {}
    records: dict[bytes, tuple[int, int]] = {}
    for entry in entries:
        days = -(-int(entry.expires_at.timestamp()) // _DAY_SECONDS) if entry.expires_at else 0
        if days and days * _DAY_SECONDS <= now.timestamp():
            continue
        origin = origins.setdefault(printable(entry.origin, 200), len(origins))
        digest = _digest_of(entry.sha256)
        known = records.get(digest)
        if known is None or (known[1] and (not days or days > known[1])):
            records[digest] = (origin, days)
        if len(records) > MAX_DIGESTS or len(origins) > MAX_ORIGINS:
            raise InputError(
                "known_good_too_large",
                f"more than {MAX_DIGESTS} digests or {MAX_ORIGINS} origins",
                "learn fewer images, or let older ones expire",
            )
    header = (
        json.dumps({"format": FORMAT, "written_at": to_iso(now), "origins": list(origins)}).encode() + b"\n"
    )
    if len(header) > _HEADER_BYTES:
        raise InputError(
            "known_good_too_large",
            "the names of the origins are too long in sum",
            "learn fewer images, or let older ones expire",
        )
    ordered = sorted(records)
    _write(path, header, ordered, records)
    return len(ordered)


def _write(path: Path, header: bytes, ordered: list[bytes], records: dict[bytes, tuple[int, int]]) -> None:
    offsets = [0] * 65537
    for digest in ordered:
        offsets[(digest[0] << 8 | digest[1]) + 1] += 1
    for index in range(65536):
        offsets[index + 1] += offsets[index]
    fresh = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644), "wb") as file:
            file.write(header)
            file.write(_OFFSETS.pack(*offsets))
            for digest in ordered:
                file.write(_RECORD.pack(digest, *records[digest]))
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(fresh)


def _digest_of(sha256: str) -> bytes:
    try:
        digest = bytes.fromhex(sha256)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise InputError(
            "known_good_bad_digest",
            f"'{printable(sha256, 80)}' is no SHA-256",
            "one SHA-256 (64 hex digits) each",
        )
    return digest


def learn_into(
    path: Path, root: Path, *, origin: str, expires_at: datetime | None, now: datetime
) -> tuple[int, int]:
    """Add what the folder ``root`` holds (a mounted clean image, a reference machine's disk) to the list at ``path``.

    Returns ``(files read, digests on the list now)``. One learner at a time; readers are not disturbed.
    Raises InputError ``known_good_no_folder``, ConfigError ``known_good_unreadable`` for a damaged list.
    """
    if not root.is_dir():
        raise InputError(
            "known_good_no_folder",
            f"{printable(root)} is no folder",
            "give the folder that holds the clean image",
        )
    with open(
        os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "w"
    ) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        files = itertools.count()
        learned = (
            entry for entry in learn_folder(root, origin=origin, expires_at=expires_at) if next(files) >= 0
        )
        if not path.exists():
            total = write_list(path, learned, now=now)
        else:
            with KnownGoodList(path) as known:
                total = write_list(path, itertools.chain(known, learned), now=now)
        return next(files), total


def learn_folder(root: Path, *, origin: str, expires_at: datetime | None) -> Iterator[KnownGoodEntry]:
    """The digest of every regular file below ``root``; links are not followed, unreadable files passed over.

    The empty file is left out: the guard refuses it by itself.
    """
    for folder, _, names in os.walk(root, followlinks=False):
        for name in names:
            digest = _hash_file(os.path.join(folder, name))
            if digest:
                yield KnownGoodEntry(digest, origin, expires_at)


def _hash_file(path: str) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(descriptor, "rb", buffering=0) as file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode) or info.st_size == 0:
            return None
        digest = hashlib.sha256()
        try:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        except OSError:
            return None
        return digest.hexdigest()


def parse_expiry(text: str | None) -> datetime | None:
    """A time in ISO form, or None for "never". Raises InputError ``known_good_bad_expiry``."""
    if not text:
        return None
    try:
        return from_iso(text)
    except ValueError:
        raise InputError(
            "known_good_bad_expiry", f"'{printable(text, 60)}' is no time", "for example 2027-01-31T00:00:00Z"
        ) from None
