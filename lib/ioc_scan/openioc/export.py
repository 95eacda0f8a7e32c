"""IOC files to hand on: the files themselves, STIX 2.1 beside them, and a manifest with digests, as one zip.

Same files, same bytes. A digest in the manifest is that of the bytes in the archive; for an ``.ioc`` it is
the digest by which tasks and plans know the file.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ioc_scan.openioc.convert import convert
from ioc_scan.openioc.reader import read_ioc
from ioc_scan.openioc.stix import to_stix_bundle
from ioc_scan.openioc.writer import write_ioc
from ioc_scan.text import printable

#: The earliest moment a zip can hold: exports do not depend on when they are made.
_ZIP_MOMENT = (1980, 1, 1, 0, 0, 0)
MANIFEST = "manifest.json"
CHECKSUMS = "SHA256SUMS"


@dataclass(frozen=True)
class Export:
    """``files``: name -> bytes, the manifest too; ``archive``: all as a zip, ``digest`` its SHA-256."""

    files: Mapping[str, bytes]
    archive: bytes
    digest: str


def export_iocs(
    iocs: Sequence[tuple[bytes, str]],
    *,
    version: str | None = None,
    stix: bool = True,
    about: Mapping[str, str] | None = None,
) -> Export:
    """Export IOC files, given as content and tier.

    ``version``: "1.0" or "1.1" converts each file (its digest is then another; the manifest names both).
    ``about``: short texts for the manifest (detection id, task id).
    Raises InputError for a file that cannot be read or converted.
    """
    files: dict[str, bytes] = {}
    entries = []
    for content, tier in iocs:
        ioc = read_ioc(content)
        source_digest = hashlib.sha256(content).hexdigest()
        if version is not None and version != ioc.version:
            ioc = convert(ioc, version).ioc
            content = write_ioc(ioc)
        stem = _stem(ioc.id or source_digest[:16], tier, files)
        files[f"{stem}.ioc"] = content
        entry: dict[str, Any] = {
            **_described(f"{stem}.ioc", content),
            "kind": "openioc",
            "version": ioc.version,
            "tier": tier,
            "ioc_id": printable(ioc.id, 120),
            "indicator_items": sum(1 for _ in ioc.items()),
        }
        if entry["sha256"] != source_digest:
            entry["converted_from"] = source_digest
        entries.append(entry)
        if stix:
            bundle = to_stix_bundle(ioc, digest=source_digest, tier=tier)
            data = (json.dumps(bundle, ensure_ascii=True, indent=2, sort_keys=True) + "\n").encode("ascii")
            files[f"{stem}.stix.json"] = data
            entries.append(
                {
                    **_described(f"{stem}.stix.json", data),
                    "kind": "stix",
                    "version": "2.1",
                    "tier": tier,
                    "made_from": entry["name"],
                    "not_expressible": sum(1 for each in bundle["objects"] if each["type"] == "note"),
                }
            )
    manifest = {
        "manifest_version": 1,
        "about": {name: printable(text, 200) for name, text in sorted((about or {}).items())},
        "files": entries,
    }
    files[MANIFEST] = (json.dumps(manifest, ensure_ascii=True, indent=2, sort_keys=True) + "\n").encode(
        "ascii"
    )
    files[CHECKSUMS] = "".join(
        f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items()
    ).encode("ascii")
    archive = _zip(files)
    return Export(files, archive, hashlib.sha256(archive).hexdigest())


def _described(name: str, content: bytes) -> dict[str, Any]:
    return {"name": name, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def _stem(identifier: str, tier: str, taken: Mapping[str, bytes]) -> str:
    """A file name from an id that came from outside: letters, digits, dots and dashes only, never twice."""
    stem = f"{re.sub(r'[^A-Za-z0-9-]', '_', identifier)[:80] or 'ioc'}-{tier}"
    number = 1
    unique = stem
    while f"{unique}.ioc" in taken:
        number += 1
        unique = f"{stem}-{number}"
    return unique


def _zip(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _ZIP_MOMENT)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            archive.writestr(entry, content)
    return stream.getvalue()
