"""What else POSIX systems answer about files: whose they are, and how much room is left."""

from __future__ import annotations

import os

from .packages import PackageOwners
from .safefs import Held
from .signatures import check_signature


class Judge:
    """Says of a file whether it belongs to somebody who must not lose it. ``root``: of a folder-tree device."""

    def __init__(self, root: str | None) -> None:
        self._owners = [PackageOwners()]
        if root not in (None, "/"):
            self._owners.append(PackageOwners(os.fsencode(str(root))))

    def check(self, held: Held, may_delete_signers: list[str]) -> str:
        """What is to be said of the file's signature, "" for nothing.

        Raises ScannerError ``package_owned``, ``package_check_failed``, ``signed``.
        """
        for owners in self._owners:
            owners.check_not_owned(held.path, os.fstat(held.descriptor))
        return check_signature(held.descriptor, may_delete_signers)


def free_bytes(folder: str) -> int:
    """What may still be written to the file system of a folder. Raises OSError."""
    free = os.statvfs(folder)
    return free.f_bavail * free.f_frsize
