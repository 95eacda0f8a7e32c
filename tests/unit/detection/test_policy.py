"""The guard's policy from configuration, the operator's files, and the warning lists."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.detection import warning_lists
from ioc_scan.detection.guard import classify
from ioc_scan.detection.policy import load_policy
from ioc_scan.errors import ConfigError

from tests.fixtures.shared import REPOSITORY
from tests.unit.detection.samples import TARGET_SHA256, codes, dropped, normalize, only, report, triage


def listed(tmp_path: Path, **files: str) -> dict[str, Any]:
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    return {f"{name}_file": str(tmp_path / name) for name in files}


def test_operator_files(tmp_path: Path) -> None:
    guard = listed(
        tmp_path,
        known_good=f"# golden image\n{TARGET_SHA256.upper()}  calc.exe\n",
        allowed_domains="*.example-partner.org # partner\n",
        denied_domains="bad.microsoft.com\n",
        allowed_paths="C:\\Users\\u\\agent\\\n",
        owners="Our Company Ltd\n",
    )
    policy = load_policy({**guard, "sandbox_networks": ["44.5.0.0/16"]}, "target")
    content = report(
        dropped=[
            dropped("C:\\Users\\u\\Agent\\a.exe", "1" * 64),
            dropped("C:\\Users\\u\\b.exe", "2" * 64, pe={"digital_signers": [{"cn": "OUR COMPANY LTD"}]}),
        ],
        network={
            "domains": [{"domain": "x.example-partner.org"}, {"domain": "bad.microsoft.com"}],
            "hosts": [{"ip": "44.5.6.7"}],
        },
    )
    judged = classify(normalize(content), policy)
    assert codes(judged.hunt) == ["known_good_conflict", "denied_domain"]
    assert judged.alerts == ["known_good_conflict"]
    assert sorted(codes(judged.suppressed)) == [
        "allowed_domain",
        "allowed_path",
        "sandbox_network",
        "signed_file",
    ]


def test_own_publishers_are_never_actionable(tmp_path: Path) -> None:
    policy = load_policy(listed(tmp_path, owners="Our Company Ltd"), "target")
    content = report()
    content["target"]["file"]["pe"] = {"digital_signers": [{"cn": "our company ltd"}]}
    judged = classify(normalize(content), policy)
    assert (
        codes(judged.hunt) == ["owner_object"] and judged.alerts == ["owner_object"] and not judged.actionable
    )


def test_another_known_good_source_is_asked_too(tmp_path: Path) -> None:
    policy = load_policy(
        listed(tmp_path, known_good="1" * 64), "target", known_good=lambda digest: digest[0] == "b"
    )
    assert (
        policy.is_known_good("1" * 64)
        and policy.is_known_good(TARGET_SHA256)
        and not policy.is_known_good("2" * 64)
    )


def test_defaults() -> None:
    policy = load_policy({}, "hunt")
    assert policy.threshold_score == 70 and policy.hunt and not policy.strict and policy.trust == "hunt"


@pytest.mark.parametrize(
    ("content", "code"),
    [("44d88612fea8a8f36de82e1278abb02f", "list_bad_entry"), ("\udc80", "list_unreadable")],
)
def test_bad_lists_are_refused(tmp_path: Path, content: str, code: str) -> None:
    path = tmp_path / "known_good"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError) as caught:
        load_policy({"known_good_file": str(path)}, "target")
    assert caught.value.code == code


def test_an_absent_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="list_unreadable"):
        load_policy({"allowed_domains_file": str(tmp_path / "absent")}, "target")
    with pytest.raises(ConfigError, match="config_network"):
        load_policy({"sandbox_networks": ["everywhere"]}, "target")


@pytest.fixture()
def lists() -> warning_lists.WarningLists:
    pytest.importorskip(warning_lists.PACKAGE)
    return warning_lists.load()


@pytest.mark.parametrize(
    ("domain", "code"),
    [
        ("login.microsoftonline.com", "common_domain"),
        ("www.aadrm.com", "warning_list"),
        ("www.wikipedia.org", "warning_list"),
        ("co.uk", "warning_list"),
        ("evil-c2.co.uk", "contacted_domain"),
        ("evil-c2.org", "contacted_domain"),
    ],
)
def test_warning_lists_suppress_common_names(
    lists: warning_lists.WarningLists, domain: str, code: str
) -> None:
    judged = triage(report(network={"domains": [{"domain": domain}]}), lists=lists)
    assert codes([only(judged, value=domain)]) == [code]


def test_clouds_and_dynamic_names_are_annotated_not_suppressed(lists: warning_lists.WarningLists) -> None:
    configs = [
        {"F": {"C2": ["52.94.5.1", "evil.ddns.net", "evil.workers.dev", "d111111abcdef8.cloudfront.net"]}}
    ]
    judged = triage(report(CAPE={"configs": configs}), lists=lists)
    assert codes(judged.hunt) == ["config_address"] * 4
    assert only(judged, value="52.94.5.1")["notes"] == ["vpn-ipv4", "amazon-aws"]
    assert "dynamic-dns" in only(judged, value="evil.ddns.net")["notes"]


def test_known_false_positives_are_known_good(lists: warning_lists.WarningLists) -> None:
    digest = next(iter(lists.hashes))
    content = report()
    content["target"]["file"]["sha256"] = digest
    assert codes(triage(content, lists=lists).hunt) == ["known_good_conflict"]


def test_they_load_fast_and_small() -> None:
    pytest.importorskip(warning_lists.PACKAGE)
    script = (
        "import re, time\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read()).group(1))\n"
        "from ioc_scan.detection import warning_lists\n"
        "before = peak(); start = time.process_time(); warning_lists.load()\n"
        "print(time.process_time() - start, peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY, env={"PYTHONPATH": "lib"}, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    seconds, kilobytes = (float(part) for part in done.stdout.split())
    assert seconds < 0.4, "0.2 s on a quiet machine"
    assert kilobytes < 60 * 1024
