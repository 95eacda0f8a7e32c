"""VMRay's ``sample/<id>/iocs`` answer, with what its submission says of the sample, in the normal form."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ioc_scan.detection.collect import Collector
from ioc_scan.detection.kinds import base_name
from ioc_scan.detection.values import (
    clean_address,
    clean_domain,
    clean_hashes,
    clean_size,
    clean_text,
    clean_time,
    clean_url,
)
from ioc_scan.detection.vmray import RESULTS
from ioc_scan.errors import InputError

MAX_ITEMS = 5000


def form_of(submission: dict[str, Any], iocs: dict[str, Any]) -> dict[str, Any]:
    """The normal form but for id and source. Raises InputError ``report_wrong_schema``."""
    losses: Counter[str] = Counter()
    collector = Collector(losses)
    said = submission.get("submission_verdict")
    result = RESULTS.get(str(said), "unknown")
    hashes = _hashes(submission, "submission_sample_", losses)
    if not hashes:
        raise InputError(
            "report_wrong_schema",
            "the VMRay submission has no hash of its sample",
            "look at this analysis at the sandbox",
        )
    name = clean_text(submission.get("submission_filename"), 1024, losses)
    target: dict[str, Any] = {"category": "file", "hashes": hashes, **({"name": name} if name else {})}
    collector.add("file", "target", hashes=hashes, name=name, verdict=result, evidence="submission")
    _add_all(iocs, hashes, collector, losses)
    verdict: dict[str, Any] = {
        "result": result,
        "native": f"verdict={clean_text(said, 60, losses) or 'none'}",
    }
    names = submission.get("submission_threat_names")
    families = (
        [text for text in (clean_text(item, 100, losses) for item in (names or [])[:50]) if text]
        if isinstance(names, list)
        else []
    )
    if families:
        verdict["families"] = families
    return collector.assemble(
        verdict=verdict, target=target, detected_at=clean_time(submission.get("submission_finish_time"))
    )


def _add_all(
    iocs: dict[str, Any], target: dict[str, str], collector: Collector, losses: Counter[str]
) -> None:
    for item in _items(iocs, "files", losses):
        listed = item.get("hashes")
        for record in listed[:10] if isinstance(listed, list) else [item]:
            hashes = _hashes(record, "", losses) if isinstance(record, dict) else {}
            if hashes and hashes.get("SHA-256", "") != target.get("SHA-256"):
                paths = (
                    item.get("filenames")
                    if isinstance(item.get("filenames"), list)
                    else [item.get("filename")]
                )
                path = clean_text(paths[0] if paths else None, 4096, losses)
                collector.add(
                    "file", "dropped", hashes=hashes, path=path, name=base_name(path)[:1024] if path else None,
                    size=clean_size(item.get("file_size")), verdict=_mark(item), evidence="iocs/files",
                )  # fmt: skip
    for item in _items(iocs, "domains", losses):
        _add(collector, "domain-name", "resolved", clean_domain(item.get("domain")), item)
    for item in _items(iocs, "ips", losses):
        address = clean_address(item.get("ip_address"))
        if address:
            _add(collector, address[0], "contacted", address[1], item)
    for item in _items(iocs, "urls", losses):
        _add(collector, "url", "contacted", clean_url(item.get("url"), losses), item)
    for item in _items(iocs, "mutexes", losses):
        _add(collector, "mutex", "created", clean_text(item.get("mutex_name"), 8192, losses), item)
    for item in _items(iocs, "registry", losses):
        _add(
            collector,
            "windows-registry-key",
            "persistence",
            clean_text(item.get("reg_key_name"), 8192, losses),
            item,
        )
    for item in _items(iocs, "processes", losses):
        _add(collector, "process", "executed", clean_text(item.get("cmd_line"), 8192, losses), item)
    for item in _items(iocs, "filenames", losses):
        path = clean_text(item.get("filename"), 4096, losses)
        if path:
            collector.add(
                "file",
                "written",
                path=path,
                name=base_name(path)[:1024],
                verdict=_mark(item),
                evidence="iocs/filenames",
            )


def _add(collector: Collector, type_: str, role: str, value: str | None, item: dict[str, Any]) -> None:
    if value:
        collector.add(type_, role, value=value, verdict=_mark(item), evidence="iocs")


def _mark(item: dict[str, Any]) -> str | None:
    """Everything here is an indicator to VMRay; ``is_ioc`` or ``ioc`` may say otherwise for one."""
    result = RESULTS.get(str(item.get("verdict")))
    if result == "malicious" and (item.get("is_ioc") is False or item.get("ioc") is False):
        return "suspicious"
    return result


def _hashes(record: dict[str, Any], prefix: str, losses: Counter[str]) -> dict[str, str]:
    """``md5_hash`` or ``submission_sample_md5``: both spellings occur."""
    plain = {
        name: record.get(f"{prefix}{name}") or record.get(f"{prefix}{name}_hash")
        for name in ("md5", "sha1", "sha256")
    }
    return clean_hashes(plain, losses)


def _items(iocs: dict[str, Any], key: str, losses: Counter[str]) -> list[dict[str, Any]]:
    listed = iocs.get(key) or []
    if not isinstance(listed, list):
        losses["unexpected_type"] += 1
        return []
    if len(listed) > MAX_ITEMS:
        losses["items_cut"] += len(listed) - MAX_ITEMS
    return [item for item in listed[:MAX_ITEMS] if isinstance(item, dict)]
