"""The stable codes of the operating system's errors."""

from __future__ import annotations

import errno

_CODES = {
    errno.ENOENT: "missing",
    errno.ELOOP: "link_in_path",
    errno.ENOTDIR: "link_in_path",
    errno.EACCES: "not_permitted",
    errno.EPERM: "not_permitted",
    errno.EROFS: "read_only",
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EFBIG: "disk_full",
    errno.EIO: "io_error",
    errno.EBUSY: "busy",
    errno.ETXTBSY: "busy",
    errno.EEXIST: "exists",
    errno.ENXIO: "not_a_regular_file",
}
#: Errors of Windows whose errno says less than they do (winerror.h).
_WINDOWS_CODES = {
    19: "read_only",  # WRITE_PROTECT
    23: "io_error",  # CRC
    32: "busy",  # SHARING_VIOLATION
    33: "busy",  # LOCK_VIOLATION
    39: "disk_full",  # HANDLE_DISK_FULL
    112: "disk_full",  # DISK_FULL
    225: "not_permitted",  # VIRUS_INFECTED: another scanner holds its hand over the file
    267: "link_in_path",  # DIRECTORY: a component is no folder
    303: "missing",  # DELETE_PENDING: it goes as soon as the last one closes it
    362: "offline",  # CLOUD_FILE_PROVIDER_NOT_RUNNING
    1117: "io_error",  # IO_DEVICE
    1224: "busy",  # USER_MAPPED_FILE: it is being run or mapped
    1295: "disk_full",  # DISK_QUOTA_EXCEEDED
}


def code_of(error: OSError) -> str:
    """The stable code of an operating system error."""
    known = _WINDOWS_CODES.get(getattr(error, "winerror", None) or 0)
    return known or _CODES.get(error.errno or 0, "os_error")
