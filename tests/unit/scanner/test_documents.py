"""Documents other than files: every term the table promises for Linux is answered with what is really there."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from ioc_scan.openioc.plan import compile_plan
from ioc_scan.openioc.terms import all_terms
from ioc_scan.scanner import documents
from ioc_scan.scanner.documents.base import IDENTITY
from ioc_scan.scanner.localscan import scan_here
from ioc_scan.scanner.plan import load_plan

from tests.unit.scanner.support import Device, any_ioc, sha256

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the Linux collectors")

#: What may change between two looks, with a range instead; and what this machine may not have at all.
RANGES = {
    "SystemInfoItem/availphysical": "[1 TO 99999999999999]",
    "SystemInfoItem/uptime": "[1 TO 99999999999]",
    "VolumeItem/FreeSize": "[0 TO 99999999999999999]",
}
LINUX = {name: term for name, term in all_terms().items() if "linux" in term.collectors}
DOCUMENTS = sorted({term.document for term in LINUX.values()} - {"FileItem", "EventLogItem"})


@pytest.fixture(scope="module")
def landmark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A process of its own name that listens on a port."""
    folder = tmp_path_factory.mktemp("landmark")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        program = folder / "ioc-scan-landmark-process"
        shutil.copy(os.path.realpath(shutil.which("sleep") or "/bin/sleep"), program)
        process = subprocess.Popen([program, "301"], pass_fds=[server.fileno()])
        port = server.getsockname()[1]
        while Path(f"/proc/{process.pid}/exe").resolve() != program.resolve():
            time.sleep(0.01)
        yield {"program": str(program), "pid": process.pid, "port": port}
        process.kill()
        process.wait()


def scan(tmp_path: Path, files: list[bytes]) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """Matches by IOC digest, and the summary."""
    lines: dict[str, list[dict[str, Any]]] = {}
    plan = load_plan(compile_plan([(content, "hunt") for content in files]))
    summary = scan_here(
        plan,
        {"scope": "custom", "roots": [str(tmp_path)]},
        lambda line: lines.setdefault(line["ioc"], []).append(line),
    )
    return lines, summary


def chosen(document: str, landmark: dict[str, Any]) -> list[dict[str, Any]]:
    """Items to ask for: those of the landmark where there are such, else all that stay as they are."""
    module = documents.module_of(document)
    items = list(module.collect(documents.Request(module.FIELDS["linux"], "linux")))
    if document == "ProcessItem":
        return [item for item in items if item["pid"] == landmark["pid"]]
    if document == "PortItem":
        return [item for item in items if item["localPort"] == landmark["port"]]
    return items


def ask(term: str, value: object) -> bytes:
    kind = LINUX[term].type
    if isinstance(value, bool):
        value = str(value).lower()
    return any_ioc((term, "is", kind if kind not in ("ip",) else "IP", escape(RANGES.get(term, str(value)))))


def wrong(term: str) -> bytes:
    values = {"int": "987654321987", "duration": "0", "date": "1971-01-01T00:00:00Z", "ip": "203.0.113.77"}
    kind = LINUX[term].type
    return any_ioc((term, "is", kind if kind != "ip" else "IP", values.get(kind, "no such thing anywhere")))


def test_the_table_of_terms_and_the_collectors_agree() -> None:
    """Who reads the table must be able to believe it, on every system."""
    for system in ("linux", "windows", "macos"):
        for document in documents.MODULES:
            said = {
                term.field
                for term in all_terms().values()
                if term.document == document and system in term.collectors
            }
            assert documents.module_of(document).FIELDS[system] == said, (system, document)
    others = {term.document for term in LINUX.values()} - set(documents.MODULES)
    assert others == {"FileItem"}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_items_keep_their_identity(document: str) -> None:
    """The same thing looked at twice is one item, or results would be doubled after every break."""
    module = documents.module_of(document)

    def look() -> list[str]:
        items = list(module.collect(documents.Request(module.FIELDS["linux"], "linux")))
        assert all(set(item) <= module.FIELDS["linux"] | {IDENTITY} for item in items)
        return [item[IDENTITY] for item in items]

    first, second = look(), look()
    assert all(isinstance(identity, str) for identity in first)
    assert len(set(first)) >= len(first) * 0.9
    assert len(set(first) & set(second)) >= len(set(first)) * 0.8  # some things come and go


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_supported_term_finds_exactly_what_is_there(
    document: str, landmark: dict[str, Any], tmp_path: Path
) -> None:
    items = chosen(document, landmark)
    positive: dict[str, bytes] = {}
    for term in (name for name in LINUX if name.startswith(document + "/")):
        field = term.partition("/")[2]
        for item in items:
            value = item.get(field)
            value = value[0] if isinstance(value, list) and value else value
            if value not in (None, [], "") and str(value).strip() == str(value):
                positive[term] = ask(term, value)
                break
    negative = {term: wrong(term) for term in positive if term not in RANGES and LINUX[term].type != "bool"}
    lines, summary = scan(tmp_path, [*positive.values(), *negative.values()])
    # The first process hides its executable and sockets in some containers, even from root.
    told = [entry for entry in summary["not_evaluated"] if "of 1 processes" not in entry["reason"]]
    # A machine may have more than a thousand sockets that fit, of which the first are listed.
    assert [entry for entry in told if not entry["reason"].endswith("the others are not listed")] == []
    missed = [term for term, content in positive.items() if sha256(content) not in lines]
    assert missed == []
    assert [term for term, content in negative.items() if sha256(content) in lines] == []
    absent = {name for name in LINUX if name.startswith(document + "/")} - set(positive)
    print("not on this machine:", sorted(absent))
    if items:
        assert positive


def test_a_process_and_its_port_by_what_they_are(landmark: dict[str, Any], tmp_path: Path) -> None:
    process = any_ioc(("ProcessItem/path", "is", "string", landmark["program"]))
    port = any_ioc(("PortItem/localPort", "is", "int", str(landmark["port"])))
    lines, _ = scan(tmp_path, [process, port])
    [match] = lines[sha256(process)]
    assert match["item"]["pid"] == landmark["pid"]
    assert match["item"]["name"] == "ioc-scan-landmark-process"
    assert match["item"]["arguments"] == f"{landmark['program']} 301"
    [match] = lines[sha256(port)]
    assert (match["item"]["state"], match["item"]["localIP"]) == (["LISTENING", "LISTEN"], "127.0.0.1")


def test_what_linux_does_not_have_is_not_evaluated(tmp_path: Path) -> None:
    _, summary = scan(tmp_path, [any_ioc(("RegistryItem/Path", "contains", "string", "Run"))])
    assert [entry["what"] for entry in summary["not_evaluated"]] == ["RegistryItem/Path"]


def test_a_field_that_no_item_answers_is_not_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a device where everything about its services can be read but their processes."""
    services = documents.module_of("ServiceItem")
    monkeypatch.setattr(services, "collect", lambda request: iter([{"name": "a"}, {"name": "b"}]))
    _, summary = scan(tmp_path, [any_ioc(("ServiceItem/pid", "is", "int", "1"))])
    assert [entry["what"] for entry in summary["not_evaluated"]] == ["ServiceItem/pid"]


def test_a_folder_tree_has_files_only(tmp_path: Path) -> None:
    """The processes of this machine are not those of a device that is a folder of it."""
    content = any_ioc(("ProcessItem/pid", "is", "int", "1"), ("FileItem/FileName", "is", "string", "here"))
    device = Device(tmp_path, compile_plan([(content, "hunt")]))
    (device.tree / "here").touch()
    outcome = device.do("scan", "s")
    assert [line["document"] for line in outcome.of("match")] == ["FileItem"]
    assert [entry["what"] for entry in outcome.status["not_evaluated"]] == ["ProcessItem"]


def test_file_items_answer_every_term(tmp_path: Path) -> None:
    path = tmp_path / "Some.Name.TXT"
    path.write_bytes(b"content")
    path.chmod(0o640)
    os.utime(path, (1_600_000_000, 1_500_000_000))
    info = path.stat()
    wanted = {
        "FileItem/FileName": path.name,
        "FileItem/FilePath": str(tmp_path),
        "FileItem/FullPath": str(path),
        "FileItem/FileExtension": "TXT",
        "FileItem/SizeInBytes": "7",
        "FileItem/Permissions": str(0o640),
        "FileItem/INode": str(info.st_ino),
        "FileItem/SecurityID": str(os.getuid()),
        "FileItem/Username": pwd.getpwuid(os.getuid()).pw_name,
        "FileItem/GroupID": str(info.st_gid),
        "FileItem/Group": grp.getgrgid(info.st_gid).gr_name,
        "FileItem/Accessed": "2020-09-13T12:26:40Z",
        "FileItem/Modified": "2017-07-14T02:40:00Z",
        "FileItem/Changed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(info.st_ctime))),
        "FileItem/Md5sum": "9a0364b9e99bb480dd25e1f0284c8555",
        "FileItem/Sha1sum": "040f06fd774092478d450774f5ba30c5da78acc8",
        "FileItem/Sha256sum": sha256(b"content"),
    }
    assert set(wanted) == {name for name in LINUX if name.startswith("FileItem/")}
    files = [any_ioc((term, "is", LINUX[term].type, value)) for term, value in wanted.items()]
    files += [wrong(term) for term in wanted if LINUX[term].type in ("string", "int", "date")]
    lines, summary = scan(tmp_path, files)
    missed = [term for term, content in zip(wanted, files, strict=False) if sha256(content) not in lines]
    assert missed == []
    assert summary["matches"] == len(wanted)
