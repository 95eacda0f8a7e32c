"""Files as the scanner changes them: the codes of their errors, and what a system must offer for it.

Everything that changes files goes through :class:`Pinned`: a name in a folder that is held open and was
reached folder by folder, without following any link. :mod:`.posixfiles` and :mod:`.winfiles` are the two
ways to do it, :mod:`.machine` says which one is at work.
"""

from __future__ import annotations

import os
from typing import Any, Callable, ContextManager, Protocol

from .errors import ScannerError
from .names import shown_path
from .oserrors import code_of


def describe(error: ScannerError | OSError) -> tuple[str, str]:
    """Code and message of either kind of error."""
    if isinstance(error, ScannerError):
        return error.code, error.message
    return code_of(error), str(error.strerror or error)


def as_scanner_error(error: OSError, path: bytes) -> ScannerError:
    """An OSError with its code, and the path as it may be shown."""
    return ScannerError(code_of(error), f"{shown_path(path)[:300]}: {error.strerror or error}")


def same_object(one: os.stat_result, other: os.stat_result) -> bool:
    """Same file system and inode."""
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


class Held(Protocol):
    """A regular file that is held open from the first look at it until it is gone."""

    path: bytes
    descriptor: int  #: for reading; it belongs to this object
    size: int
    device: int
    inode: int

    def matched_as(self, item: dict[str, Any]) -> bool:
        """Whether size, device and inode are those a scan recorded."""

    def traits(self) -> dict[str, Any]:
        """What is to be known to put the file back as it was, besides its content: plain values.

        Raises ScannerError for what would be lost with the file and cannot be kept.
        """

    def check_untouched(self) -> None:
        """The last look: the open file, its name and its folder are what they were. Raises ScannerError."""

    def remove(self) -> str:
        """Take the name away, of this very object and of no other; what is to be said about it, mostly "".

        Raises ScannerError if the object is still in place.
        """

    def settle(self) -> None:
        """Make the removal durable. Raises OSError."""


class Fresh(Protocol):
    """A new file that does not bear its name yet, or that nobody else can open until it is complete."""

    descriptor: int  #: for writing and reading back

    def identity(self) -> tuple[int, int]:
        """Device and inode."""

    def dress(self, traits: dict[str, Any]) -> list[str]:
        """Give it what :meth:`Held.traits` said, and make all durable; what could not be given back."""

    def publish(self, last_look: Callable[[], None]) -> None:
        """Give it its name, if nothing bears that and the folder is in its place. Raises ScannerError, OSError.

        ``last_look`` is called right before, and may raise.
        """


class Pinned(Protocol):
    """A name in a folder that is held open."""

    path: bytes

    def real_path(self) -> bytes:
        """The path as the system itself spells it."""

    def hold(self) -> ContextManager[Held]:
        """The regular file of that name. Raises ScannerError, OSError."""

    def identity(self) -> tuple[int, int]:
        """Device and inode of whatever bears the name, links not followed. Raises OSError."""

    def size(self) -> int:
        """Its size. Raises OSError."""

    def work_name(self) -> str | None:
        """A name for a new file until it is published, where a killed scanner may leave that behind."""

    def create(self, work_name: str | None) -> ContextManager[Fresh]:
        """A new file for that name; it is gone again if the block is left by an exception."""

    def discard(self, work_name: str, device: int, inode: int) -> None:
        """Remove what an earlier :meth:`create` left behind, if it is still that. Raises OSError.

        A device and inode of 0 are not known: then only an empty file is removed.
        """
