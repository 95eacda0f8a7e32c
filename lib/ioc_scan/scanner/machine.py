"""The one place that chooses how files, processes and owners are handled: as POSIX does, or as Windows does.

``pin`` reaches files (:class:`.safefs.Pinned`); ``Judge`` says whose a file is; ``running``, ``runs`` and
``end`` know the processes that run an object; ``free_bytes`` and ``make_private`` are for the quarantine.
"""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from .winfiles import free_bytes, pin
    from .winjudge import Judge
    from .winprocesses import end, running, runs
    from .winsecurity import make_private
else:
    from .posix import Judge, free_bytes, make_private
    from .posixfiles import pin
    from .processes import end, running, runs

__all__ = ["Judge", "end", "free_bytes", "make_private", "pin", "running", "runs"]
