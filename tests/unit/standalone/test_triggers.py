"""Rules, webhooks, timers and the sensor."""

from __future__ import annotations

import shutil
import time
from datetime import datetime, timezone

import pytest
from ioc_scan.errors import InputError, NotFoundError

from standalone import rules
from standalone.templates import key_value_context
from tests.unit.standalone.conftest import PACK

NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)


def _matches(kind, value, pattern):
    payload = {"x": value} if value is not None else {"y": 1}
    rule = {"criteria": {"trigger.x": {"type": kind, "pattern": pattern}}}
    return rules.matches(rule, payload, {"trigger": payload}, NOW)


@pytest.mark.parametrize(
    ("kind", "value", "pattern", "holds"),
    [
        ("eq", 5, 5, True),
        ("eq", 5, "5", False),
        ("equals", "a", "A", False),
        ("iequals", "a", "A", True),
        ("neq", 5, "5", True),
        ("exists", "a", True, True),
        ("exists", None, True, False),
        ("nexists", None, True, True),
        ("contains", "abc", "b", True),
        ("contains", ["abc"], "b", False),
        ("icontains", "ABC", "b", True),
        ("gt", 2, 1, True),
        ("lessthan", 2, 1, False),
        ("inside", "a", ["a", "b"], True),
        ("nin", "c", ["a", "b"], True),
        ("matchregex", "a\nb", "a.b", True),
        ("matchregex", "xa", "a", False),
        ("regex", "xa", "a", True),
        ("matchwildcard", "abc", "a*", True),
        ("startswith", "abc", "ab", True),
        ("eq", "a", "{{ trigger.x }}", True),
        ("eq", 5, "{{ trigger.x }}", True),
        ("td_lt", "2026-01-01T23:59:30Z", 60, True),
        ("td_gt", "2026-01-01T23:59:30Z", 60, False),
    ],
)
def test_operators(kind, value, pattern, holds):
    assert _matches(kind, value, pattern) is holds


def test_a_datastore_value_is_no_pattern():
    """In StackStorm it cannot be written as JSON, and the rule does not match."""
    context = {"trigger": {"x": "a"}, "st2kv": key_value_context({"k": "a"}.get, "ann")}
    rule = {"criteria": {"trigger.x": {"type": "eq", "pattern": "{{ st2kv.system.k }}"}}}
    with pytest.raises(TypeError):
        rules.matches(rule, {"x": "a"}, context, NOW)


def test_operators_that_raise_on_a_missing_field_are_logged_and_do_not_match(engine, logged):
    with pytest.raises(AttributeError):
        _matches("iequals", None, "a")
    rule = next(rule for rule in engine.pack.rules if rule["name"] == "on_word")
    rule["criteria"] = {"trigger.nothing": {"type": "iequals", "pattern": "a"}}
    assert engine.dispatch("small_pack.word", {"word": "a", "number": 5}) == []
    assert "rule small_pack.on_word not matched: AttributeError" in logged[-1]


def test_a_rule_starts_its_action_as_the_system_user_with_the_trace_tag(engine):
    started = engine.dispatch("small_pack.word", {"word": "Word", "number": 2}, "tag-1")
    assert [one["rule"] for one in started] == ["small_pack.on_word"]
    engine.wait_idle(10)
    execution = engine.executions()[-1]
    assert (execution["trace_tag"], execution["context"]["user"]) == ("tag-1", "stanley")
    assert execution["result"]["result"]["number"] == 2


def test_criteria_decide(engine):
    assert engine.dispatch("small_pack.word", {"word": "Word", "number": 1}) == []


@pytest.mark.parametrize(
    "payload", [{"word": "a"}, {"word": "a", "number": "2"}, {"word": "{{ 7*7 }}", "number": 2}]
)
def test_a_payload_that_breaks_its_schema_is_dropped_with_a_log_line(engine, logged, payload):
    assert engine.dispatch("small_pack.word", payload) == []
    assert logged[-1].startswith("payload validation failed, not dispatching small_pack.word")
    with pytest.raises(InputError):
        engine.dispatch("small_pack.word", payload, strict=True)


def test_a_missing_trigger_field_starts_nothing(engine, logged):
    rule = next(rule for rule in engine.pack.rules if rule["name"] == "on_word")
    rule["action"]["parameters"]["text"] = "{{ trigger.nothing }}"
    assert engine.dispatch("small_pack.word", {"word": "a", "number": 2}) == []
    assert "no execution" in logged[-1]
    assert engine.executions() == []


def test_a_rule_is_off_unless_it_says_otherwise(engine):
    rule = next(rule for rule in engine.pack.rules if rule["name"] == "on_word")
    del rule["enabled"]
    assert engine.dispatch("small_pack.word", {"word": "a", "number": 2}) == []


def test_webhook_bodies_travel_inert(engine):
    engine.post_webhook("small_pack", {"name": "{{ 7*7 }}<% 1+1 %>.exe"})
    engine.wait_idle(10)
    text = engine.executions()[-1]["result"]["result"]["text"]
    assert text == "%7B%22name%22%3A%20%22%7B%7B%207%2A7%20%7D%7D%3C%25%201%2B1%20%25%3E.exe%22%7D"


def test_a_webhook_takes_lists_not_text_and_must_be_registered(engine):
    assert engine.post_webhook(None, [1])[0]["rule"] == "small_pack.on_webhook"
    with pytest.raises(InputError):
        engine.post_webhook(None, "text")
    with pytest.raises(NotFoundError):
        engine.post_webhook("other", {})
    engine.wait_idle(10)


def test_timers_do_not_fire_at_once_and_can_be_fired(engine):
    engine.start_timers()
    assert engine.wait_idle(1) and engine.executions() == []
    assert engine.fire_timer("on_timer")[0]["rule"] == "small_pack.on_timer"
    engine.wait_idle(10)
    assert engine.executions()[-1]["trace_tag"].startswith("st2.IntervalTimer-")
    with pytest.raises(NotFoundError):
        engine.fire_timer("on_word")


def test_a_timer_fires_by_itself(engine):
    rule = next(rule for rule in engine.pack.rules if rule["name"] == "on_timer")
    rule["trigger"]["parameters"] = {"unit": "seconds", "delta": 1}
    engine.start_timers()
    _until(lambda: engine.executions())
    assert engine.executions()[0]["rule"] == "small_pack.on_timer"


def test_the_sensor_dispatches_and_remembers(make_engine, logged):
    engine = make_engine(poll_interval_seconds=0.1)
    engine.start_sensors()
    _until(lambda: engine.executions())
    engine.wait_idle(10)
    assert [one["trace_tag"] for one in engine.executions()] == ["word-1"]
    assert engine.executions()[0]["result"]["result"]["text"] == "HELLO"
    assert [line for line in logged if "not dispatching small_pack.word" in line]
    again = make_engine(poll_interval_seconds=0.1)
    again.start_sensors()
    time.sleep(1)
    assert len(again.executions()) == 1


def test_a_sensor_that_dies_is_respawned_twice_and_then_stays_dead(
    make_engine, tmp_path, logged, monkeypatch
):
    monkeypatch.setattr("standalone.sensors.RESPAWN_DELAY_SECONDS", 0.05)
    pack = tmp_path / "pack"
    shutil.copytree(PACK, pack, symlinks=True)
    source = (pack / "sensors" / "words.py").read_text()
    (pack / "sensors" / "words.py").write_text(
        source.replace("if self.spoken:", "raise RuntimeError('broken')\n        if 0:")
    )
    engine = make_engine(pack=pack)
    engine.start_sensors()
    _until(lambda: any("stays dead" in line for line in logged))
    assert sum("exited with code 1" in line for line in logged) == 3
    assert any("RuntimeError: broken" in line for line in logged)


def test_a_sensor_sees_only_its_own_folder(make_engine, tmp_path, logged):
    pack = tmp_path / "pack"
    shutil.copytree(PACK, pack, symlinks=True)
    (pack / "sensors" / "small_pack").unlink()
    engine = make_engine(pack=pack)
    engine.start_sensors()
    _until(lambda: any("No module named 'small_pack'" in line for line in logged))


def _until(condition, seconds=15):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
