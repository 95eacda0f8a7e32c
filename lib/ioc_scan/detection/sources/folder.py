"""A watched folder of report files.

Files may come in any order and with any time stamps: what counts is when they arrived (the later of change
and modification time), and the digest of their content is their id, in an archive as outside one. Links, hidden
files, parts and files still being written are left alone.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, BinaryIO

from ioc_scan.detection import ids
from ioc_scan.detection.normalize import normalize_report, sniff
from ioc_scan.detection.reading import DEFAULT_MAX_BYTES
from ioc_scan.detection.sources import archives
from ioc_scan.detection.sources.base import Cursor, Row, SourceHealth, SourceUnavailable, window_start
from ioc_scan.errors import ConfigError, InputError, SourceError
from ioc_scan.text import printable

IGNORED_SUFFIXES = (".part", ".tmp", ".crdownload", ".swp", "~")
MAX_FILES = 20_000
#: A file is complete once it was left alone for this long.
SETTLE_SECONDS = 2.0
_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class _Entry:
    name: str
    size: int
    stamp: tuple[int, int, int, int]
    arrived: float
    modified: float


@dataclass(frozen=True)
class _Report:
    """Where a report stands in a file: as the file itself (``member`` None) or inside an archive."""

    product: str
    member: str | None = None
    refused: bool = False


class FolderSource:
    #: of reports whose sandbox cannot be told
    product = "cape"

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        product: str | None = None,
        look_back_hours: float = 24,
        max_report_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        self.name = name
        self._path = path
        self._product = product
        self._look_back = timedelta(hours=look_back_hours)
        self._max_report_bytes = max_report_bytes
        self._known: dict[tuple[str, tuple[int, int, int, int]], dict[str, _Report]] = {}

    @classmethod
    def from_config(cls, entry: dict[str, Any]) -> FolderSource:
        path = Path(str(entry.get("path") or ""))
        if not path.is_absolute():
            raise ConfigError(
                "source_path",
                f"source {entry['name']}: `path` must be an absolute folder",
                "for example /srv/reports",
            )
        return cls(
            entry["name"],
            path,
            product=None if entry.get("product") in (None, "", "auto") else entry["product"],
            look_back_hours=entry.get("look_back_hours") or 24,
            max_report_bytes=entry.get("max_report_bytes") or DEFAULT_MAX_BYTES,
        )

    def list_new(self, cursor: Cursor | None, now: datetime) -> tuple[list[Row], Cursor]:
        """Complete files that arrived within the look-back window before the last look."""
        since = window_start(cursor, now, self._look_back).timestamp()
        rows = []
        with _Folder(self._path) as folder:
            entries = [entry for entry in folder.entries() if entry.arrived >= since]
            for entry in sorted(entries, key=lambda entry: (entry.arrived, entry.name)):
                if now.timestamp() - entry.modified < SETTLE_SECONDS and entry.modified <= now.timestamp():
                    continue
                rows += [self._row(*found, entry) for found in self._contents(folder, entry).items()]
        return rows, {"listed_at": int(now.timestamp())}

    def fetch(self, report_id: str) -> dict[str, Any]:
        """Find the file by its digest, newest first, and normalize it."""
        with _Folder(self._path) as folder:
            for entry in sorted(folder.entries(), key=lambda entry: -entry.arrived):
                contents = self._contents(folder, entry)
                if report_id in contents:
                    return self._read(folder, entry, report_id, contents[report_id])
        raise SourceError(
            "report_gone",
            f"source {self.name}: no file of the folder has the content {printable(report_id, 64)} now",
            "put the report back, or delete the detection",
        )

    def fetch_degraded(self, report_id: str) -> dict[str, Any] | None:
        return None

    def health(self) -> SourceHealth:
        try:
            with _Folder(self._path) as folder:
                for _ in folder.entries():
                    pass
                problems = folder.problems
        except SourceError as error:
            return SourceHealth(False, (str(error),))
        return SourceHealth(not problems, tuple(problems))

    def _read(self, folder: _Folder, entry: _Entry, report_id: str, report: _Report) -> dict[str, Any]:
        with folder.open(entry.name) as stream:
            if report.refused:
                archives.digests(
                    stream, entry.size, self._max_report_bytes
                )  # says again what is wrong with it
            elif report.member is None:
                return self._normalize(stream, report_id, report.product)
            with archives.opened(stream, entry.size) as entries:
                for packed in entries:
                    if packed.name == report.member:
                        with packed.open() as content:
                            return self._normalize(content, report_id, report.product)
        raise SourceError(
            "report_gone",
            f"source {self.name}: the archive holds this report no longer",
            "look it up at the sandbox, and use the id that its list gives",
        )

    def _normalize(self, stream: BinaryIO, report_id: str, product: str) -> dict[str, Any]:
        return normalize_report(
            stream,
            product=product,
            instance=self.name,
            report_id=report_id,
            max_bytes=self._max_report_bytes,
        )

    def _row(self, report_id: str, report: _Report, entry: _Entry) -> Row:
        return Row(
            detection_id=ids.detection_id(report.product, self.name, report_id),
            report_id=report_id,
            reported_at=datetime.fromtimestamp(int(entry.arrived), timezone.utc),
        )

    def _contents(self, folder: _Folder, entry: _Entry) -> dict[str, _Report]:
        """The reports in a file, by id."""
        key = (entry.name, entry.stamp)
        if key not in self._known:
            if len(self._known) > 2 * MAX_FILES:
                self._known.clear()
            try:
                self._known[key] = self._look_into(folder, entry)
            except (OSError, InputError):
                # vanished or exchanged since it was listed: the next look sees it as it is then
                return {}
        return self._known[key]

    def _look_into(self, folder: _Folder, entry: _Entry) -> dict[str, _Report]:
        if entry.size > self._max_report_bytes:
            # not worth reading: its fetch is refused, and that is reported
            name = f"{entry.name}\0{entry.stamp}".encode("utf-8", "surrogateescape")
            return {ids.digest_part(name): _Report(self._product or self.product)}
        with folder.open(entry.name) as stream:
            packed = archives.is_archive(stream)
            product = self._product or sniff(stream.read(4096))
            stream.seek(0)
            digest = hashlib.sha256()
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
            own_id = ids.digest_name(digest.hexdigest())
            if not packed:
                return {own_id: _Report(product)}
            stream.seek(0)
            try:
                found = archives.digests(stream, entry.size, self._max_report_bytes)
            except InputError:
                return {own_id: _Report(self._product or self.product, refused=True)}
        return {
            ids.digest_name(item.sha256): _Report(self._product or sniff(item.head), item.name)
            for item in found
        }


class _Folder:
    """The folder held open by descriptor, so that nothing can be slipped in between look and read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self.problems: list[str] = []

    def __enter__(self) -> _Folder:
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            mode = os.fstat(self._fd).st_mode
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SourceUnavailable(
                "folder_unreachable",
                f"folder {printable(self._path)}: {printable(reason)}",
                "create it, or give the user of StackStorm the right to read it",
            ) from None
        if mode & stat.S_IWOTH:
            self.__exit__()
            raise SourceUnavailable(
                "folder_world_writable",
                f"everybody may write to folder {printable(self._path)}, so anybody could submit detections",
                f"chmod o-w {printable(self._path)}",
                lasting=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def entries(self) -> Iterator[_Entry]:
        """Regular files that may be reports; what is passed over for a reason is in ``problems``."""
        count = 0
        with os.scandir(self._fd) as found:
            for item in found:
                if item.name.startswith(".") or item.name.lower().endswith(IGNORED_SUFFIXES):
                    continue
                try:
                    info = item.stat(follow_symlinks=False)
                except OSError:
                    continue
                if not stat.S_ISREG(info.st_mode) or info.st_nlink > 1:
                    if not stat.S_ISDIR(info.st_mode):
                        self._problem(f"passed over, a link or no regular file: {printable(item.name, 100)}")
                    continue
                count += 1
                if count > MAX_FILES:
                    self._problem(
                        f"more than {MAX_FILES} files: the rest is passed over; move old reports away"
                    )
                    return
                yield _Entry(
                    item.name,
                    info.st_size,
                    (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns),
                    max(info.st_mtime, info.st_ctime),
                    info.st_mtime,
                )

    def open(self, name: str) -> BinaryIO:
        """Raises InputError ``report_unreadable`` for what is not a regular file now."""
        try:
            descriptor = os.open(name, _OPEN_FLAGS, dir_fd=self._fd)
        except OSError as error:
            raise InputError(
                "report_unreadable",
                f"{printable(name, 100)}: {error.strerror}",
                "give the path of a readable report file",
            ) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InputError(
                "report_unreadable",
                f"{printable(name, 100)} is not a regular file",
                "give the path of a readable report file",
            )
        return os.fdopen(descriptor, "rb")

    def _problem(self, text: str) -> None:
        if len(self.problems) < 20:
            self.problems.append(text)
