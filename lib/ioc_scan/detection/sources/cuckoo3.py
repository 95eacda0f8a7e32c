"""Cuckoo 3's web interface. Its list has no time filter: pages are read until they leave the window."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any, BinaryIO, cast

from ioc_scan.clock import from_iso
from ioc_scan.detection import ids
from ioc_scan.detection.cuckoo3 import POST_WANTED, Cuckoo3Analysis
from ioc_scan.detection.normalize import finished
from ioc_scan.detection.reading import DEFAULT_MAX_BYTES, ReportReader
from ioc_scan.detection.selection import Selection
from ioc_scan.detection.sources.base import Cursor, Row, SourceHealth, SourceUnavailable, window_start
from ioc_scan.detection.sources.http import HttpClient, HttpRefused, HttpSettings
from ioc_scan.detection.values import clean_time
from ioc_scan.errors import IocScanError, SourceError
from ioc_scan.text import printable

PAGE_ROWS = 50
MAX_PAGES = 200
MAX_TASKS = 20
#: An analysis is listed by its creation; it may take this long, and the clocks may differ.
SLOWEST = timedelta(hours=26)
_ID = re.compile(r"[0-9]{8}-[A-Z0-9]{6}")
_TASK_ID = re.compile(r"[0-9]{8}-[A-Z0-9]{6}_[0-9]{1,4}")


class Cuckoo3Source:
    product = "cuckoo3"

    def __init__(
        self, name: str, client: HttpClient, *, look_back_hours: float, max_report_bytes: int
    ) -> None:
        self.name = name
        self._client = client
        self._look_back = timedelta(hours=look_back_hours)
        self._max_report_bytes = max_report_bytes

    @classmethod
    def from_config(cls, entry: dict[str, Any]) -> Cuckoo3Source:
        return cls(
            entry["name"],
            HttpClient(HttpSettings.from_config(entry), lambda secret: {"Authorization": f"token {secret}"}),
            look_back_hours=entry.get("look_back_hours") or 24,
            max_report_bytes=entry.get("max_report_bytes") or DEFAULT_MAX_BYTES,
        )

    def list_new(self, cursor: Cursor | None, now: datetime) -> tuple[list[Row], Cursor]:
        """Finished analyses of the window, oldest first, each once."""
        since = window_start(cursor, now, self._look_back) - SLOWEST
        rows: dict[str, Row] = {}
        known: set[str] = set()
        offset = 0
        for _ in range(MAX_PAGES):
            page = self._page(offset)
            names = {str(item.get("id")) for item in page if isinstance(item, dict)}
            stamps = [clean_time(item.get("created_on")) for item in page if isinstance(item, dict)]
            for row in (self._row(item) for item in page):
                if row:
                    rows.setdefault(row.report_id, row)
            over = bool(stamps) and all(stamp is not None and from_iso(stamp) < since for stamp in stamps)
            if len(page) < PAGE_ROWS or names <= known or over:
                break
            known |= names
            offset += len(page)
        fresh = [row for row in rows.values() if row.reported_at is None or row.reported_at >= since]
        return sorted(fresh, key=lambda row: (row.reported_at or now, row.report_id)), {
            "listed_at": int(now.timestamp())
        }

    def fetch(self, report_id: str) -> dict[str, Any]:
        """The analysis and the report of each of its tasks; a task without one costs its part only."""
        analysis = self._analysis(report_id)
        form = Cuckoo3Analysis(analysis)
        lost = 0
        for task_id in self._tasks(analysis):
            try:
                with self._client.open("GET", f"/analysis/{report_id}/task/{task_id}/post") as body:
                    reader = ReportReader(cast(BinaryIO, body), max_bytes=self._max_report_bytes)
                    form.add_post(Selection(reader, POST_WANTED))
            except SourceUnavailable:
                raise
            except IocScanError:
                lost += 1
        made = form.normal_form()
        if lost:
            made["losses"] = {**made.get("losses", {}), "tasks_without_report": lost}
        return finished(self.product, self.name, report_id, made, None)

    def fetch_degraded(self, report_id: str) -> dict[str, Any] | None:
        form = Cuckoo3Analysis(self._analysis(report_id)).normal_form()
        return finished(self.product, self.name, report_id, {**form, "degraded": True}, None)

    def health(self) -> SourceHealth:
        try:
            self._page(0)
        except IocScanError as error:
            return SourceHealth(False, (str(error),))
        return SourceHealth(True)

    def _page(self, offset: int) -> list[Any]:
        answer = self._client.get_json("/analyses/", {"limit": PAGE_ROWS, "offset": offset, "desc": "true"})
        page = answer.get("analyses") if isinstance(answer, dict) else answer
        if not isinstance(page, list):
            raise HttpRefused(
                "source_wrong_answer", f"source {self.name}: analyses gave no list", "is it Cuckoo 3?"
            )
        return page[:PAGE_ROWS]

    def _row(self, item: Any) -> Row | None:
        if (
            not isinstance(item, dict)
            or not _ID.fullmatch(str(item.get("id")))
            or item.get("state") != "finished"
        ):
            return None
        stamp = clean_time(item.get("created_on"))
        return Row(
            ids.detection_id(self.product, self.name, item["id"]),
            item["id"],
            from_iso(stamp) if stamp else None,
        )

    def _analysis(self, report_id: str) -> dict[str, Any]:
        if not _ID.fullmatch(report_id):
            raise SourceError(
                "report_gone",
                f"source {self.name}: {printable(report_id, 64)} is no id of Cuckoo 3",
                "look it up at the sandbox, and use the id that its list gives",
            )
        analysis = self._client.get_json(f"/analysis/{report_id}")
        if not isinstance(analysis, dict):
            raise HttpRefused(
                "source_wrong_answer", f"source {self.name}: analysis gave no object", "is it Cuckoo 3?"
            )
        return analysis

    def _tasks(self, analysis: dict[str, Any]) -> list[str]:
        tasks = analysis.get("tasks")
        listed = (
            [str(task.get("id")) for task in tasks if isinstance(task, dict)]
            if isinstance(tasks, list)
            else []
        )
        return [task_id for task_id in listed if _TASK_ID.fullmatch(task_id)][:MAX_TASKS]
