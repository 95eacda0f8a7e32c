"""Detections that are pushed: there is nothing to list and nothing to fetch, only a name and its trust."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ioc_scan.detection.sources.base import Cursor, Row, SourceHealth
from ioc_scan.errors import SourceError
from ioc_scan.text import printable


class WebhookSource:
    product = "webhook"

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def from_config(cls, entry: dict[str, Any]) -> WebhookSource:
        return cls(entry["name"])

    def list_new(self, cursor: Cursor | None, now: datetime) -> tuple[list[Row], Cursor]:
        return [], cursor or {}

    def fetch(self, report_id: str) -> dict[str, Any]:
        raise SourceError(
            "source_is_push_only",
            f"source {self.name} is pushed to; report {printable(report_id, 64)} cannot be fetched again",
            "let the sender post the detection again",
        )

    def fetch_degraded(self, report_id: str) -> dict[str, Any] | None:
        return None

    def health(self) -> SourceHealth:
        return SourceHealth(True)
