"""Making text from reports, file names and devices safe to show. It is data, never markup or template."""

from __future__ import annotations

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
