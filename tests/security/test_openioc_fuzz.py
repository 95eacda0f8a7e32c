"""Runs the fuzz target for a bounded time. Where the fuzzer can be had (Linux, Python 3.11) it must run."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.shared import REPOSITORY
from tests.security.openioc_hostile import FLAGGED, REFUSED
from tests.unit.openioc.builders import SHA_1, plan_bytes

#: Long enough to reach all of reader and lint; more by IOC_SCAN_FUZZ_SECONDS.
SECONDS = int(os.environ.get("IOC_SCAN_FUZZ_SECONDS") or 12)
EXPECTED_HERE = (
    sys.version_info[:2] == (3, 11) and platform.system() == "Linux" and platform.machine() == "x86_64"
)


@pytest.mark.slow
def test_no_bytes_break_reading_compiling_or_a_device(tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        assert not EXPECTED_HERE, "atheris belongs to this Python's test tools: install requirements-dev.txt"
        pytest.skip("atheris is built for Python 3.11 on Linux x86_64 only")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, (_, make) in enumerate([*REFUSED.values(), *FLAGGED.values()]):
        data = make()
        if len(data) < 20_000:
            (corpus / str(number)).write_bytes(data)
    tree = ["OR", ["FileItem/Sha256sum", "is", SHA_1], ["FileItem/FileName", "matches", "^a.*b$"]]
    (corpus / "plan").write_bytes(b"p" + plan_bytes(tree))
    (corpus / "pattern").write_bytes(rb"r^(?:[a-z]\d|\x{41}){2,5}(?i)\bx+?$")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.security.openioc_fuzz",
            str(corpus),
            f"-max_total_time={SECONDS}",
            "-timeout=10",
            "-rss_limit_mb=1024",
            "-max_len=20000",
            f"-artifact_prefix={tmp_path}/",
        ],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY / 'lib'}{os.pathsep}{REPOSITORY}"},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SECONDS + 120,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "DONE" in done.stderr or "Done" in done.stderr, done.stderr[-2000:]
