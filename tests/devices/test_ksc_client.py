"""The client of KSC Open API against the strict stand-in; whatever it should not have sent fails the test."""

from __future__ import annotations

import base64
import gc
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ioc_scan.errors import ConfigError, InputError, IocScanError
from ioc_scan.ksc_client import Ksc, KscError, KscSettings, KscTransport
from ioc_scan.ksc_client.values import Long, decode, encode, encode_argument, equals

from tests.ksc_server import Host, KscServer, sim_world
from tests.ksc_server.filters import parse_filter
from tests.ksc_server.http import DROP, FORGET_SESSION, GARBAGE, LOSE_ITERATORS
from tests.ksc_server.signatures import SIGNATURES
from tests.ksc_server.tls import make_certificate
from tests.ksc_server.values import decode as server_decode
from tests.ksc_server.world import template


class Lab:
    """A stand-in, and clients for it that do not sleep."""

    def __init__(self, server: KscServer, url: str, folder: Path) -> None:
        self.server, self.url, self.folder = server, url, folder
        self.pauses: list[float] = []

    def settings(self, **changes: Any) -> KscSettings:
        password = self.folder / "password"
        password.write_text(self.server.password + "\n", encoding="utf-8")
        entry = {
            "name": "ksc",
            "url": self.url,
            "username": self.server.user,
            "password_file": str(password),
            "certificate_file": str(self.server.certificate),
            **changes,
        }
        return KscSettings.from_config(entry)

    def client(self, **changes: Any) -> Ksc:
        return Ksc(KscTransport(self.settings(**changes), sleep=self.pauses.append))

    def code(self, call: Any) -> str:
        with pytest.raises(IocScanError) as caught:
            call()
        return caught.value.code


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    server = KscServer(sim_world(), tmp_path / "server")
    with server.serving() as url:
        yield Lab(server, url, tmp_path)
    assert server.refused == []
    assert server.open_iterators == []


# -- log-on


@pytest.mark.parametrize("log_on", ["session", "connection"])
@pytest.mark.parametrize("internal", [True, False])
def test_logs_on_once_and_off_at_the_end(lab: Lab, log_on: str, internal: bool) -> None:
    lab.server.internal = internal
    client = lab.client(log_on=log_on, internal_user=internal)
    assert client.root_group() == 0 and client.version() == ("14.2.0.26967", (14, 2, 0, 26967))
    assert lab.server.log_ons == 1
    client.close()
    assert not any(lab.server.sessions.values())


def test_a_forgotten_client_ends_its_session(lab: Lab) -> None:
    client = lab.client()
    client.root_group()
    assert list(lab.server.sessions.values()) == [True]
    del client
    gc.collect()
    assert list(lab.server.sessions.values()) == [False]


@pytest.mark.parametrize("log_on", ["session", "connection"])
def test_an_ended_session_is_renewed_once(lab: Lab, log_on: str) -> None:
    client = lab.client(log_on=log_on)
    client.root_group()
    lab.server.fail("HostGroup.GroupIdGroups", FORGET_SESSION)
    assert client.root_group() == 0 and lab.server.log_ons == 2
    lab.server.fail("HostGroup.GroupIdGroups", FORGET_SESSION, FORGET_SESSION)
    assert lab.code(client.root_group) == "ksc_log_on_failed"
    assert client.root_group() == 0, "the next call starts afresh"


def test_virtual_servers_are_named_at_log_on(lab: Lab) -> None:
    lab.server.vserver = "Zweigstelle Köln"
    assert lab.client(virtual_server="Zweigstelle Köln").root_group() == 0
    assert lab.code(lab.client().root_group) == "ksc_log_on_failed"


def test_wrong_password_and_blocked_account_say_so(lab: Lab) -> None:
    right = lab.client()
    lab.server.password = "another"
    assert lab.code(right.root_group) == "ksc_log_on_failed"
    lab.server.blocked = True
    assert lab.code(lab.client().root_group) == "ksc_account_blocked"
    assert not lab.pauses, "neither is tried again"


def test_passwords_show_nowhere(lab: Lab) -> None:
    settings = replace(lab.settings(), password="hunter2", password_file=None)
    assert "hunter2" not in repr(settings)
    with pytest.raises(KscError) as caught:
        KscTransport(settings).call("HostGroup.GroupIdGroups")
    shown = str(caught.value)
    assert "hunter2" not in shown and base64.b64encode(b"hunter2").decode() not in shown


# -- transport


def test_only_the_pinned_certificate_is_accepted(lab: Lab) -> None:
    other, _ = make_certificate(lab.folder / "other")  # same name, another key
    assert lab.code(lab.client(certificate_file=str(other)).root_group) == "ksc_certificate"
    chain = lab.folder / "garbage.cer"
    chain.write_bytes(b"\x30\x82 not PEM")
    assert lab.code(lab.client(certificate_file=str(chain)).root_group) == "ksc_certificate_unreadable"
    assert lab.server.log_ons == 0, "the password went nowhere"


def test_reading_is_repeated_where_the_server_is_busy_or_the_line_broke(lab: Lab) -> None:
    client = lab.client()
    lab.server.fail("HostGroup.GroupIdGroups", 1195, 1195)
    assert client.root_group() == 0 and lab.pauses == [1.0, 2.0]
    lab.server.fail("HostGroup.GroupIdGroups", DROP)
    assert client.root_group() == 0
    lab.server.fail("HostGroup.GroupIdGroups", 1195, 1195, 1195)
    assert lab.code(client.root_group) == "ksc_unavailable"


@pytest.mark.parametrize("fault", [1195, DROP])
def test_what_changes_something_is_not_repeated_by_itself(lab: Lab, fault: int | str) -> None:
    client = lab.client()
    lab.server.fail("Tasks.AddTask", fault)
    raw = client.task_data("41")
    assert lab.code(lambda: client.add_task(raw)) in ("ksc_unavailable", "ksc_unreachable")
    assert [method for method, _ in lab.server.requests].count("Tasks.AddTask") == 0


def test_what_is_no_answer_is_an_error(lab: Lab) -> None:
    client = lab.client()
    lab.server.fail("HostGroup.GroupIdGroups", GARBAGE)
    assert lab.code(client.root_group) == "ksc_bad_answer"
    assert lab.code(lab.client(url="https://127.0.0.1:1").root_group) == "ksc_unreachable"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (1125, "ksc_not_found"),
        (1184, "ksc_access_denied"),
        (1186, "ksc_not_found"),
        (1192, "ksc_bad_format"),
        (1193, "ksc_not_permitted"),
        (1194, "ksc_no_such_call"),
        (1229, "ksc_limit_reached"),
        (1445, "ksc_log_on_failed"),
        (1453, "ksc_log_on_failed"),
        (1454, "ksc_log_on_failed"),
        (2013, "ksc_account_blocked"),
        (4711, "ksc_error"),
    ],
)
def test_every_error_of_the_server_has_a_code_and_a_hint(lab: Lab, number: int, code: str) -> None:
    lab.server.fail("Tasks.RunTask", number)
    with pytest.raises(KscError) as caught:
        lab.client().run_task("41")
    error = caught.value
    assert (error.code, error.pxg_code) == (code, number) and error.hint and str(number) in error.message


@pytest.mark.parametrize(
    "entry", [{"url": "http://ksc:13299"}, {"url": ""}, {"username": ""}, {"certificate_file": None}]
)
def test_settings_are_checked(lab: Lab, entry: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        lab.settings(**entry)


# -- every call fails once, and nothing stays open


@pytest.mark.parametrize(
    "method", sorted(set(SIGNATURES) - {"Session.StartSession", "Session.EndSession", "Session.Ping"})
)
def test_an_error_in_any_call_is_one_of_ours_and_leaves_nothing_open(lab: Lab, method: str) -> None:
    client = lab.client()
    lab.server.fail(method, 1184)
    for use in _uses(client):
        try:
            use()
        except KscError as error:
            # a task that did not start cannot be paused
            assert error.code in ("ksc_access_denied", "ksc_not_permitted")
    lab.server.calls.listings = {
        name: each for name, each in lab.server.calls.listings.items() if "Release" not in method
    }


def _uses(client: Ksc) -> list[Any]:
    fields = ["event_db_id", "event_type"]
    return [
        client.version,
        client.root_group,
        client.groups,
        lambda: client.hosts([5, 6]),
        client.tasks,
        lambda: client.task_data("41"),
        lambda: client.task_exists("41"),
        lambda: client.run_task("41"),
        lambda: client.host_states("41"),
        lambda: client.suspend_task("41"),
        lambda: client.resume_task("41"),
        lambda: client.cancel_task("41"),
        lambda: client.events_after(0, ["X"], fields, most=10),
        lambda: client.events_since(datetime(2026, 1, 1, tzinfo=timezone.utc), "X", fields, most=10),
        lambda: client.task_history("41", "X", fields, most=10),
        lambda: client.delete_task("42"),
    ]


# -- listings


@pytest.mark.parametrize("ends", ["exclusive", "inclusive"])
@pytest.mark.parametrize("count", [0, 1, 2, 499, 500, 501, 1001])
def test_paging_survives_either_meaning_of_a_range_s_end(lab: Lab, ends: str, count: int) -> None:
    lab.server.calls.range_ends = ends
    host = lab.server.world.hosts["ws01"]
    for _ in range(count):
        lab.server.world.add_event("X", host)
    client = lab.client()
    expected = [1001 + number for number in range(count)]
    fields = ["event_db_id", "event_type"]
    assert [row["event_db_id"] for row in client.events_after(0, ["X"], fields, most=5000)] == expected
    assert [row["event_db_id"] for row in client.events_since(None, "X", fields, most=5000)] == expected
    assert len(client.events_after(0, ["X"], fields, most=7)) == min(count, 7)


def test_many_hosts_are_read_in_chunks(lab: Lab) -> None:
    for number in range(1203):
        lab.server.world.add_host(Host(f"h{number:05}", f"H{number}", 6))
    rows = lab.client().hosts([6])
    assert [row["KLHST_WKS_HOSTNAME"] for row in rows] == [f"h{number:05}" for number in range(1203)]


@pytest.mark.parametrize("fault", [LOSE_ITERATORS, 1125, 1186])
def test_a_lost_accessor_is_opened_once_more(lab: Lab, fault: int | str) -> None:
    lab.server.fail("ChunkAccessor.GetItemsChunk", fault)
    assert len(lab.client().hosts([5])) == 3


def test_a_session_that_ends_in_mid_iteration_is_renewed(lab: Lab) -> None:
    client = lab.client()
    client.root_group()
    lab.server.fail("ChunkAccessor.GetItemsChunk", FORGET_SESSION)
    assert len(client.hosts([5])) == 3 and lab.server.log_ons == 2


def test_an_accessor_that_is_lost_every_time_is_an_error(lab: Lab) -> None:
    lab.server.fail("ChunkAccessor.GetItemsChunk", LOSE_ITERATORS, LOSE_ITERATORS)
    assert lab.code(lambda: lab.client().hosts([5])) == "ksc_not_found"


def test_names_with_quotes_and_other_alphabets_come_through(lab: Lab) -> None:
    for name in ('Büro "Süd"', "Бухгалтерия", "東京", "O'Neill (a&b)"):
        lab.server.world.add_host(Host(f"x{len(lab.server.world.hosts)}", name, 6))
    names = [row["KLHST_WKS_DN"] for row in lab.client().hosts([6])]
    assert names == ['Büro "Süd"', "Бухгалтерия", "東京", "O'Neill (a&b)"]


def test_a_clone_is_what_was_read(lab: Lab) -> None:
    client = lab.client()
    raw = client.task_data("41")
    raw.pop("TASK_UNIQUE_ID"), raw.pop("PRTS_TASK_CREATION_DATE")
    raw["TASK_INFO_PARAMS"]["value"].pop("SIM_STORAGE_ID")
    added = client.add_task(raw)
    same = template("ioc_scan template report", responds=False, group=7)
    stored = lab.server.world.tasks[added].data
    assert {name: stored[name] for name in same if name != "TASK_INFO_PARAMS"} == {
        name: same[name] for name in same if name != "TASK_INFO_PARAMS"
    }
    assert client.task_exists(added)
    client.delete_task(added)
    assert not client.task_exists(added)


# -- values and filters


@pytest.mark.parametrize(
    "value",
    [
        "text",
        "",
        0,
        -1,
        2**31 - 1,
        2**31,
        Long(5),
        True,
        1.5,
        b"\x00\xff",
        [1, [b"x"]],
        {"a": {"b": [1, {"c": "d"}]}},
    ],
)
def test_values_go_both_ways(value: Any) -> None:
    assert decode(encode(value)) == value
    assert server_decode(encode(value)) == value


def test_moments_go_both_ways() -> None:
    moment = datetime(2026, 1, 5, 8, 30, tzinfo=timezone.utc)
    assert decode(encode(moment)) == moment == server_decode(encode(moment))


def test_params_are_unwrapped_at_the_top_and_wrapped_inside() -> None:
    assert encode_argument({"a": {"b": 1}}) == {"a": {"type": "params", "value": {"b": 1}}}
    assert encode_argument([{"b": 1}]) == [{"type": "params", "value": {"b": 1}}]
    assert encode_argument(None) is None
    with pytest.raises(ValueError, match="NoneType"):
        encode_argument({"a": None})


@pytest.mark.parametrize(
    "odd",
    [{"type": "long", "value": "x"}, {"type": "datetime", "value": 7}, {"type": "binary", "value": "!"}],
)
def test_odd_values_are_none_and_no_crash(odd: Any) -> None:
    assert decode(odd) is None


@pytest.mark.parametrize("text", ['x")(|(a=1', "a & b", "(", 'say "hi"', "Бюро"])
def test_no_text_leaves_its_quotes_in_a_filter(text: str) -> None:
    test = parse_filter(equals("name", text))
    assert test({"name": text}) and not test({"name": text + "x"})


@pytest.mark.parametrize("text", ["*", "a?b", "back\\slash", "line\nbreak"])
def test_wildcards_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        equals("name", text)
