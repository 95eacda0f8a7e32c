"""Detection ids: ``product:instance:report_id``, safe on a command line, in a URL and in a template."""

from __future__ import annotations

import hashlib
import re

from ioc_scan.errors import InputError
from ioc_scan.text import printable

PART = re.compile(r"[A-Za-z0-9._-]{1,64}")


def report_part(report_id: object) -> str:
    """The report's own id where it fits an id part, else ``sha256-`` and 32 hex digits of it."""
    text = str(report_id)
    return text if PART.fullmatch(text) else digest_part(text.encode("utf-8", "surrogatepass"))


def digest_part(content: bytes) -> str:
    """``sha256-`` and the first 32 hex digits of the SHA-256 of ``content``."""
    return digest_name(hashlib.sha256(content).hexdigest())


def digest_name(sha256_hex: str) -> str:
    """The id part for content whose SHA-256 is known already."""
    return f"sha256-{sha256_hex[:32]}"


def detection_id(product: str, instance: str, report_id: object) -> str:
    """Join the three parts. Raises InputError ``bad_id_part`` for a bad product or instance."""
    for name, part in (("product", product), ("instance", instance)):
        if not PART.fullmatch(part):
            raise InputError(
                "bad_id_part",
                f"{name} '{printable(part, 80)}' cannot stand in a detection id",
                "use up to 64 letters, digits, '.', '_' and '-'",
            )
    return f"{product}:{instance}:{report_part(report_id)}"


def split_id(value: str) -> tuple[str, str, str]:
    """``(product, instance, report_id)``. Raises InputError ``bad_detection_id``."""
    parts = value.split(":") if isinstance(value, str) else []
    if len(parts) != 3 or not all(PART.fullmatch(part) for part in parts):
        raise InputError(
            "bad_detection_id",
            f"'{printable(value, 80)}' is not a detection id",
            "it has the form product:instance:report_id",
        )
    return parts[0], parts[1], parts[2]
