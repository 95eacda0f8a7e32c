"""The two template tasks a manager has learned: kept in its memory, read anew from the server before each use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DeviceError, NotFoundError, RefusedError
from ..ksc_client import Ksc, KscError
from ..scanner.protocol import write_json_atomic
from ..text import printable
from . import ksc_template
from .private import ensure_private_folder


class Templates:
    """``templates.json`` in the manager's memory."""

    def __init__(self, manager: str, ksc: Ksc, memory: Path) -> None:
        self._manager, self._ksc, self._memory = manager, ksc, memory

    def learn(
        self,
        report: str,
        respond: str,
        marker: bytes,
        hosts: Mapping[str, Mapping[str, str]],
        confirm: str | None,
    ) -> dict[str, Any]:
        """Look at two tasks, given by id or name; store what was learned if its digest is ``confirm``.

        Raises InputError ``ksc_*`` with what was seen, NotFoundError ``ksc_template_missing``, RefusedError
        ``ksc_template_changed`` where the digest is another.
        """
        raws = [(task_id, self._ksc.task_data(task_id)) for task_id in map(self._task_id, (report, respond))]
        learned = ksc_template.learn(raws[0], raws[1], marker, hosts)
        stored = confirm is not None and confirm == learned["digest"]
        if confirm is not None and not stored:
            raise RefusedError(
                "ksc_template_changed",
                "the templates are not what the dry run showed",
                "run it without confirm_digest again, and look at what changed",
            )
        if stored:
            ensure_private_folder(self._memory)
            write_json_atomic(self._memory / "templates.json", learned)
        return {**learned, "stored": stored, "names": [ksc_template.name_of(raw) for _, raw in raws]}

    def learned(self) -> dict[str, Any] | None:
        """What was learned; None if nothing was, or it is damaged."""
        try:
            value = json.loads((self._memory / "templates.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return value if ksc_template.is_learned(value) else None

    def needed(self) -> dict[str, Any]:
        """What was learned. Raises DeviceError ``ksc_template_unknown``."""
        learned = self.learned()
        if learned is None:
            raise DeviceError(
                "ksc_template_unknown",
                f"device manager {self._manager} has not learned its template tasks",
                "st2 run ioc_scan.learn_ksc_template",
            )
        return learned

    def now(self, shape: Mapping[str, Any]) -> dict[str, Any]:
        """A template's settings as they are on the server. Raises RefusedError ``ksc_template_missing``."""
        try:
            return self._ksc.task_data(shape["task_id"])
        except KscError as error:
            if not error.not_found:
                raise
            raise RefusedError(
                "ksc_template_missing",
                f"the template task {printable(shape['task_id'], 40)} is not on the server any more",
                "make it again, then: st2 run ioc_scan.learn_ksc_template",
            ) from None

    def _task_id(self, named: str) -> str:
        found = [task["id"] for task in self._ksc.tasks() if named in (task["id"], task["name"])]
        if len(found) == 1:
            return str(found[0])
        raise NotFoundError(
            "ksc_template_missing",
            f"{len(found)} tasks of the server have the id or name {printable(named, 100)}",
            "give the number of the task, as the console's address bar shows it",
        )
