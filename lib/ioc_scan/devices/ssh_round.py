"""One call's connections over SSH: all visits at once, within the limits."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

from ..errors import DeviceError, IocScanError
from . import bootstrap, wire
from .inventory import Host, Inventory
from .spooled import Visit, Visited
from .ssh_login import (
    SshSettings,
    bootstrap_error,
    host_key_error,
    login_error,
    login_options,
    secret,
)

if TYPE_CHECKING:
    import asyncssh

_LAST_WORD_SECONDS = 3
#: No visit begins later than this in one call: a fleet half of which is silent must not hold up everything else.
CALL_SECONDS = 90
#: Called when a device is there; None where nothing is wanted but to know that.
Before = Callable[[Visit], None] | None


class Round:
    """One call's connections: all visits at once, within the limits, one jump connection per jump host."""

    def __init__(
        self,
        settings: SshSettings,
        inventory: Inventory,
        scanner: tuple[str, bytes],
        documents: Callable[[Visit, str], list[dict[str, Any]]],
    ) -> None:
        """``scanner``: its digest and bytes; ``documents`` gives the job.json of what a visit places."""
        self._settings = settings
        self._inventory = inventory
        self._digest, self._zipapp = scanner
        self._documents = documents
        self._all = asyncio.Semaphore(settings.connections)
        self._per_address: dict[str, asyncio.Semaphore] = {}
        self._jumps: dict[str, asyncio.Future[asyncssh.SSHClientConnection]] = {}

    async def run(self, visits: Sequence[Visit], before: Before) -> dict[str, Visited]:
        """Carry the visits out, or with ``before`` None only begin them: nothing is sent, and nothing left there."""
        try:
            self._login = login_options(self._settings)
            self._sudo_password = secret(self._settings, "sudo_password_file")
        except IocScanError as error:
            return {one.device_id: Visited(False, error=error) for one in visits}
        async with AsyncExitStack() as jumps:
            self._open_jumps = jumps
            # In another order each time, so that those a call did not come to are not always the same.
            drawn = random.sample(visits, len(visits))
            self._deadline = time.monotonic() + CALL_SECONDS
            results = await asyncio.gather(*(self._limited(one, before) for one in drawn))
        return dict(zip((one.device_id for one in drawn), results, strict=True))

    async def _limited(self, one: Visit, before: Before) -> Visited:
        host = self._inventory.hosts.get(one.device_id)
        if host is None:
            return Visited(
                False
            )  # taken out of the inventory: owed until it is back, or until it expires there
        gate = self._inventory.hosts[host.jump].address if host.jump else host.address
        here = asyncio.Semaphore(self._settings.connections_per_address)
        async with self._per_address.setdefault(gate, here), self._all:
            if time.monotonic() > self._deadline:
                return Visited(False)  # left for the next call
            return await self._visit(host, one, before)

    async def _visit(self, host: Host, one: Visit, before: Before) -> Visited:
        import asyncssh

        try:
            work = self._connect_and_talk(host, one, before)
            return await asyncio.wait_for(work, self._settings.visit_timeout_seconds)
        except asyncssh.HostKeyNotVerifiable:
            return Visited(False, error=host_key_error(host))
        except asyncssh.PermissionDenied:
            return Visited(False, error=login_error(host))
        except IocScanError as error:
            return Visited(False, error=error)
        except (OSError, asyncssh.Error, asyncio.TimeoutError):
            return Visited(False)  # off, asleep, or the link is down: tried again later

    async def _connect_and_talk(self, host: Host, one: Visit, before: Before) -> Visited:
        tunnel = await self._jump(host.jump) if host.jump else None
        async with await self._connect(host, tunnel) as connection:
            visited = await self._talk(connection, host, one, before)
        return visited

    async def _connect(self, host: Host, tunnel: Any) -> asyncssh.SSHClientConnection:
        import asyncssh

        return await asyncssh.connect(
            host.address,
            host.port,
            tunnel=tunnel,
            username=host.username or self._settings.username or (),
            **self._login,
        )

    async def _jump(self, device_id: str) -> asyncssh.SSHClientConnection:
        """The one connection through a jump host that all devices behind it share."""
        if device_id not in self._jumps:
            future = self._jumps[device_id] = asyncio.get_running_loop().create_future()
            try:
                connection = await self._connect(self._inventory.hosts[device_id], None)
                await self._open_jumps.enter_async_context(connection)
                future.set_result(connection)
            except BaseException as error:
                future.set_exception(error)
                future.exception()  # looked at here, so that no warning follows where nobody else waits
                raise
        return await asyncio.shield(self._jumps[device_id])

    async def _talk(
        self,
        connection: asyncssh.SSHClientConnection,
        host: Host,
        one: Visit,
        before: Before,
    ) -> Visited:
        password = self._sudo_password if self._settings.sudo else None
        line = bootstrap.command(
            sudo=self._settings.sudo, sudo_password=password is not None, python=host.python
        )
        import asyncssh

        async with await connection.create_process(line, encoding=None, stderr=asyncssh.DEVNULL) as process:
            process.stdin.write(bootstrap.opening(self._digest, len(self._zipapp), host.spool, password))
            greeting = await _greeting(process.stdout)
            if before is None and greeting in (bootstrap.HAVE, bootstrap.NEED):
                return Visited(True)
            if greeting == bootstrap.NEED:
                process.stdin.write(self._zipapp)
            elif greeting != bootstrap.HAVE:
                with suppress(asyncio.TimeoutError):  # one that goes on talking is not waited for
                    await asyncio.wait_for(process.wait_closed(), _LAST_WORD_SECONDS)
                raise bootstrap_error(host, process.exit_status, self._settings.sudo)
            if before is not None:
                before(one)
            process.stdin.write(
                wire.request_for(one, self._documents(one, self._digest), host.root, self._digest)
            )
            process.stdin.write_eof()
            raw = await _read_all(process.stdout, wire.answer_limit(one))
        return wire.read_answer(raw, one)


async def _greeting(stdout: Any) -> bytes:
    """The bootstrap's first line; what a log-in shell prints before it is passed over, up to a bound."""
    for _ in range(200):
        line = await stdout.readline()
        if len(line) > 65536 or not line:
            return b""
        if line in (bootstrap.HAVE, bootstrap.NEED):
            return bytes(line)
    return b""


async def _read_all(stdout: Any, limit: int) -> bytes:
    """Everything to the end. Raises DeviceError ``device_answer_bad`` past the limit."""
    parts, size = [], 0
    while part := await stdout.read(65536):
        size += len(part)
        if size > limit:
            raise DeviceError(
                "device_answer_bad",
                "a device answers with more than was asked for",
                "see what the log-in shell of that account prints, and who owns the device",
            )
        parts.append(part)
    return b"".join(parts)
