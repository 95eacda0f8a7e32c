"""Learning the template tasks of Kaspersky Security Center: look first, then confirm what was seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ioc_scan.errors import InputError
from ioc_scan.reports import tables
from ioc_scan.reports.tables import Column
from ioc_scan.service import rights
from ioc_scan.service.context import Context
from ioc_scan.service.people import Actor
from ioc_scan.service.views import TABLE_WIDTH
from ioc_scan.store.event_types import EventType
from ioc_scan.text import printable

#: An IOC file of Kaspersky has 2 MB at most; a marker is far smaller.
MAX_MARKER_BYTES = 64 * 1024


def learn_ksc_template(
    context: Context,
    manager: str,
    report_template: str,
    respond_template: str,
    marker_file: str,
    confirm_digest: str | None = None,
    account: str | None = None,
    chat_user: str | None = None,
) -> dict[str, Any]:
    """Look at two template tasks on the server; with the digest of such a look, store what was learned.

    Raises RefusedError ``person_needed``, ``right_missing``, ``ksc_template_changed``; NotFoundError
    ``manager_unknown``, ``ksc_template_missing``; InputError ``manager_type``, ``marker_unusable`` or ``ksc_*`` with
    what was seen in the templates.
    """
    actor = Actor.of(context, account, chat_user)
    actor.must_be_person("learn template tasks", f"st2 run ioc_scan.learn_ksc_template manager={manager} ...")
    rights.require(context, actor, "raise")
    center = context.manager(manager)
    learn = getattr(center, "learn_template", None)
    if learn is None:
        raise InputError(
            "manager_type",
            f"device manager {printable(manager, 64)} has no template tasks",
            "name a manager of type ksc",
        )
    found = learn(report_template, respond_template, _marker(marker_file), confirm_digest)
    if found["stored"]:
        with context.store.transaction() as tx:
            data = {
                "digest": found["digest"],
                "report": found["report"]["task_id"],
                "respond": found["respond"]["task_id"],
            }
            tx.events.add(EventType.TEMPLATE_LEARNED, manager=manager, actor=actor.name, data=data)
    rows = [
        {"setting": entry["setting"], "report": str(entry["report"]), "respond": str(entry["respond"])}
        for entry in found["response"]
    ]
    columns: list[Column | str] = [Column("setting", "response setting", keep="end"), "report", "respond"]
    command = f"st2 run ioc_scan.learn_ksc_template manager={manager} confirm_digest={found['digest']} ..."
    return {
        "manager": manager,
        "stored": found["stored"],
        "digest": found["digest"],
        "kind": found["kind"],
        "templates": [
            {
                "role": role,
                "task_id": found[role]["task_id"],
                "name": name,
                "target": found[role]["aim"]["kind"],
                "marker": "/".join(str(part) for part in found[role]["ioc"]["path"] if part != "value"),
            }
            for role, name in zip(("report", "respond"), found["names"], strict=True)
        ],
        "response": rows,
        "table": tables.render(rows, columns, TABLE_WIDTH),
        "message": "The templates are learned."
        if found["stored"]
        else "Nothing is stored yet. Do these settings, and no others, tell responding from reporting?",
        "next_step": "st2 run ioc_scan.check_setup" if found["stored"] else command,
    }


def _marker(path: str) -> bytes:
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(MAX_MARKER_BYTES + 1)
    except OSError as error:
        raise InputError(
            "marker_unusable",
            f"{printable(path)}: {error.strerror}",
            "give the file that was uploaded to both templates, readable by the user that runs actions",
        ) from None
    if not 40 <= len(content) <= MAX_MARKER_BYTES or b"<ioc" not in content:
        raise InputError(
            "marker_unusable",
            f"{printable(path)} is no IOC file of up to 64 KiB",
            "give the OpenIOC file that was uploaded to both templates",
        )
    return content
