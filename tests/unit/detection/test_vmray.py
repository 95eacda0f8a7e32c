"""VMRay's summary: its own marks, and what they may lead to."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.detection.guard import GuardPolicy, classify
from ioc_scan.detection.normalize import normalize_report
from ioc_scan.errors import InputError

from tests.fixtures.shared import shared_data
from tests.unit.detection.samples import codes, normalize, only, report
from tests.unit.detection.test_folder import later, put, source


def file(letter: str, **changes: Any) -> dict[str, Any]:
    return {
        "_type": "file", "hash_values": {"_type": "hash_values", "sha256": letter * 64, "md5": letter * 32}, "size": 9,
        "is_ioc": False, "is_artifact": True, "is_sample": False, "categories": ["dropped"], "verdict": "clean",
        "mime_type": "application/vnd.microsoft.portable-executable", **changes,
    }  # fmt: skip


def name(path: str, **changes: Any) -> dict[str, Any]:
    return {"filename": path.lower(), "original_filenames": [{"filename": path}], "operations": ["access"],
            "verdict": "clean", "is_ioc": False, **changes}  # fmt: skip


def summary(**changes: Any) -> dict[str, Any]:
    """As VMRay 2024.4 writes it: objects keyed by their own names, files before the names they refer to."""
    reference = [
        {"_type": "reference", "path": ["filenames", "filename_1"], "source": "logs/summary_v2.json"}
    ]
    marked = {"verdict": "malicious", "is_ioc": True}
    return {
        "_type": "summary",
        "version": "2.5",
        "analysis_metadata": {
            "verdict": "malicious", "creation_time": "2024-09-24T18:10:23.406000+00:00",
            "submission_filename": "x.exe", "threat_names": ["Emotet"],
        },
        "files": {
            "file_0": file("a", is_sample=True, categories=["sample"], verdict="malicious"),
            "file_1": file("b", ref_filenames=reference, **marked),
            "file_2": file("c", verdict="malicious"),
            "file_3": file("d", categories=["memory_dump"], **marked),
            "file_4": file("e", categories=["pcap"]),
            "file_5": file("f"),
        },
        "filenames": {"filename_1": name("C:\\Users\\U\\AppData\\Roaming\\Evil.exe", operations=["create"])},
        "domains": {"d_1": {"domain": "evil-c2.org", **marked}, "d_2": {"domain": "ok.org", "verdict": "clean"}},
        "ip_addresses": {
            "ip_1": {"ip_address": "44.1.1.1", **marked}, "ip_2": {"ip_address": "44.1.1.2", "verdict": "clean"},
        },
        "registry_records": {"r_1": {"reg_key_name": "HKCU\\Software\\Evil", **marked}, "r_2": {"reg_key_name": "x"}},
        **changes,
    }  # fmt: skip


def test_the_real_summary() -> None:
    path = next(shared_data("vmray").glob("*.json"))
    detection = normalize_report(path, instance="lab")
    assert detection["source"]["product"] == "vmray" and detection["verdict"]["result"] == "suspicious"
    assert detection["target"]["hashes"]["SHA-256"].startswith("86d8257a")
    assert detection["detected_at"] == "2024-09-24T18:10:23Z"
    triage = classify(detection)
    assert not triage.starts_task and len(triage.suppressed) == len(detection["indicators"])


def test_only_marked_artefacts_of_a_trusted_source_are_actionable() -> None:
    detection = normalize(summary())
    assert detection["verdict"] == {
        "result": "malicious",
        "native": "verdict=malicious",
        "families": ["Emotet"],
    }
    target = classify(detection)
    assert codes(target.actionable) == ["target"]
    assert codes([only(target, path="C:\\Users\\U\\AppData\\Roaming\\Evil.exe", role="dropped")]) == [
        "source_not_trusted"
    ]
    artefacts = classify(detection, GuardPolicy(trust="artefacts"))
    assert codes(artefacts.actionable) == ["target", "source_marked"]
    assert artefacts.actionable[1]["hashes"]["SHA-256"] == "b" * 64
    found = {
        entry.get("value") or entry.get("hashes", {}).get("SHA-256", "?")[0]: codes([entry])[0]
        for entry in artefacts.suppressed
    }
    assert found["d"] == "memory_only" and found["f"] == "source_says_benign"
    assert found["ok.org"] == found["44.1.1.2"] == "source_says_benign"
    assert {"evil-c2.org", "44.1.1.1", "HKCU\\Software\\Evil"} <= {
        entry.get("value") for entry in artefacts.hunt
    }


def test_an_analysed_address() -> None:
    detection = normalize(
        summary(files={}, urls={"url_0": {"url": "http://evil-c2.org/a", "is_sample": True}})
    )
    assert detection["target"] == {"category": "url", "url": "http://evil-c2.org/a"}


@pytest.mark.parametrize(
    "content",
    [
        summary(files={}),
        summary(files=[]),
        summary(files={"file_0": file("a", is_sample=True, hash_values={"sha256": "x"})}),
        {"_type": "summary", "analysis_metadata": 5},
    ],
)
def test_summaries_without_an_object_are_refused(content: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="report_wrong_schema"):
        normalize(content)


def test_lying_types() -> None:
    lying: dict[str, Any] = {
        "a": 5,
        "b": None,
        "c": [],
        "d": {"filename": 7, "operations": [[]], "original_filenames": 3},
    }
    detection = normalize(
        summary(
            filenames=lying,
            domains=[1],
            ip_addresses="x",
            urls={"u": {"url": 5}},
            processes={"p": {"cmd_line": []}},
        )
    )
    assert detection["losses"]["unexpected_type"] >= 3


def test_auto_and_named_products() -> None:
    content = json.dumps(summary()).encode()
    assert normalize(content, product="vmray")["source"]["product"] == "vmray"
    with pytest.raises(InputError, match="report_wrong_schema"):
        normalize(content, product="cape")
    with pytest.raises(InputError, match="unknown_product"):
        normalize(content, product="joe")


def test_a_folder_tells_products_apart_before_it_fetches(tmp_path: Path) -> None:
    watched = tmp_path / "reports"
    watched.mkdir(mode=0o750)
    content = json.dumps(summary()).encode()
    for number, data in enumerate((content, gzip.compress(content + b" "), json.dumps(report()).encode())):
        put(watched, f"{number}.json", data)
    source_ = source(watched)
    rows = source_.list_new(None, later())[0]
    assert sorted(row.detection_id.split(":")[0] for row in rows) == ["cape", "vmray", "vmray"]
    assert all(source_.fetch(row.report_id)["detection_id"] == row.detection_id for row in rows)
