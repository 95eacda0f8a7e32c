"""What the guard is told by the operator, and how it is read from configuration and list files."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ioc_scan.detection import warning_lists
from ioc_scan.detection.lists import read_lines
from ioc_scan.errors import ConfigError
from ioc_scan.text import printable

if TYPE_CHECKING:
    from ioc_scan.detection.hash_lookup import HashLookup

#: Answers whether a SHA-256 (lower hex) is known to be good.
KnownGood = Callable[[str], bool]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

TRUSTS = ("hunt", "target", "artefacts")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class GuardPolicy:
    """``trust`` is the source's: ``hunt`` report only, ``target`` its target may become actionable,
    ``artefacts`` its own marks count too. ``strict``: nothing is actionable unless the score and a family
    name agree. ``known_good`` holds SHA-256 values, or is asked about one. ``owners`` are signers whose files
    are the organisation's own: never actionable, even if the signature was not checked."""

    threshold_score: float = 70.0
    trust: str = "target"
    strict: bool = False
    hunt: bool = True
    known_good: Container[str] | KnownGood = frozenset()
    allowed_domains: frozenset[str] = frozenset()
    denied_domains: frozenset[str] = frozenset()
    allowed_paths: tuple[str, ...] = ()
    denied_paths: tuple[str, ...] = ()
    owners: frozenset[str] = frozenset()
    sandbox_networks: tuple[Network, ...] = ()
    may_delete_signers: frozenset[str] = frozenset()
    lists: warning_lists.WarningLists | None = None
    max_actionable: int = 100
    max_hunt: int = 500

    def is_known_good(self, sha256: str) -> bool:
        if self.lists and sha256 in self.lists.hashes:
            return True
        return self.known_good(sha256) if callable(self.known_good) else sha256 in self.known_good


def load_policy(
    guard: dict[str, Any],
    trust: str,
    *,
    known_good: KnownGood | None = None,
    remember: Callable[[KnownGood], KnownGood] = lambda look_up: look_up,
) -> GuardPolicy:
    """The policy for a source of this ``trust``, from the ``guard`` section of the configuration.

    ``known_good`` is asked beside the operator's file; ``remember`` wraps the look-up over the network. Raises
    ConfigError where a list cannot be read: judging without it would be guessing.
    """
    digests = frozenset(_digest(line, guard["known_good_file"]) for line in _lines(guard, "known_good_file"))
    asked = [known_good] if known_good else []
    if guard.get("hash_lookup_url"):
        asked.append(remember(hash_lookup(guard["hash_lookup_url"]).is_known_good))
    return GuardPolicy(
        threshold_score=float(guard.get("threshold_score") or 70),
        trust=trust,
        strict=bool(guard.get("strict")),
        hunt=guard.get("hunt") is not False,
        known_good=lambda sha256: sha256 in digests or any(is_good(sha256) for is_good in asked),
        allowed_domains=_domains(guard, "allowed_domains_file"),
        denied_domains=_domains(guard, "denied_domains_file"),
        allowed_paths=tuple(_lines(guard, "allowed_paths_file")),
        denied_paths=tuple(_lines(guard, "denied_paths_file")),
        owners=frozenset(line.casefold() for line in _lines(guard, "owners_file")),
        sandbox_networks=tuple(_network(text) for text in guard.get("sandbox_networks") or []),
        may_delete_signers=frozenset(guard.get("may_delete_signers") or []),
        lists=warning_lists.load() if guard.get("warning_lists") else None,
    )


@functools.lru_cache(maxsize=4)
def hash_lookup(url: str) -> HashLookup:
    """One for each address, so that its answers are remembered. Loaded when asked for: it needs HTTP."""
    from ioc_scan.detection.hash_lookup import HashLookup

    return HashLookup(url)


def _lines(guard: dict[str, Any], key: str) -> list[str]:
    return read_lines(Path(guard[key])) if guard.get(key) else []


def _domains(guard: dict[str, Any], key: str) -> frozenset[str]:
    return frozenset(line.lower().removeprefix("*").strip(".") for line in _lines(guard, key))


def _digest(line: str, path: str) -> str:
    digest = line.split()[0].lower()
    if not _SHA256.fullmatch(digest):
        raise ConfigError(
            "list_bad_entry",
            f"{printable(path)}: '{printable(line, 80)}' is no SHA-256",
            "one SHA-256 a line; MD5 and SHA-1 can be shared by twins and are not taken",
        )
    return digest


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ConfigError(
            "config_network",
            f"guard.sandbox_networks: '{printable(text, 60)}' is no network",
            "for example 10.9.0.0/16",
        ) from None
