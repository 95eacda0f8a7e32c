"""Is the place of a SQLite store safe and usable? Asked before the file is opened, for a clear answer.

Whoever can write in the folder can swap the database, and with it what may be deleted on devices.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import StoreError
from ..text import printable

_TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - refused, not used
#: Where this code lies: an upgrade of the pack replaces it.
PACK_FOLDER = Path(__file__).resolve().parents[3]


def check_location(
    path: Path,
    *,
    allow_temporary: bool = False,
    create_folder: bool = False,
    forbidden_folder: Path = PACK_FOLDER,
) -> None:
    """Raise :class:`StoreError` unless ``path`` is a good place for the store's file.

    The folder must exist (or be created with ``create_folder``), belong to this user with mode 0700,
    be writable and lie outside ``forbidden_folder``. Unless ``allow_temporary``: also outside temporary
    folders (cleaned, and private to each service under systemd), below folders of root or this user only.
    """
    if not path.is_absolute():
        raise StoreError(
            "store_path_relative", f"the store's path is not absolute: {printable(path)}", "give it in full"
        )
    folder = path.parent
    real = Path(os.path.realpath(folder))
    pack = forbidden_folder.resolve()
    if real == pack or pack in real.parents:
        raise StoreError(
            "store_in_pack",
            f"the store would lie inside the pack folder: {printable(path)}",
            "an upgrade of the pack replaces that folder; use /var/lib/ioc_scan",
        )
    if not allow_temporary and any(real == Path(top) or Path(top) in real.parents for top in _TEMPORARY):
        raise StoreError(
            "store_in_temporary",
            f"the store would lie in a temporary folder: {printable(path)}",
            "such folders are cleaned, and private to each service; use /var/lib/ioc_scan",
        )
    if create_folder and not folder.exists() and folder.parent.is_dir():
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise StoreError(
                "store_not_writable",
                f"cannot create {printable(folder)}: {error.strerror}",
                _install_hint(folder),
            ) from error
    _check_folder(folder)
    if not allow_temporary:
        _check_parents(real)
    _check_file(path)


def _install_hint(folder: Path) -> str:
    return f"as root: install -d -m 0700 -o USER {printable(folder)}, with the user who runs the actions"


def _check_folder(folder: Path) -> None:
    try:
        status = os.stat(folder)
    except FileNotFoundError:
        raise StoreError(
            "store_folder_missing",
            f"the store's folder does not exist: {printable(folder)}",
            _install_hint(folder),
        ) from None
    except OSError as error:
        raise StoreError(
            "store_not_writable",
            f"cannot look at {printable(folder)}: {error.strerror}",
            _install_hint(folder),
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise StoreError("store_folder_missing", f"not a folder: {printable(folder)}", _install_hint(folder))
    if status.st_uid != os.geteuid():
        raise StoreError(
            "store_wrong_owner",
            f"{printable(folder)} belongs to user {status.st_uid}, this process runs as {os.geteuid()}",
            "SQLite is for one user: run all actions as that user, or use PostgreSQL",
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise StoreError(
            "store_folder_open",
            f"others may enter {printable(folder)} (mode {stat.S_IMODE(status.st_mode):04o})",
            f"chmod 0700 {printable(folder)}",
        )
    if not os.access(folder, os.W_OK | os.X_OK) or _mounted_read_only(folder):
        raise StoreError(
            "store_not_writable",
            f"cannot write in {printable(folder)}",
            "check its mode and that the disk is writable",
        )


def _check_parents(real: Path) -> None:
    for parent in real.parents:
        above = os.stat(parent)
        if above.st_uid not in (0, os.geteuid()) or (
            above.st_mode & 0o022 and not above.st_mode & stat.S_ISVTX
        ):
            raise StoreError(
                "store_folder_open",
                f"others may replace the store's folder: {printable(parent)} is theirs or writable for them",
                "choose a place whose parent folders belong to root or you and only they may write in",
            )


def _mounted_read_only(folder: Path) -> bool:
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def _check_file(path: Path) -> None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode):
        raise StoreError(
            "store_not_a_file", f"not an ordinary file: {printable(path)}", "remove the link or folder"
        )
    if status.st_uid != os.geteuid():
        raise StoreError(
            "store_wrong_owner",
            f"{printable(path)} belongs to user {status.st_uid}, this process runs as {os.geteuid()}",
            "SQLite is for one user: run all actions as that user, or use PostgreSQL",
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise StoreError(
            "store_file_open", f"others may read {printable(path)}", f"chmod 0600 {printable(path)}"
        )
    if not stat.S_IMODE(status.st_mode) & stat.S_IWUSR or not os.access(path, os.W_OK):
        raise StoreError(
            "store_read_only", f"cannot write {printable(path)}", f"chmod 0600 {printable(path)}"
        )


def create_private(path: Path) -> None:
    """Create the file with mode 0600: SQLite would make it 0644, and copies its mode to -wal and -shm."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(
            "store_not_writable",
            f"cannot create {printable(path)}: {error.strerror}",
            "check the folder and the disk",
        ) from error
