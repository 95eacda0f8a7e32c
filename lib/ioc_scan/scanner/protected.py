"""Folders in which the scanner never deletes or creates anything, whatever a job says."""

from __future__ import annotations

import sys

from .errors import ScannerError
from .names import shown_path

#: Of the operating system itself. /usr/local and /opt are where people install by hand: package ownership
#: decides.
_LINUX = (
    b"/bin", b"/boot", b"/dev", b"/etc", b"/lib", b"/lib32", b"/lib64", b"/libx32", b"/proc", b"/sbin",
    b"/snap", b"/sys", b"/usr", b"/var/lib/dpkg", b"/var/lib/rpm", b"/run/systemd",
)  # fmt: skip
_MACOS = (
    b"/System",
    b"/bin",
    b"/sbin",
    b"/usr",
    b"/dev",
    b"/private/etc",
    b"/Library/Apple",
    b"/private/var/db",
)
_EXCEPTIONS = (b"/usr/local", b"/dev/shm")


def _inside_posix(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def _below_posix(path: bytes, root: bytes) -> bytes:
    return path[len(root) :]


def _is_system_posix(path: bytes) -> bool:
    folders = _MACOS if sys.platform == "darwin" else _LINUX
    return any(_inside_posix(path, folder) for folder in folders) and not any(
        _inside_posix(path, folder) for folder in _EXCEPTIONS
    )


if sys.platform == "win32":
    from .winnames import below, inside, is_system
else:
    below, inside, is_system = _below_posix, _inside_posix, _is_system_posix


def check_not_protected(path: bytes, spool: bytes, root: bytes | None) -> None:
    """Raises ScannerError ``system_folder``, ``own_spool`` or ``outside_root``: the path must not be touched.

    For a device that is a folder tree the system folders are judged both from ``/`` and from its root.
    """
    if inside(path, spool):
        raise ScannerError("own_spool", "the path lies in the scanner's own spool")
    views = [path]
    if root is not None and root != b"/":
        if not inside(path, root) or path == root:
            raise ScannerError("outside_root", "the path lies outside this device's folder tree")
        views = [below(path, root)] if is_system(root) else [path, below(path, root)]
    for view in views:
        if is_system(view):
            raise ScannerError(
                "system_folder",
                shown_path(path)[:300] + " lies in a folder of the operating system",
                "report only; remove it by hand if it does not belong there",
            )
