"""What the Salt manager makes of its configuration, of certificates, and of answers that are none. No Salt here."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import threading
import zlib
from collections.abc import Iterator
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ioc_scan.devices import build_manager
from ioc_scan.devices.salt_answers import Keys, read_visit
from ioc_scan.devices.salt_api import SaltApi, SaltSettings
from ioc_scan.devices.salt_health import safe_release, too_wide
from ioc_scan.devices.spooled import Visit, Visited
from ioc_scan.errors import ConfigError, DeviceError

from .salt_fleet import signed

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
ENTRY: dict[str, Any] = {
    "name": "fleet",
    "type": "salt",
    "spool": "/var/lib/ioc_scan/salt",
    "url": "https://salt.example.org:8000",
    "username": "ioc_scan",
    "password_file": "/etc/ioc_scan/salt-password",
    "groups": [{"name": "all", "target": "*"}],
}


class StandIn(ThreadingHTTPServer):
    """Answers as told; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any, str | None]] = []
        self.logins = 0
        self.good_token: str | None = None
        self.status = 200
        self.body: bytes | None = None
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        token = self.headers.get("X-Auth-Token")
        self.server.asked.append((self.path, body, token))
        status, answer = self.server.status, self.server.body
        if self.path == "/login":
            self.server.logins += 1
            said = {"token": f"token{self.server.logins}", "expire": NOW.timestamp() + 3600, "perms": []}
            answer = json.dumps({"return": [said]}).encode()
        elif self.server.good_token not in (None, token):
            status = 401
        self.send_response(status)
        self.send_header("Location", "http://192.0.2.1/")
        self.end_headers()
        self.wfile.write(answer or b'{"return": [{"protocol": 1}]}')

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[StandIn]:
    server = StandIn()
    yield server
    server.shutdown()
    server.server_close()


def api(tmp_path: Path, url: str, **settings: Any) -> SaltApi:
    password = tmp_path / "password"
    password.write_text("open sesame\n")
    return SaltApi(
        SaltSettings(url, "ioc_scan", password, **settings), tmp_path / "memory", clock=lambda: NOW
    )


def code(caught: pytest.ExceptionInfo[DeviceError]) -> str:
    assert "sesame" not in str(caught.value)
    assert caught.value.hint
    return caught.value.code


class TestConfig:
    @pytest.mark.parametrize("missing", ["url", "username", "password_file", "spool"])
    def test_what_is_needed_is_asked_for(self, missing: str) -> None:
        with pytest.raises(ConfigError, match=missing):
            build_manager({**ENTRY, missing: None})

    @pytest.mark.parametrize(
        "url",
        [
            "http://salt.example.org:8000",
            "http://192.0.2.1",
            "ftp://127.0.0.1",
            "salt.example.org",
            "https://",
            "https://ioc_scan:secret@salt.example.org",
            "http://127.0.0.1.example.org",
        ],
    )
    def test_a_password_travels_encrypted_or_not_at_all(self, url: str) -> None:
        with pytest.raises(ConfigError):
            build_manager({**ENTRY, "url": url})

    @pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000"])
    def test_this_machine_is_no_network(self, url: str) -> None:
        build_manager({**ENTRY, "url": url})

    @pytest.mark.parametrize(
        "group", [{"name": "empty"}, {"name": "x", "target": "*", "target_type": "range"}]
    )
    def test_a_group_needs_a_target(self, group: dict[str, Any]) -> None:
        with pytest.raises(ConfigError):
            build_manager({**ENTRY, "groups": [group]})


class TestRest:
    def test_one_login_serves_many_processes(self, server: StandIn, tmp_path: Path) -> None:
        for _ in range(3):
            api(tmp_path, f"http://127.0.0.1:{server.port}").master("setup")
        assert server.logins == 1

    def test_an_old_token_is_replaced_once_and_no_more(self, server: StandIn, tmp_path: Path) -> None:
        one = api(tmp_path, f"http://127.0.0.1:{server.port}")
        one.master("setup")
        server.good_token = "token2"
        one.master("setup")
        assert server.logins == 2
        server.good_token = "none of them"
        with pytest.raises(DeviceError) as caught:
            one.master("setup")
        assert code(caught) == "salt_not_allowed"
        assert server.logins == 3

    def test_a_token_is_for_one_account_at_one_address(self, server: StandIn, tmp_path: Path) -> None:
        api(tmp_path, f"http://127.0.0.1:{server.port}").master("setup")
        api(tmp_path, f"http://localhost:{server.port}").master("setup")
        assert server.logins == 2

    @pytest.mark.parametrize("status", [301, 302, 307, 500, 503])
    def test_a_redirect_is_not_followed_with_our_token(
        self, server: StandIn, tmp_path: Path, status: int
    ) -> None:
        server.status = status
        with pytest.raises(DeviceError) as caught:
            api(tmp_path, f"http://127.0.0.1:{server.port}").permissions()
        assert code(caught) == "salt_api_failed"
        assert len(server.asked) == 1

    @pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"return": []}', b'{"return": 7}', b"null"])
    def test_what_is_no_salt_api_is_said(self, server: StandIn, tmp_path: Path, body: bytes) -> None:
        server.body = body
        with pytest.raises(DeviceError) as caught:
            api(tmp_path, f"http://127.0.0.1:{server.port}").minions(["ws01"], "hello", {})
        assert code(caught) == "salt_answer_bad"

    def test_a_missing_runner_is_named(self, server: StandIn, tmp_path: Path) -> None:
        server.body = json.dumps({"return": ["'ioc_scan.setup' is not available."]}).encode()
        with pytest.raises(DeviceError) as caught:
            api(tmp_path, f"http://127.0.0.1:{server.port}").master("setup")
        assert code(caught) == "salt_runner_missing"

    def test_only_minions_that_were_asked_and_spoke_are_heard(self, server: StandIn, tmp_path: Path) -> None:
        said = {
            "ws01": {"ret": {"ioc_scan": 1}, "retcode": 0},
            "ws02": {"out": "no_return", "ret": "Minion did not return. [No response]"},
            "ws03": False,
            "stranger": {"ret": {"ioc_scan": 1}},
        }
        server.body = json.dumps({"return": [said]}).encode()
        one = api(tmp_path, f"http://127.0.0.1:{server.port}")
        assert one.minions(["ws01", "ws02", "ws03"], "hello", {}) == {"ws01": {"ioc_scan": 1}}

    def test_nobody_there(self, tmp_path: Path) -> None:
        with pytest.raises(DeviceError) as caught:
            api(tmp_path, "http://127.0.0.1:1").master("setup")
        assert code(caught) == "salt_unreachable"


class TestCertificates:
    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Path:
        line = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext"
        subprocess.run(
            [*line.split(), "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
        return tmp_path / "cert.pem"

    @pytest.fixture
    def secure(self, server: StandIn, certificate: Path) -> StandIn:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_name("key.pem"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        return server

    def test_one_nobody_vouches_for_is_refused(self, secure: StandIn, tmp_path: Path) -> None:
        with pytest.raises(DeviceError) as caught:
            api(tmp_path, f"https://localhost:{secure.port}").master("setup")
        assert code(caught) == "salt_certificate"
        assert secure.asked == []

    def test_the_name_must_fit(self, secure: StandIn, certificate: Path, tmp_path: Path) -> None:
        with pytest.raises(DeviceError) as caught:
            api(tmp_path, f"https://127.0.0.1:{secure.port}", ca_file=certificate).master("setup")
        assert code(caught) == "salt_certificate"
        assert secure.asked == []

    def test_one_of_our_own_authority_is_taken(
        self, secure: StandIn, certificate: Path, tmp_path: Path
    ) -> None:
        api(tmp_path, f"https://localhost:{secure.port}", ca_file=certificate).master("setup")
        assert secure.logins == 1


class TestAnswers:
    """A minion's return is a device's word, and only if it proves to be that device's."""

    VISIT = Visit("ws01", read={"task1.1": {"offset": 0, "limit": 1000}})
    PART: ClassVar = {
        "status": None,
        "chunk": base64.b64encode(b"x" * 1000).decode(),
        "results_bytes": 5000,
    }
    HONEST: ClassVar = {"protocol": 1, "withdrawn": [], "held": [], "failed": {}, "jobs": {"task1.1": PART}}

    @pytest.fixture
    def keys(self, tmp_path: Path) -> Keys:
        return Keys(tmp_path)

    @staticmethod
    def packed(value: Any, key: str, nonce: str = "n", device: str = "ws01") -> dict[str, Any]:
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        return signed(base64.b64encode(zlib.compress(raw)).decode(), key, nonce, device)

    def read(self, said: object, keys: Keys) -> Visited:
        return read_visit(said, self.VISIT, "n", keys)[0]

    def test_an_honest_one(self, keys: Keys) -> None:
        visited = self.read(self.packed(self.HONEST, keys.key("ws01")), keys)
        assert visited.reached
        assert visited.answers["task1.1"].chunk == b"x" * 1000

    def test_another_process_knows_the_same_keys(self, keys: Keys, tmp_path: Path) -> None:
        visited = self.read(self.packed(self.HONEST, Keys(tmp_path).key("ws01")), keys)
        assert visited.reached
        assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600

    def test_nobody_else_can_say_it_nor_say_it_again_later(self, keys: Keys, tmp_path: Path) -> None:
        own = self.packed(self.HONEST, keys.key("ws01"))
        for said in (
            self.packed(self.HONEST, keys.key("ws02")),
            self.packed(self.HONEST, keys.key("ws02"), device="ws02"),
            self.packed(self.HONEST, Keys(tmp_path / "other").key("ws01")),
            self.packed(self.HONEST, keys.key("ws01"), nonce="another question"),
            {**own, "proof": ""},
            {**own, "proof": "\ud800"},
            {**own, "proof": None},
            {**own, "answer": own["answer"] + "="},
            {name: own[name] for name in own if name != "proof"},
        ):
            visited = self.read(said, keys)
            assert not visited.reached
            assert visited.error is not None and visited.error.code == "salt_answer_unproven"

    @pytest.mark.parametrize("said", [None, False])
    def test_silence_is_no_error(self, said: object, keys: Keys) -> None:
        visited = self.read(said, keys)
        assert not visited.reached
        assert visited.error is None

    @pytest.mark.parametrize(
        "said",
        ["VALUE_TRIMMED", "The minion function caused an exception: Traceback ...", 7, [], {}, {"answer": 7}],
    )
    def test_anything_else_is_an_error_of_that_device(self, said: object, keys: Keys) -> None:
        visited = self.read(said, keys)
        assert not visited.reached
        assert visited.error is not None and visited.error.code == "device_answer_bad"

    @pytest.mark.parametrize(
        "text",
        [
            "not base64!",
            base64.b64encode(b"not zlib").decode(),
            base64.b64encode(zlib.compress(b"{}")[:-3]).decode(),
            "\ud800",
        ],
    )
    def test_what_cannot_be_unpacked_is_bad_whoever_says_it(self, text: str, keys: Keys) -> None:
        visited = self.read(signed(text, keys.key("ws01"), "n", "ws01"), keys)
        assert visited.error is not None and visited.error.code == "device_answer_bad"

    @pytest.mark.parametrize("value", [b"\0" * 50_000_000, [], {"protocol": 1}, {"protocol": 2, "jobs": {}}])
    def test_a_bomb_is_not_unpacked_and_a_shape_is_checked(self, value: Any, keys: Keys) -> None:
        visited = self.read(self.packed(value, keys.key("ws01")), keys)
        assert visited.error is not None and visited.error.code == "device_answer_bad"

    def test_a_missing_module_is_named(self, keys: Keys) -> None:
        visited = self.read("'ioc_scan.visit' is not available.", keys)
        assert visited.error is not None and visited.error.code == "salt_module_missing"

    def test_more_than_was_asked_for_is_not_taken(self, keys: Keys) -> None:
        part = {**self.PART, "chunk": base64.b64encode(b"x" * 1001).decode()}
        said = self.packed({**self.HONEST, "jobs": {"task1.1": part}}, keys.key("ws01"))
        assert not self.read(said, keys).reached


@pytest.mark.parametrize(
    ("version", "minimum", "safe"),
    [
        ("3008.3", 3, True),
        ("3007.9", 3, True),
        ("3007.8", 3, False),
        ("3006.17", 3, True),
        ("3006.16", 3, False),
        ("3006.17", 0, False),
        ("3006.17", None, False),
        ("3005.5", 3, False),
        ("3007.9+ds-1", 3, True),
        (None, 3, False),
    ],
)
def test_masters_that_cannot_tell_minions_apart_are_noticed(version: Any, minimum: Any, safe: bool) -> None:
    assert safe_release(version, minimum) is safe


@pytest.mark.parametrize(
    ("permissions", "wide"),
    [
        ([{"@runner": ["ioc_scan.*"]}, {"G@ioc_scan:managed": ["ioc_scan.*", "test.ping"]}], []),
        ([{"*": [{"ioc_scan.visit": {"args": []}}]}, "@ioc_scan"], []),
        ([".*"], [".*"]),
        (["@wheel", {"@runner": ["jobs.*"]}], ["@wheel", "jobs.*"]),
        ([{"*": ["cmd.run", "ioc_scan.*"]}], ["cmd.run"]),
        ([{"*": ["ioc_scan.*|cmd.*"]}], ["ioc_scan.*|cmd.*"]),
        ([{"*": ["ioc_scan.*", "ioc_scanner.*"]}], ["ioc_scanner.*"]),
        ([{"*": [".*"]}], [".*"]),
    ],
)
def test_permissions_past_our_own_are_noticed(permissions: list[Any], wide: list[str]) -> None:
    assert too_wide(permissions) == wide
