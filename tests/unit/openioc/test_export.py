"""Exports: STIX that says the same or says that it cannot, and an archive that proves itself."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import stix2
from ioc_scan.openioc.export import export_iocs
from ioc_scan.openioc.reader import read_ioc
from ioc_scan.openioc.stix import to_stix_bundle
from ioc_scan.openioc.writer import write_ioc

from tests.unit.openioc.builders import MD5_1, SHA_1, document
from tests.unit.openioc.test_documents import dev_files


def patterns(tree: list[Any]) -> list[str]:
    bundle = to_stix_bundle(document(tree))
    return [entry["pattern"] for entry in bundle["objects"] if entry["type"] == "indicator"]


@pytest.mark.parametrize(
    ("tree", "pattern"),
    [
        (
            ["AND", ["FileItem/SizeInBytes", "is", "10"], ["FileItem/Sha256sum", "is", SHA_1.upper()]],
            f"[file:size = 10 AND file:hashes.'SHA-256' = '{SHA_1}']",
        ),
        (["FileItem/FileName", "is", "a.exe"], r"[file:name MATCHES '(?i)^a\\.exe$']"),
        (["FileItem/FileName", "is", "it's", {"preserve-case": True}], r"[file:name = 'it\'s']"),
        (["FileItem/FileName", "containsnot", "a"], "[file:name NOT MATCHES '(?i)a']"),
        (["FileItem/FileName", "ends-with", ".scr"], r"[file:name MATCHES '(?i)\\.scr$']"),
        (["FileItem/Md5sum", "isnot", MD5_1], f"[file:hashes.MD5 != '{MD5_1}']"),
        (["FileItem/SizeInBytes", "is", "[5 TO 9]"], "[(file:size >= 5 AND file:size <= 9)]"),
        (["FileItem/SizeInBytes", "isnot", "[5 TO 9]"], "[(file:size < 5 OR file:size > 9)]"),
        (["FileItem/SizeInBytes", "greater-than", "5"], "[file:size >= 6]"),
        (["PortItem/remoteIP", "is", "2001:DB8::1"], "[network-traffic:dst_ref.value = '2001:db8::1']"),
        (
            ["AND", ["FileItem/FileName", "is", "a"], ["PortItem/remotePort", "is", "443"]],
            "[file:name MATCHES '(?i)^a$'] AND [network-traffic:dst_port = 443]",
        ),
        (
            [
                "AND",
                ["ProcessItem/HandleList/Handle/Type", "is", "Mutant"],
                ["ProcessItem/HandleList/Handle/Name", "ends-with", "x"],
            ],
            "[mutex:name MATCHES '(?i)x$']",
        ),
        (
            ["FileItem/Created", "greater-than", "2024-01-01T00:00:00Z"],
            "[file:ctime >= t'2024-01-01T00:00:01.000000Z']",
        ),
    ],
)
def test_patterns_say_the_same(tree: list[Any], pattern: str) -> None:
    assert patterns(tree) == [pattern]


@pytest.mark.parametrize(
    "tree",
    [
        ["HookItem/Foo", "is", "x"],
        ["RegistryItem/Path", "contains", "Run"],
        ["FileItem/SizeInBytes", "is", "many"],
        [
            "AND",
            ["FileItem/FileName", "is", "a"],
            ["OR", ["FileItem/FileName", "is", "b"], ["PortItem/remotePort", "is", "1"]],
        ],
    ],
)
def test_what_stix_cannot_say_becomes_a_note(tree: list[Any]) -> None:
    bundle = to_stix_bundle(document(tree), tier="hunt")
    assert not [entry for entry in bundle["objects"] if entry["type"] == "indicator"]
    (note,) = [entry for entry in bundle["objects"] if entry["type"] == "note"]
    assert note["abstract"].startswith("Not expressible") and note["content"]


def test_bundles_are_valid_and_always_the_same() -> None:
    for path in dev_files()[::5]:
        ioc = read_ioc(path.read_bytes())
        bundle = to_stix_bundle(ioc, digest="0" * 64)
        assert bundle == to_stix_bundle(ioc, digest="0" * 64)
        parsed = stix2.parse(json.dumps(bundle), version="2.1")
        kinds = [entry.type for entry in parsed.objects]
        assert kinds.count("report") == 1 and ("indicator" in kinds or "note" in kinds)


def test_the_archive_holds_the_files_and_their_digests(tmp_path: Path) -> None:
    actionable = write_ioc(document(["FileItem/Sha256sum", "is", SHA_1], "1.0"))
    hunt = write_ioc(
        document(["OR", ["FileItem/Md5sum", "is", MD5_1], ["RegistryItem/Path", "is", "x"]], "1.0")
    )
    export = export_iocs(
        [(actionable, "actionable"), (hunt, "hunt")], about={"detection_id": "cape:lab:{{1}}"}
    )
    assert export == export_iocs(
        [(actionable, "actionable"), (hunt, "hunt")], about={"detection_id": "cape:lab:{{1}}"}
    )
    assert export.digest == hashlib.sha256(export.archive).hexdigest()
    with zipfile.ZipFile(io.BytesIO(export.archive)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == dict(export.files)
        archive.extractall(tmp_path)
    assert (
        subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=tmp_path, capture_output=True).returncode
        == 0
    )
    manifest = json.loads(export.files["manifest.json"])
    assert manifest["about"] == {"detection_id": "cape:lab:{ {1}}"}
    kinds = [(entry["kind"], entry["tier"], entry["sha256"]) for entry in manifest["files"]]
    assert ("openioc", "actionable", hashlib.sha256(actionable).hexdigest()) in kinds
    (stix,) = [entry for entry in manifest["files"] if entry["kind"] == "stix" and entry["tier"] == "hunt"]
    assert stix["not_expressible"] == 1


def test_names_from_outside_stay_file_names() -> None:
    ioc = document(["FileItem/Sha256sum", "is", SHA_1], "1.0")
    ioc.id = "../../etc/passwd\n{{x}}"
    export = export_iocs([(write_ioc(ioc), "hunt"), (write_ioc(ioc), "hunt")], stix=False)
    names = [name for name in export.files if name.endswith(".ioc")]
    assert len(names) == 2 and all(
        "/" not in name and "." not in name[:-4] and "{" not in name for name in names
    )


def test_a_converted_export_names_both_digests() -> None:
    original = write_ioc(document(["FileItem/Sha256sum", "is", SHA_1], "1.0"))
    export = export_iocs([(original, "hunt")], version="1.1", stix=False)
    (entry,) = json.loads(export.files["manifest.json"])["files"]
    assert entry["version"] == "1.1" and entry["converted_from"] == hashlib.sha256(original).hexdigest()
