"""Whether a file belongs to a package of the operating system: dpkg's own lists, and rpm where it is
installed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
from typing import Iterator

from .errors import ScannerError
from .safefs import same_object

_DPKG = "var/lib/dpkg"
_RPM_DATABASES = ("var/lib/rpm", "usr/lib/sysimage/rpm")
_RPM_FILES = ("rpmdb.sqlite", "rpmdb.sqlite-wal", "Packages", "Packages.db")
_RPM_COMMANDS = ("/usr/bin/rpm", "/bin/rpm")
_RPM_LIST = (b"-qa", b"--nodigest", b"--nosignature", b"--queryformat", b"[%{FILENAMES}\\n]")
_RPM_SECONDS = 60


class PackageOwners:
    """The packages of one system. ``root`` is ``/`` or the folder tree of a device."""

    def __init__(self, root: bytes = b"/") -> None:
        self._root = root.rstrip(b"/")

    def _under_root(self, relative: str) -> str:
        return os.path.join(os.fsdecode(self._root) + "/", relative)

    def check_not_owned(self, path: bytes, info: os.stat_result) -> None:
        """Raises ScannerError ``package_owned``, or ``package_check_failed``: what cannot be asked is not
        touched.
        """
        try:
            owned = self._owned(self._dpkg_lines(), path, info) or self._owned(self._rpm_lines(), path, info)
        except (OSError, subprocess.SubprocessError) as error:
            raise ScannerError("package_check_failed", f"cannot ask for package ownership: {error}") from None
        if owned:
            raise ScannerError(
                "package_owned", "the file belongs to an installed package", "reinstall or remove the package"
            )

    def _owned(self, lines: bytes, path: bytes, info: os.stat_result) -> bool:
        """Whether a packaged path is this path, or leads to this very object."""
        inner = path[len(self._root) :]
        for candidate in _candidates(lines, os.path.basename(path)):
            if inner in (candidate, b"/usr" + candidate):
                return True
            # Merged /usr, folders that became links, bind mounts, hard links: the object decides, not the
            # spelling.
            try:
                packaged = os.lstat(self._root + candidate)
            except OSError:
                continue
            if same_object(packaged, info):
                return True
        return False

    def _dpkg_lines(self) -> bytes:
        """All paths any package or diversion names, each between newlines."""
        folder = self._under_root(_DPKG)
        stamps = []
        for name in ("info", "diversions"):
            with contextlib.suppress(FileNotFoundError):
                stamps.append(os.stat(os.path.join(folder, name)).st_mtime_ns)
        return _read_dpkg(folder, tuple(stamps))

    def _rpm_lines(self) -> bytes:
        """The same of all rpm databases, whatever this machine's rpm takes for its own."""
        blocks = []
        for folder in _RPM_DATABASES:
            stamps = []
            for name in _RPM_FILES:
                with contextlib.suppress(FileNotFoundError):
                    info = os.stat(self._under_root(f"{folder}/{name}"))
                    stamps.append((info.st_mtime_ns, info.st_size))
            if stamps:
                blocks.append(_read_rpm(self._root, "/" + folder, tuple(stamps)))
        return b"".join(blocks)


def _candidates(lines: bytes, name: bytes) -> Iterator[bytes]:
    """Packaged paths that end in this name."""
    if b"\n" in name:  # dpkg and rpm refuse such names
        return
    needle = b"/" + name + b"\n"
    position = lines.find(needle)
    while position >= 0:
        start = lines.rfind(b"\n", 0, position + 1) + 1
        yield lines[start : position + len(needle) - 1]
        position = lines.find(needle, position + 1)


@functools.lru_cache(maxsize=2)
def _read_rpm(root: bytes, database: str, stamps: tuple[tuple[int, int], ...]) -> bytes:
    """What an rpm database lists, read again when it changes.

    Not asked file by file (``rpm -qf``): that looks for the file on this machine also if the database is
    another tree's, knows no hard links, and without ``--dbpath`` some systems ask, and create, a database
    elsewhere.
    """
    command = next((name for name in _RPM_COMMANDS if os.path.exists(name)), None)
    if command is None:
        raise OSError("there is an rpm database but no rpm command")
    arguments = [b"--root", root] if root else []
    answer = subprocess.run(
        [os.fsencode(command), *arguments, b"--dbpath", os.fsencode(database), *_RPM_LIST],
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_RPM_SECONDS,
        check=False,
    )
    if answer.returncode != 0 or (answer.stderr and not answer.stdout.strip()):
        raise OSError("rpm does not list its files")
    return b"\n" + answer.stdout


@functools.lru_cache(maxsize=2)
def _read_dpkg(folder: str, stamps: tuple[int, ...]) -> bytes:
    """dpkg's lists, read again when one of its stamps changes (dpkg replaces lists by renaming)."""
    blocks = [b""]
    if stamps:
        info = os.path.join(folder, "info")
        for name in sorted(os.listdir(info)):
            if name.endswith(".list"):
                with open(os.path.join(info, name), "rb") as stream:
                    blocks.append(stream.read())
        # Three lines a diversion: the path, where it was moved to, the package. Both paths count.
        with contextlib.suppress(FileNotFoundError), open(os.path.join(folder, "diversions"), "rb") as stream:
            blocks.append(stream.read())
    return b"\n".join(blocks) + b"\n"
