"""Built-in lists of what is everywhere and proves nothing: they guard every install, also one without a list.

The larger lists are the operator's and MISP's (:mod:`ioc_scan.detection.lists`).
"""

from __future__ import annotations

import re
from pathlib import Path

from ioc_scan.detection.lists import read_lines

_FOLDER = Path(__file__).with_name("wellknown_lists")

#: The empty file: on every device, many times.
EMPTY_HASHES = frozenset(
    {
        "d41d8cd98f00b204e9800998ecf8427e",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    }
)
TEST_HASHES = frozenset(read_lines(_FOLDER / "test_hashes.txt"))
COMMON_DOMAINS = frozenset(read_lines(_FOLDER / "common_domains.txt"))
WIDE_HOSTS = frozenset(read_lines(_FOLDER / "wide_hosts.txt"))
ADDRESS_SERVICES = frozenset(read_lines(_FOLDER / "address_services.txt"))
PUBLIC_RESOLVERS = frozenset(read_lines(_FOLDER / "public_resolvers.txt"))
GENERIC_MUTEX = re.compile(
    r"\A(?:(?:Local|Global|Session\\\d+)\\)?(?:"
    + "|".join(read_lines(_FOLDER / "generic_mutexes.txt"))
    + r")\Z",
    re.IGNORECASE,
)


def in_domains(domain: str, listed: frozenset[str]) -> bool:
    """Is the name one of the listed ones, or below one?"""
    labels = domain.split(".")
    return any(".".join(labels[start:]) in listed for start in range(len(labels)))
