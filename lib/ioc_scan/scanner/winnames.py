r"""Paths of Windows as jobs carry them (UTF-8 bytes, ``C:\folder\name``), and its folders nobody may touch.

Nothing here asks the system: what a path really leads to, :mod:`.winfiles` finds out.
"""

from __future__ import annotations

import os
import re

from .errors import ScannerError

_PREFIX = "\\\\?\\"
_DRIVE = re.compile(r"[A-Za-z]:\\")
#: In no name of a file: a colon would start the name of an alternate data stream.
_NEVER = re.compile(r'[\x00-\x1f<>:"/|?*]')
#: As the first version of Windows' file systems made them: at most eight characters with a tilde and a number.
_SHORT = re.compile(r"[^.\\]{1,6}~[0-9]{1,6}(\.[^.\\]{0,3})?\Z")

#: Of the system, on whatever drive: below these nothing is removed or created.
_SYSTEM = (
    "\\windows", "\\boot", "\\efi", "\\recovery", "\\system volume information", "\\$winreagent",
    "\\$windows.~bt", "\\$windows.~ws", "\\config.msi", "\\windows.old", "\\perflogs",
    "\\program files\\windowsapps", "\\program files\\modifiablewindowsapps",
    "\\program files\\windows defender", "\\program files\\windows defender advanced threat protection",
    "\\program files (x86)\\windows defender", "\\programdata\\microsoft\\windows defender",
    "\\programdata\\microsoft\\crypto", "\\programdata\\microsoft\\protect",
    "\\programdata\\microsoft\\search", "\\programdata\\microsoft\\windows\\systemdata",
)  # fmt: skip
#: Single files of the system at the top of a drive.
_SYSTEM_FILES = frozenset(
    {"bootmgr", "bootmgr.efi", "bootnxt", "bootsect.bak", "ntldr", "ntdetect.com"}
    | {"pagefile.sys", "swapfile.sys", "hiberfil.sys", "dumpstack.log.tmp"}
)
#: Where everybody may write, and does.
_EXCEPTIONS = ("\\windows\\temp",)


def text_of(path: bytes) -> str:
    r"""A path as text, without ``\\?\`` in front."""
    text = os.fsdecode(path) if os.name == "nt" else path.decode("utf-8", "surrogatepass")
    return text[len(_PREFIX) :] if text.startswith(_PREFIX) else text


def bytes_of(path: str) -> bytes:
    """The bytes of a path, as jobs carry them."""
    return path.encode("utf-8", "surrogatepass")


def parts_of(path: bytes) -> list[str]:
    r"""``["C:\\", "folder", "name"]`` of a path on a drive.

    Raises ScannerError ``bad_path``: not absolute, not normalized, on no drive of this machine's own, or with
    a name that is not one.
    """
    try:
        text = text_of(path)
    except UnicodeDecodeError:
        raise ScannerError("bad_path", "a path is not in UTF-8") from None
    if not _DRIVE.match(text):
        raise ScannerError("bad_path", "a path does not begin with a drive, as C:\\ does")
    parts = [text[:3], *text[3:].split("\\")]
    if any(part in ("", ".", "..") or _NEVER.search(part) for part in parts[1:]):
        raise ScannerError("bad_path", "a path is not normalized, or has a name that is none")
    return parts


def is_same_name(given: str, real: str) -> bool:
    """Whether a name may stand for what the system calls ``real``: another case, or its short form (8.3)."""
    return given.lower() == real.lower() or _SHORT.match(given) is not None


def inside(path: bytes, folder: bytes) -> bool:
    """Whether a path is a folder or lies below it; Windows' names do not differ by case."""
    inner, outer = text_of(path).lower(), text_of(folder).lower().rstrip("\\")
    return inner == outer or inner.startswith(outer + "\\")


def below(path: bytes, root: bytes) -> bytes:
    """What is left of a path as if ``root`` were a drive."""
    return bytes_of("C:" + text_of(path)[len(text_of(root).rstrip("\\")) :])


def is_system(path: bytes) -> bool:
    """Whether a path lies in a folder of Windows itself."""
    rest = text_of(path).lower()[2:]
    if rest.lstrip("\\") in _SYSTEM_FILES:
        return True
    return any(_below(rest, folder) for folder in _SYSTEM) and not any(
        _below(rest, folder) for folder in _EXCEPTIONS
    )


def _below(rest: str, folder: str) -> bool:
    return rest == folder or rest.startswith(folder + "\\")
