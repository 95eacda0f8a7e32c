"""What the organisation's clean image holds is never acted on, whatever a sandbox says of it."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path

from ioc_scan.detection.known_good import learn_into
from ioc_scan.service import intake
from ioc_scan.service.guarding import KNOWN_GOOD_LIST, judge

from .world import World, cape_report, sample


def test_a_learned_target_is_only_hunted(town: World, tmp_path: Path) -> None:
    content = sample()
    image = tmp_path / "image"
    image.mkdir()
    (image / "tool.exe").write_bytes(content)
    detection_id = town.drop_report(cape_report(content))
    with town.context() as context:
        now = context.clock()
        end = now + timedelta(days=2)
        learn_into(context.folder / KNOWN_GOOD_LIST, image, origin="golden image", expires_at=end, now=now)
        intake.fetch_detection(context, detection_id)
        document = intake.stored_detection(context, detection_id)["document"]
        judged = judge(context, document, "lab")
        assert document["target"]["hashes"]["SHA-256"] == hashlib.sha256(content).hexdigest()
        assert not judged.actionable and judged.alerts == ["known_good_conflict"]
        assert judged.hunt[0]["reason"].startswith("known_good_conflict")
