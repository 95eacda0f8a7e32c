"""Chosen MISP warning lists, read straight from the files of the package ``pymispwarninglists``.

Its own loader takes seconds and hundreds of MB for all lists; the few that help here take milliseconds. Lists
of VPNs, clouds and content networks never suppress anything, for real command servers stand in them: they
annotate.
"""

from __future__ import annotations

import bisect
import functools
import importlib.util
import json
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ioc_scan.errors import ConfigError

PACKAGE = "pymispwarninglists"
#: Names that plain systems and people ask for all day.
SUPPRESSING_DOMAINS = (
    "microsoft", "microsoft-office365", "microsoft-win10-connection-endpoints", "captive-portals",
    "whats-my-ip", "google", "tranco10k", "cisco_top1000", "moz-top500",
)  # fmt: skip
#: Digests that were reported as false positives before.
KNOWN_GOOD_HASHES = ("common-ioc-false-positive", "ti-falsepositives")
ANNOTATING_NETWORKS = (
    "vpn-ipv4", "amazon-aws", "microsoft-azure", "google-gcp", "akamai", "cloudflare", "fastly", "stackpath",
    "sinkholes", "parking-domain", "ovh-cluster", "microsoft-office365-ip",
)  # fmt: skip
ANNOTATING_DOMAINS = ("dynamic-dns", "url-shortener", "lots-project")
#: Every customer gets a name below one of these, the next attacker too.
PUBLIC_SUFFIXES = "second-level-tlds"
_CONTENT_NETWORKS = (
    "akamai.net",
    "akamaiedge.net",
    "akadns.net",
    "cloudfront.net",
    "llnwi.net",
    "aspnetcdn.com",
)


@dataclass(frozen=True)
class WarningLists:
    """``exact`` holds names that stand only for themselves (public suffixes: what is below is somebody's)."""

    domains: frozenset[str]
    exact: frozenset[str]
    hashes: frozenset[str]
    networks: dict[str, tuple[list[int], list[int]]]
    noted_domains: dict[str, frozenset[str]]

    def notes(self, indicator: dict[str, Any]) -> list[str]:
        """Names of the lists that an address or name stands on, for people to weigh."""
        value = indicator.get("value", "")
        if indicator["type"] == "ipv4-addr":
            number = _number(value)
            return [
                name
                for name, ranges in self.networks.items()
                if number is not None and _within(number, ranges)
            ]
        if indicator["type"] == "domain-name":
            return [name for name, listed in self.noted_domains.items() if _below(value, listed)]
        return []


@functools.lru_cache(maxsize=1)
def load() -> WarningLists:
    """Read the chosen lists. Raises ConfigError ``warning_lists_missing`` without the package."""
    folder = _folder()
    suffixes = frozenset(_entries(folder, PUBLIC_SUFFIXES))
    noted = {name: frozenset(_entries(folder, name)) for name in ANNOTATING_DOMAINS}
    domains = frozenset(entry for name in SUPPRESSING_DOMAINS for entry in _entries(folder, name))
    return WarningLists(
        domains=domains.difference(suffixes, _CONTENT_NETWORKS, *noted.values()),
        exact=suffixes,
        hashes=frozenset(
            entry for name in KNOWN_GOOD_HASHES for entry in _entries(folder, name) if len(entry) == 64
        ),
        networks={name: _ranges(_entries(folder, name)) for name in ANNOTATING_NETWORKS},
        noted_domains=noted,
    )


def _folder() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    locations = list(spec.submodule_search_locations or []) if spec else []
    folder = Path(locations[0], "data", "misp-warninglists", "lists") if locations else None
    if folder is None or not folder.is_dir():
        raise ConfigError(
            "warning_lists_missing",
            f"warning lists are switched on, but the package {PACKAGE} is not installed",
            f"pip install {PACKAGE} (Python 3.10 or later), or set guard.warning_lists to false",
        )
    return folder


def _entries(folder: Path, name: str) -> list[str]:
    try:
        listed = json.loads((folder / name / "list.json").read_text(encoding="utf-8"))["list"]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            "warning_lists_missing", f"warning list {name} cannot be read: {error}", f"reinstall {PACKAGE}"
        ) from None
    return [entry.lower().lstrip(".") for entry in listed]


def _number(address: str) -> int | None:
    try:
        return int(struct.unpack("!I", socket.inet_aton(address))[0])
    except (OSError, ValueError):
        return None


def _ranges(entries: list[str]) -> tuple[list[int], list[int]]:
    """Disjoint ascending ranges of IPv4 addresses as two lists, for a binary search."""
    found = []
    for entry in entries:
        address, _, bits = entry.partition("/")
        number = _number(address) if ":" not in address else None
        if number is not None:
            size = 1 << (32 - int(bits or 32))
            found.append((number, number + size - 1))
    starts: list[int] = []
    ends: list[int] = []
    for start, end in sorted(found):
        if ends and start <= ends[-1] + 1:
            ends[-1] = max(ends[-1], end)
        else:
            starts.append(start)
            ends.append(end)
    return starts, ends


def _within(number: int, ranges: tuple[list[int], list[int]]) -> bool:
    index = bisect.bisect_right(ranges[0], number) - 1
    return index >= 0 and number <= ranges[1][index]


def _below(domain: str, listed: frozenset[str]) -> bool:
    labels = domain.split(".")
    return any(".".join(labels[start:]) in listed for start in range(len(labels)))
