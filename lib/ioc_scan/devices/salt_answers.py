"""What a minion says, believed only with a proof that the minion itself said it.

Salt's event bus, over which returns and events come to salt-api, does not tell who speaks: any minion can put
an event there under the tag, and with the id, of another one. So each device has a key of its own; it reaches
it in its pillar, which Salt encrypts for that minion alone, and every answer carries a digest made with it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
import zlib
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import DeviceError
from ..scanner.protocol import is_job_id
from . import wire
from .private import ensure_private_folder
from .spooled import Visit, Visited

#: An answer whose proof does not hold; the device may be fine and somebody else be speaking.
UNPROVEN = "salt_answer_unproven"
#: The nonce of what nobody asked for.
NEWS = "news"
_NEWS_BYTES = 1024 * 1024
_STATUS_BYTES = 16 * 1024
_JOBS_AT_ONCE = 20
_KEY_BYTES = 32


class Keys:
    """Keys of devices, all drawn from one secret that this manager keeps in its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def key(self, device_id: str) -> str:
        """The device's key (hex). Raises DeviceError where the folder cannot be used."""
        return hmac.new(self._secret, device_id.encode("utf-8"), hashlib.sha256).hexdigest()

    def proves(self, said: Mapping[str, Any], device_id: str, nonce: str) -> bool:
        """Whether the device itself said this, in answer to that question."""
        text, proof = said.get("answer"), said.get("proof")
        if not (isinstance(text, str) and isinstance(proof, str) and proof.isascii()):
            return False
        what = "\n".join((nonce, device_id, text)).encode("utf-8", "replace")
        right = hmac.new(bytes.fromhex(self.key(device_id)), what, hashlib.sha256).hexdigest()
        return hmac.compare_digest(right, proof)

    @cached_property
    def _secret(self) -> bytes:
        path = ensure_private_folder(self._folder) / "secret"
        new = path.with_name(f".secret.{os.getpid()}.{secrets.token_hex(4)}")
        if not path.exists():
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                stream.write(secrets.token_bytes(_KEY_BYTES))
            with suppress(FileExistsError):  # of several processes the first one's stays
                os.link(new, path)
            new.unlink()
        return path.read_bytes()


def read_visit(said: object, one: Visit, nonce: str, keys: Keys) -> tuple[Visited, bool]:
    """What a minion returned, and whether it tells of news by itself."""
    if said is None or said is False:
        return Visited(False), False
    if isinstance(said, dict) and isinstance(said.get("answer"), str):
        if not keys.proves(said, one.device_id, nonce):
            why = f"an answer in the name of {one.device_id} is not proven to be its own"
            hint = "after its spool was emptied this passes by itself; else another minion speaks in its name"
            return Visited(False, error=DeviceError(UNPROVEN, why, hint)), False
        raw = _unpack(said["answer"], wire.answer_limit(one))
        if raw is not None:
            try:
                return wire.read_answer(raw, one), said.get("tells") is True
            except DeviceError as error:
                return Visited(False, error=error), False
    elif isinstance(said, str) and "is not available" in said:
        return Visited(
            False,
            error=DeviceError(
                "salt_module_missing",
                f"{one.device_id} has no execution module ioc_scan",
                "docs/salt/_modules/ioc_scan.py belongs under _modules of file_roots: salt '*' saltutil.sync_modules",
            ),
        ), False
    return Visited(
        False,
        error=DeviceError(
            "device_answer_bad",
            f"{one.device_id} did not answer as the module ioc_scan does",
            "salt-call ioc_scan.sync on the device; its log has the rest",
        ),
    ), False


def read_news(said: Mapping[str, Any], device_id: str, keys: Keys) -> dict[str, bytes | None]:
    """status.json of the jobs a minion tells about, by job; None: there is more than could be told."""
    if not keys.proves(said, device_id, NEWS):
        return {}
    try:
        jobs = json.loads(_unpack(said["answer"], _NEWS_BYTES) or b"")["jobs"]
        return {
            job_id: base64.b64decode(status, validate=True)
            if status and len(status) <= _STATUS_BYTES
            else None
            for job_id, status in list(jobs.items())[:_JOBS_AT_ONCE]
            if is_job_id(job_id)
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error):
        return {}


def _unpack(text: str, limit: int) -> bytes | None:
    """None: it is no such text, or has more than ``limit`` bytes."""
    try:
        inflate = zlib.decompressobj()
        raw = inflate.decompress(base64.b64decode(text, validate=True), limit)
        return raw if inflate.eof else None
    except (binascii.Error, zlib.error, ValueError):
        return None
