"""The payloads of the sensor's triggers: ids, hex digests, numbers and fixed words only.

Text from a report never goes into one: StackStorm renders templates on the way. The schemas are those of
the sensor's own metadata file, in StackStorm's dialect (``required: true`` on the property). A payload that
breaks its schema would be dropped with a log line, so it is checked here first.
"""

from __future__ import annotations

import re
from datetime import timezone
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from ioc_scan.clock import from_iso
from ioc_scan.errors import InputError
from ioc_scan.text import printable

DETECTION = "ioc_scan.sandbox_detection"
FAILED = "ioc_scan.detection_failed"

_SAFE = re.compile(r"[A-Za-z0-9._:-]{0,194}")
_DIGEST_FIELDS = (("MD5", "target_md5"), ("SHA-1", "target_sha1"), ("SHA-256", "target_sha256"))


class Triggers:
    """The trigger types one sensor metadata file declares."""

    def __init__(self, metadata: Path) -> None:
        declared = yaml.safe_load(metadata.read_text(encoding="utf-8"))
        self._schemas = {
            f"{declared.get('pack', 'ioc_scan')}.{trigger['name']}": _standard(trigger["payload_schema"])
            for trigger in declared["trigger_types"]
        }

    def check(self, trigger: str, payload: dict[str, Any]) -> None:
        """Raise InputError ``payload_invalid`` for what StackStorm would drop, or must not carry."""
        for name, value in payload.items():
            if not isinstance(value, (bool, int, float)) and not (
                isinstance(value, str) and _SAFE.fullmatch(value)
            ):
                raise InputError(
                    "payload_invalid",
                    f"{trigger}: field {printable(name, 40)} is no id, number or word",
                    "this is an error of the pack: please report it",
                )
        for error in jsonschema.Draft4Validator(self._schemas[trigger]).iter_errors(payload):
            raise InputError(
                "payload_invalid",
                f"{trigger}: {printable(error.message, 200)}",
                "this is an error of the pack: please report it",
            )


def _standard(schema: dict[str, Any]) -> dict[str, Any]:
    """From StackStorm's dialect to JSON Schema: ``required`` moves from the property to the object."""
    properties = {
        name: {key: value for key, value in prop.items() if key != "required"}
        for name, prop in schema["properties"].items()
    }
    required = [name for name, prop in schema["properties"].items() if prop.get("required") is True]
    standard = {**schema, "properties": properties}
    return {**standard, "required": required} if required else standard


def detection_payload(detection: dict[str, Any], source: str) -> dict[str, Any]:
    """What the trigger ``sandbox_detection`` carries of a detection."""
    verdict, target = detection["verdict"], detection["target"]
    payload: dict[str, Any] = {
        "detection_id": detection["detection_id"],
        "source": source,
        "product": detection["source"]["product"],
        "instance": detection["source"]["instance"],
        "report_id": detection["source"]["report_id"],
        "verdict": verdict["result"],
        "family_count": len(verdict.get("families", [])),
        "target_category": target["category"],
        "indicator_count": len(detection["indicators"]),
        "detected_at_epoch": int(from_iso(detection["detected_at"]).astimezone(timezone.utc).timestamp()),
        "degraded": bool(detection.get("degraded", False)),
    }
    if "score" in verdict:
        payload["score"] = verdict["score"]
    for algorithm, field in _DIGEST_FIELDS:
        if algorithm in target.get("hashes", {}):
            payload[field] = target["hashes"][algorithm]
    return payload


def failed_payload(
    detection_id: str, report_id: str, source: str, code: str, attempts: int
) -> dict[str, Any]:
    """What the trigger ``detection_failed`` carries."""
    return {
        "detection_id": detection_id,
        "source": source,
        "report_id": report_id,
        "code": code if re.fullmatch(r"[a-z][a-z0-9_]{0,63}", code) else "error",
        "attempts": attempts,
    }
