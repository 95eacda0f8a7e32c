"""Lists say how many there are, of what was asked for."""

from __future__ import annotations

import json

import pytest
from ioc_scan.errors import InputError, NotFoundError
from ioc_scan.service import views

from .test_responses import scanned
from .world import World, sample


def test_results_are_counted_as_they_were_asked_for(town: World) -> None:
    town.manager.files["ws01"] = {f"/{number}.exe": sample() for number in range(5)}
    with town.context() as context:
        task_id = scanned(town, context)
        for wanted, number in (({}, 7), ({"device": "ws01"}, 6), ({"tier": "hunt"}, 0), ({"run": 1}, 7)):
            page = views.get_results(context, task_id, limit=2, **wanted)
            assert page["total"] == number and len(page["rows"]) == min(2, number)
        last = views.get_results(context, task_id, limit=4, offset=4)
        assert len(last["rows"]) == 3
        assert json.loads(json.dumps(last)) == last


def test_what_is_not_there_is_said(town: World) -> None:
    with town.context() as context:
        for use in (views.get_task, views.get_results):
            with pytest.raises(NotFoundError) as caught:
                use(context, "ioc-nothing")
            assert caught.value.code == "task_not_found"
        with pytest.raises(InputError) as kind:
            views.list_events(context, type="{{ 7*7 }}")
        assert kind.value.code == "event_type_unknown" and "{{" not in kind.value.message
        with pytest.raises(NotFoundError):
            views.list_devices(context, group="typo")
        assert views.list_tasks(context)["rows"] == [] == views.list_quarantine(context)["rows"]


def test_a_manager_that_fails_is_a_row_with_its_error(town: World) -> None:
    with town.context() as context:
        town.manager.broken = True
        (row,) = views.list_devices(context)["rows"]
        assert row["problem"].startswith("manager_down")
