"""The golden image check: what the organisation's clean images hold is never acted on."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from ioc_scan.detection.known_good import learn_into
from ioc_scan.errors import InputError, NotFoundError
from ioc_scan.service import rights
from ioc_scan.service.context import Context
from ioc_scan.service.guarding import KNOWN_GOOD_LIST
from ioc_scan.service.people import Actor
from ioc_scan.store.event_types import EventType
from ioc_scan.text import printable

DEFAULT_DAYS = 365


def learn_known_good(
    context: Context,
    folder: str | None = None,
    device_id: str | None = None,
    origin: str | None = None,
    days: int | None = None,
    account: str | None = None,
    chat_user: str | None = None,
) -> dict[str, Any]:
    """Hash every file of a reference folder or device into the known-good list, with origin and expiry.

    Rules may learn from the folders that ``guard.golden_images`` names, and from nothing else.
    Raises RefusedError ``person_needed``, ``right_missing``, InputError ``learn_what``, NotFoundError
    ``device_unknown``.
    """
    actor = Actor.of(context, account, chat_user)
    if folder is None or folder not in context.config["guard"]["golden_images"]:
        actor.must_be_person("learn known-good files", "st2 run ioc_scan.learn_known_good folder=/mnt/image")
    rights.require(context, actor, "learn")
    if (folder is None) == (device_id is None):
        raise InputError(
            "learn_what", "name either a folder or a device", "folder=/mnt/image or device_id=ws00"
        )
    root = Path(folder) if folder is not None else _device_root(context, str(device_id))
    if not root.is_absolute():
        raise InputError("learn_what", f"{printable(root)} is not an absolute folder")
    now = context.clock()
    expires_at = now + timedelta(days=days or DEFAULT_DAYS)
    name = printable(origin or device_id or root, 200)
    context.store  # noqa: B018  the list lies in the store's folder, which this checks
    files, total = learn_into(
        context.folder / KNOWN_GOOD_LIST, root, origin=name, expires_at=expires_at, now=now
    )
    with context.store.transaction() as tx:
        data = {"origin": name, "files": files, "digests": total, "days": days or DEFAULT_DAYS}
        tx.events.add(EventType.KNOWN_GOOD_LEARNED, actor=actor.name, data=data)
    return {"origin": name, "files": files, "digests": total}


def _device_root(context: Context, device_id: str) -> Path:
    """The folder tree of a device of a local manager: the only devices whose files lie here."""
    for manager in context.config["device_managers"]:
        for group in manager.get("groups", []):
            for device in group.get("devices", []):
                if device["id"] == device_id and manager["type"] == "local":
                    return Path(device.get("root") or "/")
    raise NotFoundError(
        "device_unknown",
        f"{printable(device_id, 80)} is no device of a local manager",
        "Mount the image of another device here and give its folder.",
    )
