"""Stands in for StackStorm's base class of python actions."""

from __future__ import annotations

import abc
import logging
import sys
from typing import Any


class PackConfig(dict):
    """The pack's config; a missing key raises ValueError (not KeyError), as in StackStorm."""

    def __getitem__(self, key: Any) -> Any:
        if key not in self:
            raise ValueError(f'Config for this pack is missing key "{key}".')
        return super().__getitem__(key)


class Action(abc.ABC):
    """Base class of a python action; ``run`` gets every declared parameter as a keyword."""

    description: str | None = None

    def __init__(self, config: dict[str, Any] | None = None, action_service: Any = None) -> None:
        self.config = PackConfig(config or {})
        self.action_service = action_service
        self.logger = logging.getLogger(f"actions.python.{type(self).__name__}")
        if not self.logger.handlers:
            handler = logging.StreamHandler(sys.stderr)
            handler.setFormatter(logging.Formatter("%(name)-12s: %(levelname)-8s %(message)s"))
            self.logger.addHandler(handler)
            self.logger.setLevel(logging.DEBUG)

    @abc.abstractmethod
    def run(self, **kwargs: Any) -> Any:
        """Do the work; returns a result, or ``(succeeded: bool, result)``."""
