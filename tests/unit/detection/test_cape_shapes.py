"""CAPE's spellings: report 2.2 and 2.4, the ``iocs`` answer bare and wrapped."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.detection.samples import TARGET, behavior, dropped, normalize, report


def iocs(**changes: Any) -> dict[str, Any]:
    """As tasks/get/iocs answers; 2.2 leaves the wrapper off."""
    file = {key: value for key, value in TARGET.items() if key != "guest_paths"}
    return {
        "certs": [],
        "detections": [{"family": "QakBot", "details": [{"Yara": "x"}]}],
        "malscore": 9.1,
        "info": {"version": "2.4-CAPE", "ended": "2024-01-01 09:05:00"},
        "signatures": [],
        "target": {"category": "file", "file": file},
        "network": {
            "traffic": {"http": [{"uri": "http://evil.example.org/a", "host": "evil.example.org"}]},
            "hosts": [{"ip": "44.55.66.77"}],
            "domains": [{"domain": "evil.example.org", "ip": "44.55.66.77"}],
            "ids": {"totalalerts": 0, "alerts": [], "http": [], "files": []},
        },
        "static": {},
        "files": {"modified": [r"C:\Users\u\AppData\a.exe"], "deleted": ["x"], "read": ["y", "z"]},
        "registry": {
            "modified": [r"HKCU\Software\Microsoft\Windows\CurrentVersion\Run\evil"],
            "deleted": [],
            "read": ["k"],
        },
        "mutexes": ["evilmutex"],
        "executed_commands": ["cmd /c x"],
        "dropped": [
            {"md5": "1" * 32, "sha256": "2" * 64, "type": "PE32", "guest_paths": r"C:\Users\u\b.exe"}
        ],
        **changes,
    }


@pytest.mark.parametrize("wrapped", [False, True])
def test_iocs_answers(wrapped: bool) -> None:
    answer = {"error": False, "data": iocs()} if wrapped else iocs()
    detection = normalize(answer)
    assert detection["verdict"] == {
        "result": "malicious", "score": 91.0, "native": "malscore=9.1", "families": ["QakBot"],
    }  # fmt: skip
    found = {(item["type"], item["role"]): item for item in detection["indicators"]}
    assert set(found) == {
        ("file", "target"), ("file", "written"), ("file", "dropped"),
        ("windows-registry-key", "persistence"), ("domain-name", "resolved"),
        ("mutex", "created"), ("process", "executed"), ("ipv4-addr", "contacted"),
        ("url", "contacted"),
    }  # fmt: skip
    assert found[("windows-registry-key", "persistence")]["value_name"] == "evil"
    assert found[("file", "dropped")]["path"] == r"C:\Users\u\b.exe"
    assert detection["not_listed"] == {"deleted_files": 1, "read_files": 2, "read_keys": 1}
    assert "losses" not in detection


@pytest.mark.parametrize(
    ("detections", "families"),
    [
        ("QakBot", ["QakBot"]),
        ([{"family": "A", "details": []}, {"family": "B"}, {"family": "A"}], ["A", "B"]),
        (["A"], ["A"]),
        ("", []),
        (None, []),
        ([], []),
    ],
)
def test_detections_in_every_shape(detections: Any, families: list[str]) -> None:
    verdict = normalize(report(detections=detections, malscore=1.0))["verdict"]
    assert verdict.get("families", []) == families
    assert verdict["result"] == ("malicious" if families else "unknown")


def test_guest_paths_and_names_in_every_shape() -> None:
    shapes = [
        {"sha256": "1" * 64, "guest_paths": None, "name": ["a.exe"]},
        {"sha256": "2" * 64, "guest_paths": "C:\\b.exe", "name": "b"},
        {"sha256": "3" * 64, "guest_paths": ["C:\\c.exe", "C:\\d.exe"], "name": None},
        {"sha256": "4" * 64},
        {"md5": "5" * 32, "guest_paths": []},
    ]
    found = [
        (item.get("name"), item.get("path")) for item in normalize(report(dropped=shapes))["indicators"][1:]
    ]
    assert sorted(found, key=str) == sorted(
        [
            ("a.exe", None),
            ("b.exe", "C:\\b.exe"),
            ("c.exe", "C:\\c.exe"),
            ("d.exe", "C:\\d.exe"),
            (None, None),
            (None, None),
        ],
        key=str,
    )


def test_addresses_asked_on_port_53_only_are_resolvers() -> None:
    detection = normalize(
        report(
            network={
                "hosts": [
                    {"ip": "44.0.0.1"},
                    {"ip": "44.0.0.2"},
                    {"ip": "44.0.0.3"},
                    {"ip": "::ffff:44.0.0.4"},
                    {"ip": "x"},
                ],
                "udp": [{"dst": "44.0.0.1", "dport": 53}, {"dst": "44.0.0.2", "dport": 53}],
                "tcp": [{"dst": "44.0.0.2", "dport": 4444}, {"dst": "44.0.0.3", "dport": 8443}],
            }
        )
    )
    found = {
        item["value"]: (item["role"], item.get("port")) for item in detection["indicators"] if "value" in item
    }
    assert found == {
        "44.0.0.1": ("resolver", 53), "44.0.0.2": ("contacted", None),
        "44.0.0.3": ("contacted", 8443), "44.0.0.4": ("contacted", None),
    }  # fmt: skip
    assert detection["losses"] == {"bad_address": 1}


def test_configurations_give_addresses_only_where_the_key_means_one() -> None:
    configs = [
        {
            "CobaltStrikeBeacon": {
                "C2Server": "evil.example.org,/path,44.1.1.1,/x",
                "HttpPostUri": "/submit.php",
            },
            "associated_config_hashes": {"md5": "1" * 32},
        },
        {"Emotet": {"address": ["44.1.1.2:443", "[2a01:4f8::1]:8080"], "RSA public key": "44.9.9.9"}},
        {
            "New": {
                "CNCs": ["http://user@evil2.example.org:81/gate.php"],
                "version": "1.2.3.4",
                "campaign": "x.org",
            }
        },
    ]
    found = normalize(report(CAPE={"payloads": [], "configs": configs}))["indicators"][1:]
    assert [(item["type"], item["value"], item.get("port")) for item in found] == [
        ("domain-name", "evil.example.org", None),
        ("ipv4-addr", "44.1.1.1", None),
        ("ipv4-addr", "44.1.1.2", 443),
        ("ipv6-addr", "2a01:4f8::1", 8080),
        ("url", "http://user@evil2.example.org:81/gate.php", None),
        ("domain-name", "evil2.example.org", 81),
    ]


def test_only_autorun_keys_are_listed() -> None:
    keys = [
        r"HKEY_LOCAL_MACHINE\SOFTWARE\WOW6432Node\Microsoft\Windows\CurrentVersion\RunOnce\a",
        r"HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon\Shell",
        r"HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon\LastUsed",
        r"HKEY_CURRENT_USER\Software\Other\Running\x",
    ]
    detection = normalize(report(**behavior(write_keys=keys)))
    assert [item["value_name"] for item in detection["indicators"][1:]] == ["a", "Shell"]
    assert detection["not_listed"] == {"written_keys": 2}


def test_a_valid_signature_is_told_from_an_embedded_certificate() -> None:
    checked = {
        "guest_signers": {"aux_valid": True, "aux_error": False, "aux_signers": [{"Issued to": "Evil Corp"}]}
    }
    embedded = {
        "guest_signers": {"aux_valid": False, "aux_error": True, "aux_signers": []},
        "digital_signers": [{"subject_commonName": "Microsoft Corporation"}],
    }
    detection = normalize(
        report(
            dropped=[
                dropped("C:\\Users\\u\\a.exe", "1" * 64, pe=checked),
                dropped("C:\\Users\\u\\b.exe", "2" * 64, pe=embedded),
            ]
        )
    )
    found = [(item["signed_by"], item["signature"]) for item in detection["indicators"][1:]]
    assert found == [("Evil Corp", "valid"), ("Microsoft Corporation", "unverified")]


def test_an_analysed_address() -> None:
    detection = normalize(report(target={"category": "url", "url": "http://evil.example.org/x"}))
    assert detection["target"] == {"category": "url", "url": "http://evil.example.org/x"}


def test_ids() -> None:
    assert normalize(report(), report_id=17)["detection_id"] == "cape:lab:17"
    odd = normalize(report(), report_id="a b/../c")["source"]["report_id"]
    assert odd.startswith("sha256-") and len(odd) == 39
    by_content = normalize(report())["detection_id"]
    assert (
        by_content == normalize(report())["detection_id"] != normalize(report(malscore=9.9))["detection_id"]
    )
