"""Runs on the Windows of the rig: keeps files open and a program running until it is told to stop.

argv: a folder with ``files``. Writes ``ready`` when all is open, ``ended`` if ``files\\run\\prog.exe`` does, and
waits for ``stop``.
"""

import ctypes
import os
import subprocess
import sys
import time
from ctypes import wintypes

BASE = sys.argv[1]
READ, WRITE = 0x80000000, 0x40000000
#: name: (access, share)
HELD = {
    "locked.exe": (READ, 0),
    "read.exe": (READ, 7),
    "written.exe": (READ | WRITE, 7),
    "kept.exe": (READ, 3),
}

create = ctypes.windll.kernel32.CreateFileW
create.restype = wintypes.HANDLE
create.argtypes = (wintypes.LPCWSTR, wintypes.DWORD, wintypes.DWORD, ctypes.c_void_p, wintypes.DWORD,
                   wintypes.DWORD, wintypes.HANDLE)  # fmt: skip

for name, (access, share) in HELD.items():
    handle = create(BASE + "\\files\\" + name, access, share, None, 3, 0, None)
    assert handle != ctypes.c_void_p(-1).value, name
program = subprocess.Popen(
    [BASE + "\\files\\run\\prog.exe", "-c", "import time; time.sleep(600)"],
    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
)  # fmt: skip
time.sleep(0.5)
assert program.poll() is None
with open(BASE + "\\ready.part", "w") as stream:
    stream.write(str(program.pid))
os.rename(BASE + "\\ready.part", BASE + "\\ready")  # noqa: PTH104
while not os.path.exists(BASE + "\\stop"):
    if program.poll() is not None and not os.path.exists(BASE + "\\ended"):
        open(BASE + "\\ended", "w").close()
    time.sleep(0.05)
program.kill()
