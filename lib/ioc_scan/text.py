"""Making text from reports, file names and devices safe to show. It is data, never markup or template."""

from __future__ import annotations

import traceback
import unicodedata

# Cc control, Cf format (bidi overrides, zero width), Cs surrogate, Co private use, Cn unassigned, Zl/Zp breaks
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: object, limit: int = 300) -> str:
    r"""One line a terminal, log or message can take: unsafe characters become ``\xNN``/``\uNNNN``.

    Template openers are broken up (``{{`` becomes ``{ {``) so that no engine on the way evaluates them.
    """
    raw = str(text)
    out = []
    for char in raw[: limit + 1]:
        if unicodedata.category(char) in _UNSAFE_CATEGORIES:
            code = ord(char)
            out.append(
                f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
            )
        else:
            out.append(char)
    shown = "".join(out)
    if len(shown) > limit:
        shown = shown[: max(limit - 1, 0)] + "…"
    for opener in ("{{", "{%", "{#", "<%"):
        while opener in shown:
            shown = shown.replace(opener, f"{opener[0]} {opener[1]}")
    return shown


def printable_traceback(error: BaseException) -> str:
    """The traceback for a log: its frames are our own code, the words of the exceptions are not.

    An exception's text often quotes its input. Each is shown as one :func:`printable` line, so that no input can
    write a line of the log by itself.
    """
    parts: list[str] = []
    current: BaseException | None = error
    while current is not None and len(parts) < 10:
        frames = "".join(traceback.format_tb(current.__traceback__))
        parts.append(f"{frames}{printable(f'{type(current).__name__}: {current}', 1000)}")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\ncaused by\n".join(parts)
