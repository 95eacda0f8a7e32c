"""VMRay's summary JSON (version 2) in the normal form.

VMRay gives a verdict for every artefact and marks those it calls indicators (``is_ioc``). Only both together,
``is_ioc`` and malicious, count as the source's own mark. There is no score.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from ioc_scan.detection.collect import Collector
from ioc_scan.detection.kinds import base_name
from ioc_scan.detection.selection import WHOLE, Each, Selection
from ioc_scan.detection.values import (
    clean_address,
    clean_domain,
    clean_hashes,
    clean_size,
    clean_text,
    clean_time,
    clean_url,
)
from ioc_scan.errors import InputError

MAX_HELD = 5000
RESULTS = {"malicious": "malicious", "suspicious": "suspicious", "clean": "benign"}

_MARKS = {"verdict": WHOLE, "is_ioc": WHOLE}
_FILE_KEYS = ("hash_values", "size", "mime_type", "is_sample", "categories", "ref_filenames")
_FILE = {**_MARKS, **dict.fromkeys(_FILE_KEYS, WHOLE)}
_METADATA_KEYS = ("verdict", "creation_time", "submission_filename", "classifications", "threat_names")
WANTED: dict[str, Any] = {
    "version": WHOLE,
    "analysis_metadata": dict.fromkeys(_METADATA_KEYS, WHOLE),
    "threat_names": WHOLE,
    "files": Each(_FILE, of_map=True),
    "filenames": Each(
        {**_MARKS, "filename": WHOLE, "operations": WHOLE, "original_filenames": WHOLE}, of_map=True
    ),
    "domains": Each({**_MARKS, "domain": WHOLE}, of_map=True),
    "ip_addresses": Each({**_MARKS, "ip_address": WHOLE}, of_map=True),
    "urls": Each({**_MARKS, "url": WHOLE, "is_sample": WHOLE}, of_map=True),
    "mutexes": Each({**_MARKS, "name": WHOLE, "mutex_name": WHOLE}, of_map=True),
    "registry_records": Each({**_MARKS, "reg_key_name": WHOLE}, of_map=True),
    "processes": Each({**_MARKS, "cmd_line": WHOLE}, of_map=True),
}
#: Files that VMRay made, or that never lay on the guest's disk as such.
_NOT_ON_DISK = {"memory_dump", "embedded", "extracted", "code_dump"}
_OF_THE_SANDBOX = {"pcap", "screenshot", "icon", "misc", "command_line", "function_strings", "function_log"}


class VmrayReport:
    """Collects what :data:`WANTED` yields, then writes the normal form."""

    product = "vmray"

    def __init__(self, selection: Selection) -> None:
        self._losses = selection.losses
        self._collector = Collector(self._losses)
        self._facts: dict[str, Any] = {}
        self._held: dict[str, list[dict[str, Any]]] = {}
        self._counted: Counter[str] = Counter()
        for path, value in selection:
            if isinstance(value, dict) and "_key" in value:
                held = self._held.setdefault(path[1:], [])
                if len(held) < MAX_HELD:
                    held.append(value)
                else:
                    self._losses["items_cut"] += 1
            else:
                self._facts[path] = value

    @property
    def version(self) -> str | None:
        return clean_text(self._facts.get("/version"), 100, self._losses)

    def normal_form(self) -> dict[str, Any]:
        """Raises InputError ``report_wrong_schema``."""
        if not any(path.startswith("/analysis_metadata") for path in self._facts):
            raise InputError(
                "report_wrong_schema",
                "this is no report of a known sandbox: it has neither CAPE's target nor VMRay's analysis_metadata",
                "give CAPE's report.json or iocs answer, or VMRay's summary_v2.json",
            )
        target = self._target()
        self._add_files()
        self._add_traces()
        return self._collector.assemble(
            verdict=self._verdict(),
            target=target,
            detected_at=clean_time(self._facts.get("/analysis_metadata/creation_time")),
            counted=self._counted,
        )

    def _target(self) -> dict[str, Any]:
        sample = next((item for item in self._held.get("files", []) if item.get("is_sample") is True), None)
        hashes = clean_hashes(_hash_values(sample), self._losses) if sample else {}
        if sample is None or not hashes:
            return self._url_target()
        described = {
            "name": clean_text(self._facts.get("/analysis_metadata/submission_filename"), 1024, self._losses),
            "size": clean_size(sample.get("size")),
            "file_type": clean_text(sample.get("mime_type"), 300, self._losses),
        }
        described = {key: value for key, value in described.items() if value is not None}
        mark = RESULTS.get(str(sample.get("verdict")))
        self._collector.add("file", "target", hashes=hashes, verdict=mark, evidence="files", **described)
        return {"category": "file", "hashes": hashes, **described}

    def _url_target(self) -> dict[str, Any]:
        for item in self._held.get("urls", []):
            url = clean_text(item.get("url"), 4096, self._losses)
            if item.get("is_sample") is True and url:
                self._collector.add("url", "target", value=url, evidence="urls")
                return {"category": "url", "url": url}
        raise InputError(
            "report_wrong_schema",
            "the VMRay report has no sample with a usable hash",
            "look at this analysis at the sandbox",
        )

    def _add_files(self) -> None:
        names = {item["_key"]: item for item in self._held.get("filenames", [])}
        for item in self._held.get("files", []):
            kinds = {kind for kind in item.get("categories") or [] if isinstance(kind, str)}
            hashes = clean_hashes(_hash_values(item), self._losses)
            if item.get("is_sample") is True or not hashes:
                continue
            if kinds & _OF_THE_SANDBOX:
                self._counted["sandbox_files"] += 1
                continue
            common = {
                "hashes": hashes,
                "size": clean_size(item.get("size")),
                "file_type": clean_text(item.get("mime_type"), 300, self._losses),
                "verdict": _mark(item),
                "evidence": "files",
            }
            if kinds & _NOT_ON_DISK:
                self._collector.add("file", "payload", **common)
                continue
            path = self._path(item, names)
            self._collector.add(
                "file", "dropped", path=path, name=base_name(path)[:1024] if path else None, **common
            )

    def _path(self, item: dict[str, Any], names: dict[str, dict[str, Any]]) -> str | None:
        """The file's own spelling of its path, from the names it refers to."""
        for reference in (
            (item.get("ref_filenames") or [])[:10] if isinstance(item.get("ref_filenames"), list) else []
        ):
            where = reference.get("path") if isinstance(reference, dict) else None
            name = names.get(str(where[-1])) if isinstance(where, list) and where else None
            if name:
                return clean_text(_original(name), 4096, self._losses)
        return None

    def _add_traces(self) -> None:
        add, losses = self._collector.add, self._losses
        for item in self._held.get("filenames", []):
            operations = {text for text in item.get("operations") or [] if isinstance(text, str)}
            path = clean_text(_original(item), 4096, losses)
            if path and operations & {"create", "write", "modify"}:
                add(
                    "file",
                    "written",
                    path=path,
                    name=base_name(path)[:1024],
                    verdict=_mark(item),
                    evidence="filenames",
                )
            else:
                self._counted["accessed_files"] += 1
        for item in self._held.get("domains", []):
            add_if(add, "domain-name", "resolved", clean_domain(item.get("domain")), item, "domains")
        for item in self._held.get("ip_addresses", []):
            address = clean_address(item.get("ip_address"))
            if address:
                add_if(add, address[0], "contacted", address[1], item, "ip_addresses")
        for item in self._held.get("urls", []):
            if item.get("is_sample") is not True:
                add_if(add, "url", "contacted", clean_url(item.get("url"), losses), item, "urls")
        for item in self._held.get("mutexes", []):
            text = clean_text(item.get("mutex_name") or item.get("name"), 8192, losses)
            add_if(add, "mutex", "created", text, item, "mutexes")
        for item in self._held.get("registry_records", []):
            if _mark(item) == "malicious":
                text = clean_text(item.get("reg_key_name"), 8192, losses)
                add_if(add, "windows-registry-key", "persistence", text, item, "registry_records")
            else:
                self._counted["registry_keys"] += 1
        for item in self._held.get("processes", []):
            add_if(
                add, "process", "executed", clean_text(item.get("cmd_line"), 8192, losses), item, "processes"
            )

    def _verdict(self) -> dict[str, Any]:
        said = clean_text(self._facts.get("/analysis_metadata/verdict"), 60, self._losses)
        verdict: dict[str, Any] = {
            "result": RESULTS.get(said or "", "unknown"),
            "native": f"verdict={said or 'none'}",
        }
        names = self._facts.get("/analysis_metadata/threat_names") or self._facts.get("/threat_names") or []
        listed = names if isinstance(names, list) else [names]
        families = [name for name in (clean_text(item, 100, self._losses) for item in listed[:50]) if name]
        if families:
            verdict["families"] = families
        return verdict


def add_if(add: Any, type_: str, role: str, value: str | None, item: dict[str, Any], evidence: str) -> None:
    """Add a trace with the source's mark, if it has a usable value."""
    if value:
        add(type_, role, value=value, verdict=_mark(item), evidence=evidence)


def _mark(item: dict[str, Any]) -> str | None:
    """The source's own word: malicious only for what it also calls an indicator."""
    result = RESULTS.get(str(item.get("verdict")))
    if result == "malicious" and item.get("is_ioc") is not True:
        return "suspicious"
    return result


def _hash_values(item: dict[str, Any]) -> dict[str, Any]:
    values = item.get("hash_values")
    return values if isinstance(values, dict) else {}


def _original(name: dict[str, Any]) -> Any:
    """VMRay folds case in ``filename``; the original spelling stands beside it."""
    originals = name.get("original_filenames")
    first = originals[0] if isinstance(originals, list) and originals else None
    spelled = first.get("filename") if isinstance(first, dict) else first
    return spelled if isinstance(spelled, str) else name.get("filename")
