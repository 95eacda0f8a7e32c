"""A report as a stream of sound UTF-8: unpacked, capped, and with every broken character made visible.

Nothing is trusted: not the name (gzip is known by its first bytes), not the length, not the encoding.
"""

from __future__ import annotations

import codecs
import hashlib
import itertools
import os
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Union

from ioc_scan.errors import InputError
from ioc_scan.text import printable

CHUNK_BYTES = 1 << 18
DEFAULT_MAX_BYTES = 100 * 1024 * 1024

Progress = Callable[[int], None]
ReportInput = Union[BinaryIO, str, "os.PathLike[str]"]

# one whole JSON escape: a surrogate pair, a lone surrogate, or any other
_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_LONGEST_ESCAPE = 12
_HIGH_SURROGATE = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}")
# Python refuses to read numbers of more than 4300 digits, and the parser cannot take that refusal
_DIGIT_RUN = re.compile(rb"[0-9]{4000,}")
_DIGITS_KEPT = 200
_REPLACEMENT = "\ufffd".encode()


class ReportReader:
    """File-like ``read(n)`` over the clean bytes of a report.

    ``max_bytes`` caps the bytes as they lie there and, apart, the bytes after unpacking. ``digest`` is the
    SHA-256 of the bytes as they lie there, complete once the end was read.
    """

    def __init__(
        self, stream: BinaryIO, *, max_bytes: int = DEFAULT_MAX_BYTES, progress: Progress | None = None
    ) -> None:
        self._max_bytes = max_bytes
        self._progress = progress
        self._sha256 = hashlib.sha256()
        self._buffer = b""
        self.raw_bytes = 0
        self.plain_bytes = 0
        self.repaired = 0
        self._chunks = self._clean(self._unpack(self._raw(stream)))

    def read(self, size: int = -1) -> bytes:
        parts = [self._buffer]
        have = len(self._buffer)
        while size < 0 or have < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            parts.append(chunk)
            have += len(chunk)
        data = b"".join(parts)
        if size < 0:
            self._buffer = b""
            return data
        self._buffer = data[size:]
        return data[:size]

    @property
    def digest(self) -> str:
        return self._sha256.hexdigest()

    def _raw(self, stream: BinaryIO) -> Iterator[bytes]:
        while True:
            try:
                chunk = stream.read(CHUNK_BYTES)
            except OSError as error:
                raise InputError(
                    "report_unreadable",
                    f"reading the report failed: {error.strerror or error}",
                    "give the path of a readable report file",
                ) from None
            if not chunk:
                return
            self.raw_bytes += len(chunk)
            if self.raw_bytes > self._max_bytes:
                raise _too_large(self._max_bytes, "")
            self._sha256.update(chunk)
            if self._progress:
                self._progress(len(chunk))
            yield chunk

    def _unpack(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        first = next(chunks, b"")
        while first and len(first) < 2 and (more := next(chunks, b"")):
            first += more
        if not first:
            raise InputError("report_empty", "the report is empty", "wait until the sandbox has written it")
        if first[:2] != b"\x1f\x8b":
            yield self._count(first)
            for chunk in chunks:
                yield self._count(chunk)
            return
        inflate = None
        try:
            for chunk in itertools.chain([first], chunks):
                pending = chunk
                while pending:
                    inflate = inflate or zlib.decompressobj(31)
                    plain = inflate.decompress(pending, CHUNK_BYTES)
                    pending = inflate.unconsumed_tail
                    if plain:
                        yield self._count(plain)
                    if inflate.eof:
                        # members follow one another, zeros may pad the end; zlib refuses anything else
                        pending = inflate.unused_data.lstrip(b"\x00")
                        inflate = None
            while inflate is not None and not inflate.eof:
                plain = inflate.decompress(b"", CHUNK_BYTES)
                if not plain:
                    break
                yield self._count(plain)
        except zlib.error:
            raise InputError("report_corrupt", "the gzip data is damaged", "fetch the report again") from None
        if inflate is not None and not inflate.eof:
            raise InputError("report_truncated", "the gzip data ends early", "fetch the report again")

    def _count(self, plain: bytes) -> bytes:
        self.plain_bytes += len(plain)
        if self.plain_bytes > self._max_bytes:
            raise _too_large(self._max_bytes, " once unpacked")
        return plain

    def _clean(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        carry = b""
        started = False
        for chunk in chunks:
            sound = decoder.decode(chunk).encode()
            if _REPLACEMENT in sound:
                self.repaired += max(0, sound.count(_REPLACEMENT) - chunk.count(_REPLACEMENT))
            carry += sound
            if not started:
                carry = carry.removeprefix(codecs.BOM_UTF8).lstrip()
                if not carry:
                    continue
                _check_start(carry)
                started = True
            carry = _DIGIT_RUN.sub(self._shorten, carry)
            cut = _safe_cut(carry)
            if cut:
                yield self._mend(carry[:cut])
            carry = carry[cut:]
        carry += decoder.decode(b"", final=True).encode()
        if not started:
            raise InputError("report_empty", "the report holds nothing but blanks", "fetch the report again")
        if carry:
            yield self._mend(_DIGIT_RUN.sub(self._shorten, carry))

    def _shorten(self, match: re.Match[bytes]) -> bytes:
        self.repaired += 1
        return match.group(0)[:_DIGITS_KEPT]

    def _mend(self, data: bytes) -> bytes:
        """Replace lone surrogate escapes: one of them would make the parser refuse the whole report."""
        if b"\\ud" not in data and b"\\uD" not in data:
            return data

        def mended(match: re.Match[bytes]) -> bytes:
            if match.group(1) is None:
                return match.group(0)
            self.repaired += 1
            return b"\\ufffd"

        return _ESCAPES.sub(mended, data)


def _too_large(max_bytes: int, when: str) -> InputError:
    return InputError(
        "report_too_large",
        f"the report is larger than {max_bytes} bytes{when}",
        "raise max_report_bytes of this source if reports this large are expected",
    )


def _check_start(data: bytes) -> None:
    if data[:1] == b"<":
        raise InputError(
            "report_html",
            "the report is HTML or XML, not JSON",
            "check the address and the login of the sandbox",
        )
    if data[:1] == b"[":
        raise InputError(
            "report_wrong_schema", "the report is a JSON list, not an object", "is it a sandbox report?"
        )
    if data[:1] != b"{":
        raise InputError(
            "report_not_json",
            f"the report does not start as JSON: '{printable(data[:40].decode('ascii', 'replace'))}'",
            "is it a sandbox report in JSON?",
        )


def _safe_cut(data: bytes) -> int:
    """Where ``data``, which starts outside an escape, can be cut: in no escape, pair or number."""
    end = len(data.rstrip(b"0123456789"))
    backslash = data.find(b"\\", max(0, end - _LONGEST_ESCAPE))
    if backslash < 0:
        return end
    start = backslash if _begins_escape(data, backslash) else backslash - 1
    if start >= 6 and _HIGH_SURROGATE.match(data, start - 6) and _begins_escape(data, start - 6):
        return start - 6
    return start


def _begins_escape(data: bytes, backslash: int) -> bool:
    """Is the backslash the first of its escape? An even number of backslashes stands before it then."""
    run = backslash
    while run > 0 and data[run - 1 : run] == b"\\":
        run -= 1
    return (backslash - run) % 2 == 0


def open_report(report: ReportInput) -> BinaryIO:
    """A binary stream for a path or a stream. Raises InputError ``report_unreadable``."""
    if hasattr(report, "read"):
        return report  # type: ignore[return-value]
    path = Path(report)
    try:
        if not path.is_file():
            what = "is not a file" if path.exists() else "does not exist"
            raise InputError(
                "report_unreadable", f"{printable(path)} {what}", "give the path of a report file"
            )
        return path.open("rb")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            "report_unreadable",
            f"{printable(path)}: {printable(reason)}",
            "give the path of a readable report file",
        ) from None
