"""Who may do what with an open file on Windows: read, kept, given back. By handle, as all of a response is.

Descriptors travel as SDDL text (Microsoft's "Security Descriptor Definition Language").
"""

from __future__ import annotations

import sys
from typing import Any

from . import winapi
from .errors import ScannerError

assert sys.platform == "win32"

import ctypes  # noqa: E402
from ctypes import wintypes  # noqa: E402

_OWNER, _GROUP, _DACL = 0x1, 0x2, 0x4
_REVISION = 1
_NOT_SUPPORTED_HERE = frozenset({winapi.ERROR_CALL_NOT_IMPLEMENTED, winapi.ERROR_NOT_SUPPORTED})

#: NT SERVICE\\TrustedInstaller: owner of all that Windows installed.
TRUSTED_INSTALLER = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"

_advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)
_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_HANDLE, _DWORD, _VOID = wintypes.HANDLE, wintypes.DWORD, ctypes.c_void_p
_POINTER = ctypes.POINTER(ctypes.c_void_p)


_get = winapi.declare(
    _advapi32, "GetKernelObjectSecurity", wintypes.BOOL, _HANDLE, _DWORD, _VOID, _DWORD,
    ctypes.POINTER(_DWORD),
)  # fmt: skip
_set = winapi.declare(_advapi32, "SetKernelObjectSecurity", wintypes.BOOL, _HANDLE, _DWORD, _VOID)
_to_text = winapi.declare(
    _advapi32, "ConvertSecurityDescriptorToStringSecurityDescriptorW", wintypes.BOOL, _VOID, _DWORD, _DWORD,
    ctypes.POINTER(wintypes.LPWSTR), _VOID,
)  # fmt: skip
_from_text = winapi.declare(
    _advapi32, "ConvertStringSecurityDescriptorToSecurityDescriptorW", wintypes.BOOL, wintypes.LPCWSTR,
    _DWORD, _POINTER, _VOID,
)  # fmt: skip
_sid_to_text = winapi.declare(
    _advapi32, "ConvertSidToStringSidW", wintypes.BOOL, _VOID, ctypes.POINTER(wintypes.LPWSTR)
)
_owner_of = winapi.declare(
    _advapi32, "GetSecurityDescriptorOwner", wintypes.BOOL, _VOID, _POINTER, ctypes.POINTER(wintypes.BOOL)
)
_free = winapi.declare(_kernel32, "LocalFree", _VOID, _VOID)


def _check(done: int) -> None:
    if not done:
        raise ctypes.WinError(ctypes.get_last_error())


def _read(handle: int, what: int) -> Any:
    needed = _DWORD()
    _get(handle, what, None, 0, ctypes.byref(needed))
    buffer = ctypes.create_string_buffer(max(needed.value, 64))
    _check(_get(handle, what, buffer, len(buffer), ctypes.byref(needed)))
    return buffer


def _sid_text(sid: Any) -> str:
    text = wintypes.LPWSTR()
    _check(_sid_to_text(sid, ctypes.byref(text)))
    try:
        return str(text.value)
    finally:
        _free(text)


def owner_of(handle: int) -> str:
    """The owner of an open file, as ``S-1-...``. Raises OSError."""
    buffer = _read(handle, _OWNER)
    sid, defaulted = ctypes.c_void_p(), wintypes.BOOL()
    _check(_owner_of(buffer, ctypes.byref(sid), ctypes.byref(defaulted)))
    if not sid.value:
        raise ctypes.WinError(winapi.ERROR_NOT_SUPPORTED)
    return _sid_text(sid)


def descriptor_of(handle: int) -> str | None:
    """Owner, group and permissions of an open file as SDDL, None where it has none (FAT).

    Raises ScannerError ``not_permitted``: what cannot be read cannot be given back.
    """
    try:
        buffer = _read(handle, _OWNER | _GROUP | _DACL)
        text = wintypes.LPWSTR()
        _check(_to_text(buffer, _REVISION, _OWNER | _GROUP | _DACL, ctypes.byref(text), None))
    except OSError as error:
        if error.winerror in _NOT_SUPPORTED_HERE:
            return None
        raise ScannerError("not_permitted", f"its permissions cannot be read: {error.strerror}") from None
    try:
        return text.value
    finally:
        _free(text)


class _Descriptor:
    """A security descriptor made from SDDL; use as a context manager."""

    def __init__(self, text: str) -> None:
        self._address = ctypes.c_void_p()
        _check(_from_text(text, _REVISION, ctypes.byref(self._address), None))

    def __enter__(self) -> ctypes.c_void_p:
        return self._address

    def __exit__(self, *_: object) -> None:
        _free(self._address)


def give_descriptor(handle: int, text: object) -> list[str]:
    """Give an open file the owner and permissions of ``text``; what it now lacks, in words.

    Permissions come back exactly, inherited ones as they were. To name another owner than oneself is a
    privilege (:mod:`.winprivileges`).
    """
    if not isinstance(text, str):
        return []  # taken from where there are none
    missing = []
    for word, what in (("owner", _OWNER), ("permissions", _DACL)):
        try:
            with _Descriptor(text) as descriptor:
                _check(_set(handle, what, descriptor))
        except OSError:
            missing.append(word)
    return missing
