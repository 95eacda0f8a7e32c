"""One detection event of Kaspersky Endpoint Security, as the Administration Server keeps it, in the normal form.

Parameters of GNRL_EV_VIRUS_FOUND (Kaspersky Endpoint Security, event parameters): 1 SHA-256, 2 path, 5 verdict,
7 user, 8 threat type, 9 JSON with the detection method and the MD5. They have been seen missing and in another
order: a hash is only taken where it is one.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection
from datetime import datetime
from typing import Any

from ioc_scan.clock import to_iso
from ioc_scan.detection.collect import Collector
from ioc_scan.detection.values import clean_hashes, clean_text, clean_time
from ioc_scan.errors import InputError

#: GNRL_EA_SEVERITY: 1 information, 2 warning, 3 error, 4 critical.
RESULTS = {4: "malicious", 3: "suspicious", 2: "suspicious"}
#: Named by Kaspersky itself as no malware, however critical the event.
_NOT_MALWARE = re.compile(r"not-a-virus:", re.IGNORECASE)
SANDBOX_METHOD = 6


def method_of(event: dict[str, Any]) -> int | None:
    """The detection method, None where the event does not say."""
    method = _details(event).get("method")
    return method if isinstance(method, int) and not isinstance(method, bool) else None


def wanted(event: dict[str, Any], methods: Collection[int]) -> bool:
    """Whether the event was made by one of the methods; any will do where none is named."""
    return not methods or method_of(event) in methods


def hashes_of(event: dict[str, Any], losses: Counter[str] | None = None) -> dict[str, str]:
    """The object's hashes as far as they are some."""
    raw = {"sha256": event.get("GNRL_EA_PARAM_1"), "md5": _details(event).get("md5")}
    return clean_hashes(raw, Counter() if losses is None else losses)


def form_of(event: dict[str, Any]) -> dict[str, Any]:
    """The normal form but for id and source. Raises InputError ``report_wrong_schema``."""
    losses: Counter[str] = Counter()
    collector = Collector(losses)
    hashes = hashes_of(event, losses)
    if not hashes:
        raise InputError(
            "report_wrong_schema",
            "the event names no object with a usable hash in its parameters 1 and 9",
            "look at this event in Kaspersky Security Center",
        )
    path = clean_text(event.get("GNRL_EA_PARAM_2"), 4096, losses)
    family = clean_text(event.get("GNRL_EA_PARAM_5"), 100, losses)
    name = re.split(r"[\\/]", path)[-1][:1024] if path else None
    severity = event.get("GNRL_EA_SEVERITY")
    result = RESULTS.get(severity if isinstance(severity, int) else 0, "unknown")
    if family and _NOT_MALWARE.match(family) and result == "malicious":
        result = "suspicious"
    described = {"name": name} if name else {}
    collector.add("file", "target", hashes=hashes, verdict=result, evidence="GNRL_EA_PARAM_1", **described)
    verdict: dict[str, Any] = {
        "result": result,
        "native": f"severity={severity!s:.10} method={method_of(event)}",
    }
    if family:
        verdict["families"] = [family]
    risen = event.get("rise_time")
    return collector.assemble(
        verdict=verdict,
        target={"category": "file", "hashes": hashes, **described},
        detected_at=to_iso(risen) if isinstance(risen, datetime) else clean_time(risen),
    )


def _details(event: dict[str, Any]) -> dict[str, Any]:
    text = event.get("GNRL_EA_PARAM_9")
    if not isinstance(text, str) or len(text) > 10_000:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
