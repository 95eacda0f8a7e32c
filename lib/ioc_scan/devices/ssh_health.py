"""What would stop the SSH manager from working: its files, the size of the fleet, and a few devices themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping

from ..errors import IocScanError
from .base import Problem
from .inventory import Inventory
from .size import beyond
from .spooled import Visited
from .ssh_login import SshSettings, login_options, secret

COMFORTABLE_DEVICES = 2000
#: Devices a health check logs in to, all at once, and how long it waits for them.
PROBED_DEVICES = 5
PROBE_SECONDS = 8


def problems_of(
    settings: SshSettings, inventory: Callable[[], Inventory], probe: Callable[[], Mapping[str, Visited]]
) -> list[Problem]:
    """Everything found; devices are asked only where nothing else stands in the way."""
    problems: list[Problem] = []
    try:
        hint = "use an engine with a queue of its own, such as Salt"
        problems += beyond(len(inventory().hosts), COMFORTABLE_DEVICES, "each look is a connection", hint)
        login_options(settings)
        secret(settings, "sudo_password_file")
    except IocScanError as error:
        problems.append(Problem(error.code, error.message, error.hint))
    except ImportError:
        problems.append(
            Problem("asyncssh_missing", "the library asyncssh is not installed", "st2 pack install")
        )
    if not any(problem.fatal for problem in problems):
        problems += _of_devices(probe())
    return problems


def sample(device_ids: Iterable[str], day: str) -> list[str]:
    """A few devices: the same all day, others on other days."""
    drawn = sorted(device_ids, key=lambda name: hashlib.sha256(f"{day}\n{name}".encode()).digest())
    return drawn[:PROBED_DEVICES]


def _of_devices(probed: Mapping[str, Visited]) -> list[Problem]:
    """One device's trouble is its own; where all that answer refuse us, nothing will work."""
    refused = {name: found.error for name, found in probed.items() if found.error is not None}
    nobody = not any(found.reached for found in probed.values())
    problems = [
        Problem(error.code, error.message, error.hint, fatal=nobody, device_id=name)
        for name, error in refused.items()
    ]
    silent = [name for name, found in probed.items() if not found.reached and name not in refused]
    if silent:
        problems.append(
            Problem(
                "devices_unreachable",
                f"{len(silent)} of {len(probed)} devices that were tried do not answer: {', '.join(silent)}",
                "devices that are off get their jobs when they are back; else look at host, port and firewall",
                fatal=False,
            )
        )
    return problems
