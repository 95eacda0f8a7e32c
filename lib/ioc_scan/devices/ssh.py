"""Devices reached over SSH: one connection and one visit per call, scans run detached on the device.

Meant for up to 2,000 devices: there is no queue on the way, so every look is a connection.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..clock import Clock
from ..errors import ConfigError, DeviceError, IocScanError
from ..scanner_build import zipapp_bytes
from ..text import printable
from . import bootstrap, wire
from .base import Device, Group, Problem
from .inventory import Host, Inventory, load_inventory
from .results import Limits
from .spooled import SpooledManager, Visit, Visited
from .ssh_login import (
    SshSettings,
    bootstrap_error,
    host_key_error,
    known_hosts,
    login_error,
    login_options,
    secret,
)

if TYPE_CHECKING:
    import asyncssh

#: Past this many devices another engine is the better one; the health check says so.
COMFORTABLE_DEVICES = 2000
_LAST_WORD_SECONDS = 3


class SshManager(SpooledManager):
    """``type: ssh``. Keeps its queue in ``spool`` on this side; the devices are those of the inventory file."""

    def __init__(
        self,
        name: str,
        folder: Path,
        inventory_file: Path,
        settings: SshSettings,
        *,
        clock: Clock,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(name, folder, clock=clock, limits=limits)
        self._inventory_file = inventory_file
        self._loaded: Inventory | None = None
        self._settings = settings
        self._scanner: tuple[str, bytes] | None = None

    @classmethod
    def from_config(cls, entry: Mapping[str, Any], *, clock: Clock) -> SshManager:
        """Raises ConfigError ``manager_invalid``; reads no file yet."""
        name = _required(entry, "name")
        values: dict[str, Any] = {}
        for key, kind in SshSettings.__annotations__.items():
            value = entry.get(key)
            if value is not None:
                values[key] = Path(str(value)) if "Path" in kind else value
        if "known_hosts_file" not in values:
            raise _invalid(
                name, "has no known_hosts_file", "host keys are always checked: ssh-keyscan makes one"
            )
        if not (values.get("private_key_file") or values.get("password_file") or values.get("agent")):
            raise _invalid(name, "has no way to log in", "set private_key_file, password_file or agent: true")
        folder, inventory = Path(_required(entry, "spool")), Path(_required(entry, "inventory_file"))
        return cls(name, folder, inventory, SshSettings(**values), clock=clock)

    @property
    def _inventory(self) -> Inventory:
        if self._loaded is None:
            self._loaded = load_inventory(self._inventory_file)
        return self._loaded

    def groups(self) -> list[Group]:
        return [group for group, _ in self._inventory.groups.values()]

    def _devices_of(self, group: str) -> list[Device] | None:
        return self._inventory.devices(group)

    def _knows(self, device_id: str) -> bool:
        return device_id in self._inventory.hosts

    def _root_of(self, device_id: str) -> bytes | None:
        host = self._inventory.hosts.get(device_id)
        return host.root.encode() if host is not None and host.root is not None else None

    # -- visits

    def _carry_out(self, visits: Sequence[Visit], before: Callable[[Visit], None]) -> dict[str, Visited]:
        if self._scanner is None:
            content = zipapp_bytes()
            self._scanner = (hashlib.sha256(content).hexdigest(), content)
        one_round = _Round(self._settings, self._inventory, self._scanner, self._job_documents)
        return asyncio.run(one_round.run(visits, before))

    def _job_documents(self, one: Visit, digest: str) -> list[dict[str, Any]]:
        return [self._job_document(job, one.device_id, digest) for job in one.place]

    # -- health

    def _health_problems(self) -> list[Problem]:
        problems = []
        try:
            count = len(self._inventory.hosts)
            if count > COMFORTABLE_DEVICES:
                problems.append(
                    Problem(
                        "fleet_too_large",
                        f"{count} devices over SSH: each look is a connection",
                        f"past {COMFORTABLE_DEVICES} devices use an engine with a queue of its own, such as Salt",
                        fatal=False,
                    )
                )
            known_hosts(self._settings)
            for name in ("private_key_file", "passphrase_file", "password_file", "sudo_password_file"):
                secret(self._settings, name)
        except IocScanError as error:
            problems.append(Problem(error.code, error.message, error.hint))
        try:
            import asyncssh  # noqa: F401
        except ImportError:
            problems.append(
                Problem("asyncssh_missing", "the library asyncssh is not installed", "st2 pack install")
            )
        return problems


class _Round:
    """One call's connections: all visits at once, within the limits, one jump connection per jump host."""

    def __init__(
        self,
        settings: SshSettings,
        inventory: Inventory,
        scanner: tuple[str, bytes],
        documents: Callable[[Visit, str], list[dict[str, Any]]],
    ) -> None:
        self._settings = settings
        self._inventory = inventory
        self._digest, self._zipapp = scanner
        self._documents = documents
        self._all = asyncio.Semaphore(settings.connections)
        self._per_address: dict[str, asyncio.Semaphore] = {}
        self._jumps: dict[str, asyncio.Future[asyncssh.SSHClientConnection]] = {}

    async def run(self, visits: Sequence[Visit], before: Callable[[Visit], None]) -> dict[str, Visited]:
        try:
            self._login = login_options(self._settings)
            self._sudo_password = secret(self._settings, "sudo_password_file")
        except IocScanError as error:
            return {one.device_id: Visited(False, error=error) for one in visits}
        async with AsyncExitStack() as jumps:
            self._open_jumps = jumps
            results = await asyncio.gather(*(self._limited(one, before) for one in visits))
        return dict(zip((one.device_id for one in visits), results, strict=True))

    async def _limited(self, one: Visit, before: Callable[[Visit], None]) -> Visited:
        host = self._inventory.hosts.get(one.device_id)
        if host is None:
            return Visited(
                False
            )  # taken out of the inventory: owed until it is back, or until it expires there
        gate = self._inventory.hosts[host.jump].address if host.jump else host.address
        here = asyncio.Semaphore(self._settings.connections_per_address)
        async with self._per_address.setdefault(gate, here), self._all:
            return await self._visit(host, one, before)

    async def _visit(self, host: Host, one: Visit, before: Callable[[Visit], None]) -> Visited:
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

    async def _connect_and_talk(self, host: Host, one: Visit, before: Callable[[Visit], None]) -> Visited:
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
        before: Callable[[Visit], None],
    ) -> Visited:
        password = self._sudo_password if self._settings.sudo else None
        line = bootstrap.command(
            sudo=self._settings.sudo, sudo_password=password is not None, python=host.python
        )
        import asyncssh

        async with await connection.create_process(line, encoding=None, stderr=asyncssh.DEVNULL) as process:
            process.stdin.write(bootstrap.opening(self._digest, len(self._zipapp), host.spool, password))
            greeting = await _greeting(process.stdout)
            if greeting == bootstrap.NEED:
                process.stdin.write(self._zipapp)
            elif greeting != bootstrap.HAVE:
                with suppress(asyncio.TimeoutError):  # one that goes on talking is not waited for
                    await asyncio.wait_for(process.wait_closed(), _LAST_WORD_SECONDS)
                raise bootstrap_error(host, process.exit_status, self._settings.sudo)
            before(one)
            process.stdin.write(
                wire.request_for(one, self._documents(one, self._digest), host.root, self._digest)
            )
            process.stdin.write_eof()
            raw = await _read_all(process.stdout, wire.answer_limit(one))
        return wire.read_answer(raw, one)


# ------------------------------------------------------------------------------------------------ inside


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


def _required(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise _invalid(str(entry.get("name") or "ssh"), f"has no {key}", "see ioc_scan.yaml.example")
    return value


def _invalid(name: str, why: str, hint: str) -> ConfigError:
    return ConfigError("manager_invalid", f"device manager {printable(name, 100)} {why}", hint)
