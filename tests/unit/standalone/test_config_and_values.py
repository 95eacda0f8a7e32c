"""The pack's config and the datastore, with StackStorm's semantics."""

from __future__ import annotations

import pytest
from ioc_scan.errors import ConfigError

from standalone.children.standalone_datastore import ValueService


def test_without_a_file_defaults_arrive_and_arrays_are_empty(engine):
    assert engine.config() == {"greeting": "hello", "limits": {"most": 5}, "places": []}


def test_values_and_defaults_inside_lists(make_engine):
    config = make_engine({"places": [{"name": "a"}], "limits": {}}).config()
    assert config["places"] == [{"name": "a", "kind": "folder"}]
    assert config["limits"] == {"most": 5}


def test_the_top_level_is_open_and_sections_are_not(make_engine):
    assert make_engine({"greting": "misspelt"}).config()["greting"] == "misspelt"
    with pytest.raises(ConfigError, match="limits"):
        make_engine({"limits": {"mst": 1}})


@pytest.mark.parametrize(
    "values",
    [
        {"greeting": 5},
        {"places": [{"kind": "web"}]},
        {"places": [{"name": "a", "kind": "other"}]},
        {"limits": {"most": "{{ st2kv.system.most }}"}},
        {"token": "{{ st2kv.system.token | decrypt_kv }}"},
    ],
)
def test_what_does_not_fit_the_schema_is_refused(make_engine, values):
    with pytest.raises(ConfigError):
        make_engine(values)


def test_a_config_file_is_read_and_errors_name_it(make_engine, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("greeting: moin\n")
    assert make_engine(path).config()["greeting"] == "moin"
    path.write_text("greeting: [\n")
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        make_engine(path)


def test_dynamic_values_are_text_and_a_missing_key_is_none(make_engine):
    engine = make_engine({"token": "{{ st2kv.system.a.b }}", "greeting": "{{ st2kv.user.word }}"})
    assert engine.config()["token"] is None
    engine.state.values.set("a.b", 5)
    engine.state.values.set("ann:word", "hello ann")
    assert engine.config("ann")["token"] == "5"
    assert engine.config("ann")["greeting"] == "hello ann"
    with pytest.raises(ConfigError):
        make_engine({"greeting": "{{ nothing.at.all }}"}).config()


def test_values_become_text_and_are_local_to_a_class(tmp_path):
    path = str(tmp_path / "values.db")
    one, other = ValueService(path, "pack", "One"), ValueService(path, "pack", "Other")
    assert one.set_value("a", None) and one.set_value("b", 5)
    assert (one.get_value("a"), one.get_value("b"), other.get_value("b")) == ("None", "5", None)
    assert one.get_value("pack.One:b", local=False) == "5"
    assert [pair.name for pair in one.list_values(prefix="b")] == ["pack.One:b"]
    assert one.delete_value("b") and not one.delete_value("b")
    one.set_value("short", "x", ttl=-1)
    assert one.get_value("short") is None
    with pytest.raises(ValueError, match="Scope user"):
        one.get_value("a", scope="user")


def test_lists_stop_at_100(tmp_path):
    service = ValueService(str(tmp_path / "values.db"), "pack", "One")
    for number in range(120):
        service.set_value(f"{number:03}", number)
    assert len(service.list_values()) == 100
    assert len(service.list_values(limit=1000)) == 100
    assert [pair.value for pair in service.list_values(offset=118)] == ["118", "119"]


def test_an_outage_looks_like_no_value_to_get_and_raises_in_list(tmp_path):
    service = ValueService(str(tmp_path / "nowhere" / "values.db"), "pack", "One")
    assert service.get_value("a") is None
    assert service.delete_value("a") is False
    with pytest.raises(OSError, match="no datastore"):
        service.list_values()
    with pytest.raises(OSError, match="no datastore"):
        service.set_value("a", 1)
