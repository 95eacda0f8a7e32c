"""salt-api over REST: one log-in, its token kept for the next process, and refusals that say what to do.

Nothing of Salt is imported: Salt stays out of the pack's virtualenv.
"""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from ..clock import Clock
from ..errors import ConfigError, DeviceError
from ..scanner.errors import ScannerError
from ..scanner.protocol import read_json, write_json_atomic
from ..text import printable
from .private import ensure_private_folder

MAX_ANSWER_BYTES = 256 * 1024 * 1024
_CONNECT_SECONDS = 10
#: Whether a silent minion is at work is answered by its main process, at once.
_ALIVE_SECONDS = 5
#: An event stream that brings nothing for so long is taken for broken.
_SILENT_STREAM_SECONDS = 5
#: A token is not used in its last minutes.
_TOKEN_SPARE_SECONDS = 300


@dataclass(frozen=True)
class SaltSettings:
    """How to reach salt-api. The password is a file, read at each log-in."""

    url: str
    username: str
    password_file: Path
    eauth: str = "file"
    ca_file: Path | None = None
    #: How long minions may be silent before they are asked whether they are at work.
    answer_timeout_seconds: int = 10
    #: On top of these time-outs, for the work of a busy master.
    spare_seconds: int = 120


class SaltApi:
    """Calls to one salt-api. Raises DeviceError ``salt_unreachable``, ``salt_login_refused`` and others."""

    def __init__(self, settings: SaltSettings, folder: Path, *, clock: Clock) -> None:
        self.settings = settings
        self._folder = folder
        self._clock = clock
        self._session = requests.Session()
        self._session.trust_env = False  # no .netrc: it would replace our own log-in
        self._session.verify = str(settings.ca_file) if settings.ca_file else True

    def minions(self, device_ids: list[str], function: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Run a function of ours on these minions; what those returned that answered in time."""
        seconds = self.settings.answer_timeout_seconds
        low = {
            "client": "local",
            "tgt": device_ids,
            "tgt_type": "list",
            "fun": f"ioc_scan.{function}",
            "kwarg": dict(arguments),
            "timeout": seconds,
            "gather_job_timeout": min(seconds, _ALIVE_SECONDS),
            "full_return": True,  # else a minion's silence and its words look alike
        }
        answer = self._call(low)
        if not isinstance(answer, dict):
            raise _unexpected()
        returned = {device: answer[device] for device in device_ids if isinstance(answer.get(device), dict)}
        return {device: one.get("ret") for device, one in returned.items() if one.get("out") != "no_return"}

    def push(self, device_ids: list[str]) -> None:
        """Let these minions look for jobs, without waiting for any of them."""
        low = {"client": "local_async", "tgt": device_ids, "tgt_type": "list", "fun": "ioc_scan.sync"}
        self._call(low)

    def events(self) -> Iterator[bytes]:
        """The bytes of the event stream, as they come. Raises DeviceError, requests.RequestException."""
        token = self._kept_token()
        if token is None:
            return
        session = requests.Session()  # of its own: it is read by another thread
        session.trust_env, session.verify = False, self._session.verify
        with session.get(
            self.settings.url.rstrip("/") + "/events",
            headers={"Accept": "text/event-stream", "X-Auth-Token": token},
            timeout=(_CONNECT_SECONDS, _SILENT_STREAM_SECONDS),
            allow_redirects=False,
            stream=True,
        ) as response:
            if response.status_code == 200 and response.raw.chunked:  # else parts would not come one by one
                yield from response.iter_content(None)

    def master(self, function: str, **arguments: Any) -> dict[str, Any]:
        """Run a function of our runner. Raises DeviceError ``salt_runner_missing`` or ``salt_runner_failed``."""
        answer = self._call({"client": "runner", "fun": f"ioc_scan.{function}", **arguments})
        if isinstance(answer, dict) and answer.get("protocol") == 1:
            return answer
        said = printable(answer if isinstance(answer, str) else "", 2000)
        if "is not available" in said:
            raise DeviceError(
                "salt_runner_missing",
                "the master has no runner ioc_scan",
                "docs/salt/_runners/ioc_scan.py belongs under _runners of file_roots: salt-run saltutil.sync_runners",
            )
        raise DeviceError(
            "salt_runner_failed",
            f"the runner ioc_scan failed on the master: {said.strip().splitlines()[-1] if said.strip() else '?'}",
            "check_setup; the log of the master has the rest",
        )

    def permissions(self) -> list[Any]:
        """What a fresh log-in may do, as salt-api tells it."""
        perms = self._log_in()["perms"]
        return perms if isinstance(perms, list) else [perms]

    # -- inside

    def _call(self, low: Mapping[str, Any]) -> Any:
        for attempt in (1, 2):
            token = self._kept_token() if attempt == 1 else None
            token = token or str(self._log_in()["token"])
            answer = self._post("/", [low], {"X-Auth-Token": token})
            if answer is not None:
                break
        else:
            raise DeviceError(
                "salt_not_allowed",
                f"the account {printable(self.settings.username)} may not call {low['fun']} on these minions",
                "external_auth in docs/salt/master.conf shows what it needs",
            )
        try:
            return answer["return"][0]
        except (KeyError, IndexError, TypeError):
            raise _unexpected() from None

    def _log_in(self) -> dict[str, Any]:
        settings = self.settings
        try:
            password = settings.password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise ConfigError(
                "secret_unreadable",
                f"password_file {printable(settings.password_file)} cannot be read: {why}",
                "it must be readable by the user that runs the actions, and by nobody else",
            ) from None
        login = {"username": settings.username, "password": password, "eauth": settings.eauth}
        answer = self._post("/login", login, {})
        if answer is None:
            raise DeviceError(
                "salt_login_refused",
                f"salt-api refused the log-in of {printable(settings.username)}",
                "check username, password_file and eauth; external_auth must name the account",
            )
        try:
            given = answer["return"][0]
            kept = {"token": str(given["token"]), "expire": float(given["expire"]), "perms": given["perms"]}
        except (KeyError, IndexError, TypeError, ValueError):
            raise _unexpected() from None
        ensure_private_folder(self._folder)
        write_json_atomic(self._token_file(), {**kept, "for": self._whose()})
        return kept

    def _kept_token(self) -> str | None:
        with suppress(OSError, ScannerError, KeyError, TypeError, ValueError):
            kept = read_json(self._token_file())
            left = float(kept["expire"]) - self._clock().timestamp()
            if kept["for"] == self._whose() and left > _TOKEN_SPARE_SECONDS:
                return str(kept["token"])
        return None

    def _token_file(self) -> Path:
        return self._folder / "token.json"

    def _whose(self) -> list[str]:
        return [self.settings.url, self.settings.username, self.settings.eauth]

    def _post(self, path: str, body: Any, headers: Mapping[str, str]) -> Any:
        """The answer, None for 401. Raises DeviceError."""
        url = self.settings.url.rstrip("/") + path
        seconds = 2 * self.settings.answer_timeout_seconds + self.settings.spare_seconds
        try:
            with self._session.post(
                url,
                json=body,
                headers={"Accept": "application/json", **headers},
                timeout=(_CONNECT_SECONDS, seconds),
                allow_redirects=False,
                stream=True,
            ) as response:
                if response.status_code == 401:
                    return None
                if response.status_code != 200:
                    raise DeviceError(
                        "salt_api_failed",
                        f"salt-api answered with status {response.status_code}",
                        "its log says why; netapi_enable_clients must list local and runner",
                    )
                answer = json.loads(_limited(response, seconds))
        except requests.exceptions.SSLError:
            raise DeviceError(
                "salt_certificate",
                f"the certificate of {printable(url, 200)} is not one we trust",
                "set ca_file to the authority that signed it; there is no way to switch the check off",
            ) from None
        except (requests.RequestException, OSError) as error:
            raise DeviceError(
                "salt_unreachable",
                f"salt-api at {printable(url, 200)} does not answer ({type(error).__name__})",
                "what is published stays: it is tried again with the next round",
            ) from None
        except ValueError:
            raise _unexpected() from None
        if answer is None:
            raise _unexpected()
        return answer


def check_url(name: str, url: str) -> None:
    """https, or plain http to this machine only. Raises ConfigError ``manager_invalid``."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    here = host == "localhost"
    with suppress(ValueError):
        here = here or ipaddress.ip_address(host).is_loopback
    if not host or parts.username or not (parts.scheme == "https" or (parts.scheme == "http" and here)):
        raise ConfigError(
            "manager_invalid",
            f"device manager {printable(name, 100)}: url is not an https address",
            "a password travels there: plain http is for salt-api on this very machine only",
        )


def _limited(response: requests.Response, seconds: float) -> bytes:
    """The body, up to a size and a time: a read time-out alone lets a slow sender go on for ever."""
    parts, size, end = [], 0, time.monotonic() + seconds
    for part in response.iter_content(1024 * 1024):
        size += len(part)
        if size > MAX_ANSWER_BYTES or time.monotonic() > end:
            raise _unexpected()
        parts.append(part)
    return b"".join(parts)


def _unexpected() -> DeviceError:
    return DeviceError(
        "salt_answer_bad",
        "what answers at the address of salt-api does not speak like it",
        "check url: it names salt-api itself, with the port and no path",
    )
