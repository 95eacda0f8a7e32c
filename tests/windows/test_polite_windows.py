"""Out of the way on Windows: priorities, the processor budget, and whether somebody uses the machine."""

from __future__ import annotations

from pathlib import Path

from ioc_scan.openioc.plan import compile_plan

from tests.unit.scanner.support import any_ioc
from tests.windows.rig import Windows
from tests.windows.spools import WindowsDevice

_PRIORITY = """
import ctypes
from ctypes import wintypes
from ioc_scan_scanner.polite import lower_priority
kernel = ctypes.WinDLL("kernel32")
kernel.GetCurrentProcess.restype = wintypes.HANDLE
kernel.GetPriorityClass.argtypes = (wintypes.HANDLE,)
before = kernel.GetPriorityClass(kernel.GetCurrentProcess())
lower_priority()
lower_priority()
print(json.dumps([before, kernel.GetPriorityClass(kernel.GetCurrentProcess())]))
"""
_IDLE = """
from ioc_scan_scanner import idle, winsessions
gate = idle.IdleGate(sys.argv[1])
found = [gate.in_use()]
for word in ("used", "idle"):
    with open(sys.argv[1] + "\\\\idle", "w") as stream:
        stream.write(word)
    gate._looked_at -= 60
    found.append(gate.in_use())
print(json.dumps([found, winsessions.own_input_seconds(), winsessions.cpu_times(), winsessions.sessions()]))
"""
_BUDGET = """
import time
from ioc_scan_scanner.polite import Budget
budget, begin = Budget(25), time.monotonic()
used = time.process_time()
while time.process_time() - used < 0.5:
    sum(range(2000))
    budget.keep()
print(json.dumps((time.process_time() - used) / (time.monotonic() - begin)))
"""


def test_lowest_priority_of_the_processor(windows: Windows, version: str) -> None:
    normal, idle = 0x20, 0x40
    assert windows.python(version, _PRIORITY) == [normal, idle]


def test_processor_budget_is_kept(windows: Windows) -> None:
    assert 0 < windows.python("3.8", _BUDGET) < 0.29  # a busy machine may give us less


def test_use_of_the_machine_is_asked_of_windows(windows: Windows, version: str) -> None:
    _, name = windows.folder("idle")
    found, seconds, (busy, total), sessions = windows.python(version, _IDLE, name)
    # Nobody types into this Windows; without a list of its sessions, its last input counts.
    assert seconds >= 0 and 0 < busy <= total and sessions in ([], None)
    assert found == ["input" if seconds < 300 else None, "in use, as told", None]


def test_scan_waits_while_the_machine_is_used(windows: Windows) -> None:
    plan = compile_plan([(any_ioc(("FileItem/FileName", "is", "string", "evil.exe")), "hunt")])
    device = WindowsDevice(windows, "3.13", plan)
    (device.tree / "evil.exe").write_bytes(b"x")
    device.visit(place=[device.job("scan-1", idle_only=True)])
    word = Path(device.spool / "idle")
    word.write_text("used")
    device.run("--once")
    assert device.outcome("scan-1").status["state"] == "waiting_idle"
    word.write_text("idle")
    device.run("--once")
    outcome = device.outcome("scan-1")
    assert outcome.status["state"] == "done" and len(outcome.of("match")) == 1
