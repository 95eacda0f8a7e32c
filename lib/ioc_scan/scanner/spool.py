"""The spool of a device: who may own it, and that only one runner works in it."""

from __future__ import annotations

import errno
import os
import stat
import time
from types import TracebackType
from typing import Any

from .errors import ScannerError
from .names import shown_path
from .protocol import (
    DEVICE_FILE,
    DONE_FOLDER,
    JOBS_FOLDER,
    LOCK_FILE,
    QUARANTINE_FOLDER,
    PathLike,
    read_json,
    write_json_atomic,
)

_SUBFOLDERS = (JOBS_FOLDER, DONE_FOLDER, QUARANTINE_FOLDER)


def _bad_spool(path: str, why: str) -> ScannerError:
    return ScannerError(
        "unsafe_spool",
        f"{shown_path(path)} {why}",
        "the spool and all folders above it must belong to root or the scanner's own user, without links",
    )


def _check_component(path: str, info: os.stat_result, private: bool) -> None:
    if stat.S_ISLNK(info.st_mode):
        raise _bad_spool(path, "is a symbolic link")
    if not stat.S_ISDIR(info.st_mode):
        raise _bad_spool(path, "is not a folder")
    own = os.getuid()
    if private:
        if info.st_uid != own:
            raise _bad_spool(path, f"belongs to user {info.st_uid}, not to {own}")
        if stat.S_IMODE(info.st_mode) & 0o077:
            raise _bad_spool(path, "is open to other users (mode is not 0700)")
        return
    if info.st_uid not in (0, own):
        raise _bad_spool(path, f"belongs to user {info.st_uid}")
    # In a sticky folder (/tmp) others cannot rename what is ours.
    if info.st_mode & 0o022 and not info.st_mode & stat.S_ISVTX:
        raise _bad_spool(path, "can be written by other users")


def check_private_folder(path: PathLike) -> None:
    """Every component from ``/`` on: no link, owned by root or us; the last ours, mode 0700.

    Raises ScannerError ``unsafe_spool``. On Windows the folder's permissions are the installer's work.
    """
    text = os.path.abspath(str(path))
    if os.name == "nt":
        if not os.path.isdir(text):
            raise _bad_spool(text, "is not a folder")
        return
    parts = text.strip("/").split("/")
    for count in range(len(parts) + 1):
        component = "/" + "/".join(parts[:count])
        try:
            info = os.lstat(component)
        except OSError as error:
            raise _bad_spool(component, "cannot be looked at: " + str(error.strerror)) from None
        _check_component(component, info, private=count == len(parts))


def prepare_spool(path: PathLike, device_id: str, root: str | None = None) -> None:
    """Create the spool of a device (or complete it), owned by the caller, mode 0700. Idempotent.

    ``root`` limits scans and responses to a folder tree. Raises ScannerError ``unsafe_spool``, OSError.
    """
    text = os.path.abspath(str(path))
    os.makedirs(text, mode=0o700, exist_ok=True)
    check_private_folder(text)
    for name in _SUBFOLDERS:
        os.makedirs(os.path.join(text, name), mode=0o700, exist_ok=True)
    device: dict[str, Any] = {"device_id": device_id}
    if root is not None:
        device["root"] = root
    device_file = os.path.join(text, DEVICE_FILE)
    if not os.path.exists(device_file) or read_json(device_file) != device:
        write_json_atomic(device_file, device)


class Spool:
    """An opened, checked and locked spool. Use as a context manager; the lock goes with the process."""

    def __init__(self, path: PathLike) -> None:
        self.path = os.path.abspath(str(path))
        self._lock = -1

    def __enter__(self) -> Spool:
        check_private_folder(self.path)
        for name in _SUBFOLDERS:
            folder = os.path.join(self.path, name)
            os.makedirs(folder, mode=0o700, exist_ok=True)
            check_private_folder(folder)
        device = read_json(os.path.join(self.path, DEVICE_FILE))
        if not isinstance(device, dict) or not isinstance(device.get("device_id"), str):
            raise ScannerError("bad_device_file", "device.json has no device_id")
        self.device_id: str = device["device_id"]
        root = device.get("root")
        if root is not None and not (isinstance(root, str) and os.path.isabs(root)):
            raise ScannerError("bad_device_file", "device.json: root is not an absolute path")
        #: The folder tree this device is limited to, or None for the whole machine; its links are resolved
        #: here.
        self.root: str | None = None if root is None else os.path.realpath(root)
        self._take_lock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._lock)
        self._lock = -1

    @property
    def lock_descriptor(self) -> int:
        """For worker processes, which must not keep the lock alive."""
        return self._lock

    def _take_lock(self) -> None:
        # Who looks whether a runner is alive holds the lock for a moment, so one "no" is not the last word.
        for _ in range(5):
            try:
                self._try_lock()
                return
            except BlockingIOError:
                time.sleep(0.05)
        raise ScannerError("already_running", "another runner works in this spool")

    def _try_lock(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(os.path.join(self.path, LOCK_FILE), flags, 0o600)
        try:
            # The kernel drops the lock with its owner, so a dead runner never blocks the next one.
            if os.name == "nt":
                import msvcrt

                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
            else:
                import fcntl

                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                raise BlockingIOError() from None
            raise
        self._lock = descriptor

    def folder(self, name: str) -> str:
        return os.path.join(self.path, name)

    def jobs(self) -> list[str]:
        """The ids of all published jobs, oldest name first. Names that start with a dot are being written."""
        return sorted(name for name in os.listdir(self.folder(JOBS_FOLDER)) if not name.startswith("."))
