"""CAPE's report JSON and ``iocs`` JSON (2.2 and 2.4 shapes) in the normal form.

Source of the fields: CAPEv2's processing modules and its ``tasks/get/iocs`` answer. Several of them change
type between versions: ``detections`` is a string, a list of dicts or absent, ``guest_paths`` a list, a
string or null, ``name`` of a dropped file a list or a string.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from ioc_scan.detection import cape_config
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
MAX_PATHS_PER_FILE = 10

_PE = {"guest_signers": WHOLE, "digital_signers": WHOLE}
_FILE = {
    **dict.fromkeys(("name", "size", "md5", "sha1", "sha256", "type", "guest_paths", "cape_type"), WHOLE),
    "pe": _PE,
}
_FLOW = {"dst": WHOLE, "dport": WHOLE}
_TRAFFIC = {
    "hosts": Each(),
    "domains": Each(),
    "http": Each({"uri": WHOLE, "host": WHOLE}),
    "tcp": Each(_FLOW),
    "udp": Each(_FLOW),
}
_SUMMARY = {
    key: Each()
    for key in (
        "read_files", "write_files", "delete_files", "read_keys", "write_keys", "delete_keys",
        "executed_commands", "mutexes", "created_services", "started_services",
    )
}  # fmt: skip
_BODY: dict[str, Any] = {
    "malscore": WHOLE,
    "malstatus": WHOLE,
    "detections": WHOLE,
    "info": {"version": WHOLE, "started": WHOLE, "ended": WHOLE},
    "target": {"category": WHOLE, "url": WHOLE, "file": WHOLE},
    "static": {"pe": _PE},
    "dropped": Each(_FILE),
    "procdump": Each(_FILE),
    "CAPE": {"payloads": Each(_FILE), "configs": WHOLE},
    "network": {**_TRAFFIC, "traffic": _TRAFFIC},
    "behavior": {"summary": _SUMMARY},
    # from here on as tasks/get/iocs spells it
    "files": {"modified": Each(), "deleted": Each(), "read": Each()},
    "registry": {"modified": Each(), "deleted": Each(), "read": Each()},
    "mutexes": Each(),
    "executed_commands": Each(),
}
WANTED: dict[str, Any] = {**_BODY, "data": _BODY, "error": WHOLE, "error_value": WHOLE}

#: Behaviour that is everywhere and proves nothing: counted, not listed.
_COUNTED = {
    "read_files": "read_files", "delete_files": "deleted_files", "read_keys": "read_keys",
    "delete_keys": "deleted_keys", "started_services": "started_services",
}  # fmt: skip
_IOCS_SPELLING = {
    "/files/modified": "write_files", "/files/deleted": "delete_files", "/files/read": "read_files",
    "/registry/modified": "write_keys", "/registry/deleted": "delete_keys", "/registry/read": "read_keys",
    "/mutexes": "mutexes", "/executed_commands": "executed_commands",
}  # fmt: skip
_AUTORUN_PARTS = ("\\currentversion\\run\\", "\\currentversion\\runonce\\", "\\currentversion\\runonceex\\",
                  "\\currentversion\\policies\\explorer\\run\\", "\\windows nt\\currentversion\\winlogon\\",
                  "\\image file execution options\\", "\\windows nt\\currentversion\\windows\\")  # fmt: skip
_AUTORUN_VALUES = {
    "winlogon": {"shell", "userinit", "notify", "taskman"},
    "windows": {"appinit_dlls", "load", "run"},
}


class CapeReport:
    """Collects what :data:`WANTED` yields, then writes the normal form."""

    def __init__(self, selection: Selection) -> None:
        self._losses = selection.losses
        self._collector = Collector(self._losses)
        self._facts: dict[str, Any] = {}
        self._counted: Counter[str] = Counter()
        self._hosts = Hosts(self._losses)
        for path, value in selection:
            self._take(path.removeprefix("/data") if path.startswith("/data/") else path, value)
        self._top_keys = selection.top_keys

    product = "cape"

    def normal_form(self) -> dict[str, Any]:
        """Everything but ``detection_id`` and ``source``. Raises InputError for what is no CAPE report."""
        self._refuse_foreign()
        target = self._target()
        self._hosts.add_to(self._collector, "network/hosts")
        started = clean_time(self._facts.get("/info/started"))
        return self._collector.assemble(
            verdict=self._verdict(),
            target=target,
            detected_at=clean_time(self._facts.get("/info/ended")) or started,
            analysis_started=started,
            counted=self._counted,
        )

    @property
    def version(self) -> str | None:
        return clean_text(self._facts.get("/info/version"), 100, self._losses)

    def _take(self, path: str, value: Any) -> None:
        kind = _IOCS_SPELLING.get(path) or path.rpartition("/")[2]
        if path.startswith("/network/"):
            self._take_traffic(kind, value)
        elif path == "/dropped":
            self._take_file(value, "dropped", "dropped")
        elif path in ("/procdump", "/CAPE/payloads"):
            self._take_file(value, "payload", path[1:])
        elif path == "/CAPE/configs":
            cape_config.collect(value, self._collector, self._losses)
        elif path.startswith("/behavior/summary/") or path in _IOCS_SPELLING:
            self._take_behavior(kind, value)
        else:
            self._facts[path] = value

    def _take_file(self, record: dict[str, Any], role: str, evidence: str) -> None:
        hashes = clean_hashes(record, self._losses)
        names = _texts(record.get("name"), 1024, self._losses)
        common = {
            "hashes": hashes,
            "size": clean_size(record.get("size")),
            "file_type": clean_text(record.get("type"), 300, self._losses),
            "evidence": evidence,
            **_signature(record.get("pe")),
        }
        if role == "payload":
            # CAPE's name of a memory dump is its hash, its guest path that of the process
            shown = clean_text(record.get("cape_type"), 1024, self._losses)
            if hashes:
                self._collector.add("file", role, name=shown, **common)
            return
        paths = _texts(record.get("guest_paths"), 4096, self._losses)[:MAX_PATHS_PER_FILE]
        for path in paths or [""]:
            name = base_name(path) if path else (names[0] if names else None)
            if hashes or path or name:
                self._collector.add("file", role, name=name, path=path, **common)

    def _take_traffic(self, kind: str, value: Any) -> None:
        if kind in ("tcp", "udp"):
            self._hosts.flow(value.get("dst"), value.get("dport"))
        elif kind == "hosts":
            self._hosts.contact(value.get("ip") if isinstance(value, dict) else value)
        elif kind == "domains":
            domain = clean_domain(value.get("domain") if isinstance(value, dict) else value)
            if domain:
                self._collector.add("domain-name", "resolved", value=domain, evidence="network/domains")
            else:
                self._losses["bad_domain"] += 1
        elif kind == "http":
            url = clean_url(value.get("uri"), self._losses)
            if url:
                self._collector.add("url", "contacted", value=url, evidence="network/http")

    def _take_behavior(self, kind: str, value: Any) -> None:
        if kind in _COUNTED:
            self._counted[_COUNTED[kind]] += 1
            return
        text = clean_text(value, 4096 if kind == "write_files" else 8192, self._losses)
        if text is None:
            self._losses["unexpected_type"] += not isinstance(value, str)
        elif kind == "write_files":
            self._collector.add("file", "written", name=base_name(text)[:1024], path=text, evidence=kind)
        elif kind == "write_keys":
            self._take_key(text)
        elif kind == "mutexes":
            self._collector.add("mutex", "created", value=text, evidence=kind)
        elif kind == "created_services":
            self._collector.add("windows-service", "created", value=text, evidence=kind)
        elif kind == "executed_commands":
            self._collector.add("process", "executed", value=text, evidence=kind)

    def _take_key(self, text: str) -> None:
        key, _, name = text.rpartition("\\")
        lowered = f"{key.lower()}\\"
        known = next((part for part in _AUTORUN_PARTS if part in lowered), None)
        allowed = _AUTORUN_VALUES.get(known.rsplit("\\", 2)[1]) if known else None
        if known is None or (allowed is not None and name.lower() not in allowed):
            self._counted["written_keys"] += 1
            return
        self._collector.add(
            "windows-registry-key", "persistence", value=key, value_name=name[:1024], evidence="write_keys"
        )

    def _target(self) -> dict[str, Any]:
        category = self._facts.get("/target/category")
        if category == "url":
            url = clean_text(self._facts.get("/target/url"), 4096, self._losses)
            if url is None:
                raise _wrong("its target is an URL without text")
            self._collector.add("url", "target", value=url, evidence="target")
            return {"category": "url", "url": url}
        record = self._facts.get("/target/file")
        if not isinstance(record, dict):
            raise _wrong("it names no target")
        hashes = clean_hashes(record, self._losses)
        if not hashes:
            raise _wrong("its target has no usable hash")
        names = _texts(record.get("name"), 1024, self._losses)
        described = {
            "name": names[0] if names else None,
            "size": clean_size(record.get("size")),
            "file_type": clean_text(record.get("type"), 300, self._losses),
        }
        described = {key: value for key, value in described.items() if value is not None}
        pe = record.get("pe") or {
            key: self._facts.get(f"/static/pe/{key}") for key in ("guest_signers", "digital_signers")
        }
        self._collector.add(
            "file", "target", hashes=hashes, evidence="target/file", **described, **_signature(pe)
        )
        return {"category": "file", "hashes": hashes, **described}

    def _verdict(self) -> dict[str, Any]:
        score = clean_number(self._facts.get("/malscore"))
        if score is None and self._facts.get("/malscore") is not None:
            self._losses["bad_score"] += 1
        families = _families(self._facts.get("/detections"), self._losses)
        verdict: dict[str, Any] = {"result": "unknown"}
        if score is not None:
            score = min(max(score, 0.0), 10.0)
            verdict["score"] = round(score * 10, 1)
        if families or (score is not None and score >= MALICIOUS_SCORE):
            verdict["result"] = "malicious"
        elif score is not None and score >= SUSPICIOUS_SCORE:
            verdict["result"] = "suspicious"
        status = clean_text(self._facts.get("/malstatus"), 60, self._losses)
        native = [
            f"malscore={score}" if score is not None else None,
            f"malstatus={status}" if status else None,
        ]
        verdict["native"] = ";".join(part for part in native if part) or "none"
        if families:
            verdict["families"] = families
        return verdict

    def _refuse_foreign(self) -> None:
        error = self._facts.get("/error")
        if error is True:
            raise InputError(
                "report_error", "the sandbox answered with an error instead of a report", "try again later"
            )
        if not any(path.startswith(("/target/", "/info/", "/malscore")) for path in self._facts):
            raise _wrong("it has neither target, info nor malscore")


def _wrong(why: str) -> InputError:
    return InputError(
        "report_wrong_schema", f"this is no CAPE report: {why}", "give CAPE's report.json or its iocs answer"
    )


def _texts(value: Any, limit: int, losses: Counter[str]) -> list[str]:
    """One string, a list of strings or null, as a list."""
    values = value if isinstance(value, list) else [value]
    cleaned = (clean_text(item, limit, losses) for item in values[:100])
    return [text for text in cleaned if text]


def _families(value: Any, losses: Counter[str]) -> list[str]:
    names: dict[str, None] = {}
    for item in (value if isinstance(value, list) else [value])[:500]:
        name = clean_text(item.get("family") if isinstance(item, dict) else item, 100, losses)
        if name and name.strip():
            names[name.strip()] = None
    return list(names)[:50]


def _signature(pe: Any) -> dict[str, str]:
    """Whose signature a file carries, and whether the guest's own check found it valid."""
    if not isinstance(pe, dict):
        return {}
    checked = pe.get("guest_signers")
    checked = checked if isinstance(checked, dict) else {}
    signers = checked.get("aux_signers") or pe.get("digital_signers")
    if not isinstance(signers, list) or not signers:
        return {}
    valid = checked.get("aux_valid") is True and checked.get("aux_error") is False
    name = None
    for signer in signers:
        if isinstance(signer, dict):
            name = (
                signer.get("Issued to")
                or signer.get("subject_commonName")
                or signer.get("cn")
                or signer.get("name")
            )
            if isinstance(name, str) and name.strip():
                break
    shown = clean_text(name, 300, Counter()) or "unknown signer"
    return {"signed_by": shown, "signature": "valid" if valid else "unverified"}
