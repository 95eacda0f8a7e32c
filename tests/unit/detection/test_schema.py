"""The schema of the normal form, under the library of this pack and under the one of StackStorm's sensors."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.detection import ids
from ioc_scan.detection.schema import validate
from ioc_scan.errors import InputError

from tests.fixtures.shared import REPOSITORY
from tests.unit.detection.samples import normalize, report


def changed(path: str, value: Any) -> dict[str, Any]:
    detection = copy.deepcopy(normalize(report(network={"hosts": [{"ip": "44.1.1.1"}]}), report_id=1))
    node: Any = detection
    *parents, last = path.split("/")
    for part in parents:
        node = node[int(part)] if part.isdigit() else node[part]
    node[last] = value
    return detection


WRONG: list[tuple[str, Any]] = [
    ("detection_id", "cape:lab:1\n"),
    ("detection_id", "cape:lab:2"),
    ("detection_id", "cape:lab:{{ 7*7 }}"),
    ("source/instance", "a b"),
    ("verdict/result", "evil"),
    ("verdict/score", 101),
    ("verdict/score", "10"),
    ("target/name", "nul\0"),
    ("target/name", "lone \ud800"),
    ("target/name", "x" * 1025),
    ("target/hashes", {}),
    ("target/hashes", {"SHA-256": "A" * 64}),
    ("target/hashes", {"SHA-512": "a" * 128}),
    ("target/size", -1),
    ("target/size", 2**60),
    ("target/extra", 1),
    ("detected_at", "2024-01-01 00:00:00"),
    ("indicators", {}),
    ("indicators/0/role", "boss"),
    ("indicators/1/value", "999.1.1.1"),
    ("indicators/1/port", 70000),
    ("indicators/0/hashes", "x"),
    ("losses", {"Bad Code": 1}),
    ("schema_version", "2.0"),
    ("more", 1),
]


@pytest.mark.parametrize(("path", "value"), WRONG)
def test_what_breaks_the_schema_is_named(path: str, value: Any) -> None:
    with pytest.raises(InputError) as caught:
        validate(changed(path, value))
    assert caught.value.code == "detection_invalid"


@pytest.mark.parametrize("value", [None, [], "x", 5, {}])
def test_not_even_an_object(value: Any) -> None:
    with pytest.raises(InputError, match="detection_invalid"):
        validate(value)


def test_ids_are_safe_and_reversible() -> None:
    assert ids.split_id("cape:lab:17") == ("cape", "lab", "17")
    for bad in ("cape:lab", "cape:lab:1:2", "cape:lab:a b", "cape:lab:1\n", "", "a::b", 5):
        with pytest.raises(InputError, match="bad_detection_id"):
            ids.split_id(bad)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="bad_id_part"):
        ids.detection_id("cape", "a b", 1)
    assert ids.report_part("x" * 65).startswith("sha256-") and ids.report_part("\ud800").startswith("sha256-")


@pytest.mark.slow
def test_the_library_of_stackstorms_sensors_agrees(tmp_path: Path) -> None:
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path)]
    packages = ["jsonschema==3.2.0", "pyrsistent==0.20.0", "attrs", "six", "setuptools<80"]
    if subprocess.run([*install, *packages], capture_output=True, timeout=200).returncode:
        pytest.skip("jsonschema 3.2.0 cannot be installed here")
    tests = [f"tests/unit/detection/test_{name}.py" for name in ("schema", "cape_shapes", "watch")]
    script = (
        "import jsonschema; assert jsonschema.__version__ == '3.2.0', jsonschema.__version__\n"
        "import pytest, sys\n"
        f"sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '-m', 'not slow', *{tests!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=REPOSITORY, env={"PYTHONPATH": f"{tmp_path}:lib", "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
