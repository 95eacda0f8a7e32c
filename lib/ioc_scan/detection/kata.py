"""One sandbox detection of Kaspersky Anti Targeted Attack in the normal form.

The documentation names the fields and leaves nesting and case open, so both are taken as they come.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from ioc_scan.detection.collect import Collector
from ioc_scan.detection.values import clean_hashes, clean_size, clean_text, clean_time
from ioc_scan.errors import InputError

#: KATA's importance of a detection; it has no score.
RESULTS = {"high": "malicious", "medium": "suspicious", "low": "suspicious"}


def form_of(detect: dict[str, Any]) -> dict[str, Any]:
    """The normal form but for id and source. Raises InputError ``report_wrong_schema``."""
    losses: Counter[str] = Counter()
    collector = Collector(losses)
    item = _folded(detect)
    inner = _folded(item.get("object"))
    processed = _folded(inner.get("processedobject") or item.get("processedobject"))
    detected = _folded(inner.get("detectedobject") or item.get("detectedobject"))
    hashes = clean_hashes(processed, losses)
    if not hashes:
        raise InputError(
            "report_wrong_schema",
            "the detection of KATA names no object with a usable hash",
            "look at this analysis at the sandbox",
        )
    importance = clean_text(item.get("importance"), 60, losses)
    result = RESULTS.get((importance or "").lower(), "unknown")
    described = {
        "name": clean_text(processed.get("filename"), 1024, losses),
        "size": clean_size(processed.get("filesize")),
        "file_type": clean_text(processed.get("filetype"), 300, losses),
    }
    described = {key: value for key, value in described.items() if value is not None}
    inside = clean_hashes(detected, losses)
    different = bool(inside) and not set(inside.values()) & set(hashes.values())
    # what was found in a container is malicious; the container is what carried it
    collector.add(
        "file", "target", hashes=hashes, verdict="suspicious" if different else result, evidence="processedObject",
        **described,
    )  # fmt: skip
    if different:
        name = clean_text(detected.get("filename"), 1024, losses)
        collector.add("file", "dropped", hashes=inside, name=name, verdict=result, evidence="detectedObject")
    verdict: dict[str, Any] = {"result": result, "native": f"importance={importance or 'none'}"}
    names = _folded(item.get("detection")).get("detect")
    families = [
        text
        for text in (
            clean_text(name, 100, losses) for name in (names if isinstance(names, list) else [names])[:50]
        )
        if text
    ]
    if families:
        verdict["families"] = families
    return collector.assemble(
        verdict=verdict,
        target={"category": "file", "hashes": hashes, **described},
        detected_at=clean_time(item.get("detecttimestamp")) or clean_time(item.get("eventtimestamp")),
    )


def _folded(value: Any) -> dict[str, Any]:
    return {str(key).lower(): inner for key, inner in value.items()} if isinstance(value, dict) else {}
