"""How the SSH manager logs in, and what its refusals are called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DeviceError
from ..text import printable
from . import bootstrap
from .inventory import Host


@dataclass(frozen=True)
class SshSettings:
    """How to log in, and how many at once. Secrets are files, read when they are needed."""

    known_hosts_file: Path
    username: str | None = None
    private_key_file: Path | None = None
    passphrase_file: Path | None = None
    password_file: Path | None = None
    agent: bool = False
    sudo: bool = False
    sudo_password_file: Path | None = None
    #: sshd drops connections past its MaxStartups, which starts at 10 per address behind one jump host too.
    connections: int = 25
    connections_per_address: int = 8
    connect_timeout_seconds: int = 15
    visit_timeout_seconds: int = 120


def login_options(settings: SshSettings) -> dict[str, Any]:
    """What every connection is made with.

    Raises ConfigError: a file that is missing or cannot be used; ImportError without the library.
    """
    import asyncssh

    keys = secret(settings, "private_key_file")
    options: dict[str, Any] = {
        "config": None,  # ~/.ssh/config of whoever runs this is no part of the pack's configuration
        "known_hosts": known_hosts(settings),
        "password": secret(settings, "password_file"),
        "connect_timeout": settings.connect_timeout_seconds,
        "login_timeout": settings.connect_timeout_seconds,
        "keepalive_interval": 10,
    }
    if not settings.agent:
        options["agent_path"] = None
        options["client_keys"] = None
    if keys is not None:
        try:
            options["client_keys"] = [asyncssh.import_private_key(keys, secret(settings, "passphrase_file"))]
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            raise ConfigError(
                "key_unusable",
                f"private_key_file is no key that can be read: {printable(error)}",
                "ssh-keygen -y",
            ) from None
    return options


def known_hosts(settings: SshSettings) -> str:
    path = settings.known_hosts_file
    if not path.is_file():
        raise ConfigError(
            "known_hosts_missing",
            f"known_hosts_file {printable(path)} is not there",
            "host keys are always checked: make the file with ssh-keyscan and compare its keys with the devices",
        )
    return str(path)


def secret(settings: SshSettings, name: str) -> str | None:
    """The content of a secret's file. Raises ConfigError ``secret_unreadable``, never naming the content."""
    path: Path | None = getattr(settings, name)
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n") + ("\n" if name == "private_key_file" else "")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(
            "secret_unreadable",
            f"{name} {printable(path)} cannot be read: {why}",
            "it must be readable by the user that runs the actions, and by nobody else",
        ) from None


def bootstrap_error(host: Host, status: int | None, sudo: bool) -> DeviceError:
    name = host.device_id
    if status == bootstrap.NO_PYTHON:
        return DeviceError(
            "python_missing",
            f"{name} has no Python 3.8 or later that was found",
            "install one there, or name it as python in the inventory",
        )
    if status == bootstrap.SPOOL_REFUSED:
        return DeviceError(
            "unsafe_spool",
            f"the spool {printable(host.spool)} of {name} does not belong to its user alone",
            "remove it there, or make it mode 0700 and owned by the user that scans",
        )
    if status == bootstrap.SCANNER_DAMAGED:
        return DeviceError(
            "scanner_damaged", f"the scanner did not arrive on {name} as it was sent", "try again"
        )
    if sudo and status == 1:
        return DeviceError(
            "sudo_refused",
            f"sudo on {name} does not let this user run Python",
            "allow it without a password in sudoers, or set sudo_password_file",
        )
    return DeviceError(
        "shell_unusable",
        f"{name} let us in, and its shell did not start the scanner",
        "the account needs a POSIX shell and must be able to write its spool",
    )


def host_key_error(host: Host) -> DeviceError:
    return DeviceError(
        "host_key_unknown",
        f"the host key of {host.device_id} is not the one in known_hosts, or it is not there",
        f"compare it on the device itself, then: ssh-keyscan -p {host.port} {printable(host.address, 100)}",
    )


def login_error(host: Host) -> DeviceError:
    return DeviceError(
        "login_refused",
        f"{host.device_id} refused the log-in",
        "check the user and that its key or password is set",
    )
