"""The schema of the normal form, and the check against it. Works with jsonschema 3.2 and 4.x."""

from __future__ import annotations

import functools
import ipaddress
import json
from pathlib import Path
from typing import Any

import jsonschema

from ioc_scan.errors import InputError
from ioc_scan.text import printable

SCHEMA_PATH = Path(__file__).with_name("detection.schema.json")


@functools.lru_cache(maxsize=1)
def schema() -> dict[str, Any]:
    """The schema as data."""
    return json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))


@functools.lru_cache(maxsize=1)
def _validator() -> Any:
    # our own checks: which names are built in differs between the library's versions
    checker = jsonschema.FormatChecker(formats=())
    checker.checks("ipv4", raises=ValueError)(lambda text: ipaddress.IPv4Address(text) is not None)
    checker.checks("ipv6", raises=ValueError)(lambda text: ipaddress.IPv6Address(text) is not None)
    return jsonschema.Draft7Validator(schema(), format_checker=checker)


def validate(detection: Any) -> None:
    """Raise InputError ``detection_invalid`` that names the first field that breaks the schema."""
    for error in _validator().iter_errors(detection):
        where = "/".join(str(part) for part in error.absolute_path) or "(top level)"
        raise InputError(
            "detection_invalid",
            f"the detection breaks the schema at {printable(where, 120)}: {printable(error.message, 200)}",
            "see detection.schema.json for the normal form",
        )
    source = detection["source"]
    expected = f"{source['product']}:{source['instance']}:{source['report_id']}"
    if detection["detection_id"] != expected:
        raise InputError(
            "detection_invalid",
            f"detection_id is not '{expected}'",
            "it is product, instance and report_id of `source`, joined by ':'",
        )
