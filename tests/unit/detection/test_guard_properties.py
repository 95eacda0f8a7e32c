"""Whatever a detection says, as long as it fits the schema: the guard answers, and never goes too far."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from ioc_scan.detection.guard import GuardPolicy, classify
from ioc_scan.detection.guard_reasons import REASONS
from ioc_scan.detection.policy import TRUSTS
from ioc_scan.detection.schema import schema, validate

SHA256 = st.sampled_from([letter * 64 for letter in "abcd"])
TEXT = st.one_of(
    st.text(st.characters(exclude_characters="\0\n", exclude_categories=("Cs",)), min_size=1, max_size=60),
    st.sampled_from(
        [
            "C:\\Users\\u\\AppData\\a.exe",
            "C:\\Windows\\System32\\calc.exe",
            "/usr/bin/x",
            "/tmp/x",
            "\\??\\PIPE\\x",
            "..",
            "http://[::1",
            "http://evil-c2.org/a",
            "evil-c2.org",
            "type C:\\Windows\\System32\\calc.exe > C:\\Users\\u\\a.exe",
            "Local\\SM0:1:2:WilStaging_02",
            "HKCU\\Software\\Microsoft\\Windows\\CurrentVersion\\Run",
            "[",
            "%",
            "a" * 300,
        ]
    ),
)
RESULT = st.sampled_from(["malicious", "suspicious", "benign", "unknown"])
ROLES = schema()["definitions"]["indicator"]["properties"]["role"]["enum"]
PLAIN_TYPES = ["domain-name", "url", "windows-registry-key", "mutex", "process", "windows-service"]


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


HASHES = st.fixed_dictionaries({"SHA-256": SHA256}) | st.just({"MD5": "e" * 32})
FILES = st.builds(
    lambda role, fields: {"type": "file", "role": role, "name": "x", **fields},
    st.sampled_from(ROLES),
    optional(
        hashes=HASHES, path=TEXT, name=TEXT, size=st.integers(0, 2**53 - 1), file_type=TEXT, verdict=RESULT,
        signed_by=TEXT, signature=st.sampled_from(["valid", "unverified"]),
    ),
)  # fmt: skip
TRACES = st.builds(
    lambda kind, role, value, verdict: {"type": kind, "role": role, "value": value, "verdict": verdict},
    st.sampled_from(PLAIN_TYPES), st.sampled_from(ROLES), TEXT, RESULT,
)  # fmt: skip
ADDRESSES = st.builds(
    lambda address, role: {"type": f"ipv{address.version}-addr", "role": role, "value": str(address)},
    st.ip_addresses(), st.sampled_from(ROLES),
)  # fmt: skip
DETECTIONS = st.builds(
    lambda verdict, hashes, indicators: {
        "schema_version": "1.0",
        "detection_id": "webhook:x:1",
        "source": {"product": "webhook", "instance": "x", "report_id": "1"},
        "verdict": verdict,
        "target": {"category": "file", "hashes": hashes},
        "detected_at": "2024-05-01T00:00:00Z",
        "indicators": indicators,
    },
    st.builds(
        lambda result, more: {"result": result, **more},
        RESULT,
        optional(score=st.floats(0, 100), families=st.lists(TEXT.map(lambda text: text[:100]), max_size=2)),
    ),
    HASHES,
    st.lists(FILES | TRACES | ADDRESSES, max_size=8),
)


@settings(max_examples=300, deadline=None)
@given(DETECTIONS, st.sampled_from(TRUSTS), st.booleans(), SHA256)
def test_the_guard_never_goes_too_far(detection: dict[str, Any], trust: str, strict: bool, good: str) -> None:
    validate(detection)
    triage = classify(
        detection, GuardPolicy(trust=trust, strict=strict, known_good={good}, max_actionable=3, max_hunt=3)
    )
    tiers = {"actionable": triage.actionable, "hunt": triage.hunt, "suppressed": triage.suppressed}
    assert sum(map(len, tiers.values())) == len(detection["indicators"])
    for tier, entries in tiers.items():
        for entry in entries:
            assert entry["tier"] == tier == REASONS[entry["reason"].partition(":")[0]][0]
    for entry in triage.actionable:
        assert entry["type"] == "file" and "SHA-256" in entry["hashes"] and entry["hashes"]["SHA-256"] != good
        assert entry.get("size") != 0 and entry["role"] != "payload" and trust != "hunt"
        assert entry.get("signature") != "valid"
        same = entry["hashes"]["SHA-256"] == detection["target"]["hashes"].get("SHA-256")
        assert same or (trust == "artefacts" and entry["verdict"] == "malicious")
    assert triage.starts_task == bool(triage.actionable or triage.hunt)
    assert len(triage.actionable) <= 3 and len(triage.hunt) <= 3
