"""The number of devices an engine is meant for, said once it is passed."""

from __future__ import annotations

from .base import Problem


def beyond(count: int, comfortable: int, why: str, hint: str) -> list[Problem]:
    """A warning for a fleet of more than ``comfortable`` devices; ``why`` says what each of them costs."""
    if count <= comfortable:
        return []
    message = f"{count} devices, and this engine is meant for up to {comfortable}: {why}"
    return [Problem("fleet_too_large", message, hint, fatal=False)]
