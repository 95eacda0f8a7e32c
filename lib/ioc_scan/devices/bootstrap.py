"""How a scanner gets onto a device that has only a shell: found Python, checked digest, then one visit.

The command line is fixed but for quoted constants; everything else travels through stdin:

1. we send a line ``{"digest", "length", "spool"}`` (after the sudo password, where there is one);
2. the device answers ``have`` or ``need``, and gets the scanner's bytes if it needs them;
3. the scanner, its digest checked, runs the visit that follows on stdin.

It runs from a folder beside the file, unpacked once, so that Python keeps its bytecode there: compiling would be half
of what a look costs a device. Where that folder cannot be made, or is not whole, it runs from the file itself.
"""

from __future__ import annotations

import json
import shlex

HAVE, NEED = b"ioc_scan:have\n", b"ioc_scan:need\n"
#: Exit statuses of the bootstrap, outside the scanner's own.
NO_PYTHON, SPOOL_REFUSED, SCANNER_DAMAGED = 71, 72, 73

_PYTHONS = (
    "python3 python3.13 python3.12 python3.11 python3.10 python3.9 python3.8 /usr/libexec/platform-python"
    " /usr/local/bin/python3 /opt/homebrew/bin/python3"
)

#: Runs on the device, on Python 3.8 and later. Reads stdin without a buffer: what follows belongs to the visit.
_PROGRAM = r"""
import hashlib, json, os, stat, sys
os.umask(0o077)
def read(count):
    parts = []
    while count > 0:
        part = os.read(0, min(count, 65536))
        if not part:
            sys.exit(73)
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
line = b""
while not line.startswith(b"{"):
    line = b""
    while not line.endswith(b"\n"):
        line += read(1)
start = json.loads(line.decode("ascii"))
folder = os.path.join(start["spool"], "scanner")
os.makedirs(start["spool"], mode=0o700, exist_ok=True)
os.makedirs(folder, mode=0o700, exist_ok=True)
for name in (start["spool"], folder):
    info = os.lstat(name)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o077:
        sys.exit(72)
path = os.path.join(folder, start["digest"] + ".pyz")
def good():
    try:
        with open(path, "rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest() == start["digest"]
    except OSError:
        return False
if good():
    os.write(1, b"ioc_scan:have\n")
else:
    os.write(1, b"ioc_scan:need\n")
    content = read(start["length"])
    new = path + ".%d" % os.getpid()
    with open(new, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(new, path)
    if not good():
        os.unlink(path)
        sys.exit(73)
code = path[:-4]
sizes = os.path.join(code, "sizes.json")
def whole():
    try:
        with open(sizes) as stream:
            return all(os.path.getsize(os.path.join(code, n)) == size for n, size in json.load(stream).items())
    except (OSError, ValueError):
        return False
def unpack():
    import shutil, zipfile
    new = code + ".%d" % os.getpid()
    with zipfile.ZipFile(path) as archive:
        archive.extractall(new)
        listed = {info.filename: info.file_size for info in archive.infolist()}
    with open(os.path.join(new, "sizes.json"), "w") as stream:
        json.dump(listed, stream)
    try:
        os.rename(new, code)
    except OSError:
        old = new + ".old"
        if not whole():
            os.rename(code, old)
            os.rename(new, code)
        for name in (new, old):
            shutil.rmtree(name, ignore_errors=True)
place = code
if not whole():
    try:
        unpack()
    except OSError:
        place = path
sys.path.insert(0, place)
from ioc_scan_scanner.__main__ import main
sys.exit(main(["visit", "--spool", start["spool"]]))
"""


def command(*, sudo: bool, sudo_password: bool, python: str | None = None) -> str:
    """The line for the device's shell. ``python``: the interpreter to use instead of the first good one.

    Without ``site``: nothing that is installed there takes part, and Python starts in a third of the time.
    """
    become = ""
    if sudo:
        become = "sudo -k -S -p '' -- " if sudo_password else "sudo -n -- "
    pythons = shlex.quote(python) if python else _PYTHONS
    script = (
        f"for p in {pythons}; do"
        ' if "$p" -I -S -c "import sys; sys.exit(sys.version_info < (3, 8))" </dev/null >/dev/null 2>&1;'
        f' then exec {become}"$p" -I -S -c "$0"; fi; done; exit {NO_PYTHON}'
    )
    return f"exec /bin/sh -c {shlex.quote(script)} {shlex.quote(_PROGRAM)}"


def opening(digest: str, length: int, spool: str, sudo_password: str | None) -> bytes:
    """The first bytes for stdin."""
    start = json.dumps({"digest": digest, "length": length, "spool": spool}).encode("ascii") + b"\n"
    return (sudo_password.encode() + b"\n" if sudo_password is not None else b"") + start
