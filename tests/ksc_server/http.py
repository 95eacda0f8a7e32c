"""The HTTP side: TLS, log-on, one request at a time per connection, faults on demand."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
import secrets
import socket
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from .calls import Calls
from .signatures import SIGNATURES, check_arguments
from .tls import make_certificate
from .values import BadValue, encode, encode_params
from .world import ServerError, World

_BASIC = re.compile(r'KSCBasic user="([^"]*)", pass="([^"]*)"(?:, domain="[^"]*")?, internal="([01])"\Z')
#: Faults that are no error code.
DROP, FORGET_SESSION, LOSE_ITERATORS, GARBAGE = "drop", "forget_session", "lose_iterators", "garbage"


@dataclass
class KscServer:
    """``with server.serving() as url``. ``refused`` holds what no client should send; tests fail on it."""

    world: World
    folder: Path
    user: str = "ioc_scan"
    password: str = 'pä55, "word"'
    internal: bool = True
    vserver: str = ""
    port: int = 0
    refused: list[str] = field(default_factory=list)
    #: (method, decoded arguments) in order
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    #: method -> faults for its next calls: an error code, or one of the words above
    faults: dict[str, deque[int | str]] = field(default_factory=dict)
    #: methods that this account has no right to
    denied: set[str] = field(default_factory=set)
    blocked: bool = False
    sessions: dict[str, bool] = field(default_factory=dict)
    log_ons: int = 0

    def __post_init__(self) -> None:
        self.calls = Calls(self.world)
        self.certificate, self._tls = make_certificate(self.folder)

    def fail(self, method: str, *faults: int | str) -> None:
        """The next calls of ``method`` fail so, one after the other."""
        self.faults.setdefault(method, deque()).extend(faults)

    @property
    def open_iterators(self) -> list[str]:
        return sorted(self.calls.listings)

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        owner = self

        class Handler(_Handler):
            ksc = owner

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that hangs up, or does not trust the certificate, is no news."""

        server = Server(("127.0.0.1", self.port), Handler)
        server.socket = self._tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    # -- one request

    def handle(
        self, path: str, headers: Any, body: bytes, connection: _Handler
    ) -> tuple[int, dict[str, Any] | str]:
        method = path.removeprefix("/api/v1.0/")
        if method == "login":  # binds the log-on to this connection, no token
            status, answer = self._log_on(headers)
            connection.logged_on = isinstance(answer, dict) and "PxgRetVal" in answer
            if isinstance(answer, dict):
                self.sessions.pop(answer.get("PxgRetVal", ""), None)
            return status, {} if connection.logged_on else answer
        if method == path or method not in SIGNATURES:
            return self._refuse(1194, f"{path[:80]} is no call")
        if headers.get("Content-Type", "").partition(";")[0] != "application/json":
            return self._refuse(1192, f"{method}: the content is not application/json")
        token = headers.get("X-KSC-Session")
        if method == "Session.StartSession":
            return self._log_on(headers)
        if (token is None and not connection.logged_on) or (token is not None and token not in self.sessions):
            return 401, "log on first"
        if token is not None and not self.sessions[token]:
            return 403, "the session has ended"
        fault = self.faults.get(method)
        if fault:
            word = fault.popleft()
            if word == FORGET_SESSION:
                self.sessions.pop(token or "", None)
                connection.logged_on = False
                return 401, "log on first"
            if word == LOSE_ITERATORS:
                self.calls.listings.clear()
            elif isinstance(word, int):
                return 200, _error(word, "a fault on demand")
            else:
                return 0, word
        if method in self.denied:
            return 200, _error(1184, f"no right to call {method}")
        if method == "Session.EndSession":
            if token is not None:
                self.sessions[token] = False
            connection.logged_on = False
            return 200, {}
        if method == "Session.Ping":
            return 200, {}
        try:
            arguments = check_arguments(method, json.loads(body or b"null"))
        except (BadValue, ValueError) as bad:
            return self._refuse(1192, f"{method}: {bad}")
        self.requests.append((method, arguments))
        try:
            return 200, _encode_answer(self.calls.answer(method, arguments))
        except ServerError as error:
            return 200, _error(error.code, str(error))

    def _log_on(self, headers: Any) -> tuple[int, dict[str, Any] | str]:
        found = _BASIC.match(headers.get("Authorization", ""))
        if not found:
            return self._refuse(401, "StartSession without KSCBasic")
        self.log_ons += 1
        try:
            user, password = (base64.b64decode(found[n], validate=True).decode("utf-8") for n in (1, 2))
            vserver = base64.b64decode(headers.get("X-KSC-VServer") or "", validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            return self._refuse(401, "log-on that is not base64 of UTF-8")
        if (user, password, found[3]) != (self.user, self.password, "1" if self.internal else "0"):
            return 401, "wrong user or password"
        if vserver != self.vserver:
            return 401, "no such virtual server"
        if self.blocked:
            return 200, _error(2013, "the account is blocked")
        token = "ns" + secrets.token_urlsafe(18)
        self.sessions[token] = True
        return 200, {"PxgRetVal": token}

    def _refuse(self, code: int, why: str) -> tuple[int, dict[str, Any] | str]:
        self.refused.append(why)
        return (401, why) if code == 401 else (200, _error(code, why))


def _encode_answer(answer: dict[str, Any]) -> dict[str, Any]:
    """Out-parameters of type params stand unwrapped at the top level, as arguments do."""
    return {
        name: encode_params(value) if isinstance(value, dict) else encode(value)
        for name, value in answer.items()
    }


def _error(code: int, message: str) -> dict[str, Any]:
    locdata = {"type": "params", "value": {"format": message, "format-id": 0, "locmodule": "", "args": []}}
    return {
        "PxgError": {
            "code": code,
            "subcode": 0,
            "module": "SIM",
            "file": "sim.cpp",
            "line": 1,
            "message": message,
            "locdata": locdata,
        }
    }


class _Handler(BaseHTTPRequestHandler):
    ksc: KscServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = 30
    logged_on = False

    def setup(self) -> None:
        self.request.settimeout(self.timeout)
        self.request.do_handshake()
        super().setup()

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = b""
        while len(body) < length and (part := self.rfile.read(length - len(body))):
            body += part
        status, answer = self.ksc.handle(self.path, self.headers, body, self)
        if self._more_was_sent():
            self.ksc.refused.append(f"{self.path}: a second request before the answer to the first")
        if status == 0:
            self.close_connection = True
            if answer == DROP:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            status, answer = 200, "<html>not what you asked for</html>"
        content = json.dumps(answer).encode() if isinstance(answer, dict) else answer.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if isinstance(answer, dict) else "text/html")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _more_was_sent(self) -> bool:
        """Whether another request is here before this one was answered."""
        self.connection.setblocking(False)
        try:
            return bool(self.rfile.peek(1))  # type: ignore[attr-defined]
        except (BlockingIOError, ssl.SSLError):
            return False
        finally:
            self.connection.settimeout(self.timeout)

    def do_GET(self) -> None:
        self.ksc.refused.append(f"GET {self.path[:80]}")
        self.send_error(405)

    def log_message(self, *_: Any) -> None:
        pass
