"""What a broken or hostile report does: a clear refusal with a stable code, or a counted loss."""

from __future__ import annotations

import ast
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from ioc_scan import detection
from ioc_scan.detection.guard import classify
from ioc_scan.detection.normalize import normalize_report
from ioc_scan.errors import InputError

from tests.unit.detection.samples import TARGET, behavior, normalize, report

WHOLE = json.dumps(report()).encode()
PACKED = gzip.compress(WHOLE, mtime=0)  # the same bytes, and so the same test ids, in every run


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "report_empty"),
        (b" \n ", "report_empty"),
        (b"<!DOCTYPE html><html>login</html>", "report_html"),
        (b"<?xml version='1.0'?>", "report_html"),
        (b"Not found", "report_not_json"),
        (b"\x00\x01\x02\x03", "report_not_json"),
        ("{}".encode("utf-16"), "report_not_json"),
        (WHOLE + b"xyz", "report_not_json"),
        (WHOLE.replace(b"10.0", b"NaN"), "report_not_json"),
        (b"[1, 2]", "report_wrong_schema"),
        (b'{"a": 1}', "report_wrong_schema"),
        (b'{"info": {}, "malscore": 9}', "report_wrong_schema"),
        (json.dumps(report(target={"file": {"name": "x"}})).encode(), "report_wrong_schema"),
        (b'{"error": true, "error_value": "Unable to retrieve records"}', "report_error"),
        (WHOLE[:-20], "report_truncated"),
        (PACKED[:-30], "report_truncated"),
        (PACKED[:-4], "report_truncated"),
        (PACKED[:30] + b"\xff" * 60, "report_corrupt"),
        (PACKED + b"junk", "report_corrupt"),
        (b'{"a":' + b"[" * 100_000, "report_too_deep"),
        (b'{"target":{"file":' + b'{"file":' * 10_000, "report_too_deep"),
        (b'{"CAPE":{"configs":' + b"[" * 10_000 + b"]" * 10_000 + b"}}", "report_too_deep"),
        (b'{"malscore":1e99999999999999999999999}', "report_not_json"),
    ],
)  # fmt: skip
def test_refused_with_a_code(content: bytes, code: str) -> None:
    with pytest.raises(InputError) as caught:
        normalize(content)
    assert caught.value.code == code


def test_the_byte_cap_counts_packed_and_unpacked_bytes() -> None:
    bomb = gzip.compress(b'{"a":"' + b"x" * 20_000_000)
    assert len(bomb) < 100_000
    with pytest.raises(InputError, match=r"report_too_large.*unpacked"):
        normalize(bomb, max_bytes=1_000_000)
    with pytest.raises(InputError, match="report_too_large"):
        normalize(WHOLE + b" " * 5000, max_bytes=4000)
    assert normalize(WHOLE, max_bytes=len(WHOLE))


def test_gzip_is_known_by_content_and_may_have_members(tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    path.write_bytes(gzip.compress(WHOLE[:50]) + gzip.compress(WHOLE[50:]) + b"\0" * 20)
    packed = normalize_report(path, instance="lab")
    assert packed["target"] == normalize(WHOLE)["target"]


@pytest.mark.parametrize("path", ["absent.json", "."])
def test_unreadable_paths(tmp_path: Path, path: str) -> None:
    with pytest.raises(InputError, match="report_unreadable"):
        normalize_report(tmp_path / path, instance="lab")


def test_lying_types_cost_their_part_only() -> None:
    lying = report(
        malscore="10", detections={"a": 1}, network=[1], behavior="x", dropped={"a": 1}, CAPE=[1, 2],
        procdump=5, info={"version": 5, "ended": []},
    )  # fmt: skip
    found = normalize(lying)
    assert found["verdict"]["score"] == 100.0
    assert found["detected_at"] == "1970-01-01T00:00:00Z"
    assert found["losses"] == {"no_time": 1, "unexpected_type": 5}
    assert len(found["indicators"]) == 1

    items: dict[str, Any] = {
        "dropped": [1, "a", None, [1], {"sha256": 5, "size": "x", "name": {"a": 1}, "guest_paths": 7}],
        "network": {"hosts": "x", "domains": [1, {"domain": "a b"}], "http": [{}], "tcp": [{"dst": 5}]},
    }
    found = normalize(report(**items))
    assert found["losses"] == {"bad_domain": 2, "bad_hash": 1, "unexpected_type": 4}


@pytest.mark.parametrize("score", [[1], {"a": 1}, True, "many", "nan", "1e999"])
def test_a_score_that_is_no_number_is_no_score(score: Any) -> None:
    found = normalize(report(malscore=score))
    assert "score" not in found["verdict"] and found["verdict"]["result"] == "unknown"
    assert found["losses"]["bad_score"] == 1


def test_scores_beyond_the_scale_are_clipped() -> None:
    assert normalize(report(malscore=-5))["verdict"]["score"] == 0
    assert normalize(report(malscore=12.5))["verdict"]["score"] == 100


def test_broken_text_is_mended_visibly_and_counted() -> None:
    names = ["a\ud800b", "\udc00", "nul\x00nul", "\ud83d\ude00", "C:\\udc00\\x", "end\n"]
    found = normalize(report(mutexes=names))
    values = [item["value"] for item in found["indicators"] if item["type"] == "mutex"]
    assert values == ["a\ufffdb", "\ufffd", "nul\ufffdnul", "\U0001f600", "C:\\udc00\\x", "end"]
    assert found["losses"] == {"text_repaired": 4}
    raw = json.dumps(report(mutexes=["QQ"])).encode().replace(b"QQ", b"\xff\xfeA")
    found = normalize(raw)
    assert found["indicators"][-1]["value"] == "\ufffd\ufffdA"
    assert found["losses"] == {"text_repaired": 2}


def test_long_strings_are_cut_and_counted() -> None:
    found = normalize(report(mutexes=["x" * 10_000_000], strings=["y" * 10_000_000], **{"k" * 1_000_000: 1}))
    assert [len(item["value"]) for item in found["indicators"] if item["type"] == "mutex"] == [8192]
    assert found["losses"]["text_cut"] >= 1


def test_endless_numbers_do_not_reach_the_parser() -> None:
    raw = json.dumps(report(strings=["7" * 6000])).encode().replace(b"10.0", b"9" * 1_000_000)
    found = normalize(raw)
    assert found["verdict"]["score"] == 100
    assert found["losses"]["text_repaired"] >= 2


def test_template_text_stays_text() -> None:
    name = "{{ 7*7 }}<% 1+1 %>.exe"
    content = report(
        target={"category": "file", "file": {**TARGET, "name": name}},
        **behavior(write_files=[f"C:\\Users\\u\\AppData\\{name}"]),
    )
    triage = classify(normalize(content))
    assert triage.actionable[0]["name"] == name
    assert triage.hunt[0]["name"] == name


def test_a_flood_is_bounded_and_the_important_ones_stay() -> None:
    flood = report(
        mutexes=[f"m{number}" for number in range(30_000)],
        dropped=[
            {
                "sha256": f"{number:064x}",
                "guest_paths": [f"C:\\Users\\u\\{number}.txt"],
                "type": "ASCII text",
                "size": 3,
            }
            for number in range(5000)
        ]
        + [
            {
                "sha256": "e" * 64,
                "guest_paths": ["C:\\Users\\u\\last.exe"],
                "type": "PE32 executable",
                "size": 3,
            }
        ],
        CAPE={"configs": [{"Family": {"C2": ["203.0.113.9", "44.1.2.3"]}}]},
    )
    found = normalize(flood)
    indicators = found["indicators"]
    assert len(indicators) == 2000 and found["truncated"] is True
    assert [item["role"] for item in indicators[:4]] == ["target", "config", "config", "dropped"]
    assert indicators[3]["hashes"]["SHA-256"] == "e" * 64
    lost = found["losses"]
    assert lost["over_limit_created"] + lost["over_limit_dropped"] == 30_000 + 5001 + 3 - 2000


def test_every_error_of_this_part_says_what_to_do() -> None:
    """Read from the source: code, message and hint stand in every raise."""
    folder = Path(detection.__file__).parent
    kinds = {"InputError", "SourceError", "ConfigError", "HttpRefused", "SourceUnavailable"}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds:
                assert len(node.args) >= 3, f"{path.name}:{node.lineno} has no hint"
