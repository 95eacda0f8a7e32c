r"""The spellings of a path of Windows: as people write it, and as its calls take it whole.

``C:\folder\name`` is cut at 260 characters, loses dots and spaces at its end and means a device if it is named
like one; ``\\?\C:\folder\name`` is taken as it is, by the kernel as ``\??\C:\folder\name``.
"""

from __future__ import annotations

_LONG, _SHARE, _KERNEL = "\\\\?\\", "\\\\?\\UNC\\", "\\??\\"


def long_path(path: str) -> str:
    """An absolute path with backslashes, as it is taken without limits and without being changed."""
    if path.startswith(_LONG):
        return path
    if path.startswith("\\\\"):
        return _SHARE + path[2:]
    return _LONG + path


def kernel_path(path: str) -> str:
    """The same for ``NtCreateFile``."""
    return _KERNEL + long_path(path)[len(_LONG) :]


def plain_path(path: str) -> str:
    """As people write it; what can only be written the long way stays so (a volume without a letter)."""
    if path.startswith(_SHARE):
        return "\\\\" + path[len(_SHARE) :]
    rest = path[len(_LONG) :]
    return rest if path.startswith(_LONG) and rest[1:2] == ":" else path
