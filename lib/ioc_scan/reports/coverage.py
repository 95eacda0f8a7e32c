"""Coverage as a picture: each targeted device in exactly one segment, and always out of how many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .filters import number, share

WIDTH = 1000
#: One device of ten thousand is still to be seen.
_MIN_WIDTH = 6

_SEGMENTS = (
    ("matched", "answered with matches"),
    ("clean", "reported clean"),
    ("failed", "failed or refused"),
    ("running", "scanning now"),
    ("waiting_idle", "waiting until idle"),
    ("open", "not answered yet"),
    ("never_seen", "never seen"),
)
_STEPS = (
    ("reached", "Reached"),
    ("answered", "Answered"),
    ("matched", "With matches"),
    ("clean", "Reported clean"),
)


def picture(coverage: Mapping[str, Any]) -> dict[str, Any]:
    """``coverage`` as the store counts it -> ``{targeted, label, segments, steps}`` for the templates."""
    counts = {name: _count(coverage.get(name)) for name in ("targeted", *dict(_SEGMENTS), *dict(_STEPS))}
    targeted = counts["targeted"]
    named = sum(counts[name] for name, _ in _SEGMENTS if name != "open")
    counts["open"] = max(targeted - named, 0)
    shown = [(name, title, counts[name]) for name, title in _SEGMENTS if counts[name] > 0]
    return {
        "targeted": targeted,
        "label": _label(counts),
        "segments": _place(shown, targeted),
        "steps": [
            {"title": title, "count": counts[name], "share": share(counts[name], targeted)}
            for name, title in _STEPS
        ],
    }


def _place(shown: list[tuple[str, str, int]], targeted: int) -> list[dict[str, Any]]:
    total = max(sum(count for _, _, count in shown), 1)
    gap = 2.0 if len(shown) > 1 else 0.0
    room = WIDTH - gap * (len(shown) - 1)
    widths = [max(room * count / total, _MIN_WIDTH) for _, _, count in shown]
    surplus = sum(widths) - room
    if widths and surplus > 0:  # the widest pays for those too small to see
        widest = widths.index(max(widths))
        widths[widest] -= surplus
    segments, x = [], 0.0
    for (name, title, count), width in zip(shown, widths, strict=True):
        segments.append(
            {
                "name": name,
                "title": title,
                "count": count,
                "share": share(count, targeted),
                "x": f"{x:.1f}",
                "width": f"{width:.1f}",
            }
        )
        x += width + gap
    return segments


def _label(counts: Mapping[str, int]) -> str:
    targeted = counts["targeted"]
    if not targeted:
        return "No device is targeted yet."
    parts = [f"{number(counts['answered'])} of {number(targeted)} targeted devices have answered"]
    for name, title in _SEGMENTS:
        if counts[name]:
            parts.append(f"{number(counts[name])} {title}")
    return f"{parts[0]}. Of these {number(targeted)}: " + ", ".join(parts[1:]) + "."


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
