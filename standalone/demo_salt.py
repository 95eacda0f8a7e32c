"""A Salt master, salt-api and three minions for the demo, on loopback; gone when it ends.

All of Salt is real, from its own virtualenv; only the machine behind the three minions is this one, each with
a folder tree and a spool of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from standalone import demo_stage
from standalone.salt_lab import ACCOUNT, Place, SaltLab


@contextmanager
def devices(stage: demo_stage.Stage) -> Iterator[list[dict[str, Any]]]:
    """Start Salt; gives ``device_managers`` of the configuration. Ends every process afterwards."""
    root = stage.folder / "salt"
    root.mkdir(mode=0o700)
    places = {name: Place(stage.root(name), stage.folder / "spool" / name) for name in demo_stage.DEVICES}
    lab = SaltLab(root, places)
    entry = {
        "name": "salt",
        "type": "salt",
        "spool": str(root / "queue"),
        "url": lab.url,
        "username": ACCOUNT,
        "password_file": str(lab.password_file),
        "groups": [{"name": "workstations", "target": "ws*"}],
    }
    try:
        lab.start()
        lab.await_minions()
        print(f"A Salt master, salt-api at {lab.url} and {len(places)} minions are up.")
        yield [entry]
    finally:
        lab.close()
