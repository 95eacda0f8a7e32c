"""``python -m tests.ksc_server FOLDER``: run the stand-in by hand, with folders for disks, until interrupted."""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path

from .http import KscServer
from .world import EVENT_IOC_FOUND, EVENT_QUARANTINED, marker_bytes, sim_world


def main() -> None:
    """Time passes for its devices, one step a second."""
    parser = argparse.ArgumentParser(prog="python -m tests.ksc_server", description=__doc__)
    parser.add_argument(
        "folder", type=Path, help="for the certificate, the password, and one folder per device"
    )
    parser.add_argument("--port", type=int, default=13299)
    parser.add_argument("--step-seconds", type=float, default=1.0)
    options = parser.parse_args()
    folder: Path = options.folder.resolve()
    server = KscServer(sim_world(folder / "disks"), folder / "tls", port=options.port)
    password = folder / "password"
    password.touch(mode=0o600)
    password.write_text(server.password + "\n", encoding="utf-8")
    (folder / "marker.ioc").write_bytes(marker_bytes())
    with server.serving() as url, contextlib.suppress(KeyboardInterrupt):
        print(f"stand-in for Kaspersky Security Center at {url}, user {server.user}")
        print(
            f"  certificate {server.certificate}\n  password    {password}\n  disks       {folder / 'disks'}"
        )
        print(
            f"  marker      {folder / 'marker.ioc'}\n  events      {EVENT_IOC_FOUND}, {EVENT_QUARANTINED}",
            flush=True,
        )
        while True:
            time.sleep(options.step_seconds)
            server.world.advance()


if __name__ == "__main__":
    main()
