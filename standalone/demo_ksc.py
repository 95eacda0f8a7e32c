"""Kaspersky Security Center for the demo: the stand-in of the tests, on loopback, with the demo's folders for disks.

The stand-in is no Administration Server: it was written from the public reference, and what that does not publish
has made-up names there (SIM_...). See docs/kaspersky.md.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ioc_scan.clock import system_clock
from ioc_scan.devices.ksc import KscManager

from standalone import demo_stage

STEP_SECONDS = 0.3


@contextmanager
def devices(stage: demo_stage.Stage) -> Iterator[list[dict[str, Any]]]:
    """Start the stand-in and learn its templates; gives ``device_managers`` of the configuration."""
    # Only this demo needs the tests' stand-in: a pack installed without tests has all other demos.
    from tests.ksc_server import EVENT_IOC_FOUND, EVENT_QUARANTINED, KscServer, marker_bytes, sim_world

    folder = stage.folder / "ksc"
    folder.mkdir(mode=0o700)
    server = KscServer(sim_world(stage.folder / "devices"), folder / "tls")
    password = folder / "password"
    password.touch(mode=0o600)
    password.write_text(server.password + "\n", encoding="utf-8")
    over = threading.Event()

    def time_passes() -> None:
        while not over.wait(STEP_SECONDS):
            server.world.advance()

    with server.serving() as url:
        entry = {
            "name": "ksc",
            "type": "ksc",
            "spool": str(folder / "queue"),
            "url": url,
            "username": server.user,
            "password_file": str(password),
            "certificate_file": str(server.certificate),
            "native_response": True,
            "events": {"ioc_found": {"type": EVENT_IOC_FOUND}, "quarantined": {"type": EVENT_QUARANTINED}},
        }
        manager = KscManager.from_config(entry, clock=system_clock)
        templates = ("ioc_scan template report", "ioc_scan template respond")
        seen = manager.learn_template(*templates, marker_bytes(), None)
        manager.learn_template(*templates, marker_bytes(), seen["digest"])
        print(f"A stand-in for Kaspersky Security Center is at {url}; its template tasks are learned.")
        print("What tells responding from reporting there: " + seen["response"][0]["setting"])
        thread = threading.Thread(target=time_passes, daemon=True)
        thread.start()
        try:
            yield [entry]
        finally:
            over.set()
            thread.join()
            manager.ksc.close()
            for refused in server.refused:
                print(f"The stand-in would not understand: {refused}")
