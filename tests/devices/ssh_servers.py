"""SSH servers in this process, one per device: real protocol, real shell, this machine's files."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

#: This interpreter itself comes first: a version manager's shims are slow.
_PATH = f"{Path(sys.base_prefix) / 'bin'}:/usr/bin:/bin"


@dataclass
class ServerControl:
    """What one server does; a test may turn any of it."""

    device: str
    key: asyncssh.SSHKey
    #: The key that may log in.
    login_key: asyncssh.SSHKey
    port: int = 0
    acceptor: asyncssh.SSHAcceptor | None = None
    environment: dict[str, str] = field(default_factory=dict)
    connections: list[asyncssh.SSHServerConnection] = field(default_factory=list)
    sessions: set[asyncio.Task[None]] = field(default_factory=set)
    commands: int = 0
    received_bytes: int = 0
    #: What the shell prints before anything else, and what replaces the command.
    banner: bytes = b""
    instead: str | None = None
    #: The link drops after so many bytes were received.
    drop_after_bytes: int | None = None


class _Login(asyncssh.SSHServer):
    def __init__(self, control: ServerControl) -> None:
        self._control = control

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._control.connections.append(conn)
        self._connection = conn

    def connection_lost(self, exc: Exception | None) -> None:
        self._control.connections.remove(self._connection)

    def connection_requested(self, *_: Any) -> bool:
        return True  # as a jump host

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == ("scanner", "open sesame")


class SshServers:
    """A thread with an event loop, and servers on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.client_key = asyncssh.generate_private_key("ssh-ed25519")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.controls: dict[str, ServerControl] = {}
        (folder / "client_key").write_bytes(self.client_key.export_private_key())
        (folder / "client_key").chmod(0o600)

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def start(self, device: str) -> ServerControl:
        """Start (again, on the same port) the server of a device."""
        control = self.controls.get(device)
        if control is None:
            control = self.controls[device] = ServerControl(
                device, asyncssh.generate_private_key("ssh-ed25519"), self.client_key
            )
        self.call(self._listen(control))
        return control

    def stop(self, device: str) -> None:
        """The device goes dark: nobody listens, connections end."""
        self.call(self._close(self.controls[device]))

    def close(self) -> None:
        for device in self.controls:
            self.stop(device)
        self.call(asyncio.sleep(0.1))  # for pipes of ended children to be let go
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def known_hosts(self) -> str:
        return "".join(
            f"[127.0.0.1]:{c.port} {c.key.export_public_key().decode().strip()}\n"
            for c in self.controls.values()
        )

    async def _listen(self, control: ServerControl) -> None:
        control.acceptor = await asyncssh.create_server(
            lambda: _Login(control),
            "127.0.0.1",
            control.port,
            server_host_keys=[control.key],
            authorized_client_keys=asyncssh.import_authorized_keys(
                control.login_key.export_public_key().decode()
            ),
            process_factory=lambda process: self._run(control, process),
            encoding=None,
            reuse_address=True,
        )
        control.port = control.acceptor.get_port()

    async def _close(self, control: ServerControl) -> None:
        if control.acceptor is not None:
            control.acceptor.close()
            await control.acceptor.wait_closed()
            control.acceptor = None
        for connection in list(control.connections):
            connection.abort()
        for session in list(control.sessions):
            session.cancel()
        await asyncio.gather(*control.sessions, return_exceptions=True)

    async def _run(self, control: ServerControl, process: asyncssh.SSHServerProcess[bytes]) -> None:
        task = asyncio.current_task()
        assert task is not None
        control.sessions.add(task)
        task.add_done_callback(control.sessions.discard)
        control.commands += 1
        process.stdout.write(control.banner)
        child = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            control.instead or process.command or "",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": _PATH, "HOME": "/nonexistent", **control.environment},
        )
        assert child.stdin is not None and child.stdout is not None

        async def feed() -> None:
            assert child.stdin is not None
            try:
                while part := await process.stdin.read(65536):
                    control.received_bytes += len(part)
                    if (
                        control.drop_after_bytes is not None
                        and control.received_bytes >= control.drop_after_bytes
                    ):
                        for connection in list(control.connections):
                            connection.abort()
                    child.stdin.write(part)
                    await child.stdin.drain()
            except (OSError, asyncssh.Error):
                pass
            finally:
                child.stdin.close()

        feeder = asyncio.ensure_future(feed())
        try:
            while part := await child.stdout.read(65536):
                process.stdout.write(part)
                await process.stdout.drain()
            process.exit(await child.wait())
        except (OSError, asyncssh.Error):
            pass
        finally:
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)
            if child.returncode is None:
                child.kill()
            await child.wait()
            child._transport.close()  # type: ignore[attr-defined]  # else it speaks up when the loop is gone
