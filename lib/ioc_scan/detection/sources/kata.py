"""Kaspersky Anti Targeted Attack: sandbox detections over mutual TLS, with a cursor that the server keeps.

At most one call a minute. There is no call for one detection, so ``fetch`` looks among those just listed, and
else reads the list again from its start. Where the call of this minute is used up, the next look is spent on that.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from ioc_scan.clock import from_iso
from ioc_scan.detection import ids, kata
from ioc_scan.detection.normalize import finished
from ioc_scan.detection.sources.base import Cursor, Row, SourceHealth
from ioc_scan.detection.sources.http import HttpClient, HttpRefused, HttpSettings
from ioc_scan.detection.values import clean_time
from ioc_scan.errors import ConfigError, IocScanError, SourceError
from ioc_scan.text import printable

#: The most KATA gives in one answer. One detection cannot be asked for, so ``fetch`` finds what is among these.
PAGE_ROWS = 10_000
MAX_ANSWER_BYTES = 64 * 1024 * 1024
#: Detections kept in memory between list and fetch.
MAX_HELD = 2 * PAGE_ROWS
_ID = re.compile(r"[0-9]{1,18}")


class KataSource:
    product = "kata"

    def __init__(self, name: str, client: HttpClient, sensor_id: str) -> None:
        self.name = name
        self._client = client
        self._path = f"/kata/scanner/v1/sensors/{sensor_id}/detects"
        self._held: dict[str, dict[str, Any]] = {}
        #: whether the list was just read from its start, and whether a fetch waits for that
        self._whole = self._wanted = False

    @classmethod
    def from_config(cls, entry: dict[str, Any]) -> KataSource:
        sensor_id = str(entry.get("sensor_id") or "")
        if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", sensor_id):
            raise ConfigError(
                "source_sensor_id",
                f"source {entry['name']}: `sensor_id` is missing or odd",
                "see KATA's external systems",
            )
        settings = HttpSettings.from_config(
            {**entry, "max_requests_per_minute": entry.get("max_requests_per_minute") or 1}
        )
        if not settings.client_cert_file:
            raise ConfigError(
                "source_client_cert",
                f"source {entry['name']}: KATA wants a client certificate",
                "set client_cert_file and client_key_file",
            )
        return cls(entry["name"], HttpClient(settings), sensor_id)

    def list_new(self, cursor: Cursor | None, now: datetime) -> tuple[list[Row], Cursor]:
        """What the server has beyond the token of the last look."""
        token = (cursor or {}).get("token")
        token = token if isinstance(token, str) else None
        if self._wanted:
            self._read_whole()
            return [], {"token": token, "listed_at": int(now.timestamp())}
        detects, after = self._page(token)
        self._whole = token is None
        rows = [row for row in (self._row(item) for item in detects) if row]
        return rows, {"token": after or token, "listed_at": int(now.timestamp())}

    def fetch(self, report_id: str) -> dict[str, Any]:
        if not _ID.fullmatch(report_id):
            raise SourceError(
                "report_gone",
                f"source {self.name}: {printable(report_id, 64)} is no id of KATA",
                "look it up at the sandbox, and use the id that its list gives",
            )
        if report_id not in self._held and not self._whole:
            self._wanted = True
            self._read_whole()
        detect = self._held.get(report_id)
        if detect is None:
            raise SourceError(
                "report_gone",
                f"source {self.name}: detection {report_id} is not in its list",
                "look it up at the sandbox, and use the id that its list gives",
            )
        return finished(self.product, self.name, report_id, kata.form_of(detect), None)

    def fetch_degraded(self, report_id: str) -> dict[str, Any] | None:
        return None

    def health(self) -> SourceHealth:
        try:
            self._page(None)
        except IocScanError as error:
            return SourceHealth(False, (str(error),))
        return SourceHealth(True)

    def _page(self, token: str | None) -> tuple[list[Any], str | None]:
        params: dict[str, Any] = {"detect_type": "sb", "limit": PAGE_ROWS}
        if token:
            params["token"] = token
        answer = self._client.get_json(self._path, params, max_bytes=MAX_ANSWER_BYTES)
        detects = answer.get("detects") if isinstance(answer, dict) else None
        if not isinstance(detects, list):
            raise HttpRefused(
                "source_wrong_answer", f"source {self.name}: an answer without detects", "is it KATA?"
            )
        after = answer.get("token")
        return detects[:PAGE_ROWS], after if isinstance(after, str) and len(after) <= 4096 else None

    def _read_whole(self) -> None:
        for item in self._page(None)[0]:
            self._row(item)
        self._whole, self._wanted = True, False

    def _row(self, item: Any) -> Row | None:
        if not isinstance(item, dict) or not _ID.fullmatch(str(item.get("alertID"))):
            return None
        report_id = str(int(item["alertID"]))
        while len(self._held) >= MAX_HELD:
            del self._held[next(iter(self._held))]
        self._held[report_id] = item
        stamp = clean_time(item.get("detectTimestamp"))
        return Row(
            ids.detection_id(self.product, self.name, report_id),
            report_id,
            from_iso(stamp) if stamp else None,
        )
