"""Whether a program bears a signature that this Windows trusts: its own, or one in a catalog of the system.

Only a valid chain protects a file (as in :mod:`.signatures`). Nothing is fetched: revocation lists and
intermediate certificates count as far as this machine has them. Sources: Microsoft's "WinVerifyTrust",
"Cryptography catalogs" (wintrust.h, mscat.h).
"""

from __future__ import annotations

import os
import sys
from typing import Any

from . import winapi
from .errors import ScannerError
from .names import printable

assert sys.platform == "win32"

import ctypes  # noqa: E402
from ctypes import wintypes  # noqa: E402

_HANDLE, _DWORD, _VOID = wintypes.HANDLE, wintypes.DWORD, ctypes.c_void_p


class _Guid(ctypes.Structure):
    _fields_ = (
        ("first", wintypes.DWORD),
        ("second", wintypes.WORD),
        ("third", wintypes.WORD),
        ("rest", ctypes.c_ubyte * 8),
    )


#: WINTRUST_ACTION_GENERIC_VERIFY_V2
_VERIFY = _Guid(0xAAC56B, 0xCD44, 0x11D0, (ctypes.c_ubyte * 8)(0x8C, 0xC2, 0, 0xC0, 0x4F, 0xC2, 0x95, 0xEE))


class _FileInfo(ctypes.Structure):
    _fields_ = (
        ("cbStruct", _DWORD),
        ("pcwszFilePath", wintypes.LPCWSTR),
        ("hFile", _HANDLE),
        ("pgKnownSubject", _VOID),
    )


class _CatalogInfo(ctypes.Structure):
    _fields_ = (
        ("cbStruct", _DWORD),
        ("dwCatalogVersion", _DWORD),
        ("pcwszCatalogFilePath", wintypes.LPCWSTR),
        ("pcwszMemberTag", wintypes.LPCWSTR),
        ("pcwszMemberFilePath", wintypes.LPCWSTR),
        ("hMemberFile", _HANDLE),
        ("pbCalculatedFileHash", _VOID),
        ("cbCalculatedFileHash", _DWORD),
        ("pcCatalogContext", _VOID),
        ("hCatAdmin", _VOID),
    )


class _TrustData(ctypes.Structure):
    _fields_ = (
        ("cbStruct", _DWORD),
        ("pPolicyCallbackData", _VOID),
        ("pSIPClientData", _VOID),
        ("dwUIChoice", _DWORD),
        ("fdwRevocationChecks", _DWORD),
        ("dwUnionChoice", _DWORD),
        ("pInfo", _VOID),
        ("dwStateAction", _DWORD),
        ("hWVTStateData", _HANDLE),
        ("pwszURLReference", _VOID),
        ("dwProvFlags", _DWORD),
        ("dwUIContext", _DWORD),
        ("pSignatureSettings", _VOID),
    )


class _CatalogName(ctypes.Structure):
    _fields_ = (("cbStruct", _DWORD), ("wszCatalogFile", wintypes.WCHAR * 260))


class _ProviderCertificate(ctypes.Structure):
    """The beginning of CRYPT_PROVIDER_CERT."""

    _fields_ = (("cbStruct", _DWORD), ("pCert", _VOID))


_NO_UI, _NO_REVOCATION = 2, 0
_BY_FILE, _BY_CATALOG = 1, 2
_STATE_VERIFY, _STATE_CLOSE = 1, 2
_CACHE_ONLY = 0x1000
_INVALID_HANDLE = ctypes.c_void_p(-1).value
_NAME_ATTRIBUTE = 3
_COMMON_NAME = b"2.5.4.3"
#: Of catalogs: those of Windows 8 and later, and the old ones.
_ALGORITHMS = ("SHA256", "SHA1")

_wintrust = ctypes.WinDLL("wintrust", use_last_error=True)
_crypt32 = ctypes.WinDLL("crypt32", use_last_error=True)
_verify = winapi.declare(
    _wintrust, "WinVerifyTrust", wintypes.LONG, _HANDLE, ctypes.POINTER(_Guid), ctypes.POINTER(_TrustData)
)
_provider = winapi.declare(_wintrust, "WTHelperProvDataFromStateData", _VOID, _HANDLE)
_signer = winapi.declare(
    _wintrust, "WTHelperGetProvSignerFromChain", _VOID, _VOID, _DWORD, wintypes.BOOL, _DWORD
)
_certificate = winapi.declare(
    _wintrust, "WTHelperGetProvCertFromChain", ctypes.POINTER(_ProviderCertificate), _VOID, _DWORD
)
_name = winapi.declare(
    _crypt32, "CertGetNameStringW", _DWORD, _VOID, _DWORD, _DWORD, ctypes.c_char_p, wintypes.LPWSTR, _DWORD
)
_acquire = winapi.declare(
    _wintrust, "CryptCATAdminAcquireContext2", wintypes.BOOL, ctypes.POINTER(_VOID), _VOID, wintypes.LPCWSTR,
    _VOID, _DWORD,
)  # fmt: skip
_release = winapi.declare(_wintrust, "CryptCATAdminReleaseContext", wintypes.BOOL, _VOID, _DWORD)
_hash = winapi.declare(
    _wintrust, "CryptCATAdminCalcHashFromFileHandle2", wintypes.BOOL, _VOID, _HANDLE, ctypes.POINTER(_DWORD),
    _VOID, _DWORD,
)  # fmt: skip
_find = winapi.declare(
    _wintrust, "CryptCATAdminEnumCatalogFromHash", _VOID, _VOID, _VOID, _DWORD, _DWORD, ctypes.POINTER(_VOID)
)
_found = winapi.declare(
    _wintrust, "CryptCATCatalogInfoFromContext", wintypes.BOOL, _VOID, ctypes.POINTER(_CatalogName), _DWORD
)
_leave = winapi.declare(_wintrust, "CryptCATAdminReleaseCatalogContext", wintypes.BOOL, _VOID, _VOID, _DWORD)


def check_signature(descriptor: int, path: str, may_delete_signers: list[str]) -> str:
    """What is to be said of the signature of an open file; "" for anything but a program.

    ``path`` is only told to Windows: it reads through the descriptor.
    Raises ScannerError ``signed`` for a valid signature of a signer who is not in the list.
    """
    os.lseek(descriptor, 0, os.SEEK_SET)
    if os.read(descriptor, 2) != b"MZ":
        return ""
    handle = winapi.handle_of(descriptor)
    name = _signed_itself(path, handle)
    catalogs = True
    if name is None:
        try:
            name = _signed_in_catalog(path, handle)
        except OSError:
            catalogs = False
    if name is None:
        return "no valid signature" + ("" if catalogs else "; catalogs of the system not checked")
    if name not in may_delete_signers:
        raise ScannerError(
            "signed",
            f"the file bears a valid signature of {name}",
            "add the signer to may_delete_signers if meant",
        )
    return f"signed by {name}, whose files may be deleted"


def _signed_itself(path: str, handle: int) -> str | None:
    """The signer of a signature inside the file, None if there is none this machine trusts."""
    info = _FileInfo(ctypes.sizeof(_FileInfo), path, handle, None)
    return _trusted_signer(_BY_FILE, info)


def _signed_in_catalog(path: str, handle: int) -> str | None:
    """The signer of a catalog of this system that lists the file. Raises OSError: catalogs cannot be asked."""
    for algorithm in _ALGORITHMS:
        admin = _VOID()
        if not _acquire(ctypes.byref(admin), None, algorithm, None, 0):
            raise ctypes.WinError(ctypes.get_last_error())
        try:
            name = _listed(admin, path, handle)
        finally:
            _release(admin, 0)
        if name is not None:
            return name
    return None


def _listed(admin: Any, path: str, handle: int) -> str | None:
    digest = (ctypes.c_ubyte * 64)()
    length = _DWORD(ctypes.sizeof(digest))
    if not _hash(admin, handle, ctypes.byref(length), digest, 0):
        raise ctypes.WinError(ctypes.get_last_error())
    catalog = _find(admin, digest, length.value, 0, None)
    while catalog:
        where = _CatalogName(ctypes.sizeof(_CatalogName))
        name = None
        if _found(catalog, ctypes.byref(where), 0):
            tag = bytes(digest[: length.value]).hex().upper()
            name = _trusted_signer(
                _BY_CATALOG,
                _CatalogInfo(
                    ctypes.sizeof(_CatalogInfo), 0, where.wszCatalogFile, tag, path, handle,
                    ctypes.addressof(digest), length.value, None, admin,
                ),
            )  # fmt: skip
        if name is not None:
            _leave(admin, catalog, 0)
            return name
        previous = _VOID(catalog)
        catalog = _find(admin, digest, length.value, 0, ctypes.byref(previous))  # lets the previous one go
    return None


def _trusted_signer(choice: int, info: Any) -> str | None:
    """Who signed, if the whole chain up to a root of this machine is valid; "?" for a name that says nothing."""
    data = _TrustData(cbStruct=ctypes.sizeof(_TrustData))
    data.dwUIChoice, data.fdwRevocationChecks = _NO_UI, _NO_REVOCATION
    data.dwUnionChoice, data.pInfo = choice, ctypes.addressof(info)
    data.dwStateAction, data.dwProvFlags = _STATE_VERIFY, _CACHE_ONLY
    try:
        if _verify(_INVALID_HANDLE, ctypes.byref(_VERIFY), ctypes.byref(data)) != 0:
            return None
        return _signer_name(data.hWVTStateData)
    finally:
        data.dwStateAction = _STATE_CLOSE
        _verify(_INVALID_HANDLE, ctypes.byref(_VERIFY), ctypes.byref(data))


def _signer_name(state: Any) -> str:
    provider = _provider(state)
    signer = _signer(provider, 0, False, 0) if provider else None
    certificate = _certificate(signer, 0) if signer else None
    if not certificate:
        return "?"
    buffer = ctypes.create_unicode_buffer(256)
    _name(certificate.contents.pCert, _NAME_ATTRIBUTE, 0, _COMMON_NAME, buffer, len(buffer))
    return printable(buffer.value.strip())[:200] or "?"
