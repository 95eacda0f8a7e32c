"""CAPEv2's web interface ("apiv2").

Facts that shape this: errors come as HTTP 200 with ``{"error": true}``, as debug pages, or as redirects;
tasks are listed newest first and shift while pages are read; ``completed_on`` is the end of the analysis, in
a zone nobody states, so a slow report appears late with an old stamp. Hence: a wide window, all pages, and
the caller's set of seen ids decide, never a highest id.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime, timedelta
from typing import Any, BinaryIO, cast

from ioc_scan.clock import from_iso
from ioc_scan.detection import ids
from ioc_scan.detection.normalize import degraded_detection, normalize_report
from ioc_scan.detection.reading import DEFAULT_MAX_BYTES
from ioc_scan.detection.sources.base import Cursor, Row, SourceHealth, SourceUnavailable, window_start
from ioc_scan.detection.sources.http import HttpClient, HttpRefused, HttpSettings
from ioc_scan.detection.values import clean_hashes, clean_time
from ioc_scan.errors import InputError, IocScanError, SourceError
from ioc_scan.text import printable

PAGE_ROWS = 50
MAX_PAGES = 200
#: Widest difference between two time zones, for stamps without one.
ZONE_MARGIN = timedelta(hours=26)
_ID = re.compile(r"[0-9]{1,18}")


class CapeSource:
    product = "cape"

    def __init__(
        self, name: str, client: HttpClient, *, look_back_hours: float, max_report_bytes: int, detail: str
    ) -> None:
        self.name = name
        self._client = client
        self._look_back = timedelta(hours=look_back_hours)
        self._max_report_bytes = max_report_bytes
        self._detail = detail

    @classmethod
    def from_config(cls, entry: dict[str, Any]) -> CapeSource:
        return cls(
            entry["name"],
            HttpClient(HttpSettings.from_config(entry)),
            look_back_hours=entry.get("look_back_hours") or 24,
            max_report_bytes=entry.get("max_report_bytes") or DEFAULT_MAX_BYTES,
            detail=entry.get("detail") or "iocs",
        )

    def list_new(self, cursor: Cursor | None, now: datetime) -> tuple[list[Row], Cursor]:
        """Reported file analyses of the window, oldest first, each once."""
        after = int((window_start(cursor, now, self._look_back) - ZONE_MARGIN).timestamp())
        rows: dict[str, Row] = {}
        offset = 0
        for _ in range(MAX_PAGES):
            page = self._page(offset, after)
            fresh = [row for row in (self._row(item) for item in page) if row and row.report_id not in rows]
            rows.update((row.report_id, row) for row in fresh)
            if len(page) < PAGE_ROWS or not fresh:
                break
            offset += len(page)
        ordered = sorted(rows.values(), key=lambda row: int(row.report_id))
        return ordered, {"listed_at": int(now.timestamp())}

    def fetch(self, report_id: str) -> dict[str, Any]:
        """From the short ``iocs`` answer, or the whole report where that fails, as it does on odd reports."""
        number = self._number(report_id)
        paths = [f"/apiv2/tasks/get/iocs/{number}/", f"/apiv2/tasks/get/report/{number}/json/"]
        if self._detail == "report":
            paths.reverse()
        try:
            return self._normalized(paths[0], number)
        except SourceUnavailable:
            raise
        except (HttpRefused, InputError) as first:
            try:
                return self._normalized(paths[1], number)
            except SourceUnavailable:
                raise
            except IocScanError as second:
                # gone only if both say so; else the first answer names the trouble
                raise (second if second.code == "report_gone" else first) from None

    def fetch_degraded(self, report_id: str) -> dict[str, Any] | None:
        """The task's own hashes and the score by which the search finds it; None if they do not suffice."""
        number = self._number(report_id)
        task = self._data(self._client.get_json(f"/apiv2/tasks/view/{number}/"), "tasks/view")
        hashes = _hashes(task.get("sample")) if isinstance(task, dict) else {}
        score = self._score(number)
        if not hashes or score is None:
            return None
        return degraded_detection(
            product=self.product,
            instance=self.name,
            report_id=number,
            hashes=hashes,
            score=score,
            detected_at=clean_time(task.get("completed_on")),
        )

    def health(self) -> SourceHealth:
        try:
            self._page(0, 0)
        except IocScanError as error:
            return SourceHealth(False, (str(error),))
        return SourceHealth(True)

    def _page(self, offset: int, after: int) -> list[Any]:
        params = {"status": "reported", "completed_after": after, "category": "file"}
        answer = self._client.get_json(f"/apiv2/tasks/list/{PAGE_ROWS}/{offset}/", params)
        page = self._data(answer, "tasks/list")
        if not isinstance(page, list):
            raise HttpRefused(
                "source_wrong_answer", f"source {self.name}: tasks/list gave no list", "is it CAPEv2?"
            )
        return page[:PAGE_ROWS]

    def _row(self, item: Any) -> Row | None:
        if not isinstance(item, dict) or not _ID.fullmatch(str(item.get("id"))):
            return None
        number = str(int(item["id"]))
        stamp = clean_time(item.get("completed_on"))
        return Row(
            detection_id=ids.detection_id(self.product, self.name, number),
            report_id=number,
            reported_at=from_iso(stamp) if stamp else None,
            hashes=_hashes(item.get("sample")),
        )

    def _normalized(self, path: str, number: str) -> dict[str, Any]:
        with self._client.open("GET", path) as body:
            return normalize_report(
                cast(BinaryIO, body),
                product="cape",
                instance=self.name,
                report_id=number,
                max_bytes=self._max_report_bytes,
            )

    def _score(self, number: str) -> float | None:
        """70 where the search for "7 or more" finds the task. It shows 50 at most: absence proves nothing."""
        try:
            answer = self._client.post_json(
                "/apiv2/tasks/extendedsearch/", {"option": "malscore", "argument": "7"}
            )
            rows = self._data(answer, "tasks/extendedsearch")
        except HttpRefused:
            return None
        found = isinstance(rows, list) and any(_task_id(row) == number for row in rows)
        return 70.0 if found else None

    def _data(self, answer: Any, what: str) -> Any:
        """The ``data`` of an answer; an error inside a 200 is an error."""
        if not isinstance(answer, dict) or answer.get("error") or "data" not in answer:
            said = answer.get("error_value") if isinstance(answer, dict) else None
            raise HttpRefused(
                "source_wrong_answer",
                f"source {self.name}: {what}: {printable(said, 120) if said else 'an answer without data'}",
                "is the address that of CAPEv2's interface, and the function switched on there?",
            )
        return answer["data"]

    def _number(self, report_id: str) -> str:
        if not _ID.fullmatch(report_id):
            raise SourceError(
                "report_gone",
                f"source {self.name}: {printable(report_id, 64)} is no task id of CAPE",
                "look it up at the sandbox, and use the id that its list gives",
            )
        return report_id


def _hashes(sample: Any) -> dict[str, str]:
    return clean_hashes(sample, Counter()) if isinstance(sample, dict) else {}


def _task_id(row: Any) -> str | None:
    if not isinstance(row, dict):
        return None
    info = row.get("info")
    return str(row.get("id", info.get("id") if isinstance(info, dict) else None))
