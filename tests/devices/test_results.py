"""Reading results never raises, whatever a device says, always ends, and passes only what encoders take."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from ioc_scan.devices.base import EventKind, Job, JobKind
from ioc_scan.devices.results import DeviceAnswer, DeviceCursor, Limits, ResultReader
from ioc_scan.scanner.plan import load_plan

from .harness import SAMPLE
from .plans import make_plan

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
PLAN = make_plan(SAMPLE, hunt_names=("dropper.exe",))
DIGESTS = [ioc.digest for ioc in load_plan(PLAN).iocs]
SHA256 = hashlib.sha256(SAMPLE).hexdigest()
KEYS = [
    "type",
    "seq",
    "ioc",
    "tier",
    "document",
    "item",
    "item_key",
    "path",
    "path_b64",
    "sha256",
    "size",
    "device",
    "inode",
    "proof",
    "match_id",
    "outcome",
    "code",
    "message",
    "quarantine_id",
    "terminated",
    "pid",
    "name",
    "reason",
    "device_id",
    "job_id",
]
STATUS_KEYS = [
    "protocol",
    "job_id",
    "device_id",
    "run",
    "state",
    "updated_at",
    "started_at",
    "finished_at",
    "files_seen",
    "bytes_hashed",
    "matches",
    "results_bytes",
    "progress",
    "skipped",
    "not_evaluated",
    "error",
    "code",
    "message",
    "what",
    "reason",
]
TYPES = ["match", "response", "restored", "purged", "skip", "summary", "job", ""]


def job(kind: JobKind = JobKind.SCAN) -> Job:
    items = [{"match_id": "m1", "sha256": SHA256, "quarantine_id": "q1"}]
    return Job(
        id="j1",
        kind=kind,
        task_id="t1",
        run=1,
        device_ids=["ws01"],
        not_before=NOW,
        not_after=NOW + timedelta(days=1),
        plan=PLAN,
        plan_digest=hashlib.sha256(PLAN).hexdigest(),
        items={"ws01": items},
    )


likely = st.sampled_from(
    [*DIGESTS, SHA256, "ws01", "j1", "m1", "q1", "quarantined", "restored", "FileItem", "L3g="]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=20)  # type: ignore[arg-type]
    | likely
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
)
lines = st.fixed_dictionaries(
    {"type": st.sampled_from(TYPES), "seq": st.integers(-1, 6) | values},
    optional={key: values for key in KEYS if key not in ("type", "seq")},
)
raw_lines = st.lists(lines.map(lambda line: json.dumps(line).encode()) | st.binary(max_size=40), max_size=6)
statuses = st.binary(max_size=30) | st.fixed_dictionaries(
    {
        "protocol": st.just(1),
        "job_id": st.just("j1"),
        "device_id": st.just("ws01"),
        "state": st.just("done") | values,
    },
    optional={key: values for key in STATUS_KEYS if key not in ("protocol", "job_id", "device_id", "state")},
).map(lambda status: json.dumps(status).encode())


@settings(max_examples=100, deadline=None)
@given(raw_lines, statuses, st.sampled_from([JobKind.SCAN, JobKind.RESPOND, JobKind.RESTORE]))
def test_no_word_of_a_device_raises(chunks: list[bytes], status: bytes, kind: JobKind) -> None:
    content = b"\n".join(chunks) + b"\n"
    reader, cursor = ResultReader(job(kind)), DeviceCursor()
    events = reader.read("ws01", DeviceAnswer(status, content, len(content)), cursor)
    for event in events:
        assert event.device_id == "ws01"
        encoded = json.dumps(event.data, ensure_ascii=False, allow_nan=False).encode("utf-8")
        assert b"\\u0000" not in encoded
        if event.kind is EventKind.MATCH:
            assert event.data["ioc"] in DIGESTS
            if event.data["tier"] == "actionable":
                assert event.data["sha256"] == SHA256
    assert DeviceCursor.load(json.loads(json.dumps(cursor.dump()))) == cursor


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.binary(max_size=300).map(lambda raw: raw.replace(b"\n", b"")), max_size=8), st.integers(1, 64)
)
def test_reading_in_any_pieces_ends_and_counts_every_line(parts: list[bytes], step: int) -> None:
    content = b"".join(part + b"\n" for part in parts)
    limits = Limits(line_bytes=100)
    reader, cursor = ResultReader(job(), limits), DeviceCursor()
    rejected = 0
    for _ in range(len(content) + 10):
        chunk = content[cursor.offset : cursor.offset + 101 + step]
        events = reader.read("ws01", DeviceAnswer(b"{}", chunk, len(content)), cursor)
        rejected += sum(
            e.data["count"]
            for e in events
            if e.kind is EventKind.REJECTED and e.data["code"] != "wrong_protocol"
        )
        if cursor.offset == len(content):
            break
    assert cursor.offset == len(content)
    assert rejected == sum(1 for part in parts if part)


def test_a_match_may_not_point_out_of_its_folder_tree() -> None:
    def line(seq: int, path: bytes) -> dict[str, Any]:
        return {
            "type": "match",
            "seq": seq,
            "ioc": DIGESTS[0],
            "document": "FileItem",
            "item": {"Sha256sum": SHA256, "SizeInBytes": len(SAMPLE)},
            "item_key": "0" * 64,
            "path": "x",
            "path_b64": base64.b64encode(path).decode(),
            "sha256": SHA256,
            "size": len(SAMPLE),
            "proof": [],
        }

    paths = [b"/srv/ws01/x", b"/etc/passwd", b"/srv/ws011/x", b"/srv/ws01/../ws02/x", b"/srv/ws01"]
    content = b"".join(json.dumps(line(n + 1, path)).encode() + b"\n" for n, path in enumerate(paths))
    reader = ResultReader(job(), roots={"ws01": b"/srv/ws01"})
    events = reader.read("ws01", DeviceAnswer(None, content, len(content)), DeviceCursor())
    assert [e.seq for e in events if e.kind is EventKind.MATCH] == [1]
