"""A strict HTTP client for sandbox interfaces: nothing is followed, everything is bounded, nothing leaks.

Redirects are refused (they lead to login pages that answer 200), the content type is checked, bytes and time
are capped, the environment (proxies, ``.netrc``) is not consulted. Secrets are read from their file at each
use, so that an error stays with its source and a new secret needs no restart; they never appear in messages.
"""

from __future__ import annotations

import http.client
import json
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from ioc_scan.clock import system_clock
from ioc_scan.detection.sources.base import SourceUnavailable
from ioc_scan.errors import ConfigError, SourceError
from ioc_scan.text import printable

MAX_ANSWER_BYTES = 8 * 1024 * 1024
_SECRET = re.compile(r"[\x21-\x7e]{1,4096}")
_JSON_TYPES = ("application/json", "text/json", "application/x-json")


class HttpRefused(SourceError):
    """One request was answered with an error status, or with something else than asked for."""

    def __init__(self, code: str, message: str, hint: str = "", status: int = 0) -> None:
        super().__init__(code, message, hint)
        self.status = status


@dataclass(frozen=True)
class HttpSettings:
    """``secret`` and ``secret_file`` are alternatives. ``max_requests_per_minute`` 0: no limit of ours."""

    name: str
    url: str
    secret: str | None = field(default=None, repr=False)
    secret_file: str | None = None
    ca_file: str | None = None
    client_cert_file: str | None = None
    client_key_file: str | None = None
    connect_timeout_seconds: float = 10.0
    read_timeout_seconds: float = 60.0
    total_timeout_seconds: float = 180.0
    max_requests_per_minute: int = 0

    @classmethod
    def from_config(cls, entry: dict[str, Any], secret_key: str = "token") -> HttpSettings:  # noqa: S107
        """Raises ConfigError ``source_url`` for an address that is no plain http(s) URL."""
        name, url = entry["name"], str(entry.get("url") or "")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ConfigError(
                "source_url",
                f"source {name}: `url` must be an http(s) address without login and query",
                f"for example https://sandbox.example.org; the secret goes into `{secret_key}_file`",
            )
        return cls(
            name=name,
            url=url.rstrip("/"),
            secret=entry.get(secret_key) or None,
            secret_file=entry.get(f"{secret_key}_file") or None,
            ca_file=entry.get("ca_file") or None,
            client_cert_file=entry.get("client_cert_file") or None,
            client_key_file=entry.get("client_key_file") or None,
            read_timeout_seconds=float(entry.get("timeout_seconds") or 60),
            max_requests_per_minute=int(entry.get("max_requests_per_minute") or 0),
        )


class HttpClient:
    """Requests to one sandbox. ``authorize(secret)`` gives the headers that carry the secret."""

    def __init__(
        self,
        settings: HttpSettings,
        authorize: Callable[[str], dict[str, str]] = lambda secret: {"Authorization": f"Token {secret}"},
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._authorize, self._monotonic = settings, authorize, monotonic
        self._sent: deque[float] = deque()

    def get_json(self, path: str, params: dict[str, Any] | None = None, **options: Any) -> Any:
        """The parsed answer. Raises SourceUnavailable or HttpRefused."""
        return self._json("GET", path, params=params, **options)

    def post_json(self, path: str, data: dict[str, Any]) -> Any:
        return self._json("POST", path, data=data)

    def _json(self, method: str, path: str, max_bytes: int = MAX_ANSWER_BYTES, **options: Any) -> Any:
        with self.open(method, path, **options) as body:
            content = body.read_all(max_bytes)
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise HttpRefused(
                "source_not_json",
                f"{self._shown(method, path)}: the answer is no valid JSON",
                "try again later",
            ) from None

    @contextmanager
    def open(self, method: str, path: str, **options: Any) -> Iterator[Body]:
        """The answer as a stream of bytes. ``path`` stands below the configured address."""
        settings, shown = self._settings, self._shown(method, path)
        self._limit_rate()
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", **self._secret_headers()}
        try:
            with requests.Session() as session:
                session.trust_env = False
                with session.request(
                    method,
                    f"{settings.url}{path}",
                    headers=headers,
                    timeout=(settings.connect_timeout_seconds, settings.read_timeout_seconds),
                    allow_redirects=False,
                    stream=True,
                    verify=settings.ca_file or True,
                    cert=self._certificate(),
                    **options,
                ) as response:
                    self._check(response, shown)
                    deadline = self._monotonic() + settings.total_timeout_seconds
                    yield Body(response, shown, deadline, self._monotonic)
        except requests.exceptions.SSLError:
            raise SourceUnavailable(
                "source_tls",
                f"{shown}: the certificate of the sandbox, or ours, is not accepted",
                "set ca_file to the authority that signed it; checking cannot be switched off (from Python 3.13 on, "
                "certificates without key identifiers and key usage are refused)",
            ) from None
        except requests.exceptions.Timeout:
            raise SourceUnavailable(
                "source_timeout", f"{shown}: no answer in time", "is the sandbox busy?", blames_report=True
            ) from None
        except (requests.exceptions.RequestException, OSError) as error:
            raise SourceUnavailable(
                "source_unreachable",
                f"{shown}: {_kind(error)}",
                "is the address right, and the sandbox up and reachable?",
                blames_report=True,
            ) from None

    def _shown(self, method: str, path: str) -> str:
        return f"source {self._settings.name}: {method} {printable(path, 120)}"

    def _secret_headers(self) -> dict[str, str]:
        settings = self._settings
        secret = settings.secret
        if settings.secret_file:
            try:
                secret = Path(settings.secret_file).read_text(encoding="ascii").strip()
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or "not plain text"
                raise SourceUnavailable(
                    "secret_unreadable",
                    f"source {settings.name}: {printable(settings.secret_file)}: {reason}",
                    "the file must be readable for the user of StackStorm",
                    lasting=True,
                ) from None
        if not secret:
            return {}
        if not _SECRET.fullmatch(secret):
            raise SourceUnavailable(
                "secret_unreadable",
                f"source {settings.name}: the secret is empty, too long, or has blanks in it",
                "it must be one word on one line",
                lasting=True,
            )
        return self._authorize(secret)

    def _certificate(self) -> tuple[str, str] | str | None:
        settings = self._settings
        if settings.client_cert_file and settings.client_key_file:
            return settings.client_cert_file, settings.client_key_file
        return settings.client_cert_file

    def _limit_rate(self) -> None:
        """Defer instead of sleeping: the caller comes again when the window is open."""
        limit, now = self._settings.max_requests_per_minute, self._monotonic()
        if not limit:
            return
        while self._sent and now - self._sent[0] >= 60:
            self._sent.popleft()
        if len(self._sent) >= limit:
            raise SourceUnavailable(
                "source_rate_limited",
                f"source {self._settings.name}: {limit} requests a minute are used up; the rest waits",
                "raise max_requests_per_minute if the sandbox allows more",
                retry_after_seconds=60 - (now - self._sent[0]),
            )
        self._sent.append(now)

    def _check(self, response: requests.Response, shown: str) -> None:
        status = response.status_code
        if status in (401, 403):
            raise SourceUnavailable(
                "source_unauthorized", f"{shown}: login refused ({status})", "renew the token", lasting=True
            )
        if status == 429 or (status == 503 and "Retry-After" in response.headers):
            raise SourceUnavailable(
                "source_throttled",
                f"{shown}: the sandbox asks to come back later ({status})",
                "lower max_requests_per_minute for this source",
                retry_after_seconds=_retry_after(response.headers.get("Retry-After")),
            )
        if 300 <= status < 400:
            raise HttpRefused(
                "source_redirected",
                f"{shown}: redirected elsewhere",
                "set `url` to the final address",
                status,
            )
        if status == 404:
            raise HttpRefused(
                "report_gone", f"{shown}: not there (404)", "was it deleted at the sandbox?", status
            )
        if status != 200:
            raise HttpRefused(
                "source_failed", f"{shown}: status {status}", "see the sandbox's own log", status
            )
        content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if (
            content_type not in _JSON_TYPES
            or response.headers.get("Content-Encoding", "identity") != "identity"
        ):
            raise HttpRefused(
                "source_not_json",
                f"{shown}: the answer is {printable(content_type, 60) or 'untyped'}, not JSON",
                "is the address that of the interface, not of the dashboard?",
                status,
            )


class Body:
    """A response body; reading stops with an error when the time is over."""

    def __init__(
        self, response: requests.Response, shown: str, deadline: float, monotonic: Callable[[], float]
    ) -> None:
        self._response, self._shown, self._deadline, self._monotonic = response, shown, deadline, monotonic

    def read(self, size: int = 65536) -> bytes:
        """Raises SourceUnavailable when the connection breaks or the time is over."""
        if self._monotonic() > self._deadline:
            raise SourceUnavailable(
                "source_timeout",
                f"{self._shown}: the answer takes too long",
                "is it busy?",
                blames_report=True,
            )
        try:
            # read1 hands over what came, so that a slow drip meets the deadline
            return self._response.raw.read1(size, decode_content=False)
        except (OSError, urllib3.exceptions.HTTPError, http.client.HTTPException) as error:
            raise SourceUnavailable(
                "source_unreachable",
                f"{self._shown}: the answer broke off: {_kind(error)}",
                "try again later",
                blames_report=True,
            ) from None

    def read_all(self, max_bytes: int) -> bytes:
        parts, size = [], 0
        while chunk := self.read():
            size += len(chunk)
            if size > max_bytes:
                raise HttpRefused(
                    "source_answer_too_large",
                    f"{self._shown}: more than {max_bytes} bytes",
                    "is the address that of a sandbox?",
                )
            parts.append(chunk)
        return b"".join(parts)


def _kind(error: BaseException) -> str:
    """The kind of failure without its text: the text holds addresses with everything in them."""
    inner = error.__context__ or error
    return type(error).__name__ if inner is error else f"{type(error).__name__} ({type(inner).__name__})"


def _retry_after(value: str | None) -> float | None:
    """Seconds from either form of the header; None where it makes no sense."""
    if not value:
        return None
    if re.fullmatch(r"\d{1,9}", value.strip()):
        return float(value)
    try:
        seconds = (parsedate_to_datetime(value) - system_clock()).total_seconds()
    except (TypeError, ValueError):
        return None
    return max(seconds, 1.0)
