"""The spool of a device: who may own it, and that only one runner works in it."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from types import TracebackType
from typing import Any

from .errors import ScannerError
from .names import shown_path
from .protocol import (
    DEVICE_FILE,
    DONE_FOLDER,
    JOBS_FOLDER,
    QUARANTINE_FOLDER,
    PathLike,
    read_json,
    write_json_atomic,
)
from .runnerlock import take_lock

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

    On Windows: from the drive on; the last for SYSTEM, administrators and us alone, and none that others may
    replace. Raises ScannerError ``unsafe_spool``.
    """
    text = os.path.abspath(str(path))
    if sys.platform == "win32":
        _check_windows(text)
        return
    parts = text.strip("/").split("/")
    for count in range(len(parts) + 1):
        component = "/" + "/".join(parts[:count])
        try:
            info = os.lstat(component)
        except OSError as error:
            raise _bad_spool(component, "cannot be looked at: " + str(error.strerror)) from None
        _check_component(component, info, private=count == len(parts))


def _check_windows(path: str) -> None:
    if sys.platform == "win32":
        from .winrights import objection
        from .winsecurity import descriptor_of, own_sid

        if not os.path.isdir(path):
            raise _bad_spool(path, "is not a folder")
        if os.path.realpath(path).lower() != path.lower():
            raise _bad_spool(path, "leads through a link, or is spelled with short names")
        own = own_sid()
        drive, rest = os.path.splitdrive(path)
        parts = [part for part in rest.split(os.sep) if part]
        for count in range(len(parts) + 1):
            component = drive + os.sep + os.sep.join(parts[:count])
            try:
                why = objection(descriptor_of(component), own, private=count == len(parts))
            except OSError as error:
                raise _bad_spool(component, "cannot be looked at: " + str(error.strerror)) from None
            if why is not None:
                raise _bad_spool(component, why)


def make_private_folder(path: PathLike) -> None:
    """A folder for this user (and root, SYSTEM, administrators) alone; one that is there is left as it is.

    Folders above it are made too, as the system makes them. Raises OSError.
    """
    text = os.path.abspath(str(path))
    if sys.platform == "win32":
        from .winrights import private_descriptor
        from .winsecurity import make_folder, own_sid

        os.makedirs(os.path.dirname(text), exist_ok=True)
        with contextlib.suppress(FileExistsError):
            make_folder(text, private_descriptor(own_sid()))
    else:
        os.makedirs(text, mode=0o700, exist_ok=True)


def prepare_spool(path: PathLike, device_id: str, root: str | None = None) -> None:
    """Create the spool of a device (or complete it), owned by the caller, mode 0700. Idempotent.

    ``root`` limits scans and responses to a folder tree. Raises ScannerError ``unsafe_spool``, OSError.
    """
    text = os.path.abspath(str(path))
    make_private_folder(text)
    check_private_folder(text)
    for name in _SUBFOLDERS:
        make_private_folder(os.path.join(text, name))
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
            make_private_folder(folder)
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
        self._lock = take_lock(self.path)
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

    def folder(self, name: str) -> str:
        return os.path.join(self.path, name)

    def jobs(self) -> list[str]:
        """The ids of all published jobs, oldest name first. Names that start with a dot are being written."""
        return sorted(name for name in os.listdir(self.folder(JOBS_FOLDER)) if not name.startswith("."))
