"""What the organisation's clean image holds is never acted on, whatever a sandbox says of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from ioc_scan.errors import InputError, NotFoundError, RefusedError
from ioc_scan.service import intake, learning
from ioc_scan.service.guarding import judge

from .world import World, cape_report, events, sample


def test_a_learned_target_is_only_hunted(town: World, tmp_path: Path) -> None:
    content = sample()
    image = tmp_path / "image"
    image.mkdir()
    (image / "tool.exe").write_bytes(content)
    detection_id = town.drop_report(cape_report(content))
    with town.context() as context:
        learned = learning.learn_known_good(
            context, folder=str(image), origin="golden", days=2, account="alice"
        )
        assert learned == {"origin": "golden", "files": 1, "digests": 1}
        assert events(context, "known_good_learned")[0]["actor"] == "alice"
        intake.fetch_detection(context, detection_id)
        document = intake.stored_detection(context, detection_id)["document"]
        judged = judge(context, document, "lab")
        assert document["target"]["hashes"]["SHA-256"] == hashlib.sha256(content).hexdigest()
        assert not judged.actionable and judged.alerts == ["known_good_conflict"]
        assert judged.hunt[0]["reason"].startswith("known_good_conflict")


def test_what_was_learned_counts_until_its_term(town: World, tmp_path: Path) -> None:
    content = sample()
    town.plant("ws01", "usr/tool", content)
    detection_id = town.drop_report(cape_report(content))
    with town.context() as context:
        learning.learn_known_good(context, device_id="ws01", days=2, account="alice")
        intake.fetch_detection(context, detection_id)
        document = intake.stored_detection(context, detection_id)["document"]
        assert not judge(context, document, "lab").actionable
        town.ahead(days=4)
        assert judge(context, document, "lab").actionable


def test_learning_takes_a_person_and_one_place(town: World, tmp_path: Path) -> None:
    with town.context() as context:
        with pytest.raises(RefusedError, match="person_needed"):
            learning.learn_known_good(context, folder=str(tmp_path), account="stanley")
        with pytest.raises(InputError, match="learn_what"):
            learning.learn_known_good(context, account="alice")
        with pytest.raises(InputError, match="known_good_no_folder"):
            learning.learn_known_good(context, folder=str(tmp_path / "absent"), account="alice")
        with pytest.raises(NotFoundError, match="device_unknown"):
            learning.learn_known_good(context, device_id="nobody", account="alice")
