"""A sandbox's report, whatever its shape, as one normalized detection (``detection.schema.json``)."""

from __future__ import annotations

from typing import Any

from ioc_scan.detection import ids
from ioc_scan.detection.cape import WANTED as CAPE_WANTED
from ioc_scan.detection.cape import CapeReport
from ioc_scan.detection.reading import DEFAULT_MAX_BYTES, Progress, ReportInput, ReportReader, open_report
from ioc_scan.detection.schema import validate
from ioc_scan.detection.selection import Selection
from ioc_scan.errors import InputError
from ioc_scan.text import printable

PRODUCTS = ("cape",)
SCHEMA_VERSION = "1.0"


def degraded_detection(
    *,
    product: str,
    instance: str,
    report_id: object,
    hashes: dict[str, str],
    score: float | None,
    detected_at: str | None,
    name: str | None = None,
    size: int | None = None,
) -> dict[str, Any]:
    """A detection from a list entry alone, for a report that cannot be had. It is marked ``degraded``."""
    part = ids.report_part(report_id)
    described = {key: value for key, value in (("name", name), ("size", size)) if value is not None}
    verdict: dict[str, Any] = {"result": "malicious", "native": "list entry"}
    if score is not None:
        verdict["score"] = score
    detection = {
        "schema_version": SCHEMA_VERSION,
        "detection_id": ids.detection_id(product, instance, part),
        "source": {"product": product, "instance": instance, "report_id": part},
        "verdict": verdict,
        "target": {"category": "file", "hashes": hashes, **described},
        "detected_at": detected_at or "1970-01-01T00:00:00Z",
        "indicators": [
            {"type": "file", "role": "target", "hashes": hashes, **described, "evidence": "list entry"}
        ],
        "degraded": True,
    }
    validate(detection)
    return detection


def normalize_report(
    report: ReportInput,
    *,
    product: str | None = None,
    instance: str,
    report_id: object = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Read a report (path or binary stream, plain or gzip) and return the detection it tells of.

    ``product`` None: known by its content. ``report_id`` None: the digest of the content. ``max_bytes`` caps
    the report as it lies there and once unpacked; ``progress`` is told the bytes read. The result fits the
    schema. Raises InputError with codes ``report_*`` (unreadable, empty, too_large, truncated, corrupt, html,
    not_json, too_deep, wrong_schema, error).
    """
    if product not in (None, "auto", *PRODUCTS):
        raise InputError(
            "unknown_product",
            f"no normalizer for '{printable(product, 60)}'",
            f"one of: {', '.join(PRODUCTS)}",
        )
    opened_here = not hasattr(report, "read")
    stream = open_report(report)
    try:
        reader = ReportReader(stream, max_bytes=max_bytes, progress=progress)
        cape = CapeReport(Selection(reader, CAPE_WANTED))
        form = cape.normal_form()
    finally:
        if opened_here:
            stream.close()
    if reader.repaired:
        form.setdefault("losses", {})["text_repaired"] = (
            form.get("losses", {}).get("text_repaired", 0) + reader.repaired
        )
    part = ids.digest_name(reader.digest) if report_id is None else ids.report_part(report_id)
    source: dict[str, Any] = {"product": "cape", "instance": instance, "report_id": part}
    if cape.version:
        source["version"] = cape.version
    detection = {
        "schema_version": SCHEMA_VERSION,
        "detection_id": ids.detection_id("cape", instance, part),
        "source": source,
        **form,
    }
    validate(detection)
    return detection
