"""Whose file it is on Windows: the system's (by its owner), or a maker's (by his signature)."""

from __future__ import annotations

import sys

from . import winacl, winapi, wintrust
from .errors import ScannerError
from .longpaths import long_path
from .safefs import Held
from .winnames import text_of

assert sys.platform == "win32"


class Judge:
    """Says of a file whether it belongs to somebody who must not lose it."""

    def __init__(self, _root: str | None) -> None:
        """``_root`` is for systems whose folder trees have packages of their own."""

    def check(self, held: Held, may_delete_signers: list[str]) -> str:
        """What is to be said of the file's signature, "" for nothing.

        Raises ScannerError ``package_owned``, ``package_check_failed``, ``signed``.
        """
        handle = winapi.handle_of(held.descriptor)
        try:
            owner = winacl.owner_of(handle)
        except OSError as error:
            raise ScannerError(
                "package_check_failed", f"cannot ask for the owner: {error.strerror}"
            ) from None
        if owner == winacl.TRUSTED_INSTALLER:
            raise ScannerError("package_owned", "the file belongs to Windows", "repair or remove the feature")
        return wintrust.check_signature(held.descriptor, long_path(text_of(held.path)), may_delete_signers)
