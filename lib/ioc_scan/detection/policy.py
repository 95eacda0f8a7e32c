"""What the guard is told by the operator."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import Any

#: Answers whether a SHA-256 (lower hex) is known to be good.
KnownGood = Callable[[str], bool]

TRUSTS = ("hunt", "target", "artefacts")


@dataclass(frozen=True)
class GuardPolicy:
    """``trust`` is the source's: ``hunt`` report only, ``target`` its target may become actionable,
    ``artefacts`` its own marks count too. ``strict``: nothing is actionable unless the score and a family
    name agree. ``known_good`` holds SHA-256 values, or is asked about one."""

    threshold_score: float = 70.0
    trust: str = "target"
    strict: bool = False
    hunt: bool = True
    known_good: Container[str] | KnownGood = frozenset()
    allowed_domains: frozenset[str] = frozenset()
    denied_domains: frozenset[str] = frozenset()
    common_domains: frozenset[str] = frozenset()
    sandbox_networks: tuple[Any, ...] = ()
    allowed_paths: tuple[str, ...] = ()
    may_delete_signers: frozenset[str] = field(default_factory=frozenset)
    max_actionable: int = 100
    max_hunt: int = 500

    def is_known_good(self, sha256: str) -> bool:
        return self.known_good(sha256) if callable(self.known_good) else sha256 in self.known_good
