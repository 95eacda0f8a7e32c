"""The stream under the parser: whatever the chunks, the text comes out as it is, broken characters made visible."""

from __future__ import annotations

import gzip
import io
import json
import re
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from ioc_scan.detection import reading
from ioc_scan.detection.reading import ReportReader

# backslashes, surrogates of both kinds and digits, in every order
PIECES = st.lists(
    st.sampled_from(
        ["\\", "\\\\", '"', "u", "ud83d", "\ud83d", "\ude00", "\udfff", "\U0001f600", "ü", "7" * 50]
    )
)


def mended(text: str) -> str:
    """Pairs joined as JSON joins them, lone halves replaced."""
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return re.sub("[\ud800-\udfff]", "\ufffd", joined)


def read_in_steps(content: bytes, chunk_bytes: int) -> bytes:
    with mock.patch.object(reading, "CHUNK_BYTES", chunk_bytes):
        reader = ReportReader(io.BytesIO(content))
        return b"".join(iter(lambda: reader.read(chunk_bytes), b""))


@settings(max_examples=300, deadline=None)
@given(PIECES, st.integers(1, 40), st.booleans())
def test_escapes_survive_any_cut(pieces: list[str], chunk_bytes: int, packed: bool) -> None:
    text = "".join(pieces)
    content = json.dumps({"a": text}).encode()
    found: Any = json.loads(read_in_steps(gzip.compress(content) if packed else content, chunk_bytes))
    assert found["a"].count("\ufffd") == mended(text).count("\ufffd")
    assert re.sub("\ufffd", "", found["a"]) == re.sub("\ufffd", "", mended(text))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 40))
def test_any_bytes_become_sound_text(tail: bytes, chunk_bytes: int) -> None:
    read_in_steps(b'{"a": "' + tail, chunk_bytes).decode("utf-8")
