"""Cuckoo 3: an analysis and the ``post`` reports of its tasks in the normal form."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from ioc_scan.detection.collect import Collector
from ioc_scan.detection.hosts import Hosts
from ioc_scan.detection.kinds import base_name
from ioc_scan.detection.selection import WHOLE, Each, Selection
from ioc_scan.detection.values import (
    clean_domain,
    clean_hashes,
    clean_number,
    clean_size,
    clean_text,
    clean_time,
    clean_url,
)
from ioc_scan.errors import InputError

MALICIOUS_SCORE = 7.0
SUSPICIOUS_SCORE = 4.0
_FLOW = {"dstip": WHOLE, "dstport": WHOLE}
POST_WANTED: dict[str, Any] = {
    "network": {
        "domain": Each(),
        "host": Each(),
        "tcp": Each(_FLOW),
        "udp": Each(_FLOW),
        "http": Each({"request": {"url": WHOLE}}),
    },
    "processes": Each({"commandline": WHOLE}),
    "signatures": Each({"iocs": WHOLE}),
}
_PATH = re.compile(r"(\A[A-Za-z]:\\)|(\A/(?:tmp|var|home|root|usr|etc|opt)/)")


class Cuckoo3Analysis:
    """``add_post`` for each task that has a report, then ``normal_form``."""

    def __init__(self, analysis: dict[str, Any]) -> None:
        self._analysis = analysis
        self._losses: Counter[str] = Counter()
        self._collector = Collector(self._losses)

    def add_post(self, selection: Selection) -> None:
        hosts = Hosts(self._losses)
        for path, value in selection:
            if path in ("/network/tcp", "/network/udp"):
                hosts.flow(value.get("dstip"), value.get("dstport"))
            elif path == "/network/host":
                hosts.contact(value)
            elif path == "/network/domain":
                domain = clean_domain(value)
                if domain:
                    self._collector.add("domain-name", "resolved", value=domain, evidence="network/domain")
                else:
                    self._losses["bad_domain"] += 1
            elif path == "/network/http":
                request = value.get("request")
                url = clean_url(request.get("url"), self._losses) if isinstance(request, dict) else None
                if url:
                    self._collector.add("url", "contacted", value=url, evidence="network/http")
            elif path == "/processes":
                command = clean_text(value.get("commandline"), 8192, self._losses)
                if command:
                    self._collector.add("process", "executed", value=command, evidence="processes")
            elif path == "/signatures":
                self._add_paths(value.get("iocs"))
        hosts.add_to(self._collector, "network/host")
        self._losses.update(selection.losses)

    def normal_form(self) -> dict[str, Any]:
        """Raises InputError ``report_wrong_schema``."""
        return self._collector.assemble(
            verdict=self._verdict(),
            target=self._target(),
            detected_at=clean_time(self._analysis.get("created_on")),
        )

    def _add_paths(self, iocs: Any) -> None:
        """Signatures name files that were opened for writing."""
        for ioc in iocs[:500] if isinstance(iocs, list) else []:
            text = clean_text(ioc.get("value"), 4096, self._losses) if isinstance(ioc, dict) else None
            if text and _PATH.search(text) and "modif" in str(ioc.get("description")).lower():
                self._collector.add(
                    "file", "written", path=text, name=base_name(text)[:1024], evidence="signatures"
                )

    def _target(self) -> dict[str, Any]:
        target = self._analysis.get("target")
        target = target if isinstance(target, dict) else {}
        if self._analysis.get("category") == "url":
            url = clean_text(target.get("url"), 4096, self._losses)
            if url:
                self._collector.add("url", "target", value=url, evidence="target")
                return {"category": "url", "url": url}
        hashes = clean_hashes(target, self._losses)
        if not hashes:
            raise InputError(
                "report_wrong_schema",
                "the analysis of Cuckoo 3 has no target with a usable hash",
                "look at this analysis at the sandbox",
            )
        described = {
            "name": clean_text(target.get("orig_filename") or target.get("filename"), 1024, self._losses),
            "size": clean_size(target.get("size")),
            "file_type": clean_text(target.get("filetype"), 300, self._losses),
        }
        described = {key: value for key, value in described.items() if value is not None}
        self._collector.add("file", "target", hashes=hashes, evidence="target", **described)
        return {"category": "file", "hashes": hashes, **described}

    def _verdict(self) -> dict[str, Any]:
        score = clean_number(self._analysis.get("score"))
        listed = self._analysis.get("families")
        texts = (
            clean_text(item, 100, self._losses) for item in (listed[:50] if isinstance(listed, list) else [])
        )
        families = [text for text in texts if text]
        verdict: dict[str, Any] = {"result": "unknown", "native": f"score={score}"}
        if score is not None:
            score = min(max(score, 0.0), 10.0)
            verdict["score"] = round(score * 10, 1)
        if families or (score is not None and score >= MALICIOUS_SCORE):
            verdict["result"] = "malicious"
        elif score is not None and score >= SUSPICIOUS_SCORE:
            verdict["result"] = "suspicious"
        if families:
            verdict["families"] = families
        return verdict
