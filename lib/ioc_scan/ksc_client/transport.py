"""One call at a time over one connection: TLS with the server's own certificate, log-on, retries, bounds.

The reference allows one request at a time per connection, so a transport serialises its calls. A session that the
server no longer knows (401, 403) is renewed once per call. Calls that only read are repeated where the server is
busy (1195) or the connection broke; calls that change something are not: their caller looks first what became of them.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import ssl
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from ..errors import ConfigError
from ..text import printable
from .errors import UNAVAILABLE, KscError, from_pxg
from .values import encode_argument

MAX_ANSWER_BYTES = 64 * 1024 * 1024
_TRIES = 3
_PAUSE_SECONDS = 1.0
_CHANGING = frozenset({"AddTask", "UpdateTask", "RunTask", "SuspendTask", "ResumeTask", "CancelTask"})


@dataclass(frozen=True)
class KscSettings:
    """``certificate_file``: the server's klserver.cer (PEM). ``internal_user``: an account of the server itself,
    not of Windows or a domain. ``log_on``: a session token, or a log-on bound to the connection."""

    name: str
    url: str
    username: str
    password_file: str | None
    certificate_file: str
    password: str | None = field(default=None, repr=False)
    internal_user: bool = True
    virtual_server: str = ""
    log_on: Literal["session", "connection"] = "session"
    connect_timeout_seconds: float = 10.0
    read_timeout_seconds: float = 60.0

    @classmethod
    def from_config(cls, entry: dict[str, Any]) -> KscSettings:
        """Raises ConfigError ``ksc_url`` or ``ksc_setting_missing``."""
        name, url = str(entry["name"]), str(entry.get("url") or "")
        parts = urlsplit(url)
        if (
            parts.scheme != "https"
            or not parts.hostname
            or parts.username
            or parts.query
            or parts.path.strip("/")
        ):
            raise ConfigError(
                "ksc_url",
                f"{name}: `url` must be the https address of the Administration Server",
                "for example https://ksc.example.org:13299",
            )
        for key in ("username", "certificate_file"):
            if not entry.get(key):
                raise ConfigError(
                    "ksc_setting_missing", f"{name}: `{key}` is missing", "see docs/kaspersky.md"
                )
        if not entry.get("password_file") and not entry.get("password"):
            raise ConfigError(
                "ksc_setting_missing", f"{name}: `password_file` is missing", "see docs/kaspersky.md"
            )
        return cls(
            name=name,
            url=url.rstrip("/"),
            username=str(entry["username"]),
            password_file=entry.get("password_file"),
            password=entry.get("password"),
            certificate_file=str(entry["certificate_file"]),
            internal_user=bool(entry.get("internal_user", True)),
            virtual_server=str(entry.get("virtual_server") or ""),
            log_on="connection" if entry.get("log_on") == "connection" else "session",
            read_timeout_seconds=float(entry.get("timeout_seconds") or 60),
        )


class _Pinned(HTTPAdapter):
    """Accepts this one certificate and no other, whatever name it is for: a klserver.cer seldom names its host."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        super().__init__(pool_connections=1, pool_maxsize=1, pool_block=True, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # the fingerprint is checked instead
        super().init_poolmanager(*args, **kwargs, ssl_context=context, assert_fingerprint=self._fingerprint)


class KscTransport:
    """Not shared between processes; safe between threads, which wait for each other."""

    def __init__(self, settings: KscSettings, sleep: Callable[[float], None] = time.sleep) -> None:
        self.settings = settings
        self._sleep = sleep
        self._lock = threading.Lock()
        self._http: requests.Session | None = None
        self._token: str | None = None
        self._closer: weakref.finalize[Any, Any] | None = None

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """The answer's members. ``method`` is ``Class.Method``. Raises KscError, ConfigError."""
        body = {name: encode_argument(value) for name, value in arguments.items()}
        changes = method.partition(".")[2] in _CHANGING
        with self._lock:
            for attempt in range(1, _TRIES + 1):
                last = changes or attempt == _TRIES
                try:
                    return self._once(method, body)
                except KscError as error:
                    again = error.pxg_code == UNAVAILABLE or error.code == "ksc_unreachable"
                    if last or not again:
                        raise
                self._sleep(_PAUSE_SECONDS * attempt)
        raise AssertionError("not reached")

    def close(self) -> None:
        """End the session. Safe to repeat; a later call logs on again."""
        with self._lock:
            if self._closer is not None:
                self._closer()
            self._http, self._token, self._closer = None, None, None

    # -- inside

    def _once(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        renewed = self._http is None
        if renewed:
            self._log_on()
        status, answer = self._post(method, body)
        if status in (401, 403) and not renewed:
            self._forget()
            self._log_on()
            status, answer = self._post(method, body)
        return self._checked(method, status, answer)

    def _log_on(self) -> None:
        settings = self.settings
        headers = {"Authorization": _basic(settings.username, self._password(), settings.internal_user)}
        if settings.virtual_server:
            headers["X-KSC-VServer"] = _b64(settings.virtual_server)
        self._http = self._new_session()
        method = "Session.StartSession" if settings.log_on == "session" else "login"
        try:
            status, answer = self._post(method, {}, headers)
            if status in (401, 403):
                raise KscError(
                    "ksc_log_on_failed",
                    f"{settings.name}: the server refuses the log-on ({status})",
                    "check user, password, `internal_user` and `virtual_server`",
                )
            granted = self._checked(method, status, answer)
            token = granted.get("PxgRetVal")
            if settings.log_on == "session" and (not isinstance(token, str) or not token.isprintable()):
                raise self._bad_answer(method)
        except KscError:
            self._forget()
            raise
        self._token = token if settings.log_on == "session" else None
        self._closer = weakref.finalize(self, _end_session, self._http, settings.url, self._token)

    def _forget(self) -> None:
        if self._closer is not None:
            self._closer.detach()
        if self._http is not None:
            self._http.close()
        self._http, self._token, self._closer = None, None, None

    def _new_session(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        session.verify = self.settings.certificate_file
        session.mount("https://", _Pinned(self._fingerprint()))
        return session

    def _fingerprint(self) -> str:
        path = self.settings.certificate_file
        try:
            der = ssl.PEM_cert_to_DER_cert(Path(path).read_text(encoding="ascii").strip())
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not one certificate in PEM form"
            raise ConfigError(
                "ksc_certificate_unreadable",
                f"{self.settings.name}: {printable(path)}: {reason}",
                "copy klserver.cer from the server; from DER: openssl x509 -inform der -in klserver.cer",
            ) from None
        return hashlib.sha256(der).hexdigest()

    def _password(self) -> str:
        path = self.settings.password_file
        if not path:
            return self.settings.password or ""
        try:
            text = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise ConfigError(
                "secret_file_unreadable",
                f"{self.settings.name}: {printable(path)}: {reason}",
                "the file must be readable by the user that runs actions",
            ) from None
        if not text or "\n" in text:
            raise ConfigError(
                "secret_file_empty", f"{self.settings.name}: {printable(path)} must hold one line"
            )
        return text

    def _post(
        self, method: str, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        assert self._http is not None
        settings = self.settings
        sent = {"Content-Type": "application/json", **(headers or {})}
        if self._token is not None:
            sent["X-KSC-Session"] = self._token
        try:
            with self._http.post(
                f"{settings.url}/api/v1.0/{method}",
                data=json.dumps(body).encode(),
                headers=sent,
                timeout=(settings.connect_timeout_seconds, settings.read_timeout_seconds),
                allow_redirects=False,
                stream=True,
            ) as response:
                content = response.raw.read(MAX_ANSWER_BYTES + 1, decode_content=True)
                return response.status_code, content
        except requests.exceptions.SSLError:
            self._forget()
            raise KscError(
                "ksc_certificate",
                f"{settings.name}: the server shows another certificate than {printable(settings.certificate_file)}",
                "copy klserver.cer from the server again if it was renewed; checking cannot be switched off",
            ) from None
        except requests.exceptions.Timeout:
            self._forget()
            raise KscError(
                "ksc_timeout",
                f"{settings.name}: {method}: no answer within {settings.read_timeout_seconds:g} s",
                "is the server busy? `timeout_seconds` may be raised",
            ) from None
        except (requests.exceptions.RequestException, OSError) as error:
            self._forget()
            raise KscError(
                "ksc_unreachable",
                f"{settings.name}: {method}: {type(error).__name__}",
                "is the address right (port 13299), and the server up and reachable?",
            ) from None
        except urllib3.exceptions.HTTPError as error:  # these pass requests where the raw stream is read
            self._forget()
            raise KscError(
                "ksc_unreachable", f"{settings.name}: {method}: the answer broke off ({type(error).__name__})"
            ) from None

    def _checked(self, method: str, status: int, content: bytes) -> dict[str, Any]:
        if status in (401, 403):
            raise KscError(
                "ksc_log_on_failed",
                f"{self.settings.name}: {method}: refused right after the log-on ({status})",
                "is the account limited in time, or used elsewhere with another password?",
            )
        if status != 200 or len(content) > MAX_ANSWER_BYTES:
            raise self._bad_answer(method, f"status {status}, {len(content)} bytes")
        try:
            answer = json.loads(content or b"{}")
        except (ValueError, RecursionError):
            raise self._bad_answer(method) from None
        if not isinstance(answer, dict):
            raise self._bad_answer(method)
        if "PxgError" in answer:
            raise from_pxg(method, answer["PxgError"])
        return answer

    def _bad_answer(self, method: str, what: str = "not an answer of KSC Open API") -> KscError:
        return KscError(
            "ksc_bad_answer",
            f"{self.settings.name}: {method}: {what}",
            "does the address lead to the server?",
        )


def _end_session(http: requests.Session, url: str, token: str | None) -> None:
    """Best effort: sessions left open end by themselves."""
    headers = {"Content-Type": "application/json", **({"X-KSC-Session": token} if token else {})}
    with contextlib.suppress(Exception), http:
        http.post(f"{url}/api/v1.0/Session.EndSession", data="{}", headers=headers, timeout=5)


def _basic(user: str, password: str, internal: bool) -> str:
    return f'KSCBasic user="{_b64(user)}", pass="{_b64(password)}", internal="{int(internal)}"'


def _b64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8")).decode("ascii")
