"""Strict stand-ins for sandboxes: real HTTP servers that answer as the real ones would, or misbehave on demand."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, dict[str, str], bytes]
JSON = {"Content-Type": "application/json"}
HTML = {"Content-Type": "text/html; charset=utf-8"}


def as_json(value: Any, status: int = 200, **headers: str) -> Answer:
    return status, {**JSON, **headers}, json.dumps(value).encode()


class StandIn:
    """Subclasses answer in ``respond``. ``moods`` maps a path's beginning to an answer or to a raw misbehaviour."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], dict[str, str]]] = []
        self.moods: dict[str, Answer | Callable[[BaseHTTPRequestHandler], None]] = {}
        self.refused: list[str] = []

    def respond(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> Answer:
        raise NotImplementedError

    def refuse(self, why: str) -> Answer:
        """What the real one would not understand: remembered, so that a test can fail on it."""
        self.refused.append(why)
        return 400, HTML, why.encode()

    @contextmanager
    def serving(self, tls: ssl.SSLContext | None = None) -> Iterator[str]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _handle(self) -> None:
                parts = urlsplit(self.path)
                query = {
                    key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()
                }
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {key.lower(): value for key, value in self.headers.items()}
                owner.requests.append((self.command, parts.path, query, headers))
                mood = next(
                    (value for start, value in owner.moods.items() if parts.path.startswith(start)), None
                )
                if callable(mood):
                    self.close_connection = True
                    mood(self)
                    return
                status, extra, content = mood or owner.respond(self.command, parts.path, query, headers, body)
                self.send_response(status)
                for key, value in extra.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = _handle

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()


def drops_in_the_middle(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    handler.wfile.write(b'{"error": false, "data": [')


def sends_for_ever(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.end_headers()
    try:
        handler.wfile.write(b'{"a": "')
        while True:
            handler.wfile.write(b"x" * 65536)
    except OSError:
        pass


class Cape(StandIn):
    """CAPEv2's apiv2, from its documented behaviour: errors are 200, pages shift, the list has no score."""

    def __init__(self, token: str | None = None) -> None:
        super().__init__()
        self.token = token
        self.tasks: list[dict[str, Any]] = []
        self.reports: dict[int, dict[str, Any]] = {}
        self.iocs: dict[int, dict[str, Any]] = {}
        self.malicious: set[int] = set()
        self.search_hits: set[int] = set()
        self.between_pages: Callable[[], None] = lambda: None

    def add(
        self,
        number: int,
        completed_on: str,
        report: dict[str, Any] | None = None,
        iocs: dict[str, Any] | None = None,
    ) -> None:
        sample = {"md5": "a" * 32, "sha1": "c" * 40, "sha256": f"{number:064x}"}
        task = {"id": number, "status": "reported", "category": "file", "target": "/tmp/x",
                "completed_on": completed_on, "sample": sample, "errors": []}  # fmt: skip
        self.tasks.append(task)
        self.reports[number] = report or {}
        if iocs is not None:
            self.iocs[number] = iocs

    def respond(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> Answer:
        if self.token and headers.get("authorization") != f"Token {self.token}":
            return as_json({"detail": "Authentication credentials were not provided."}, 401)
        parts = path.strip("/").split("/")
        if not path.endswith("/"):
            return 301, {"Location": path + "/"}, b""
        if method == "GET" and parts[:3] == ["apiv2", "tasks", "list"] and len(parts) == 5:
            return self._list(int(parts[3]), int(parts[4]), query)
        if method == "GET" and parts[:4] == ["apiv2", "tasks", "get", "iocs"]:
            number = int(parts[4])
            if number not in self.iocs:
                return 500, HTML, b"<h1>KeyError at /apiv2/tasks/get/iocs/</h1>"
            return as_json({"error": False, "data": self.iocs[number]})
        if method == "GET" and parts[:4] == ["apiv2", "tasks", "get", "report"] and parts[5:] == ["json"]:
            report = self.reports.get(int(parts[4]))
            return as_json(report) if report else as_json({"error": True, "error_value": "Report not found"})
        if method == "GET" and parts[:3] == ["apiv2", "tasks", "view"]:
            task = next((task for task in self.tasks if task["id"] == int(parts[3])), None)
            return (
                as_json({"error": False, "data": task})
                if task
                else as_json({"error": True, "error_value": "Task not found"})
            )
        if method == "POST" and parts == ["apiv2", "tasks", "extendedsearch"]:
            if parse_qs(body.decode()) != {"option": ["malscore"], "argument": ["7"]}:
                return self.refuse(f"extendedsearch {body!r}")
            if not self.search_hits:
                return as_json({"error": True, "error_value": "Unable to retrieve records"})
            return as_json(
                {"error": False, "data": [{"id": number, "malscore": 9.0} for number in self.search_hits]}
            )
        return self.refuse(f"{method} {path}")

    def _list(self, limit: int, offset: int, query: dict[str, str]) -> Answer:
        if set(query) != {"status", "completed_after", "category"} or query["status"] != "reported":
            return self.refuse(f"list {query}")
        if limit > 50:
            return self.refuse("limit is clamped to 50")
        newest_first = sorted(self.tasks, key=lambda task: task["completed_on"], reverse=True)
        answer = as_json({"data": newest_first[offset : offset + limit]})
        self.between_pages()
        return answer


class Vmray(StandIn):
    """VMRay's REST interface: everything under ``data``, list filtered by time and verdict."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
        self.submissions: list[dict[str, Any]] = []
        self.iocs: dict[str, Any] = {}

    def respond(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> Answer:
        if headers.get("authorization") != f"api_key {self.key}":
            return as_json({"result": "error", "error_msg": "Authentication required"}, 401)
        parts = path.strip("/").split("/")
        if method == "GET" and parts == ["rest", "submission"]:
            if (
                set(query) != {"submission_finish_time", "submission_verdict"}
                or "~" not in query["submission_finish_time"]
            ):
                return self.refuse(f"submission {query}")
            start, end = query["submission_finish_time"].split("~")
            found = [
                item for item in self.submissions
                if start <= item["submission_finish_time"] <= end
                and item["submission_verdict"] == query["submission_verdict"]
            ]  # fmt: skip
            return as_json({"data": found, "result": "ok"})
        if method == "GET" and parts[:2] == ["rest", "submission"] and len(parts) == 3:
            found = [item for item in self.submissions if str(item["submission_id"]) == parts[2]]
            return as_json({"data": found[0], "result": "ok"}) if found else as_json({"result": "error"}, 404)
        if method == "GET" and parts[:2] == ["rest", "sample"] and parts[3:] == ["iocs"]:
            if parts[2] not in self.iocs:
                return as_json({"result": "error"}, 404)
            return as_json({"data": {"iocs": self.iocs[parts[2]]}, "result": "ok"})
        return self.refuse(f"{method} {path}")


class Cuckoo3(StandIn):
    """Cuckoo 3's web interface: newest first, no time filter."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
        self.analyses: list[dict[str, Any]] = []
        self.posts: dict[str, bytes] = {}

    def respond(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> Answer:
        if headers.get("authorization") != f"token {self.key}":
            return as_json({"detail": "Invalid token."}, 401)
        parts = path.strip("/").split("/")
        if method == "GET" and path == "/analyses/":
            if set(query) != {"limit", "offset", "desc"} or query["desc"] != "true":
                return self.refuse(f"analyses {query}")
            newest_first = sorted(self.analyses, key=lambda item: item["created_on"], reverse=True)
            offset = int(query["offset"])
            return as_json(newest_first[offset : offset + int(query["limit"])])
        if method == "GET" and parts[0] == "analysis" and len(parts) == 2:
            found = [item for item in self.analyses if item["id"] == parts[1]]
            return as_json(found[0]) if found else as_json({"error": "Analysis not found"}, 404)
        if method == "GET" and parts[0] == "analysis" and parts[2] == "task" and parts[4:] == ["post"]:
            post = self.posts.get(parts[3])
            return (200, JSON, post) if post else as_json({"error": "No report"}, 404)
        return self.refuse(f"{method} {path}")


class Kata(StandIn):
    """KATA's detections: pages behind a token that the server gives."""

    def __init__(self, sensor_id: str) -> None:
        super().__init__()
        self.sensor_id = sensor_id
        self.detects: list[dict[str, Any]] = []

    def respond(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> Answer:
        if method != "GET" or path != f"/kata/scanner/v1/sensors/{self.sensor_id}/detects":
            return self.refuse(f"{method} {path}")
        if query.get("detect_type") != "sb" or not 1 <= int(query.get("limit", 0)) <= 10000:
            return self.refuse(f"detects {query}")
        start = int(query["token"].removeprefix("t")) if "token" in query else 0
        page = self.detects[start : start + int(query["limit"])]
        return as_json({"detects": page, "token": f"t{start + len(page)}"})
