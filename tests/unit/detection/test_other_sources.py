"""Cuckoo 3, VMRay and KATA against strict stand-ins."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.detection.guard import GuardPolicy, classify
from ioc_scan.detection.sources import Source, SourceUnavailable, build_source
from ioc_scan.errors import ConfigError, InputError, SourceError

from tests.fixtures.shared import shared_data
from tests.unit.detection.samples import codes, only
from tests.unit.detection.standin import HTML, Cuckoo3, Kata, Vmray, as_json

NOW = datetime(2024, 5, 2, 12, 0, tzinfo=timezone.utc)
KEY = "s3cr3t"


def connect(kind: str, url: str, tmp_path: Path, **settings: Any) -> Source:
    secret = tmp_path / "secret"
    secret.write_text(KEY + "\n")
    return build_source({"name": "lab", "type": kind, "url": url, "token_file": str(secret), **settings})


# -- Cuckoo 3


@pytest.fixture()
def cuckoo() -> Iterator[tuple[Cuckoo3, str]]:
    server = Cuckoo3(KEY)
    with server.serving() as url:
        yield server, url
    assert not server.refused


def analysis(number: int, created: datetime, **changes: Any) -> dict[str, Any]:
    name = f"{created:%Y%m%d}-{number:06d}"
    return {
        "id": name, "state": "finished", "category": "file", "score": 10, "families": ["emotet"], "kind": "standard",
        "created_on": created.strftime("%Y-%m-%dT%H:%M:%S.%f"),
        "target": {"sha256": f"{number:064x}", "md5": "a" * 32, "size": 5, "filetype": "PE32", "filename": "x"},
        "tasks": [{"id": f"{name}_1", "state": "reported", "score": 10}], **changes,
    }  # fmt: skip


def test_cuckoo_lists_its_window(cuckoo: tuple[Cuckoo3, str], tmp_path: Path) -> None:
    server, url = cuckoo
    server.analyses = [analysis(number, NOW - timedelta(hours=number)) for number in range(1, 301)]
    server.analyses.append(analysis(500, NOW, state="pending"))
    rows, _ = connect("cuckoo3", url, tmp_path).list_new(None, NOW)
    assert len(rows) == 50 and rows[0].reported_at and rows[-1].report_id == server.analyses[0]["id"]
    assert len(server.requests) == 3, "no further than the window"
    after_absence = {"listed_at": int(NOW.timestamp())}
    assert connect("cuckoo3", url, tmp_path).list_new(after_absence, NOW + timedelta(days=9))[0]


def test_cuckoo_with_its_real_analysis(cuckoo: tuple[Cuckoo3, str], tmp_path: Path) -> None:
    server, url = cuckoo
    real = json.loads(shared_data("cuckoo3", "analysis.json").read_text())
    server.analyses = [real]
    server.posts["20210707-6UZJTX_1"] = shared_data("cuckoo3", "post.json").read_bytes()
    source = connect("cuckoo3", url, tmp_path)
    assert [
        row.report_id for row in source.list_new(None, datetime(2021, 7, 7, 18, tzinfo=timezone.utc))[0]
    ] == [real["id"]]
    detection = source.fetch("20210707-6UZJTX")
    assert detection["detection_id"] == "cuckoo3:lab:20210707-6UZJTX" and detection["verdict"][
        "families"
    ] == ["emotet"]
    assert detection["verdict"]["score"] == 100.0
    triage = classify(detection)
    assert [entry["hashes"]["SHA-256"] for entry in triage.actionable] == [real["target"]["sha256"]]
    assert codes([only(triage, value="8.8.8.8")]) == ["dns_server"]
    assert codes([only(triage, value="192.168.122.255")]) == ["not_routable"]
    assert codes([only(triage, value="login.live.com")]) == ["common_domain"]


def test_cuckoo_without_the_report_of_a_task(cuckoo: tuple[Cuckoo3, str], tmp_path: Path) -> None:
    server, url = cuckoo
    server.analyses = [analysis(1, NOW)]
    source = connect("cuckoo3", url, tmp_path)
    detection = source.fetch(server.analyses[0]["id"])
    assert detection["losses"] == {"tasks_without_report": 1} and len(detection["indicators"]) == 1
    degraded = source.fetch_degraded(server.analyses[0]["id"])
    assert degraded and degraded["degraded"] and degraded["verdict"]["score"] == 100.0


def test_cuckoo_that_lies(cuckoo: tuple[Cuckoo3, str], tmp_path: Path) -> None:
    server, url = cuckoo
    source = connect("cuckoo3", url, tmp_path)
    server.moods["/analysis/20240502-000001/task/"] = (
        200,
        {"Content-Type": "application/json"},
        b'{"network": [], "processes": {"a": 1}}',
    )
    server.analyses = [
        analysis(
            1, NOW, score="ten", families={"a": 1}, tasks=[1, {"id": "../x"}, {"id": "20240502-000001_1"}]
        )
    ]
    assert source.fetch("20240502-000001")["verdict"]["result"] == "unknown"
    server.analyses = [analysis(1, NOW, target=[])]
    with pytest.raises(InputError, match="report_wrong_schema"):
        source.fetch("20240502-000001")
    with pytest.raises(SourceError, match="report_gone"):
        source.fetch("../../etc")
    server.moods["/analyses/"] = as_json({"error": "x"})
    with pytest.raises(SourceError, match="source_wrong_answer"):
        source.list_new(None, NOW)
    server.moods["/analyses/"] = as_json([analysis(number, NOW) for number in range(50)])
    server.requests.clear()
    assert len(source.list_new(None, NOW)[0]) == 50 and len(server.requests) == 2, "a loop of pages ends"


# -- VMRay


@pytest.fixture()
def vmray() -> Iterator[tuple[Vmray, str]]:
    server = Vmray(KEY)
    with server.serving() as url:
        yield server, url
    assert not server.refused


def submission(number: int, finished: datetime, **changes: Any) -> dict[str, Any]:
    return {
        "submission_id": number, "submission_sample_id": number + 1000, "submission_verdict": "malicious",
        "submission_finish_time": finished.strftime("%Y-%m-%dT%H:%M:%S"), "submission_filename": "x.exe",
        "submission_sample_sha256": f"{number:064x}", "submission_sample_md5": "a" * 32, **changes,
    }  # fmt: skip


IOCS = {
    "files": [
        {
            "filename": "C:\\Users\\u\\AppData\\evil.exe",
            "verdict": "malicious",
            "hashes": [{"sha256_hash": "d" * 64}],
        },
        {
            "filename": "C:\\Windows\\System32\\x.dll",
            "verdict": "malicious",
            "hashes": [{"sha256_hash": "e" * 64}],
        },
        {"filenames": ["C:\\Users\\u\\odd.exe"], "verdict": "suspicious", "hashes": [{"md5_hash": "f" * 32}]},
    ],
    "domains": [{"domain": "evil-c2.org", "verdict": "malicious"}],
    "ips": [{"ip_address": "44.1.1.1", "verdict": "malicious"}],
    "urls": [{"url": "http://evil-c2.org/a", "verdict": "malicious"}],
    "mutexes": [{"mutex_name": "evil", "verdict": "suspicious"}],
    "registry": [{"reg_key_name": "HKCU\\Software\\Evil", "verdict": "malicious"}],
}


def test_vmray_lists_and_fetches(vmray: tuple[Vmray, str], tmp_path: Path) -> None:
    server, url = vmray
    server.submissions = [
        submission(1, NOW - timedelta(hours=1)),
        submission(2, NOW - timedelta(hours=2), submission_verdict="clean"),
        submission(3, NOW - timedelta(days=3)),
        submission(4, NOW - timedelta(hours=5)),
    ]
    server.iocs = {"1001": IOCS}
    source = connect("vmray", url, tmp_path)
    rows, _ = source.list_new(None, NOW)
    assert [row.report_id for row in rows] == ["4-1004", "1-1001"]
    detection = source.fetch("1-1001")
    assert detection["detection_id"] == "vmray:lab:1-1001"
    triage = classify(detection, GuardPolicy(trust="artefacts"))
    assert codes(triage.actionable) == ["target", "source_marked"]
    assert codes([only(triage, path="C:\\Windows\\System32\\x.dll")]) == ["marked_in_system_path"]
    assert codes([only(triage, value="44.1.1.1")]) == ["marked_trace"]
    with pytest.raises(SourceError, match="report_gone"):
        source.fetch("4-1004")
    degraded = source.fetch_degraded("4-1004")
    assert degraded and degraded["degraded"] and codes(classify(degraded).actionable) == ["target"]


def test_vmray_that_lies(vmray: tuple[Vmray, str], tmp_path: Path) -> None:
    server, url = vmray
    source = connect("vmray", url, tmp_path)
    server.submissions = [submission(1, NOW)]
    server.iocs = {"1001": {"files": {"a": 1}, "domains": [5, {"domain": []}], "ips": [{"ip_address": 7}]}}
    assert source.fetch("1-1001")["losses"] == {"unexpected_type": 1}
    for bad in ("1", "1-2-3", "../1-1", "1-x"):
        with pytest.raises(SourceError, match="report_gone"):
            source.fetch(bad)
    for answer in ({"result": "error", "data": []}, {"data": {}}, []):
        server.moods["/rest/submission"] = as_json(answer)
        with pytest.raises(SourceError, match="source_wrong_answer"):
            source.list_new(None, NOW)
    server.moods["/rest/submission"] = as_json(
        {"data": [1, {}, {"submission_id": "1/..", "submission_sample_id": 1}]}
    )
    assert source.list_new(None, NOW)[0] == []


def test_a_wrong_key_is_a_lasting_trouble(vmray: tuple[Vmray, str], tmp_path: Path) -> None:
    server, url = vmray
    server.key = "another"
    with pytest.raises(SourceUnavailable) as caught:
        connect("vmray", url, tmp_path).list_new(None, NOW)
    assert caught.value.lasting and KEY not in str(caught.value)


# -- KATA


def detect(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "alertID": number, "detectTimestamp": "2024-05-01T10:00:00", "importance": "high", "technology": "sb",
        "object": {"processedObject": {"MD5": "A" * 32, "SHA256": f"{number:064X}", "fileName": "a", "fileSize": 9}},
        "detection": {"detect": ["Trojan.Win32.Evil"]}, **changes,
    }  # fmt: skip


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a server and a client, and a stranger who signed for himself."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not here")
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    fresh = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30")
    for name in ("authority", "stranger"):
        openssl(
            "req", "-x509", *fresh, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",  # without it Python 3.13 trusts no authority
        )  # fmt: skip
    for name in ("server", "client"):
        openssl("req", *fresh[:-2], "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / "ext").write_text(
            "subjectAltName=IP:127.0.0.1\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        )
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial",
            "-days", "30", "-extfile", "ext", "-out", f"{name}.pem",
        )  # fmt: skip
    return folder


@pytest.fixture()
def kata(certificates: Path) -> Iterator[tuple[Kata, str]]:
    server = Kata("11111111-2222")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    tls.load_verify_locations(certificates / "authority.pem")
    tls.verify_mode = ssl.CERT_REQUIRED
    with server.serving(tls) as url:
        yield server, url
    assert not server.refused


def kata_source(
    url: str, certificates: Path, client: str = "client", authority: str = "authority", **settings: Any
) -> Source:
    return build_source(
        {
            "name": "lab", "type": "kata", "url": url, "sensor_id": "11111111-2222", "max_requests_per_minute": 100,
            "ca_file": str(certificates / f"{authority}.pem"), "client_cert_file": str(certificates / f"{client}.pem"),
            "client_key_file": str(certificates / f"{client}.key"), **settings,
        }
    )  # fmt: skip


def test_kata_keeps_the_servers_cursor(kata: tuple[Kata, str], certificates: Path) -> None:
    server, url = kata
    server.detects = [detect(number) for number in range(1, 4)]
    source = kata_source(url, certificates)
    rows, cursor = source.list_new(None, NOW)
    assert [row.report_id for row in rows] == ["1", "2", "3"] and cursor["token"] == "t3"
    assert source.list_new(cursor, NOW)[0] == []
    server.detects.append(detect(4))
    rows, later = source.list_new(cursor, NOW)
    assert [row.report_id for row in rows] == ["4"] and later["token"] == "t4"
    assert [row.report_id for row in source.list_new(cursor, NOW)[0]] == ["4"], (
        "an old cursor gives the same again"
    )


def test_kata_detections(kata: tuple[Kata, str], certificates: Path) -> None:
    server, url = kata
    server.detects = [
        detect(1),
        detect(2, importance="low"),
        detect(3, object={"processedObject": {"SHA256": "c" * 64}, "detectedObject": {"MD5": "d" * 32}}),
        detect(4, object=[]),
    ]
    source = kata_source(url, certificates)
    detection = source.fetch("1")
    assert detection["detection_id"] == "kata:lab:1" and detection["verdict"]["families"] == [
        "Trojan.Win32.Evil"
    ]
    assert codes(classify(detection).actionable) == ["target"]
    assert not classify(source.fetch("2")).starts_task
    triage = classify(source.fetch("3"), GuardPolicy(trust="artefacts"))
    assert codes([only(triage, role="dropped")]) == ["no_sha256"]
    with pytest.raises(InputError, match="report_wrong_schema"):
        source.fetch("4")
    with pytest.raises(SourceError, match="report_gone"):
        source.fetch("99")
    server.moods["/"] = (200, HTML, b"<html>")
    with pytest.raises(SourceError, match="source_not_json"):
        source.list_new(None, NOW)


def test_kata_finds_one_among_many(kata: tuple[Kata, str], certificates: Path) -> None:
    server, url = kata
    server.detects = [detect(number) for number in range(1, 9001)]
    assert kata_source(url, certificates).fetch("9000")["detection_id"] == "kata:lab:9000"
    source = kata_source(url, certificates)
    rows, _ = source.list_new(None, NOW)
    assert source.fetch(rows[0].report_id)["source"]["report_id"] == "1"
    assert len(server.requests) == 2, "what was listed is not asked for again"


def test_kata_spends_its_next_look_on_a_detection_that_must_be_found_again(
    kata: tuple[Kata, str], certificates: Path
) -> None:
    server, url = kata
    server.detects = [detect(number) for number in range(1, 6)]
    source = kata_source(url, certificates, max_requests_per_minute=1)
    minute = [0.0]
    source._client._monotonic = lambda: minute[0]  # type: ignore[attr-defined]
    cursor = {"token": "t5", "listed_at": 1}
    rows, cursor = source.list_new(cursor, NOW)
    assert rows == []
    for _ in range(2):
        with pytest.raises(SourceUnavailable, match="source_rate_limited"):
            source.fetch("2")
    minute[0] += 61
    assert source.list_new(cursor, NOW) == ([], cursor), "the cursor stays where it is"
    assert source.fetch("2")["source"]["report_id"] == "2"
    with pytest.raises(SourceError, match="report_gone"):
        source.fetch("77")
    minute[0] += 61
    server.detects.append(detect(6))
    assert [row.report_id for row in source.list_new(cursor, NOW)[0]] == ["6"]


def test_kata_with_the_detection_of_its_documentation(kata: tuple[Kata, str], certificates: Path) -> None:
    server, url = kata
    documented = json.loads(shared_data("ksc", "51_kata_detects.json").read_text())["item"]
    server.detects = [documented]
    source = kata_source(url, certificates)
    ((row,), _) = source.list_new(None, NOW)
    with pytest.raises(InputError, match="report_wrong_schema"):  # its digests are three dots
        source.fetch(row.report_id)
    documented["object"]["processedObject"].update({"MD5": "A" * 32, "SHA256": "B" * 64})
    server.detects = [documented]
    detection = kata_source(url, certificates).fetch(row.report_id)
    assert detection["detected_at"] == "2024-05-01T10:00:00Z"
    assert detection["target"]["name"] == "a.exe" and codes(classify(detection).actionable) == ["target"]


@pytest.mark.parametrize(("client", "authority"), [("stranger", "authority"), ("client", "stranger")])
def test_wrong_certificates_on_either_side(
    kata: tuple[Kata, str], certificates: Path, client: str, authority: str
) -> None:
    with pytest.raises(SourceUnavailable) as caught:
        kata_source(kata[1], certificates, client, authority).list_new(None, NOW)
    assert caught.value.code in ("source_tls", "source_unreachable")
    assert not kata[0].requests


def test_kata_asks_once_a_minute_at_most(kata: tuple[Kata, str], certificates: Path) -> None:
    source = kata_source(kata[1], certificates, max_requests_per_minute=None)
    source.list_new(None, NOW)
    with pytest.raises(SourceUnavailable, match="source_rate_limited"):
        source.list_new(None, NOW)


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({}, "source_sensor_id"),
        ({"sensor_id": "../x"}, "source_sensor_id"),
        ({"sensor_id": "1", "url": "x"}, "source_url"),
        ({"sensor_id": "1", "url": "https://kata"}, "source_client_cert"),
    ],
)
def test_kata_settings(entry: dict[str, Any], code: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_source({"name": "lab", "type": "kata", **entry})
    assert caught.value.code == code
