"""Reports as files: for people, for spreadsheets, for programs; from the store to the bytes on disk."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from ioc_scan.service import outputs

from .test_responses import scanned
from .world import World, sample


@pytest.mark.parametrize("name", ["/home/=cmd|' /C calc'!A0.exe", "/home/{{ 7*7 }}<script>.exe"])
def test_a_task_in_all_three_forms(town: World, name: str) -> None:
    town.manager.files["ws01"] = {name: sample()}
    with town.context() as context:
        task_id = scanned(town, context)
        paths = {
            kind: Path(outputs.render_report(context, task_id, kind)["path"])
            for kind in ("html", "csv", "json")
        }
        assert {path.suffix for path in paths.values()} == {".html", ".csv", ".json"}
        assert outputs.render_report(context, task_id)["path"] == str(paths["html"])
        with paths["csv"].open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert {row["device_id"] for row in rows} >= {"ws01"}
        assert not any(cell.lstrip().startswith(("=", "+", "@")) for row in rows for cell in row.values())
        told = json.loads(paths["json"].read_text(encoding="utf-8"))
        assert told["task"]["task_id"] == task_id and len(told["matches"]) == len(rows)
        for path in paths.values():
            text = path.read_text(encoding="utf-8")
            assert "{{ 7" not in text
            assert path.suffix == ".csv" or "<script" not in text
            assert path.stat().st_mode & 0o777 == 0o600


def test_the_overview_in_all_three_forms(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context)
        for kind in ("html", "csv", "json"):
            answer = outputs.render_report(context, format=kind)
            assert answer["path"].endswith(f"overview.{kind}")
            assert task_id in Path(answer["path"]).read_text(encoding="utf-8")
