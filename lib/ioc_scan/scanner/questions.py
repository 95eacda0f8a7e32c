"""What one walk over files has to ask, for all jobs that share the walk."""

from __future__ import annotations

from . import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Sequence

    from .evaluate import Evaluator


class Questions:
    """The union of the questions of several evaluators; with one evaluator it costs nothing extra."""

    def __init__(self, evaluators: Sequence[Evaluator]) -> None:
        self._evaluators = list(evaluators)
        self.any_size_mask = 0
        self.size_masks: dict[int, int] = {}
        self.ranged_masks: list[tuple[int, int, int]] = []
        names: set[str] = set()
        for evaluator in self._evaluators:
            self.any_size_mask |= evaluator.any_size_mask
            self.ranged_masks += evaluator.ranged_masks
            names |= evaluator.exact_names
            for size, mask in evaluator.size_masks.items():
                self.size_masks[size] = self.size_masks.get(size, 0) | mask
        self.exact_names = frozenset(names)
        self.asks_more = any(evaluator.asks_more for evaluator in self._evaluators)
        self.needs_path = any(evaluator.needs_path for evaluator in self._evaluators)
        #: The sets of raw digests; a file is a candidate if one of its digests is in one of them.
        self.digests: list[Any] = [evaluator.digests for evaluator in self._evaluators]

    @property
    def about_files(self) -> bool:
        """False: no file of any name, size or content can matter, the walk can be left out."""
        return any("FileItem" in evaluator.documents for evaluator in self._evaluators)

    def needs_item(self, name: str, path: str, size: int | None) -> bool:
        return any(evaluator.needs_item(name, path, size) for evaluator in self._evaluators)

    def hash_mask(self, item: dict[str, Any]) -> int:
        mask = 0
        for evaluator in self._evaluators:
            mask |= evaluator.hash_mask(item)
        return mask

    def names_digest(self, digests: Sequence[bytes]) -> bool:
        """Whether one of these digests is named by any plan."""
        return any(digest in known for digest in digests for known in self.digests)
