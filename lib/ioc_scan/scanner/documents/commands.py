"""The system's own commands as a source: never a shell, a fixed search path, bounded time and output."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from typing import Any, Iterator, Sequence

from ..polite import lower_priority
from .base import UnavailableError

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
MAX_LINE_BYTES = 256 * 1024
_BELOW_NORMAL_NO_WINDOW = 0x00004000 | 0x08000000


def find(name: str) -> str | None:
    """Where a command of the system lies; never taken from the environment's own PATH."""
    if os.name == "nt":
        folder = os.path.join(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32")
        path = os.pathsep.join((folder, os.path.join(folder, "WindowsPowerShell", "v1.0")))
        return shutil.which(name, path=path)
    return shutil.which(name, path=_PATH)


class Lines:
    """The output of one command, line by line. ``truncated``: time or bytes ran out before its end."""

    def __init__(self, arguments: Sequence[str], seconds: float, max_bytes: int) -> None:
        """Raises UnavailableError if the command is not there."""
        path = find(arguments[0])
        if path is None:
            raise UnavailableError(f"the command {arguments[0]} is not on this device")
        self._command = [path, *arguments[1:]]
        self._seconds = seconds
        self._left = max_bytes
        self.truncated = False
        self.status: int | None = None

    def __iter__(self) -> Iterator[bytes]:
        options: dict[str, Any] = {"preexec_fn": lower_priority}
        if os.name == "nt":
            options = {"creationflags": _BELOW_NORMAL_NO_WINDOW}
        else:
            options["env"] = {"PATH": _PATH, "LC_ALL": "C"}
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            **options,
        )
        timer = threading.Timer(self._seconds, self._stop, (process,))
        timer.start()
        assert process.stdout is not None
        try:
            while not self.truncated:
                line = process.stdout.readline(MAX_LINE_BYTES)
                if not line:
                    break
                self._left -= len(line)
                if self._left < 0:
                    self.truncated = True
                    break
                yield line
        finally:
            timer.cancel()
            if process.poll() is None and (self.truncated or not _ended(process)):
                process.kill()
            process.stdout.close()
            self.status = process.wait()

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        self.truncated = True
        with contextlib.suppress(OSError):
            process.kill()


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """A command whose output ended is given a moment to end itself."""
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        return False
    return True


def output(arguments: Sequence[str], seconds: float = 10.0, max_bytes: int = 8 * 1024 * 1024) -> bytes:
    """All a command prints. Raises UnavailableError: not there, failed, or beyond its bounds."""
    lines = Lines(arguments, seconds, max_bytes)
    content = b"".join(lines)
    if lines.truncated:
        raise UnavailableError(f"the command {arguments[0]} took too long or printed too much")
    if lines.status != 0:
        raise UnavailableError(f"the command {arguments[0]} failed with status {lines.status}")
    return content
