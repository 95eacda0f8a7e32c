"""A new file of Windows that nobody sees under its name until it is complete. See :mod:`.safefs`."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, Callable

assert sys.platform == "win32"

from . import winacl, winapi, winstreams  # noqa: E402
from .winentry import Entry  # noqa: E402
from .winheld import mark_deleted  # noqa: E402

#: What is given back to a restored file; the other attributes describe how its content is stored.
_GIVEN_BACK = (
    winapi.READONLY | winapi.HIDDEN | winapi.SYSTEM | winapi.ARCHIVE | winapi.NOT_INDEXED | winapi.TEMPORARY
)


class WindowsFresh:
    """A new file under a work name, marked for deletion until its content is complete, renamed by its handle.

    Nobody else can open it meanwhile. A process that is killed takes it along, except between the last steps:
    then the entry of the quarantine names it, and the next restore or purge of that entry removes it.
    """

    def __init__(self, entry: Entry, handle: int) -> None:
        """The handle belongs to this object once it is made. Raises OSError."""
        self._entry = entry
        self._handle = handle
        self._traits: dict[str, Any] = {}
        winapi.set_disposition(handle, True)  # it goes with its handle, as all handles of a killed process do
        self.descriptor = winapi.descriptor_of(handle, os.O_RDWR | os.O_BINARY)

    def close(self) -> None:
        """All that matters was written through before: an error here changes nothing."""
        with contextlib.suppress(OSError):
            os.close(self.descriptor)

    def take_back(self) -> None:
        """Have it gone when it is closed, whatever it is by now."""
        with contextlib.suppress(OSError):
            mark_deleted(self._handle)

    def identity(self) -> tuple[int, int]:
        facts = winapi.facts(self._handle)
        return (facts.serial, facts.file_index)

    def dress(self, traits: dict[str, Any]) -> list[str]:
        """Streams and permissions; attributes and times come last, since all the rest would change them."""
        self._traits = traits
        winapi.set_disposition(self._handle, False)  # a file that is about to go can be given no streams
        missing = winstreams.give_streams(self._handle, traits.get("streams", []))
        missing += winacl.give_descriptor(self._handle, traits.get("security"))
        lost = traits.get("attributes", 0) & (winapi.COMPRESSED | winapi.ENCRYPTED | winapi.SPARSE)
        if lost:
            missing.append("its compressed, encrypted or sparse form")
        os.fsync(self.descriptor)
        return missing

    def publish(self, last_look: Callable[[], None]) -> None:
        traits = self._traits
        last_look()
        winapi.set_basic(
            self._handle,
            traits.get("created", 0),
            traits.get("accessed", 0),
            traits.get("written", 0),
            traits.get("attributes", 0) & _GIVEN_BACK or winapi.NORMAL,
        )
        winapi.rename(self._handle, self._entry.parent, self._entry.name)
        self._entry.check_child(self._handle)
