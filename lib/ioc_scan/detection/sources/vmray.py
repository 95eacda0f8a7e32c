"""VMRay Analyzer's REST interface. A report id here is ``<submission>-<sample>``: both are needed to ask again."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

from ioc_scan.clock import from_iso
from ioc_scan.detection import ids, vmray_iocs
from ioc_scan.detection.normalize import finished
from ioc_scan.detection.reading import DEFAULT_MAX_BYTES
from ioc_scan.detection.sources.base import Cursor, Row, SourceHealth, window_start
from ioc_scan.detection.sources.http import HttpClient, HttpRefused, HttpSettings
from ioc_scan.detection.values import clean_time
from ioc_scan.errors import IocScanError, SourceError
from ioc_scan.text import printable

MAX_ROWS = 10_000
_PAIR = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")


class VmraySource:
    product = "vmray"

    def __init__(
        self, name: str, client: HttpClient, *, look_back_hours: float, max_report_bytes: int
    ) -> None:
        self.name = name
        self._client = client
        self._look_back = timedelta(hours=look_back_hours)
        self._max_report_bytes = max_report_bytes

    @classmethod
    def from_config(cls, entry: dict[str, Any]) -> VmraySource:
        return cls(
            entry["name"],
            HttpClient(
                HttpSettings.from_config(entry), lambda secret: {"Authorization": f"api_key {secret}"}
            ),
            look_back_hours=entry.get("look_back_hours") or 24,
            max_report_bytes=entry.get("max_report_bytes") or DEFAULT_MAX_BYTES,
        )

    def list_new(self, cursor: Cursor | None, now: datetime) -> tuple[list[Row], Cursor]:
        """Submissions with a malicious verdict that finished in the window."""
        start = window_start(cursor, now, self._look_back)
        found = self._list(start, now + timedelta(hours=1))
        rows = {row.report_id: row for row in (self._row(item) for item in found[:MAX_ROWS]) if row}
        ordered = sorted(rows.values(), key=lambda row: (row.reported_at or start, row.report_id))
        return ordered, {"listed_at": int(now.timestamp())}

    def fetch(self, report_id: str) -> dict[str, Any]:
        submission_id, sample_id = self._split(report_id)
        submission = self._data(self._client.get_json(f"/rest/submission/{submission_id}"), "submission")
        if isinstance(submission, list):
            submission = submission[0] if submission else None
        answer = self._client.get_json(f"/rest/sample/{sample_id}/iocs", max_bytes=self._max_report_bytes)
        data = self._data(answer, "iocs")
        iocs = data.get("iocs") if isinstance(data, dict) else None
        if not isinstance(submission, dict) or not isinstance(iocs, dict):
            raise HttpRefused(
                "source_wrong_answer",
                f"source {self.name}: no submission or no iocs in the answer",
                "is the address that of the interface?",
            )
        return finished("vmray", self.name, report_id, vmray_iocs.form_of(submission, iocs), None)

    def fetch_degraded(self, report_id: str) -> dict[str, Any] | None:
        """The submission alone holds verdict and hashes."""
        submission_id, _ = self._split(report_id)
        submission = self._data(self._client.get_json(f"/rest/submission/{submission_id}"), "submission")
        if not isinstance(submission, dict):
            return None
        form = {**vmray_iocs.form_of(submission, {}), "degraded": True}
        return finished("vmray", self.name, report_id, form, None)

    def health(self) -> SourceHealth:
        try:
            moment = datetime(2020, 1, 1, tzinfo=timezone.utc)
            self._list(moment, moment + timedelta(seconds=1))
        except IocScanError as error:
            return SourceHealth(False, (str(error),))
        return SourceHealth(True)

    def _list(self, start: datetime, end: datetime) -> list[Any]:
        window = f"{start:%Y-%m-%dT%H:%M:%S}~{end:%Y-%m-%dT%H:%M:%S}"
        params = {"submission_finish_time": window, "submission_verdict": "malicious"}
        found = self._data(self._client.get_json("/rest/submission", params), "submission")
        if not isinstance(found, list):
            raise HttpRefused(
                "source_wrong_answer", f"source {self.name}: submission gave no list", "is it VMRay?"
            )
        return found

    def _row(self, item: Any) -> Row | None:
        if not isinstance(item, dict):
            return None
        report_id = f"{item.get('submission_id')}-{item.get('submission_sample_id')}"
        if not _PAIR.fullmatch(report_id):
            return None
        stamp = clean_time(item.get("submission_finish_time"))
        return Row(
            ids.detection_id(self.product, self.name, report_id),
            report_id,
            from_iso(stamp) if stamp else None,
        )

    def _split(self, report_id: str) -> tuple[str, str]:
        match = _PAIR.fullmatch(report_id)
        if not match:
            raise SourceError(
                "report_gone",
                f"source {self.name}: {printable(report_id, 64)} is no id of VMRay",
                "look it up at the sandbox, and use the id that its list gives",
            )
        return match.group(1), match.group(2)

    def _data(self, answer: Any, what: str) -> Any:
        if not isinstance(answer, dict) or answer.get("result", "ok") != "ok" or "data" not in answer:
            raise HttpRefused(
                "source_wrong_answer",
                f"source {self.name}: {what}: an answer without data",
                "is the address right?",
            )
        return answer["data"]
