"""Security descriptors of folders, and the user of this process, asked of Windows."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import ctypes  # noqa: E402
from ctypes import wintypes  # noqa: E402
from typing import Any, Callable  # noqa: E402

from .longpaths import long_path  # noqa: E402

_FILE_OBJECT, _SDDL_REVISION = 1, 1
_OWNER_AND_ACL = 1 | 4
_TOKEN_QUERY, _TOKEN_USER = 8, 1

_advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)
_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_kernel32.LocalFree.argtypes = (ctypes.c_void_p,)
_kernel32.LocalFree.restype = ctypes.c_void_p
_kernel32.GetCurrentProcess.restype = wintypes.HANDLE
_kernel32.CloseHandle.argtypes = (wintypes.HANDLE,)
_advapi32.OpenProcessToken.argtypes = (wintypes.HANDLE, wintypes.DWORD, ctypes.POINTER(wintypes.HANDLE))
_advapi32.GetTokenInformation.argtypes = (
    wintypes.HANDLE, ctypes.c_int, ctypes.c_void_p, wintypes.DWORD, ctypes.POINTER(wintypes.DWORD),
)  # fmt: skip
_P_DWORD = ctypes.POINTER(wintypes.DWORD)
_advapi32.LookupAccountSidW.argtypes = (
    wintypes.LPCWSTR, ctypes.c_void_p, wintypes.LPWSTR, _P_DWORD, wintypes.LPWSTR, _P_DWORD, _P_DWORD,
)  # fmt: skip
_advapi32.ConvertSidToStringSidW.argtypes = (ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p))
_advapi32.GetNamedSecurityInfoW.restype = wintypes.DWORD
_advapi32.GetNamedSecurityInfoW.argtypes = (
    wintypes.LPCWSTR, ctypes.c_int, wintypes.DWORD, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p,
    ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p),
)  # fmt: skip
_advapi32.ConvertSecurityDescriptorToStringSecurityDescriptorW.argtypes = (
    ctypes.c_void_p, wintypes.DWORD, wintypes.DWORD, ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p,
)  # fmt: skip
_advapi32.ConvertStringSecurityDescriptorToSecurityDescriptorW.argtypes = (
    wintypes.LPCWSTR, wintypes.DWORD, ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p,
)  # fmt: skip


class _SecurityAttributes(ctypes.Structure):
    _fields_ = (
        ("length", wintypes.DWORD),
        ("descriptor", ctypes.c_void_p),
        ("inherit", wintypes.BOOL),
    )


_kernel32.CreateDirectoryW.argtypes = (wintypes.LPCWSTR, ctypes.POINTER(_SecurityAttributes))


def _check(done: int) -> None:
    if not done:
        raise ctypes.WinError(ctypes.get_last_error())


def _take_text(pointer: Any) -> str:
    """A text that Windows made for us; its memory is given back."""
    try:
        return ctypes.wstring_at(pointer)
    finally:
        _kernel32.LocalFree(pointer)


def _of_user(process: int, use: Callable[[ctypes.c_void_p], str]) -> str:
    """What ``use`` says of the SID of a process's user. Raises OSError."""
    token = wintypes.HANDLE()
    _check(_advapi32.OpenProcessToken(process, _TOKEN_QUERY, ctypes.byref(token)))
    try:
        buffer = ctypes.create_string_buffer(256)  # a pointer, a number, and a SID of at most 68 bytes
        size = wintypes.DWORD()
        _check(_advapi32.GetTokenInformation(token, _TOKEN_USER, buffer, len(buffer), ctypes.byref(size)))
        return use(ctypes.c_void_p.from_buffer(buffer))
    finally:
        _kernel32.CloseHandle(token)


def _sid_text(sid: ctypes.c_void_p) -> str:
    text = ctypes.c_void_p()
    _check(_advapi32.ConvertSidToStringSidW(sid, ctypes.byref(text)))
    return _take_text(text)


def _account(sid: ctypes.c_void_p) -> str:
    name, domain = ctypes.create_unicode_buffer(256), ctypes.create_unicode_buffer(256)
    sizes, kind = (wintypes.DWORD(256), wintypes.DWORD(256)), wintypes.DWORD()
    _check(
        _advapi32.LookupAccountSidW(
            None, sid, name, ctypes.byref(sizes[0]), domain, ctypes.byref(sizes[1]), ctypes.byref(kind)
        )
    )
    return f"{domain.value}\\{name.value}"


def own_sid() -> str:
    """The user of this process, as ``S-1-5-...``. Raises OSError."""
    return _of_user(_kernel32.GetCurrentProcess(), _sid_text)


def account_of(process: int) -> str:
    """The user of an open process, as ``DOMAIN\\user``. Raises OSError."""
    return _of_user(process, _account)


def descriptor_of(path: str) -> str:
    """Owner and access list of a file or folder, as SDDL. Raises OSError."""
    descriptor = ctypes.c_void_p()
    error = _advapi32.GetNamedSecurityInfoW(
        long_path(path), _FILE_OBJECT, _OWNER_AND_ACL, None, None, None, None, ctypes.byref(descriptor)
    )
    if error:
        raise ctypes.WinError(error)
    try:
        text = ctypes.c_void_p()
        _check(
            _advapi32.ConvertSecurityDescriptorToStringSecurityDescriptorW(
                descriptor, _SDDL_REVISION, _OWNER_AND_ACL, ctypes.byref(text), None
            )
        )
        return _take_text(text)
    finally:
        _kernel32.LocalFree(descriptor)


def make_folder(path: str, descriptor: str) -> None:
    """Create a folder that has its access list from the first moment on. Raises OSError, FileExistsError."""
    binary = ctypes.c_void_p()
    _check(
        _advapi32.ConvertStringSecurityDescriptorToSecurityDescriptorW(
            descriptor, _SDDL_REVISION, ctypes.byref(binary), None
        )
    )
    try:
        attributes = _SecurityAttributes(ctypes.sizeof(_SecurityAttributes), binary, False)
        _check(_kernel32.CreateDirectoryW(long_path(path), ctypes.byref(attributes)))
    finally:
        _kernel32.LocalFree(binary)
