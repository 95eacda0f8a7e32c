"""How far a walk is, from the folders that are left; no count of all files is needed."""

from __future__ import annotations

import os

from . import TYPE_CHECKING

if TYPE_CHECKING:
    from .walk import Frame

#: Listing the upper folders stops at so many; a rough figure is enough.
_MAX_UNITS = 5000


class Progress:
    """The tree is cut into its upper folders; a unit counts as done when nothing of it is left."""

    def __init__(self, roots: list[str]) -> None:
        self._roots = roots
        self._units: set[str] | None = None
        self._shown = 0.0

    def share(self, frames: list[Frame]) -> float:
        """0..1, never falling."""
        if self._units is None:
            self._units = self._find_units()
        left = set()
        for path, names in frames:
            for name in names:
                full = path if not name else path.rstrip(os.sep) + os.sep + name
                left.update(self._units_of(full))
        if self._units:
            share = 1.0 - len(left & self._units) / len(self._units)
            self._shown = max(self._shown, round(min(share, 0.99), 3))
        return self._shown

    def _units_of(self, path: str) -> list[str]:
        """The unit that a folder lies in, or all units that lie in it."""
        assert self._units is not None
        here = path
        while True:
            if here in self._units:
                return [here]
            parent = os.path.dirname(here)
            if parent == here:
                break
            here = parent
        prefix = path.rstrip(os.sep) + os.sep
        return [unit for unit in self._units if unit.startswith(prefix)]

    def _find_units(self) -> set[str]:
        units: list[str] = list(self._roots)
        for _ in range(3):
            deeper = [folder for unit in units for folder in _folders(unit)]
            if not deeper or len(deeper) > _MAX_UNITS:
                break
            units = deeper
            if len(units) > 100:
                break
        return set(units)


def _folders(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
