"""Which tier an indicator goes to, and why."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from ioc_scan.detection.guard import GuardPolicy, classify
from ioc_scan.detection.guard_reasons import REASONS

from tests.unit.detection.samples import (
    TARGET,
    TARGET_SHA256,
    behavior,
    codes,
    dropped,
    normalize,
    only,
    report,
    triage,
)

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
EICAR = "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f"
USER = "C:\\Users\\u\\AppData\\Roaming\\"


def target(**changes: Any) -> dict[str, Any]:
    file = {key: value for key, value in {**TARGET, **changes}.items() if value is not None}
    return {"target": {"category": "file", "file": file}}


def test_every_reason_has_a_tier_and_words() -> None:
    assert all(tier in ("actionable", "hunt", "suppressed") and words for tier, words in REASONS.values())


# -- does it start anything


@pytest.mark.parametrize(
    ("verdict", "starts", "tier"),
    [
        ({"malscore": 7.0}, True, "actionable"),
        ({"malscore": 6.9}, False, "suppressed"),
        ({"malscore": 6.9, "detections": "QakBot"}, True, "hunt"),
        ({"malscore": None, "detections": "QakBot"}, True, "hunt"),
        ({"malscore": None}, False, "suppressed"),
        ({"malscore": 0.0}, False, "suppressed"),
    ],
)
def test_the_threshold(verdict: dict[str, Any], starts: bool, tier: str) -> None:
    judged = triage(report(**verdict))
    assert judged.starts_task is starts
    assert only(judged, role="target")["tier"] == tier


def test_the_threshold_is_the_operators() -> None:
    assert not triage(report(malscore=8), threshold_score=81).starts_task
    assert triage(report(malscore=5), threshold_score=50).starts_task


def test_a_source_without_scores_is_taken_at_its_word() -> None:
    detection = normalize(report())
    detection["verdict"] = {"result": "malicious"}
    assert codes(classify(detection).actionable) == ["target"]
    detection["verdict"] = {"result": "benign", "score": 100}
    assert not classify(detection).starts_task


def test_nothing_to_look_for_starts_nothing() -> None:
    judged = triage(report(**target(size=0)))
    assert not judged.starts_task and judged.reason == "nothing_to_do"


# -- what may be acted on


@pytest.mark.parametrize(
    ("file", "tier", "code"),
    [
        ({}, "actionable", "target"),
        ({"size": None}, "actionable", "target"),
        ({"size": 0}, "suppressed", "empty_file"),
        ({"sha256": EMPTY}, "suppressed", "empty_file"),
        ({"sha256": EICAR}, "suppressed", "test_file"),
        ({"md5": "44d88612fea8a8f36de82e1278abb02f"}, "suppressed", "test_file"),
        ({"sha256": None}, "hunt", "no_sha256"),
        ({"pe": {"guest_signers": {"aux_valid": True, "aux_error": False, "aux_signers": [{"name": "V"}]}}},
         "hunt", "signed_object"),
        # anybody can copy a certificate onto a file: that protects nothing
        ({"pe": {"digital_signers": [{"cn": "Microsoft Windows"}]}}, "actionable", "target"),
    ],
)  # fmt: skip
def test_the_target(file: dict[str, Any], tier: str, code: str) -> None:
    judged = triage(report(**target(**file)))
    entry = only(judged, role="target")
    assert (entry["tier"], codes([entry])) == (tier, [code])


def test_a_known_good_target_is_hunted_with_an_alert() -> None:
    for known in (frozenset({TARGET_SHA256}), lambda digest: digest == TARGET_SHA256):
        judged = triage(report(dropped=[dropped(USER + "copy.exe", TARGET_SHA256)]), known_good=known)
        assert not judged.actionable and judged.alerts == ["known_good_conflict"] and judged.starts_task
        assert codes(judged.hunt) == ["known_good_conflict"] * 2


def test_an_operator_may_accept_a_signer() -> None:
    signed = {
        "guest_signers": {"aux_valid": True, "aux_error": False, "aux_signers": [{"name": "Evil Corp"}]}
    }
    judged = triage(report(**target(pe=signed)), may_delete_signers=frozenset({"Evil Corp"}))
    assert codes(judged.actionable) == ["target"] and not judged.alerts


def test_trust_in_the_source() -> None:
    detection = normalize(
        report(dropped=[dropped(USER + "a.exe"), dropped("C:\\Windows\\System32\\b.exe", "f" * 64)])
    )
    for item in detection["indicators"][1:]:
        item["verdict"] = "malicious"
    expected = {
        "hunt": ([], ["source_not_trusted", "source_not_trusted", "marked_in_system_path"]),
        "target": (["target"], ["source_not_trusted", "marked_in_system_path"]),
        "artefacts": (["target", "source_marked"], ["marked_in_system_path"]),
    }
    for trust, (actionable, hunt) in expected.items():
        judged = classify(detection, GuardPolicy(trust=trust))
        assert (codes(judged.actionable), codes(judged.hunt)) == (actionable, hunt)


def test_a_source_marked_object_needs_no_family_name() -> None:
    detection = normalize(report(malscore=1, detections="Family"))
    detection["indicators"][0]["verdict"] = "malicious"
    assert codes(classify(detection).actionable) == ["target"]


def test_a_detection_has_one_target() -> None:
    """A pushed detection could call anything its target."""
    detection = normalize(report())
    detection["indicators"].append(
        {"type": "file", "role": "target", "hashes": {"SHA-256": "9" * 64}, "verdict": "malicious"}
    )
    judged = classify(detection, GuardPolicy(trust="artefacts"))
    assert [entry["hashes"]["SHA-256"] for entry in judged.actionable] == [TARGET_SHA256]
    assert codes(judged.hunt) == ["other_target"]


def test_strict_mode_wants_score_and_family() -> None:
    assert codes(triage(report(), strict=True).hunt) == ["strict_mode"]
    assert codes(triage(report(detections="QakBot"), strict=True).actionable) == ["target"]


def test_hunting_can_be_switched_off() -> None:
    judged = triage(report(mutexes=["evil"]), hunt=False)
    assert (
        codes(judged.actionable) == ["target"]
        and not judged.hunt
        and codes(judged.suppressed) == ["hunt_off"]
    )


def test_tiers_are_bounded() -> None:
    judged = triage(report(mutexes=[f"evil{number}" for number in range(20)]), max_hunt=5)
    assert len(judged.hunt) == 5 and codes(judged.suppressed) == ["over_limit"] * 15


# -- files


@pytest.mark.parametrize(
    ("record", "code"),
    [
        (dropped(USER + "a.exe"), "dropped_program"),
        (dropped(USER + "a.exe", type_="data"), "not_a_program"),
        (dropped(USER + "a.wpl", type_="ASCII text"), "dropped_program"),
        (dropped(USER + "a.exe", TARGET_SHA256), "same_as_target"),
        (dropped(USER + "a.exe", size=0), "empty_file"),
        (dropped("C:\\Windows\\System32\\a.dll"), "system_path"),
        (dropped("C:/Windows/System32/a.dll"), "system_path"),
        (dropped("C:\\Users\\u\\..\\..\\Windows\\System32\\a.dll"), "system_path"),
        (dropped("\\\\?\\C:\\Program Files\\V\\a.dll"), "system_path"),
        (dropped("/usr/bin/a", type_="ELF 64-bit"), "system_path"),
        (dropped("C:\\Windows\\Temp\\a.exe"), "dropped_program"),
        (dropped("/tmp/a", type_="ELF 64-bit LSB executable"), "dropped_program"),
        (dropped("C:\\Users\\u\\Desktop\\budget.xlsx.locked", type_="data"), "victim_file"),
        (dropped("C:\\Users\\u\\Documents\\a.exe"), "dropped_program"),
        (dropped(USER + "a.exe", pe={"digital_signers": [{"cn": "V"}]}), "signed_file"),
        (dropped(USER + "__PSScriptPolicyTest_ab.ps1", type_="ASCII text"), "generic_file"),
        (dropped(USER + "INetCache\\a.js", type_="HTML"), "dropped_program"),
        (dropped(USER + "INetCache\\a.css", type_="HTML"), "generic_file"),
    ],
)  # fmt: skip
def test_dropped_files(record: dict[str, Any], code: str) -> None:
    judged = triage(report(dropped=[record]))
    assert codes([only(judged, role="dropped")]) == [code]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (USER + "a.exe", "written_program"),
        ("C:\\ProgramData\\x\\a.exe", "written_program"),
        ("C:\\Windows\\a.exe", "system_path"),
        ("D:\\data\\x\\a.exe", "not_open_to_users"),
        (USER + "a.txt", "not_a_program"),
        ("\\??\\PIPE\\srvsvc", "device_or_pipe"),
        ("\\Device\\RasAcd", "device_or_pipe"),
        ("\\??\\C:\\Users\\u\\b.exe", "written_program"),
        ("/dev/null", "device_or_pipe"),
        ("/home/u/.x/run.sh", "written_program"),
    ],
)
def test_written_files(path: str, code: str) -> None:
    judged = triage(report(**behavior(write_files=[path])))
    assert codes([only(judged, role="written")]) == [code]


def test_a_path_listed_with_its_hash_is_not_hunted_twice() -> None:
    judged = triage(report(dropped=[dropped(USER + "A.exe")], **behavior(write_files=[USER + "a.EXE"])))
    assert codes([only(judged, role="written")]) == ["hash_known"]


@pytest.mark.parametrize(
    "command",
    [
        'cmd /c ping -n 6 127.0.0.1 & type "C:\\Windows\\System32\\calc.exe" > "C:\\Users\\u\\x.exe"',
        "cmd.exe /c copy C:\\Windows\\System32\\calc.exe C:\\Users\\u\\x.exe",
        "xcopy C:/Windows/System32/calc.exe C:\\Users\\u\\x.exe",
    ],
)
def test_a_copied_system_file_is_not_hunted(command: str) -> None:
    record = dropped("C:\\Users\\u\\X.exe")
    judged = triage(report(dropped=[record], **behavior(executed_commands=[command])))
    assert codes([only(judged, role="dropped")]) == ["copy_of_system_file"]
    judged = triage(
        report(dropped=[record], **behavior(executed_commands=["copy C:\\Users\\u\\a C:\\Users\\u\\x.exe"]))
    )
    assert codes([only(judged, role="dropped")]) == ["dropped_program"]


def test_operator_lists_for_files() -> None:
    record = dropped(USER + "agent\\a.exe")
    assert codes(
        [only(triage(report(dropped=[record]), allowed_paths=(USER.lower() + "agent\\",)), role="dropped")]
    ) == ["allowed_path"]
    assert codes([only(triage(report(dropped=[record]), known_good={"d" * 64}), role="dropped")]) == [
        "known_good"
    ]
    data = dropped(USER + "agent\\notes.dat", type_="data")
    denied = {"denied_paths": (USER.lower() + "agent\\",)}
    assert codes([only(triage(report(dropped=[data])), role="dropped")]) != ["denied_path"]
    assert codes([only(triage(report(dropped=[data]), **denied), role="dropped")]) == ["denied_path"]
    both = {**denied, "known_good": {"d" * 64}}
    assert codes([only(triage(report(dropped=[data]), **both), role="dropped")]) == ["known_good"]


def test_memory_is_no_file() -> None:
    judged = triage(
        report(
            procdump=[{"sha256": "1" * 64, "size": 3}], CAPE={"payloads": [{"sha256": "2" * 64, "size": 3}]}
        )
    )
    assert codes(judged.suppressed) == ["memory_only"] * 2


# -- traces


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("44.1.2.3", "unconfirmed_address"),
        ("192.168.1.9", "not_routable"),
        ("10.0.0.1", "not_routable"),
        ("224.0.0.252", "not_routable"),
        ("127.0.0.1", "not_routable"),
        ("169.254.1.1", "not_routable"),
        ("255.255.255.255", "not_routable"),
        ("fe80::1", "not_routable"),
        ("ff02::c", "not_routable"),
        ("8.8.8.8", "dns_server"),
        ("45.66.77.88", "sandbox_network"),
    ],
)
def test_addresses(address: str, code: str) -> None:
    networks = (ipaddress.ip_network("45.66.77.0/24"), ipaddress.ip_network("2001:db8::/32"))
    for content in (
        {"network": {"hosts": [{"ip": address}]}},
        {"CAPE": {"configs": [{"F": {"C2": address}}]}},
    ):
        judged = triage(report(**content), sandbox_networks=networks)
        expected = "config_address" if "CAPE" in content and code == "unconfirmed_address" else code
        assert codes([only(judged, value=address)]) == [expected]


@pytest.mark.parametrize(
    ("domain", "code"),
    [
        ("evil.example-c2.org", "contacted_domain"),
        ("update.microsoft.com", "common_domain"),
        ("microsoft.com.evil.org", "contacted_domain"),
        ("notmicrosoft.com", "contacted_domain"),
        ("a.akamaized.net", "wide_host"),
        ("www.ip-adress.com", "address_service"),
        ("250.255.255.239.in-addr.arpa", "local_name"),
        ("dc01.corp.local", "local_name"),
        ("ok.allowed.org", "allowed_domain"),
        ("denied.microsoft.com", "denied_domain"),
    ],
)
def test_domains(domain: str, code: str) -> None:
    judged = triage(
        report(network={"domains": [{"domain": domain}]}),
        allowed_domains=frozenset({"allowed.org"}),
        denied_domains=frozenset({"denied.microsoft.com"}),
    )
    assert codes([only(judged, value=domain)]) == [code]


def test_urls_follow_their_host() -> None:
    urls = [
        "http://evil-c2.org/x",
        "http://8.8.8.8/",
        "https://www.bing.com/",
        "http://192.168.0.1:8080/a",
        "http://44.1.1.1/a",
    ]
    judged = triage(report(network={"http": [{"uri": url} for url in urls]}))
    found = [codes([only(judged, value=url)])[0] for url in urls]
    assert found == ["contacted_url", "dns_server", "common_domain", "not_routable", "contacted_url"]


def test_mutexes_keys_services_commands() -> None:
    mutexes = [
        "Local\\SM0:1644:168:WilStaging_02",
        "evilmutex",
        "Local\\MSCTF.Asm.MutexDefault1",
        "sample00x",
    ]
    content = report(
        **target(name="SAMPLE00.exe"),
        **behavior(
            mutexes=mutexes, created_services=["evilsvc"], executed_commands=["cmd"],
            write_keys=["HKCU\\Software\\Microsoft\\Windows\\CurrentVersion\\Run\\evil"],
        ),
    )  # fmt: skip
    judged = triage(content)
    assert [codes([only(judged, value=name)])[0] for name in mutexes] == [
        "generic_mutex", "named_mutex", "generic_mutex", "named_after_sample",
    ]  # fmt: skip
    assert codes([only(judged, type="windows-service")]) == ["created_service"]
    assert codes([only(judged, type="process")]) == ["command_line"]
    assert codes([only(judged, type="windows-registry-key")]) == ["autorun"]
