"""A report that cannot be had: after the last try its list entry stands in, marked degraded."""

from __future__ import annotations

from typing import Any

import pytest
from ioc_scan.detection.normalize import degraded_detection
from ioc_scan.detection.sources import SourceUnavailable
from ioc_scan.detection.sources.folder import FolderSource
from ioc_scan.errors import SourceError
from ioc_scan.service import intake, reconciling

from .world import World, cape_report, sample


def test_what_the_sensor_gave_up_is_not_waited_for_again(
    town: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    detection_id = town.drop_report(cape_report(sample()))
    (town.folder / "reports" / "report.json").unlink()
    with town.context() as context:
        with pytest.raises(SourceError):  # this source's list knows nothing of use: tries go on
            intake.fetch_detection(context, detection_id, degraded=True)
        entry = degraded_detection(
            product="cape", instance="lab", report_id=detection_id.split(":")[2], hashes={"SHA-256": "d" * 64},
            score=90.0, detected_at="2024-05-01T10:00:00Z",
        )  # fmt: skip
        monkeypatch.setattr(FolderSource, "fetch_degraded", lambda self, report_id: entry)
        with pytest.raises(SourceError):
            intake.fetch_detection(context, detection_id)
        answer = intake.fetch_detection(context, detection_id, degraded=True)
        assert answer["outcome"] == "new" and answer["starts_task"]
        assert intake.stored_detection(context, detection_id)["degraded"]


def test_a_list_that_cannot_be_asked_just_now_is_asked_again(
    town: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    detection_id = town.drop_report(cape_report(sample()))
    (town.folder / "reports" / "report.json").unlink()
    entry = degraded_detection(
        product="cape", instance="lab", report_id=detection_id.split(":")[2], hashes={"SHA-256": "d" * 64},
        score=90.0, detected_at="2024-05-01T10:00:00Z",
    )  # fmt: skip
    busy = [SourceUnavailable("source_throttled", "come back later", "ask less", retry_after_seconds=60)]

    def fetch_degraded(self: FolderSource, report_id: str) -> dict[str, Any]:
        if busy:
            raise busy.pop()
        return entry

    monkeypatch.setattr(FolderSource, "fetch_degraded", fetch_degraded)
    with town.context() as context:
        with pytest.raises(SourceError, match="source_throttled"):
            intake.fetch_detection(context, detection_id, degraded=True)
        with context.store.reading() as tx:
            assert tx.fetches.get(detection_id)["state"] == "pending"
        town.ahead(minutes=6)
        assert reconciling.reconcile(context) == 1, "one more try, which is known to be the last"
        assert intake.stored_detection(context, detection_id)["degraded"]


def test_the_list_entry_stands_in_for_a_lost_report(town: World, monkeypatch: pytest.MonkeyPatch) -> None:
    detection_id = town.drop_report(cape_report(sample()))
    (town.folder / "reports" / "report.json").unlink()
    entry = degraded_detection(
        product="cape", instance="lab", report_id=detection_id.split(":")[2], hashes={"SHA-256": "d" * 64},
        score=90.0, detected_at="2024-05-01T10:00:00Z",
    )  # fmt: skip
    monkeypatch.setattr(FolderSource, "fetch_degraded", lambda self, report_id: entry)
    with town.context() as context:
        for _ in range(5):
            with pytest.raises(SourceError):
                intake.fetch_detection(context, detection_id)
        answer = intake.fetch_detection(context, detection_id)
        assert answer["outcome"] == "new" and answer["starts_task"]
        row = intake.stored_detection(context, detection_id)
        assert row["degraded"] and row["object_sha256"] == "d" * 64
        assert intake.fetch_detection(context, detection_id)["outcome"] == "same"
