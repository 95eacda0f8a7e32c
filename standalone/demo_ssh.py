"""Three SSH devices for the demo: a server each, in this process, with keys of their own; gone when it ends.

Protocol, keys, log-in and shell are real; only the machine behind the three is this one, each device with a
folder tree and a spool of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh

from standalone import demo_stage

USER = "ioc_scan"
_ENVIRONMENT = {"PATH": f"{Path(sys.base_prefix) / 'bin'}:/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


@contextmanager
def devices(stage: demo_stage.Stage) -> Iterator[list[dict[str, Any]]]:
    """Start a server per device; gives ``device_managers`` of the configuration. Stops them all afterwards."""
    folder = stage.folder / "ssh"
    folder.mkdir(mode=0o700)
    client = asyncssh.generate_private_key("ssh-ed25519")
    _secret(folder / "id_ed25519", client.export_private_key())
    servers = _Servers(asyncssh.import_authorized_keys(client.export_public_key().decode("ascii")))
    try:
        inventory, known = [], []
        for name in demo_stage.DEVICES:
            port, key = servers.start()
            known.append(f"[127.0.0.1]:{port} {key}")
            place = {"root": str(stage.root(name)), "spool": str(stage.folder / "spool" / name)}
            inventory.append({"id": name, "host": "127.0.0.1", "port": port, **place})
        (stage.folder / "spool").mkdir(mode=0o700, exist_ok=True)
        groups = [{"name": "workstations", "devices": inventory}]
        (folder / "known_hosts").write_text("\n".join(known) + "\n", encoding="ascii")
        (folder / "inventory.json").write_text(json.dumps({"groups": groups}), encoding="ascii")
        manager = {
            "name": "ssh",
            "type": "ssh",
            "spool": str(folder / "queue"),
            "inventory_file": str(folder / "inventory.json"),
            "known_hosts_file": str(folder / "known_hosts"),
            "private_key_file": str(folder / "id_ed25519"),
            "username": USER,
            "connect_timeout_seconds": 60,
        }
        yield [manager]
    finally:
        servers.stop()


def _secret(path: Path, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(content)


class _Servers:
    """A thread with an event loop, and servers on loopback ports the system chooses."""

    def __init__(self, authorized: asyncssh.SSHAuthorizedKeys) -> None:
        self._authorized = authorized
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._acceptors: list[asyncssh.SSHAcceptor] = []

    def start(self) -> tuple[int, str]:
        """One more server: its port and its public key."""
        key = asyncssh.generate_private_key("ssh-ed25519")
        acceptor = self._call(_listen(key, self._authorized))
        self._acceptors.append(acceptor)
        return acceptor.get_port(), key.export_public_key().decode("ascii").strip()

    def stop(self) -> None:
        for acceptor in self._acceptors:
            self._call(_close(acceptor))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)


async def _listen(key: asyncssh.SSHKey, authorized: asyncssh.SSHAuthorizedKeys) -> asyncssh.SSHAcceptor:
    return await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[key],
        authorized_client_keys=authorized,
        process_factory=_run,
        encoding=None,
    )


async def _close(acceptor: asyncssh.SSHAcceptor) -> None:
    acceptor.close()
    await acceptor.wait_closed()


async def _run(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """What a log-in runs, in a shell as on any device."""
    child = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        process.command or "",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=_ENVIRONMENT,
        cwd="/",
    )
    assert child.stdin is not None and child.stdout is not None
    feeder = asyncio.ensure_future(_feed(process, child.stdin))
    try:
        while part := await child.stdout.read(65536):
            process.stdout.write(part)
            await process.stdout.drain()
        process.exit(await child.wait())
    except (OSError, asyncssh.Error):  # the other side has gone: so does what it ran
        child.kill()
        await child.wait()
    finally:
        feeder.cancel()


async def _feed(process: asyncssh.SSHServerProcess[bytes], into: asyncio.StreamWriter) -> None:
    try:
        while part := await process.stdin.read(65536):
            into.write(part)
            await into.drain()
    except (OSError, asyncssh.Error):
        pass
    finally:
        into.close()
