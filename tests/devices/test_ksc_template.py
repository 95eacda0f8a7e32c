"""Learning two template tasks: exactly one marker, one difference that is the response, and a digest to confirm."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.devices.ksc_template import is_learned
from ioc_scan.errors import IocScanError, NotFoundError, RefusedError

from tests.ksc_server import marker_bytes
from tests.ksc_server.world import template

from .ksc_fleet import REPORT, RESPOND, KscFleet, ksc_fleet

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[KscFleet]:
    with ksc_fleet(tmp_path, learned=False) as fleet:
        yield fleet


def settings(raw: dict[str, Any]) -> dict[str, Any]:
    return raw["TASK_ADDITIONAL_PARAMS"]


def both(fleet: KscFleet, change: Change) -> None:
    for number in ("41", "42"):
        change(fleet.world.tasks[number].data)


def code_of(fleet: KscFleet, report: str = REPORT, respond: str = RESPOND) -> str:
    with pytest.raises(IocScanError) as caught:
        fleet.ksc.learn_template(report, respond, marker_bytes(), None)
    assert caught.value.hint
    return caught.value.code


def test_a_dry_run_stores_nothing_and_its_digest_confirms(fleet: KscFleet) -> None:
    seen = fleet.ksc.learn_template(REPORT, RESPOND, marker_bytes(), None)
    assert not seen["stored"] and fleet.ksc.templates.learned() is None
    assert seen["kind"] == "SIM_IOC_SCAN" and seen["names"] == [REPORT, RESPOND]
    assert seen["response"] == [
        {
            "setting": "TASK_ADDITIONAL_PARAMS/SIM_ON_MATCH/SIM_QUARANTINE_AND_DELETE",
            "report": False,
            "respond": True,
        }
    ]
    assert seen["report"]["aim"] == {"kind": "group"} and seen["respond"]["aim"]["kind"] == "devices"
    with pytest.raises(RefusedError) as caught:
        fleet.ksc.learn_template(REPORT, RESPOND, marker_bytes(), "0" * 64)
    assert caught.value.code == "ksc_template_changed" and fleet.ksc.templates.learned() is None
    assert fleet.ksc.learn_template("41", "42", marker_bytes(), seen["digest"])["stored"]
    assert is_learned(fleet.rebuild().templates.learned())


def test_a_change_between_dry_run_and_confirmation_is_noticed(fleet: KscFleet) -> None:
    seen = fleet.ksc.learn_template(REPORT, RESPOND, marker_bytes(), None)
    both(fleet, lambda raw: settings(raw).update(SIM_SCOPE=["SIM_EVERYTHING"]))
    with pytest.raises(RefusedError):
        fleet.ksc.learn_template(REPORT, RESPOND, marker_bytes(), seen["digest"])


def test_a_damaged_memory_is_nothing_learned(fleet: KscFleet) -> None:
    fleet.learn()
    stored = fleet.ksc.memory / "templates.json"
    stored.write_text(stored.read_text().replace('"report"', '"reqort"', 1))
    assert fleet.ksc.templates.learned() is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda raw: settings(raw).update(SIM_IOC_FILES=[]), "ksc_marker_missing"),
        (
            lambda raw: settings(raw)["SIM_IOC_FILES"].append(dict(settings(raw)["SIM_IOC_FILES"][0])),
            "ksc_marker_ambiguous",
        ),
        (lambda raw: settings(raw).update(SIM_COPY=marker_bytes().decode()), "ksc_marker_ambiguous"),
        (
            lambda raw: settings(raw).update(
                SIM_IOC_FILES=[{"X": "<wrapped>" + marker_bytes().decode() + "</wrapped>"}]
            ),
            "ksc_marker_ambiguous",
        ),
        (lambda raw: raw.update(TASKSCH_TYPE=3), "ksc_template_scheduled"),
        (lambda raw: settings(raw).update(SIM_DELETE_ALWAYS=True), "ksc_template_responds"),
    ],
)
def test_templates_that_are_not_clear_are_not_learned(fleet: KscFleet, change: Change, code: str) -> None:
    both(fleet, change)
    assert code_of(fleet) == code


@pytest.mark.parametrize(
    "marker",
    [
        lambda: marker_bytes(),
        lambda: marker_bytes().decode(),
        lambda: base64.b64encode(marker_bytes()).decode(),
    ],
)
def test_the_marker_is_found_as_binary_as_text_and_as_base64(
    fleet: KscFleet, marker: Callable[[], Any]
) -> None:
    both(fleet, lambda raw: settings(raw)["SIM_IOC_FILES"][0].update(SIM_IOC_CONTENT=marker()))
    encoding = {"bytes": "binary"}.get(type(marker()).__name__) or ("text" if "<" in marker() else "base64")
    assert fleet.learn()["report"]["ioc"]["encoding"] == encoding


def test_templates_that_do_the_same_are_refused(fleet: KscFleet) -> None:
    settings(fleet.world.tasks["42"].data)["SIM_ON_MATCH"]["SIM_QUARANTINE_AND_DELETE"] = False
    assert code_of(fleet) == "ksc_templates_same"


def test_swapped_templates_are_refused(fleet: KscFleet) -> None:
    assert code_of(fleet, RESPOND, REPORT) == "ksc_template_responds"


def test_a_second_difference_must_be_a_response_as_well(fleet: KscFleet) -> None:
    settings(fleet.world.tasks["42"].data)["SIM_ON_MATCH"]["SIM_SCAN_CRITICAL_AREAS"] = True
    assert len(fleet.learn()["response"]) == 2
    settings(fleet.world.tasks["41"].data)["SIM_ON_MATCH"]["SIM_SCAN_CRITICAL_AREAS"] = 2
    assert code_of(fleet) == "ksc_template_responds"


@pytest.mark.parametrize(
    "entry", [[], [{"SIM_HOST_NAME": "ws01"}, {"SIM_HOST_NAME": "ws02"}], [{"SIM_HOST_NAME": "nobody"}]]
)
def test_a_device_list_must_name_one_known_device(fleet: KscFleet, entry: list[Any]) -> None:
    fleet.world.tasks["42"].data["TASK_INFO_PARAMS"]["SIM_HOST_LIST"] = entry
    assert code_of(fleet) == "ksc_target_unknown"


def test_a_device_list_that_says_more_is_not_guessed_at(fleet: KscFleet) -> None:
    info = fleet.world.tasks["42"].data["TASK_INFO_PARAMS"]
    info["SIM_HOST_LIST"] = [{"SIM_HOST_NAME": "marker-device", "SIM_SHOWN": "MARKER"}]
    assert ["value", "SIM_SHOWN"] in [path for path, _ in fleet.learn()["respond"]["aim"]["fields"]]
    info["SIM_HOST_LIST"] = [{"SIM_HOST_NAME": "marker-device", "SIM_SERIAL": "A-17"}]
    assert code_of(fleet) == "ksc_target_unknown"


def test_templates_are_named_by_id_or_by_a_name_that_one_task_has(fleet: KscFleet) -> None:
    fleet.world.add_task(template(REPORT, responds=False, group=7))
    for named in (REPORT, "no such task"):
        with pytest.raises(NotFoundError) as caught:
            fleet.ksc.learn_template(named, RESPOND, marker_bytes(), None)
        assert caught.value.code == "ksc_template_missing"
    assert fleet.ksc.learn_template("41", RESPOND, marker_bytes(), None)["digest"]


def test_another_kind_of_task_is_no_template(fleet: KscFleet) -> None:
    fleet.world.tasks["42"].data["TASK_NAME"] = "SIM_UPDATE"
    assert code_of(fleet) == "ksc_templates_differ"
