"""The stand-in itself: strict where the reference is, so that a client that passes it has said what is documented."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.fixtures.shared import shared_data
from tests.ksc_server import KscServer, sim_world
from tests.ksc_server.signatures import SIGNATURES, check_arguments
from tests.ksc_server.values import BadValue

LOG_ON = 'KSCBasic user="aW9jX3NjYW4=", pass="cMOkNTUsICJ3b3JkIg==", internal="1"'


class Line:
    """One connection, by hand."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        raw = socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=30)
        self._socket = context.wrap_socket(raw)
        self._stream = self._socket.makefile("rb")
        self.token = ""

    def request(self, method: str, body: Any, **headers: str) -> bytes:
        content = json.dumps(body).encode()
        given = {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}
        if self.token:
            given["X-KSC-Session"] = self.token
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        return f"POST /api/v1.0/{method} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode() + content

    def send(self, *requests: bytes) -> None:
        self._socket.sendall(b"".join(requests))

    def answer(self) -> tuple[int, Any]:
        status = int(self._stream.readline().split()[1])
        length = 0
        while (line := self._stream.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        content = self._stream.read(length)
        return status, json.loads(content) if content.startswith(b"{") else content

    def call(self, method: str, body: Any, **headers: str) -> tuple[int, Any]:
        self.send(self.request(method, body, **headers))
        return self.answer()

    def code(self, method: str, body: Any) -> int:
        return int(self.call(method, body)[1].get("PxgError", {}).get("code", 0))

    def close(self) -> None:
        self._stream.close()
        self._socket.close()


@pytest.fixture
def center(tmp_path: Path) -> Iterator[tuple[KscServer, Line]]:
    server = KscServer(sim_world(), tmp_path)
    with server.serving() as url:
        line = Line(url)
        line.token = line.call("Session.StartSession", {}, Authorization=LOG_ON)[1]["PxgRetVal"]
        yield server, line
        line.close()


def test_log_on_and_off(center: tuple[KscServer, Line]) -> None:
    server, line = center
    assert line.call("Session.Ping", {}) == (200, {})
    token = line.token
    assert line.call("Session.EndSession", {}) == (200, {})
    assert line.call("Session.Ping", {})[0] == 403
    line.token = "another"
    assert line.call("Session.Ping", {})[0] == 401
    line.token = ""
    assert line.call("Session.Ping", {})[0] == 401
    assert token and server.refused == []


def test_a_second_request_before_the_first_answer_is_noticed(center: tuple[KscServer, Line]) -> None:
    server, line = center
    line.send(line.request("Session.Ping", {}), line.request("Session.Ping", {}))
    assert line.answer()[0] == 200 and line.answer()[0] == 200
    assert len(server.refused) == 1 and "second request" in server.refused[0]


FIND = {
    "wstrFilter": "",
    "vecFieldsToReturn": ["id"],
    "vecFieldsToOrder": [],
    "pParams": {},
    "lMaxLifeTime": 600,
}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, 0),
        ({"vecFieldsToOrder": [{"Name": "id", "Asc": True}]}, 0),
        ({"vecFieldsToOrder": [{"type": "params", "value": {"Name": "id", "Asc": True}}]}, 0),
        ({"pParams": {"type": "params", "value": {}}}, 1192),
        ({"pParams": {"inner": {"a": 1}}}, 1192),
        ({"pParams": {"inner": None}}, 1192),
        ({"pParams": None}, 1192),
        ({"lMaxLifeTime": "600"}, 1192),
        ({"lMaxLifeTime": 7201}, 1192),
        ({"lMaxLifeTime": True}, 1192),
        ({"vecFieldsToReturn": "id"}, 1192),
        ({"vecFieldsToReturn": []}, 1192),
        ({"wstrFilter": "(id=1"}, 1192),
        ({"wstrFilter": "id=1"}, 1192),
        ({"wstrFilter": '(name="a"b")'}, 1192),
        ({"nExtra": 1}, 1192),
    ],
)
def test_arguments_are_of_their_types(
    center: tuple[KscServer, Line], change: dict[str, Any], code: int
) -> None:
    server, line = center
    assert line.code("HostGroup.FindGroups", {**FIND, **change}) == code
    assert code != 0 or server.refused == []


def test_names_are_case_sensitive(center: tuple[KscServer, Line]) -> None:
    assert center[1].code("hostgroup.FindGroups", FIND) == 1194


def test_accessors_end(center: tuple[KscServer, Line]) -> None:
    server, line = center
    now = [0.0]
    server.calls._clock = lambda: now[0]
    accessor = line.call("HostGroup.FindGroups", FIND)[1]["strAccessor"]
    chunk = {"strAccessor": accessor, "nStart": 0, "nCount": 2}
    assert len(line.call("ChunkAccessor.GetItemsChunk", chunk)[1]["pChunk"]["KLCSP_ITERATOR_ARRAY"]) == 2
    now[0] = 601.0
    assert line.code("ChunkAccessor.GetItemsChunk", chunk) == 1125


def test_requests_of_the_reference_are_accepted_by_the_signatures() -> None:
    """Every sample request whose call the stand-in knows, but for what a sample leaves open."""
    checked = 0
    for path in sorted(shared_data("ksc").glob("*.json")):
        for request in _requests(json.loads(path.read_text(encoding="utf-8"))):
            method = str(request["url"]).rpartition("/")[2]
            if method in SIGNATURES:
                try:
                    check_arguments(method, request["body"])
                except BadValue as bad:
                    pytest.fail(f"{path.name}: {method}: {bad}")
                checked += 1
    assert checked > 15


def _requests(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "url" in value and isinstance(value.get("body"), dict):
            yield value
        for inner in value.values():
            yield from _requests(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _requests(inner)
