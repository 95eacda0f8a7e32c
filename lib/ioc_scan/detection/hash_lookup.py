"""Asks a hashlookup service (CIRCL's, or one of your own) whether a digest is that of known, good software.

Opt-in: it tells the service which digests you look at. An answer counts as good only if the service trusts it
at least evenly and knows no malicious use. A service that cannot be asked is an error, never a "no": the guard
then keeps the object out of the actionable tier.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from ioc_scan.detection.sources.http import HttpClient, HttpRefused, HttpSettings

#: hashlookup:trust runs from 0 to 100; 50 is "no opinion".
LEAST_TRUST = 50
TIMEOUT_SECONDS = 10
MAX_ANSWER_BYTES = 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")


class HashLookup:
    """``is_known_good`` remembers its answers for as long as the object lives."""

    def __init__(self, url: str) -> None:
        """Raises ConfigError ``source_url``."""
        settings = {"name": "hash look-up", "url": url, "timeout_seconds": TIMEOUT_SECONDS}
        self._client = HttpClient(HttpSettings.from_config(settings))
        self.is_known_good = functools.lru_cache(maxsize=10_000)(self._ask)

    def _ask(self, sha256: str) -> bool:
        """Raises SourceError where the service cannot be asked or answers nonsense."""
        if not _SHA256.fullmatch(sha256):
            return False
        try:
            answer = self._client.get_json(f"/lookup/sha256/{sha256}", max_bytes=MAX_ANSWER_BYTES)
        except HttpRefused as error:
            if error.status == 404:
                return False
            raise
        return _is_good(answer, sha256)


def _is_good(answer: Any, sha256: str) -> bool:
    if not isinstance(answer, dict) or str(answer.get("SHA-256", "")).lower() != sha256:
        raise HttpRefused(
            "source_wrong_answer", "the hash look-up answered about something else", "is the address right?"
        )
    trust = answer.get("hashlookup:trust", LEAST_TRUST)
    trusted = isinstance(trust, (int, float)) and not isinstance(trust, bool) and trust >= LEAST_TRUST
    return trusted and "KnownMalicious" not in answer
