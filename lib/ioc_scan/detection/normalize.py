"""A sandbox's report, whatever its shape, as one normalized detection (``detection.schema.json``)."""

from __future__ import annotations

import re
import zlib
from typing import Any, BinaryIO

from ioc_scan.detection import cape, ids, vmray
from ioc_scan.detection.collect import EPOCH
from ioc_scan.detection.reading import DEFAULT_MAX_BYTES, Progress, ReportInput, ReportReader, open_report
from ioc_scan.detection.schema import validate
from ioc_scan.detection.selection import Selection
from ioc_scan.errors import InputError
from ioc_scan.text import printable

#: product -> what to take from its reports, and who makes sense of it; tried in this order
PRODUCTS: dict[str, tuple[dict[str, Any], Any]] = {
    "cape": (cape.WANTED, cape.CapeReport),
    "vmray": (vmray.WANTED, vmray.VmrayReport),
}
SCHEMA_VERSION = "1.0"


def sniff(head: bytes) -> str:
    """The product by the first bytes of a report (plain or gzip), good enough to name it before it is read."""
    if head[:2] == b"\x1f\x8b":
        try:
            head = zlib.decompressobj(31).decompress(head, 1024)
        except zlib.error:
            return "cape"
    return "vmray" if re.match(rb'\s*\{\s*"_type":\s*"summary"', head) else "cape"


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
        "detected_at": detected_at or EPOCH,
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
    candidates = [product] if product in PRODUCTS else list(PRODUCTS)
    stream = open_report(report)
    try:
        return _first_that_fits(stream, candidates, instance, report_id, max_bytes, progress)
    finally:
        if stream is not report:
            stream.close()


def _first_that_fits(
    stream: BinaryIO,
    candidates: list[str],
    instance: str,
    report_id: object,
    max_bytes: int,
    progress: Progress | None,
) -> dict[str, Any]:
    for product in candidates[:-1]:
        try:
            return _normalized(stream, product, instance, report_id, max_bytes, progress)
        except InputError as error:
            if error.code != "report_wrong_schema" or not stream.seekable():
                raise
            stream.seek(0)
    return _normalized(stream, candidates[-1], instance, report_id, max_bytes, progress)


def _normalized(
    stream: BinaryIO,
    product: str,
    instance: str,
    report_id: object,
    max_bytes: int,
    progress: Progress | None,
) -> dict[str, Any]:
    wanted, form_of = PRODUCTS[product]
    reader = ReportReader(stream, max_bytes=max_bytes, progress=progress)
    report = form_of(Selection(reader, wanted))
    form = report.normal_form()
    if reader.repaired:
        losses = form.setdefault("losses", {})
        losses["text_repaired"] = losses.get("text_repaired", 0) + reader.repaired
    part = ids.digest_name(reader.digest) if report_id is None else ids.report_part(report_id)
    return finished(product, instance, part, form, report.version)


def finished(
    product: str, instance: str, part: str, form: dict[str, Any], version: str | None
) -> dict[str, Any]:
    """The whole normal form, checked against the schema."""
    source: dict[str, Any] = {"product": product, "instance": instance, "report_id": part}
    if version:
        source["version"] = version
    detection = {
        "schema_version": SCHEMA_VERSION,
        "detection_id": ids.detection_id(product, instance, part),
        "source": source,
        **form,
    }
    validate(detection)
    return detection
