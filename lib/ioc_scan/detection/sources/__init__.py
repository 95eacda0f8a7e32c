"""Sources of detections: one file per kind, behind the interface of :mod:`.base`; light to import."""

from __future__ import annotations

import importlib
from typing import Any

from ioc_scan.detection.sources.base import Cursor, Row, Source, SourceHealth, SourceUnavailable
from ioc_scan.errors import ConfigError
from ioc_scan.text import printable

__all__ = ["SOURCE_TYPES", "Cursor", "Row", "Source", "SourceHealth", "SourceUnavailable", "build_source"]

#: type in the configuration -> class, loaded when needed: a folder needs no HTTP library
SOURCE_TYPES = {
    "folder": "folder.FolderSource",
    "webhook": "webhook.WebhookSource",
    "cape": "cape.CapeSource",
    "cuckoo3": "cuckoo3.Cuckoo3Source",
    "vmray": "vmray.VmraySource",
    "kata": "kata.KataSource",
    "ksc": "ksc.KscSource",
}


def build_source(entry: dict[str, Any]) -> Source:
    """The source that one entry of ``sources`` in the configuration describes. Touches nothing outside yet.

    Raises ConfigError ``source_type`` or what the kind of source finds wrong with its settings.
    """
    kind = entry.get("type")
    where = SOURCE_TYPES.get(kind) if isinstance(kind, str) else None
    if where is None:
        raise ConfigError(
            "source_type",
            f"source {printable(entry.get('name'), 64)}: unknown type {printable(kind, 64)}",
            f"one of: {', '.join(sorted(SOURCE_TYPES))}",
        )
    module, _, name = where.partition(".")
    source: Source = getattr(importlib.import_module(f"{__name__}.{module}"), name).from_config(entry)
    return source
