"""Paths as bytes and as text: the bytes are acted on, the text is only shown."""

from __future__ import annotations

import binascii
import os

from .errors import ScannerError

#: Linux refuses longer path strings in one call; component-wise opening could go further, nothing needs it.
MAX_PATH_BYTES = 65536

_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str) -> str:
    r"""Text with control, format and surrogate characters as ``\xNN``/``\uNNNN``; nothing else is changed."""
    if text.isascii() and text.isprintable():
        return text
    import unicodedata  # not wanted by most scans

    out = []
    for char in text:
        if unicodedata.category(char) in _UNSAFE_CATEGORIES:
            code = ord(char)
            if 0xDC80 <= code <= 0xDCFF:  # an undecodable byte, as os.fsdecode smuggles it
                code -= 0xDC00
            form = "\\x%02x" if code < 0x100 else "\\u%04x" if code < 0x10000 else "\\U%08x"
            out.append(form % code)
        else:
            out.append(char)
    return "".join(out)


def shown_path(path: bytes | str) -> str:
    """A path as one printable line; for people, never to be opened."""
    return printable(os.fsdecode(path))


def encode_path(path: bytes | str) -> str:
    """The exact bytes of a path as base64: the only form of a path that jobs and results are acted on by."""
    return binascii.b2a_base64(os.fsencode(path), newline=False).decode("ascii")


def decode_path(text: object) -> bytes:
    """Bytes of an absolute, normalized path from a job. Raises ScannerError ``bad_path``.

    No empty, ``.`` or ``..`` component and no NUL: what is checked is what is opened.
    """
    if not isinstance(text, str) or len(text) > MAX_PATH_BYTES * 2:
        raise ScannerError("bad_path", "a path is not a base64 string of an acceptable length")
    import base64  # its import takes longer than most scans' matches

    try:
        path = base64.b64decode(text.encode("ascii"), validate=True)
    except (ValueError, UnicodeEncodeError, binascii.Error):
        raise ScannerError("bad_path", "a path is not valid base64") from None
    check_path(path)
    return path


def check_path(path: bytes) -> None:
    """Refuse a path that is not absolute and normalized as this system has it.

    Raises ScannerError ``bad_path``.
    """
    if os.name == "nt":
        _check_windows(path)
    else:
        _check_posix(path)


def check_path_somewhere(path: bytes) -> None:
    """The same for who does not know the system: it must be a path of POSIX systems or of Windows."""
    if path.startswith(b"/"):
        _check_posix(path)
    else:
        _check_windows(path)


def _check_windows(path: bytes) -> None:
    from .winnames import parts_of

    if len(path) > MAX_PATH_BYTES:
        raise ScannerError("bad_path", "a path is too long")
    parts_of(path)


def _check_posix(path: bytes) -> None:
    if not path.startswith(b"/") or b"\0" in path or len(path) > MAX_PATH_BYTES:
        raise ScannerError("bad_path", "a path is not absolute, has a NUL byte or is too long")
    parts = path[1:].split(b"/")
    if path != b"/" and any(part in (b"", b".", b"..") for part in parts):
        raise ScannerError("bad_path", "a path is not normalized: " + shown_path(path)[:200])
