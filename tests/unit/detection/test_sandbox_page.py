"""The examples in docs/sandboxes.md are configurations that work."""

from __future__ import annotations

import re

import yaml
from ioc_scan.detection.sources import SOURCE_TYPES, build_source

from tests.fixtures.shared import REPOSITORY

PAGE = (REPOSITORY / "docs" / "sandboxes.md").read_text(encoding="utf-8")


def test_every_example_builds_a_source_and_every_type_has_one() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    entries = [entry for block in blocks for entry in yaml.safe_load(block.replace("sources:\n", ""))]
    assert {entry["type"] for entry in entries} == set(SOURCE_TYPES) - {"webhook"}
    properties = yaml.safe_load((REPOSITORY / "config.schema.yaml").read_text())["sources"]["items"][
        "properties"
    ]
    assert set(properties["type"]["enum"]) == set(SOURCE_TYPES)
    for entry in entries:
        assert set(entry) <= set(properties)
        assert build_source(entry).name == entry["name"]
