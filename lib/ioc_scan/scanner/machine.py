"""The one place that chooses how files, processes and owners are handled: as POSIX does, or as Windows does.

``pin`` reaches files (:class:`.safefs.Pinned`); ``Judge`` says whose a file is; ``running``, ``runs`` and
``end`` know the processes that run an object; ``free_bytes`` is what the quarantine may take.
"""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from .winfiles import free_bytes, pin
    from .winjudge import Judge
    from .winprocesses import end, running, runs
else:
    from .posix import Judge, free_bytes
    from .posixfiles import pin
    from .processes import end, running, runs

__all__ = ["Judge", "end", "free_bytes", "pin", "running", "runs"]
