"""Bad surroundings: what fails says so with a code, a message and a hint, and nothing is lost."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.config import load_config
from ioc_scan.errors import ConfigError, StoreError
from ioc_scan.service import answer, collection, intake, killswitch, outputs, setup, views
from ioc_scan.service.context import ALLOW_TEMPORARY_VARIABLE, open_context
from sqlalchemy import event, text

from .world import World, cape_report, count, events, sample


def failure(world: World, use_case: Any, **parameters: Any) -> dict[str, Any]:
    """The answer of an action that must fail, as StackStorm gets it."""
    good, error = answer(world.config, use_case, **parameters)
    assert good is False
    assert set(error) >= {"code", "message", "hint"} and error["code"] != "internal_error", error
    assert error["message"] and error["hint"], error
    return dict(error)


def test_the_stores_folder_is_missing(world: World) -> None:
    (world.folder / "store").rename(world.folder / "elsewhere")
    assert failure(world, views.list_tasks)["code"] == "store_folder_missing"


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o770])
def test_the_stores_folder_is_open_to_others(world: World, mode: int) -> None:
    (world.folder / "store").chmod(mode)
    error = failure(world, views.list_tasks)
    assert error["code"] == "store_folder_open" and "0700" in error["message"] + error["hint"]


def test_a_store_under_tmp_or_in_the_pack_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ALLOW_TEMPORARY_VARIABLE)
    assert failure(world, views.list_tasks)["code"] == "store_in_temporary"
    inside = Path(__file__).resolve().parents[2] / "store"
    world.config["store"]["folder"] = str(inside)
    assert failure(world, views.list_tasks)["code"] == "store_in_pack"
    assert not inside.exists()


def test_a_full_disk_loses_nothing(world: World) -> None:
    """SQLite's page limit stands for the disk: the same error comes back."""
    detection_id = world.drop_report(cape_report(sample()))
    path = world.folder / "store" / "ioc_scan.db"
    with world.context() as context:
        store = context.store
        intake.fetch_detection(context, detection_id)
        pages = sqlite3.connect(path).execute("PRAGMA page_count").fetchone()[0]

        @event.listens_for(store._engine, "checkout")
        def _full(raw: Any, *_: Any) -> None:
            raw.execute(f"PRAGMA max_page_count={pages}")

        store._engine.dispose()
        with pytest.raises(StoreError) as caught:
            for number in range(200):
                world.submit(context, sample(number), number)
        assert caught.value.code == "store_disk_full" and caught.value.hint
        event.remove(store._engine, "checkout", _full)
        store._engine.dispose()
    with world.context() as context:
        before = count(context, "detections")
        assert before >= 1
        for number in range(200):
            world.submit(context, sample(number), number)
        assert count(context, "detections") == 201
        with context.store.reading() as tx:
            assert tx.connection.execute(text("PRAGMA integrity_check")).scalar() == "ok"


def test_a_damaged_database_is_named(world: World) -> None:
    path = world.folder / "store" / "ioc_scan.db"
    path.write_bytes(b"this is no database, and long enough to look like one" * 100)
    assert failure(world, views.list_tasks)["code"] in ("store_damaged", "store_not_ours")


def test_a_postgresql_that_does_not_answer(world: World) -> None:
    url = "postgresql+psycopg://ioc:secretword@127.0.0.1:1/ioc_scan?connect_timeout=2"
    world.config["store"]["url"] = url
    error = failure(world, views.list_tasks)
    assert error["code"] == "store_unreachable"
    assert "secretword" not in str(error)


def test_the_url_may_stand_in_a_file_of_its_own(world: World) -> None:
    secret = world.folder / "url"
    world.config["store"]["url_file"] = str(secret)
    assert failure(world, views.list_tasks)["code"] == "secret_file_unreadable"
    secret.write_text("one\ntwo\n")
    error = answer(world.config, views.list_tasks)[1]
    assert error["code"] == "secret_file_empty" and "two" not in str(error)
    secret.write_text(f"sqlite:///{world.folder / 'store' / 'ioc_scan.db'}\n")
    assert answer(world.config, views.list_tasks)[0]


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        ({"sorces": []}, "config_invalid", "sorces"),
        ({"guard": {"treshold_score": 70}}, "config_invalid", "treshold_score"),
        ({"sources": [{"name": "a", "type": "folder", "path": "/x", "pth": 1}]}, "config_invalid", "pth"),
        ({"sources": [{"name": "a", "type": "folder"}]}, "config_source_path", "absolute"),
        ({"sources": [{"name": "a", "type": "folder", "path": "x"}]}, "config_source_path", "absolute"),
        ({"sources": [{"name": "a b", "type": "webhook"}]}, "config_invalid", "a b"),
        ({"sources": [{"name": "a", "type": "webhook"}] * 2}, "config_duplicate_name", "a"),
        ({"sources": [{"name": "a", "type": "ftp"}]}, "config_invalid", "ftp"),
        (
            {
                "device_managers": [
                    {"name": "a", "type": "salt", "url": "https://salt.example.org:8000"},
                    {"name": "b", "type": "salt", "url": "https://SALT.example.org:8000/"},
                ]
            },
            "config_salt_master_twice",
            "salt.example.org",
        ),
        ({"sources": "lab"}, "config_invalid", "sources"),
        ({"lifetime_profile": "forever"}, "config_invalid", "forever"),
        ({"response": {"max_files_per_hour": -1}}, "config_invalid", "max_files_per_hour"),
        ({"response": {"max_files_per_hour": "many"}}, "config_invalid", "max_files_per_hour"),
        ({"redetection_min_hours": 0}, "config_invalid", "redetection_min_hours"),
        ({"chat_identities": {"x": 7}}, "config_invalid", "chat_identities"),
        ({"guard": {"sandbox_networks": ["x" * 100_000]}}, "config_too_large", "98304"),
    ],
)
def test_a_configuration_that_cannot_be_meant(change: dict[str, Any], code: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(change)
    assert caught.value.code == code, caught.value
    assert named in caught.value.message and caught.value.hint


def test_a_template_in_a_key_is_not_shown_as_one() -> None:
    good, error = answer({"{{ 7*7 }}<% 1+1 %>": 1}, views.list_tasks)
    assert not good and "{{" not in str(error) and "<%" not in str(error)


def test_the_folder_of_a_source_is_gone(world: World) -> None:
    (world.folder / "reports").rmdir()
    with world.context() as context:
        found = setup.check_setup(context)
        assert not found["ok"] and "source lab" in {
            c["name"] for c in found["checks"] if c["state"] == "FAILED"
        }
        assert collection.collect_results(context)["leased"]
        assert len(events(context, "source_unreachable")) == 1


def test_a_source_gone_from_config_leaves_its_tasks_and_reports(world: World) -> None:
    with world.context() as context:
        task_id = world.task_for(context, sample())["task_id"]
        world.scan(context, task_id)
    world.config["sources"] = []
    with world.context() as context:
        assert outputs.render_report(context, task_id)["bytes"] > 1000
        assert views.get_task(context, task_id)["task"]["state"] == "completed"
        assert world.settle(context, task_id)["settled"]


def test_check_setup_looks_at_everything_whatever_fails_first(world: World) -> None:
    world.config["store"]["url"] = "postgresql+psycopg://x@127.0.0.1:1/x?connect_timeout=2"
    world.config["guard"] = {"known_good_file": "/nowhere"}
    world.config["threat_response_policies"][0]["run_ioc_scan_on"] = [{"group": "typo"}]
    world.take_offline("ws03")
    with open_context(world.config, world.clock) as context:
        found = setup.check_setup(context)
    states = {check["name"]: check["state"] for check in found["checks"]}
    assert not found["ok"]
    assert states["store"] == states["policy all"] == "FAILED"
    assert states["source lab"] == "ok"
    assert all(check["hint"] for check in found["checks"] if check["state"] == "FAILED")
    assert "store_unreachable" in {check["code"] for check in found["checks"]}
    good, listed = answer({}, setup.check_setup)
    assert good or listed["code"].startswith("store_")


def test_the_kill_switch_works_without_a_database(world: World) -> None:
    world.config["store"]["url"] = "postgresql+psycopg://x@127.0.0.1:1/x?connect_timeout=2"
    good, said = answer(world.config, killswitch.kill_switch, switch="stop", account="alice")
    assert (world.folder / "store" / "STOP").exists()
    assert good and said["stopped"] and "store_unreachable" in said["note"]


def test_the_kill_switch_works_without_a_folder(world: World) -> None:
    world.config["store"] |= {
        "url": f"sqlite:///{world.folder / 'store' / 'ioc_scan.db'}",
        "folder": str(world.folder / "nowhere"),
    }
    with world.context() as context:
        said = killswitch.kill_switch(context, "stop", account="alice")
        assert said["stopped"] and "stop_not_written" in said["note"]


def test_reports_never_go_through_a_link(world: World) -> None:
    with world.context() as context:
        task_id = world.task_for(context, sample())["task_id"]
        elsewhere = world.folder / "elsewhere"
        elsewhere.write_text("precious")
        reports = world.folder / "store" / "reports"
        reports.mkdir(mode=0o700)
        (reports / f"{task_id}.html").symlink_to(elsewhere)
        (reports / f".{task_id}.html.part").symlink_to(elsewhere)
        outputs.render_report(context, task_id)
        assert elsewhere.read_text() == "precious"
        assert (reports / f"{task_id}.html").stat().st_mode & 0o077 == 0


def test_what_nobody_expected_is_still_an_answer(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Any) -> None:
        try:
            raise ValueError("of the report\n2026-03-01 INFO all is well")
        except ValueError as error:
            raise ZeroDivisionError("{{ 7*7 }}\x00\ud800") from error

    good, error = answer(world.config, broken)
    assert not good and error["code"] == "internal_error"
    assert "{{" not in error["message"] and "\x00" not in error["message"] and error["hint"]
    lines = caplog.text.splitlines()
    assert r"ZeroDivisionError: { { 7*7 }}\x00\ud800" in lines, (
        "the log has it, too, as one harmless line each"
    )
    assert r"ValueError: of the report\x0a2026-03-01 INFO all is well" in lines
    assert any("in broken" in line for line in lines), "and the frames"
