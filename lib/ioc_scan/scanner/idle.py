"""Whether somebody uses the device, so that a scan can keep out of the way.

In order: what an agent on the device says in ``<spool>/idle`` (one word, ``idle`` or ``used``); sessions that
logind or Windows knows; terminals with recent input; and where nobody is logged on, the load of the machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from .errors import ScannerError
from .protocol import read_bytes

IDLE_FILE = "idle"
#: Without input for so long a session counts as left.
INPUT_SECONDS = 300
#: Share of all processors that ordinary (not niced) programs may use on an idle machine.
BUSY_SHARE = 0.25
#: Load per processor above which a scan is not started.
BUSY_LOAD = 0.7
_LOOK_SECONDS = 1.0
_LOGINCTL = ("/usr/bin/loginctl", "/bin/loginctl")
_COMMAND_SECONDS = 5


class IdleGate:
    """Asked several times a second; looks at most once a second."""

    def __init__(self, spool: str) -> None:
        self._word_file = os.path.join(spool, IDLE_FILE)
        self._looked_at = -_LOOK_SECONDS
        self._reason: str | None = None
        self._cpu = _cpu_times()

    def in_use(self, scanning: bool = False) -> str | None:
        """Why the device counts as used, or None.

        ``scanning``: the load is partly our own, so it is not asked.
        """
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            self._reason = self._look(scanning)
        return self._reason

    def _look(self, scanning: bool) -> str | None:
        word = self._told()
        if word is not None:
            return "in use, as told" if word == "used" else None
        busy = self._busy()
        if sys.platform == "win32":
            return _windows_in_use(busy)
        sessions = _sessions()
        if sessions:
            for session in sessions:
                if _session_in_use(session):
                    return "a session is in use"
            return None
        if _terminal_input_seconds() < INPUT_SECONDS:
            return "a terminal is in use"
        if busy > BUSY_SHARE:
            return "the processors are busy"
        if (
            not scanning
            and hasattr(os, "getloadavg")
            and os.getloadavg()[0] > BUSY_LOAD * (os.cpu_count() or 1)
        ):
            return "the load is high"
        return None

    def _told(self) -> str | None:
        try:
            word = read_bytes(self._word_file, 64).decode("ascii", "replace").strip()
        except (OSError, ScannerError):
            return None
        return word if word in ("idle", "used") else None

    def _busy(self) -> float:
        """Share of the processors that others used since the last look; our own workers are niced."""
        before, self._cpu = self._cpu, _cpu_times()
        total = self._cpu[1] - before[1]
        return (self._cpu[0] - before[0]) / total if total > 0 else 0.0


def _cpu_times() -> tuple[float, float]:
    """(ticks of ordinary user programs, all ticks) since the start of the machine."""
    if sys.platform == "win32":
        from .winsessions import cpu_times

        return cpu_times()
    try:
        with open("/proc/stat", encoding="ascii") as stream:
            ticks = [float(word) for word in stream.readline().split()[1:9]]
    except (OSError, ValueError):
        return 0.0, 0.0
    return (ticks[0], sum(ticks)) if ticks else (0.0, 0.0)


def _sessions() -> list[dict[str, str]]:
    """Sessions of people as logind knows them; empty where there is none or no logind."""
    command = next((path for path in _LOGINCTL if os.path.exists(path)), None)
    if command is None or not os.path.isdir("/run/systemd/sessions"):
        return []
    names = [name for name in os.listdir("/run/systemd/sessions") if not name.endswith(".ref")]
    if not names:
        return []
    fields = "-pClass", "-pType", "-pState", "-pIdleHint", "-pLockedHint", "-pTTY"
    try:
        answer = subprocess.run(
            [command, "show-session", *fields, *names],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_sessions(answer.stdout.decode("utf-8", "replace"))


def parse_sessions(text: str) -> list[dict[str, str]]:
    """``loginctl show-session``: blocks of ``Key=value`` with empty lines between; sessions of people only."""
    found = []
    for block in text.split("\n\n"):
        session = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if session.get("Class") == "user" and session.get("State") != "closing":
            found.append(session)
    return found


def _session_in_use(session: dict[str, str]) -> bool:
    if session.get("LockedHint") == "yes" or session.get("IdleHint") == "yes":
        return False
    if session.get("Type") == "tty" or session.get("TTY", "").startswith("pts/"):
        # logind sets no idle hint for terminals of its own accord: their last input tells.
        return _input_seconds("/dev/" + session.get("TTY", "")) < INPUT_SECONDS
    return session.get("State") == "active"


def _input_seconds(terminal: str) -> float:
    """Seconds since something was typed there (the kernel dates a terminal's reads)."""
    try:
        return max(0.0, time.time() - os.stat(terminal).st_atime)
    except OSError:
        return float("inf")


def _terminal_input_seconds() -> float:
    try:
        names = [name for name in os.listdir("/dev/pts") if name.isdigit()]
    except OSError:
        return float("inf")
    return min((_input_seconds("/dev/pts/" + name) for name in names), default=float("inf"))


def _windows_in_use(busy: float) -> str | None:
    if sys.platform == "win32":
        from .winsessions import ACTIVE, own_input_seconds, session_in_use, sessions

        found = sessions()
        if not found:  # not even a list: the session we are in is the one that is known
            return "input" if own_input_seconds() < INPUT_SECONDS else None
        if session_in_use(found, INPUT_SECONDS):
            return "a session is in use"
        if busy > BUSY_SHARE and not any(session.state == ACTIVE for session in found):
            return "the processors are busy"
    return None
