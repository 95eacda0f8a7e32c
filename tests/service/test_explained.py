"""Every indicator with its tier and the reason: as a table and in the HTML report, whatever it is called."""

from __future__ import annotations

import json
from pathlib import Path

import lxml.html
from ioc_scan.service import intake, looking, outputs, tasks

from .world import World, cape_report, sample, sha256

NASTY = "</td><script>alert(1)</script>{{ 7*7 }}<% 1+1 %>\u202eexe.\x1b[2J|x"


def test_hostile_names_in_every_tier(town: World) -> None:
    report = cape_report(sample(), mutexes=[f"{number} {NASTY}".replace("|x", "") for number in (1, 2)])
    report["target"]["file"]["name"] = f"target {NASTY}.exe"
    report["dropped"] = [
        {
            "name": [f"{NASTY}.exe"], "guest_paths": [f"C:\\Users\\u\\AppData\\{NASTY}.exe"], "size": 9,
            "sha256": sha256(b"dropped"), "type": "PE32 executable (GUI) Intel 80386, for MS Windows",
        },
        {
            "name": [f"{NASTY}.txt"], "guest_paths": [f"C:\\Users\\u\\{NASTY}.txt"], "size": 9,
            "sha256": sha256(b"text"), "type": "ASCII text",
        },
    ]  # fmt: skip
    detection_id = town.drop_report(report)
    with town.context() as context:
        intake.fetch_detection(context, detection_id)
        task_id = tasks.create_task(context, detection_id)["task_id"]
        told = looking.explain_detection(context, detection_id)
        page = Path(outputs.render_report(context, task_id)["path"]).read_text(encoding="utf-8")
    assert told["counts"] == {"actionable": 1, "hunt": 3, "suppressed": 1}
    assert told["total"] == 5 == len(told["rows"])
    assert {row["reason"].partition(":")[0] for row in told["rows"]} == {
        "target", "dropped_program", "named_mutex", "not_a_program",
    }  # fmt: skip
    for line in told["table"].splitlines():
        assert line.isprintable(), "no control or direction characters reach a terminal"
    for row in told["rows"]:
        assert row["tier"] in told["table"] and str(row["reason"])[:12] in told["table"]
    document = lxml.html.document_fromstring(page)
    assert not document.xpath("//script | //img | //@*[starts-with(name(), 'on')]")
    (searched,) = document.xpath("//section[@id='searched']")
    text = searched.text_content()
    for row in told["rows"]:
        assert str(row["reason"]) in text
    assert text.count("alert(1)") >= 5 and "\u202e" not in text and "\x1b" not in text
    assert "49" not in json.dumps(told["rows"][0]["what"])
