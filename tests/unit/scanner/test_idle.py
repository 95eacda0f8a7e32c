"""Reading who uses the device; the gate as a whole is tested with the scan (test_resume)."""

from __future__ import annotations

import os
import pty
import time
from pathlib import Path

import pytest
from ioc_scan.scanner import idle

SESSIONS = """Class=user
Type=x11
State=active
IdleHint=no
LockedHint=no
TTY=tty2

Class=manager
Type=unspecified
State=active
IdleHint=no
LockedHint=no
TTY=
"""


@pytest.mark.parametrize(
    ("change", "used"),
    [
        (("", ""), True),
        (("LockedHint=no", "LockedHint=yes"), False),
        (("IdleHint=no", "IdleHint=yes"), False),
        (("State=active", "State=online"), False),
    ],
)
def test_sessions(change: tuple[str, str], used: bool) -> None:
    sessions = idle.parse_sessions(SESSIONS.replace(*change) if change[0] else SESSIONS)
    assert [session["Type"] for session in sessions] == ["x11"]
    assert idle._session_in_use(sessions[0]) is used


def test_a_terminal_counts_as_used_while_somebody_types() -> None:
    controller, terminal = pty.openpty()
    name = os.ttyname(terminal)
    session = {"Class": "user", "Type": "tty", "State": "active", "TTY": name[len("/dev/") :]}
    os.utime(name, (time.time() - 10_000, time.time() - 10_000))
    assert not idle._session_in_use(session)
    os.utime(name, (time.time() - 5, time.time() - 5))
    assert idle._session_in_use(session)
    os.close(controller)
    os.close(terminal)


def test_a_busy_machine_without_people_counts_as_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle, "_sessions", list)
    monkeypatch.setattr(idle, "_terminal_input_seconds", lambda: float("inf"))
    times = iter([(0.0, 0.0), (10.0, 100.0), (60.0, 200.0)])
    monkeypatch.setattr(idle, "_cpu_times", lambda: next(times))
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    gate = idle.IdleGate(str(tmp_path))
    assert gate.in_use() is None
    monkeypatch.setattr(idle, "_LOOK_SECONDS", 0.0)
    assert gate.in_use() == "the processors are busy"


def test_words_other_than_the_two_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "idle").write_text("used")
    assert idle.IdleGate(str(tmp_path)).in_use() == "in use, as told"
    (tmp_path / "idle").write_text("idle")
    assert idle.IdleGate(str(tmp_path)).in_use() is None
    (tmp_path / "idle").write_text("perhaps")
    assert idle.IdleGate(str(tmp_path))._told() is None
