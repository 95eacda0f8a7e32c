"""The calls of Windows the scanner handles files with, one thin function each; errors are OSError.

``NtCreateFile`` rather than ``CreateFileW``: it opens a name relative to a folder that is held open, takes
every name as it is (no reserved names, no trimmed dots, no limit of 260 characters) and never follows a
reparse point with FILE_OPEN_REPARSE_POINT. Sources: "Windows Drivers/ntifs" and "Win32/fileapi" of Microsoft's
reference. Handles are plain integers.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

assert sys.platform == "win32"

import ctypes  # noqa: E402
import msvcrt  # noqa: E402
from ctypes import wintypes  # noqa: E402

# Rights.
READ_DATA = 0x1
WRITE_DATA = 0x2
TRAVERSE = 0x20
READ_ATTRIBUTES = 0x80
WRITE_ATTRIBUTES = 0x100
DELETE = 0x10000
READ_CONTROL = 0x20000
WRITE_DAC = 0x40000
WRITE_OWNER = 0x80000
SYNCHRONIZE = 0x100000

SHARE_READ, SHARE_WRITE, SHARE_DELETE, SHARE_ALL = 1, 2, 4, 7

# What to do with a name (NtCreateFile's dispositions).
OPEN_EXISTING, CREATE_NEW = 1, 2

# Options of NtCreateFile.
DIRECTORY_FILE = 0x1
SYNCHRONOUS = 0x20  #: FILE_SYNCHRONOUS_IO_NONALERT
NON_DIRECTORY_FILE = 0x40
BACKUP_INTENT = 0x4000
OPEN_REPARSE_POINT = 0x200000
OPEN_NO_RECALL = 0x400000

# Attributes of files.
READONLY, HIDDEN, SYSTEM, DIRECTORY, ARCHIVE = 0x1, 0x2, 0x4, 0x10, 0x20
DEVICE, NORMAL, TEMPORARY, SPARSE, REPARSE_POINT = 0x40, 0x80, 0x100, 0x200, 0x400
COMPRESSED, OFFLINE, NOT_INDEXED, ENCRYPTED = 0x800, 0x1000, 0x2000, 0x4000
RECALL_ON_OPEN, RECALL_ON_DATA_ACCESS = 0x40000, 0x400000

# Errors that are told apart.
ERROR_FILE_NOT_FOUND, ERROR_PATH_NOT_FOUND, ERROR_ACCESS_DENIED = 2, 3, 5
ERROR_INVALID_FUNCTION, ERROR_NOT_SUPPORTED, ERROR_INVALID_PARAMETER = 1, 50, 87
ERROR_CALL_NOT_IMPLEMENTED, ERROR_INVALID_LEVEL = 120, 124
ERROR_HANDLE_EOF, ERROR_MORE_DATA, ERROR_DIRECTORY, ERROR_DELETE_PENDING = 38, 234, 267, 303
#: What a system says that does not know a call or a class of information.
NOT_KNOWN_HERE = frozenset(
    {
        ERROR_INVALID_FUNCTION,
        ERROR_NOT_SUPPORTED,
        ERROR_INVALID_PARAMETER,
        ERROR_CALL_NOT_IMPLEMENTED,
        ERROR_INVALID_LEVEL,
    }
)
#: States that RtlNtStatusToDosError renders as "access denied" or not at all.
_STATUS_ERRORS = {
    0xC0000056: ERROR_DELETE_PENDING,
    0xC00000BA: ERROR_DIRECTORY,  # STATUS_FILE_IS_A_DIRECTORY
    0xC0000103: ERROR_DIRECTORY,  # STATUS_NOT_A_DIRECTORY
}

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_ntdll = ctypes.WinDLL("ntdll")


class _UnicodeString(ctypes.Structure):
    _fields_ = (
        ("Length", wintypes.USHORT),
        ("MaximumLength", wintypes.USHORT),
        ("Buffer", ctypes.c_void_p),
    )


class _ObjectAttributes(ctypes.Structure):
    _fields_ = (
        ("Length", wintypes.ULONG),
        ("RootDirectory", wintypes.HANDLE),
        ("ObjectName", ctypes.POINTER(_UnicodeString)),
        ("Attributes", wintypes.ULONG),
        ("SecurityDescriptor", ctypes.c_void_p),
        ("SecurityQualityOfService", ctypes.c_void_p),
    )


class _IoStatusBlock(ctypes.Structure):
    _fields_ = (("Status", ctypes.c_void_p), ("Information", ctypes.c_void_p))


class _ByHandleInformation(ctypes.Structure):
    _fields_ = (
        ("attributes", wintypes.DWORD),
        ("created", wintypes.FILETIME),
        ("accessed", wintypes.FILETIME),
        ("written", wintypes.FILETIME),
        ("serial", wintypes.DWORD),
        ("size_high", wintypes.DWORD),
        ("size_low", wintypes.DWORD),
        ("links", wintypes.DWORD),
        ("index_high", wintypes.DWORD),
        ("index_low", wintypes.DWORD),
    )


class _BasicInformation(ctypes.Structure):
    _fields_ = (
        ("created", ctypes.c_int64),
        ("accessed", ctypes.c_int64),
        ("written", ctypes.c_int64),
        ("changed", ctypes.c_int64),
        ("attributes", wintypes.DWORD),
    )


class _AttributeTag(ctypes.Structure):
    _fields_ = (("attributes", wintypes.DWORD), ("tag", wintypes.DWORD))


class _DeviceInformation(ctypes.Structure):
    _fields_ = (("type", wintypes.ULONG), ("characteristics", wintypes.ULONG))


def declare(library: Any, name: str, result: Any, *arguments: Any) -> Any:
    """A function of a library with its types; where an older Windows lacks it, one that says so."""
    try:
        function = getattr(library, name)
    except AttributeError:

        def missing(*_: object) -> Any:
            raise ctypes.WinError(ERROR_CALL_NOT_IMPLEMENTED)

        return missing
    function.restype = result
    function.argtypes = arguments
    return function


_H, _DWORD, _VOID = wintypes.HANDLE, wintypes.DWORD, ctypes.c_void_p
_status = declare(_ntdll, "RtlNtStatusToDosError", wintypes.ULONG, wintypes.LONG)
_create = declare(
    _ntdll, "NtCreateFile", wintypes.LONG, ctypes.POINTER(_H), _DWORD, ctypes.POINTER(_ObjectAttributes),
    ctypes.POINTER(_IoStatusBlock), _VOID, _DWORD, _DWORD, _DWORD, _DWORD, _VOID, _DWORD,
)  # fmt: skip
_set_nt = declare(
    _ntdll, "NtSetInformationFile", wintypes.LONG, _H, ctypes.POINTER(_IoStatusBlock), _VOID, _DWORD, _DWORD
)
_query_volume = declare(
    _ntdll, "NtQueryVolumeInformationFile", wintypes.LONG, _H, ctypes.POINTER(_IoStatusBlock), _VOID, _DWORD,
    _DWORD,
)  # fmt: skip
_close = declare(_kernel32, "CloseHandle", wintypes.BOOL, _H)
_by_handle = declare(
    _kernel32, "GetFileInformationByHandle", wintypes.BOOL, _H, ctypes.POINTER(_ByHandleInformation)
)
_query = declare(_kernel32, "GetFileInformationByHandleEx", wintypes.BOOL, _H, _DWORD, _VOID, _DWORD)
_set = declare(_kernel32, "SetFileInformationByHandle", wintypes.BOOL, _H, _DWORD, _VOID, _DWORD)
_free = declare(_kernel32, "GetDiskFreeSpaceExW", wintypes.BOOL, wintypes.LPCWSTR, _VOID, _VOID, _VOID)
_final = declare(_kernel32, "GetFinalPathNameByHandleW", _DWORD, _H, wintypes.LPWSTR, _DWORD, _DWORD)

# Classes of information, for the two families of calls.
_BASIC, _NAME, _DISPOSITION, _STREAMS, _ATTRIBUTE_TAG, _DISPOSITION_EX = 0, 2, 4, 7, 9, 21
_NT_RENAME, _FS_DEVICE = 10, 4
_REMOTE_DEVICE = 0x10

_CASE_INSENSITIVE = 0x40


class Facts(NamedTuple):
    """What a handle says of its file. Times are FILETIMEs: 100 ns since 1601, UTC."""

    attributes: int
    tag: int  #: of the reparse point, else 0
    size: int
    links: int
    serial: int  #: of the volume
    file_index: int  #: of the file on it
    created: int
    accessed: int
    written: int
    changed: int  #: of anything about the file; 0 where the system does not say


def _check(done: int) -> None:
    if not done:
        raise ctypes.WinError(ctypes.get_last_error())


def _check_status(status: int) -> None:
    if status < 0:
        known = _STATUS_ERRORS.get(status & 0xFFFFFFFF)
        raise ctypes.WinError(_status(status) if known is None else known)


def open_name(
    parent: int,
    name: str,
    access: int,
    share: int,
    options: int,
    disposition: int = OPEN_EXISTING,
    security: int = 0,
) -> int:
    """A handle of ``name`` in the folder ``parent`` (0: ``name`` is a path of the kernel, ``\\??\\C:\\``).

    Opened synchronously and as it stands: no reparse point is followed, nothing is recalled from a remote
    store. ``security``: address of a security descriptor for a new name.
    """
    buffer = ctypes.create_unicode_buffer(name)
    length = len(buffer) * 2 - 2  # in code units: a character beyond the BMP counts twice
    text = _UnicodeString(length, length + 2, ctypes.cast(buffer, ctypes.c_void_p))
    attributes = _ObjectAttributes(
        ctypes.sizeof(_ObjectAttributes), parent or None, ctypes.pointer(text), _CASE_INSENSITIVE,
        security or None, None,
    )  # fmt: skip
    handle = _H()
    options |= SYNCHRONOUS | OPEN_REPARSE_POINT | OPEN_NO_RECALL | BACKUP_INTENT
    _check_status(
        _create(
            ctypes.byref(handle), access | SYNCHRONIZE, ctypes.byref(attributes),
            ctypes.byref(_IoStatusBlock()), None, NORMAL, share, disposition, options, None, 0,
        )
    )  # fmt: skip
    return int(handle.value or 0)


def close(handle: int) -> None:
    _check(_close(handle))


def descriptor_of(handle: int, flags: int) -> int:
    """A descriptor for :mod:`os`; closing it closes the handle."""
    return msvcrt.open_osfhandle(handle, flags)


def handle_of(descriptor: int) -> int:
    """The handle behind a descriptor."""
    return msvcrt.get_osfhandle(descriptor)


def facts(handle: int) -> Facts:
    """All about an open file or folder."""
    by_handle = _ByHandleInformation()
    _check(_by_handle(handle, ctypes.byref(by_handle)))
    basic = _BasicInformation()
    _check(_query(handle, _BASIC, ctypes.byref(basic), ctypes.sizeof(basic)))
    tagged = _AttributeTag()
    if by_handle.attributes & REPARSE_POINT or basic.attributes & REPARSE_POINT:
        _check(_query(handle, _ATTRIBUTE_TAG, ctypes.byref(tagged), ctypes.sizeof(tagged)))
    return Facts(
        attributes=by_handle.attributes | basic.attributes,
        tag=tagged.tag,
        size=by_handle.size_high << 32 | by_handle.size_low,
        links=by_handle.links,
        serial=by_handle.serial,
        file_index=by_handle.index_high << 32 | by_handle.index_low,
        created=basic.created,
        accessed=basic.accessed,
        written=basic.written,
        changed=basic.changed,
    )


def final_path(handle: int) -> str:
    """The path the system knows an open file by: long names, drive letter, ``\\\\?\\`` in front."""
    size = 1024
    while True:
        buffer = ctypes.create_unicode_buffer(size)
        length = _final(handle, buffer, size, 0)
        _check(length)
        if length < size:
            return buffer.value
        size = length + 1


def path_on_volume(handle: int) -> str:
    """The path of an open file from the top of its volume, ``\\folder\\name``; for drives that have no more."""
    buffer = ctypes.create_string_buffer(4 + 0x10000)
    _check(_query(handle, _NAME, buffer, len(buffer)))
    length = int.from_bytes(buffer.raw[:4], "little")
    return buffer.raw[4 : 4 + length].decode("utf-16-le", "surrogatepass")


def is_remote(handle: int) -> bool:
    """Whether a file lies on another machine."""
    device = _DeviceInformation()
    block = _IoStatusBlock()
    _check_status(
        _query_volume(handle, ctypes.byref(block), ctypes.byref(device), ctypes.sizeof(device), _FS_DEVICE)
    )
    return bool(device.characteristics & _REMOTE_DEVICE)


def free_bytes(folder: str) -> int:
    """What this user may still write to the volume of a folder."""
    free = ctypes.c_uint64()
    _check(_free(folder, ctypes.byref(free), None, None))
    return free.value


def set_disposition(handle: int, delete: bool) -> None:
    """Mark a file for deletion when its handle closes, or take the mark back."""
    value = ctypes.c_ubyte(1 if delete else 0)
    _check(_set(handle, _DISPOSITION, ctypes.byref(value), ctypes.sizeof(value)))


def set_disposition_ex(handle: int, flags: int) -> None:
    """The newer form (Windows 10): DELETE=1, POSIX_SEMANTICS=2, IGNORE_READONLY_ATTRIBUTE=0x10."""
    value = wintypes.DWORD(flags)
    _check(_set(handle, _DISPOSITION_EX, ctypes.byref(value), ctypes.sizeof(value)))


def rename(handle: int, folder: int, name: str) -> None:
    """Give an open file another name, in a folder held open; an existing name is never replaced."""
    encoded = name.encode("utf-16-le", "surrogatepass")

    class Rename(ctypes.Structure):
        _fields_ = (
            ("replace", ctypes.c_ubyte),
            ("root", wintypes.HANDLE),
            ("length", wintypes.ULONG),
            ("name", ctypes.c_ubyte * len(encoded)),
        )

    value = Rename(0, folder, len(encoded), (ctypes.c_ubyte * len(encoded)).from_buffer_copy(encoded))
    block = _IoStatusBlock()
    _check_status(_set_nt(handle, ctypes.byref(block), ctypes.byref(value), ctypes.sizeof(value), _NT_RENAME))


def set_basic(handle: int, created: int, accessed: int, written: int, attributes: int) -> None:
    """Set times (0: as they are) and attributes (0: as they are; NORMAL: none)."""
    value = _BasicInformation(created, accessed, written, 0, attributes)
    _check(_set(handle, _BASIC, ctypes.byref(value), ctypes.sizeof(value)))


def streams(handle: int) -> list[tuple[str, int]]:
    """(name, size) of the alternate data streams of a file, as ``:name:$DATA``; the content itself is left out."""
    size = 16384
    while True:
        buffer = ctypes.create_string_buffer(size)
        if _query(handle, _STREAMS, buffer, size):
            return _read_streams(buffer.raw)
        error = ctypes.get_last_error()
        if error == ERROR_HANDLE_EOF:  # a file without any stream
            return []
        if error != ERROR_MORE_DATA or size > 1 << 20:
            raise ctypes.WinError(error)
        size *= 4


def _read_streams(content: bytes) -> list[tuple[str, int]]:
    """FILE_STREAM_INFO entries: next offset, length of the name, size, allocated, name."""
    found = []
    offset = 0
    while True:
        following = int.from_bytes(content[offset : offset + 4], "little")
        length = int.from_bytes(content[offset + 4 : offset + 8], "little")
        size = int.from_bytes(content[offset + 8 : offset + 16], "little")
        name = content[offset + 24 : offset + 24 + length].decode("utf-16-le", "surrogatepass")
        if name not in ("", "::$DATA"):
            found.append((name, size))
        if not following:
            return found
        offset += following
