"""The kill switch stops every response, by action and by file."""

from __future__ import annotations

import pytest
from ioc_scan.errors import RefusedError
from ioc_scan.service import collection, killswitch, lifetimes, restores, tasks

from .test_responses import scanned
from .world import World, events, sample, states


def test_while_it_is_on_no_response_runs(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context, "auto")
        assert killswitch.kill_switch(context, "stop", "a false positive", account="stanley")["stopped"]
        assert (town.folder / "store" / "STOP").exists()
        for account in ("stanley", "alice"):
            with pytest.raises(RefusedError) as caught:
                town.respond(context, task_id, account=account)
            assert caught.value.code == "responses_stopped" and "switch=go" in caught.value.hint
        assert town.manager.acted == []
        assert "ioc_scan.response_due" not in [
            row["trigger"] for row in collection.collect_results(context)["due"]
        ]
        dry = town.respond(context, task_id, account="alice", dry_run=True)
        assert dry["outcomes"] == {"would_quarantine": 2}
        killswitch.kill_switch(context, "go", account="alice")
        assert town.respond(context, task_id)["outcomes"] == {"quarantined": 2}
        assert [len(events(context, name)) for name in ("kill_switch_on", "kill_switch_off")] == [1, 1]


def test_the_file_alone_stops_as_well(town: World) -> None:
    stop = town.folder / "store" / "STOP"
    with town.context() as context:
        task_id = scanned(town, context, "auto")
        stop.touch()
        assert killswitch.kill_switch(context, "show")["stopped"]
        with pytest.raises(RefusedError):
            town.respond(context, task_id)
        collection.collect_results(context)
        collection.collect_results(context)
        assert len(events(context, "stop_requested")) == 1
        stop.unlink()
        assert town.respond(context, task_id)["claimed"] == 2


def test_a_broken_link_or_a_folder_named_stop_stops_too(town: World) -> None:
    stop = town.folder / "store" / "STOP"
    with town.context() as context:
        stop.symlink_to("/nowhere")
        assert context.stopped
        stop.unlink()
        stop.mkdir()
        assert context.stopped


def test_another_host_of_the_installation_sees_it(town: World) -> None:
    """Hosts that share a database do not share a folder."""
    other = town.folder / "other_host"
    other.mkdir(mode=0o700)
    with town.context() as here:
        task_id = scanned(town, here, "auto")
        killswitch.kill_switch(here, "stop", account="alice")
    url = f"sqlite:///{town.folder / 'store' / 'ioc_scan.db'}"
    town.config["store"] = {"folder": str(other), "url": url}
    with town.context() as there:
        assert there.stopped and not there.stopped_by_file
        with pytest.raises(RefusedError):
            town.respond(there, task_id)


@pytest.mark.parametrize("account", ["stanley", None])
def test_anybody_may_stop_and_only_a_person_may_go_on(town: World, account: str | None) -> None:
    with town.context() as context:
        killswitch.kill_switch(context, "stop", account=account)
        with pytest.raises(RefusedError) as caught:
            killswitch.kill_switch(context, "go", account=account)
        assert caught.value.code == "person_needed" and context.stopped
        with pytest.raises(RefusedError):
            killswitch.kill_switch(context, "go", account="bot", chat_user="U_STRANGER")
        assert context.stopped


def test_jobs_on_their_way_are_taken_back_and_what_they_did_is_kept(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context, "auto")
        town.manager.slow = {"ws02"}
        assert town.respond(context, task_id)["claimed"] == 2
        (job,) = [name for name in town.manager.jobs if name.startswith("resp-")]
        killswitch.kill_switch(context, "stop", account="alice")
        assert job in town.manager.cancelled and job in town.manager.withdrawn
        assert states(context, task_id) == ["claimed", "quarantined"]
        with context.store.reading() as tx:
            assert len(tx.quarantine.list()) == 1
        assert town.manager.acted == [("ws01", "/a.exe")]


def test_a_job_noted_before_the_stop_is_not_delivered_after_it(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context, "auto")
        publish = town.manager.publish

        def stop_then_publish(job: object) -> None:
            (town.folder / "store" / "STOP").touch()
            publish(job)

        town.manager.publish = stop_then_publish
        assert town.respond(context, task_id)["claimed"] == 2
        collection.await_results(context, task_id)
        assert town.manager.acted == []


def test_undoing_works_while_it_is_on(world: World) -> None:
    planted = world.plant("ws01", "a.exe", sample())
    world.config["threat_response_policies"] = [world.policy("auto")]
    with world.context() as context:
        task_id = world.task_for(context, sample())["task_id"]
        world.scan(context, task_id)
        world.respond(context, task_id)
        world.settle(context, task_id)
        assert not planted.exists()
        killswitch.kill_switch(context, "stop", account="alice")
        with context.store.reading() as tx:
            (held,) = tx.quarantine.list()
        answer = restores.restore_object(context, held["quarantine_id"], "ws01", account="alice")
        assert answer["state"] == "restored" and planted.read_bytes() == sample()


def test_quarantined_objects_are_not_deleted_while_it_is_on(town: World) -> None:
    with town.context() as context:
        task_id = scanned(town, context, "auto")
        town.respond(context, task_id)
        tasks.delete_task(context, task_id, account="alice")
        killswitch.kill_switch(context, "stop", account="alice")
        town.clock.ahead(days=31)
        lifetimes.prune(context)
        assert not any(name.startswith("purge") for name in town.manager.said)
