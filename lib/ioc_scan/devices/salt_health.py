"""What is missing on a Salt master and its minions, found by asking them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ..errors import IocScanError
from ..text import printable
from .base import Problem
from .salt_api import SaltApi

#: Past this many devices nothing was ever tried; the health check says so.
COMFORTABLE_DEVICES = 5000
#: The most minions a health check asks for their module.
_ASK_AT_MOST = 200
#: By branch, the first release in which one minion cannot pass for another (CVE-2024-38822, CVE-2025-62349).
_SAFE_RELEASES = {3006: 17, 3007: 9}
#: The protocol of minions that brought this; the master must take no older one.
_SAFE_AUTH_VERSION = 3
#: Permissions are patterns to Salt; these are the ones that cannot mean more than they say.
_OUR_OWN = re.compile(r"@?ioc_scan|ioc_scan\.(\*|\.\*|[a-z_]+)|test\.ping")


def salt_problems(
    api: SaltApi, scanner_digest: str, groups: Sequence[str], members_of: Callable[[str], Collection[str]]
) -> list[Problem]:
    """Findings in the order an operator would set things up; the first that stops all ends the list."""
    problems: list[Problem] = []
    try:
        wide = too_wide(api.permissions())
        if wide:
            problems.append(
                Problem(
                    "salt_account_too_wide",
                    f"the account may do more than this pack needs: {', '.join(wide[:5])}",
                    "limit it to ioc_scan.* on the managed minions and in the runner (docs/salt/master.conf)",
                    fatal=False,
                )
            )
        problems += _master(api.master("setup"), scanner_digest)
        members: list[str] = []
        for group in groups:
            found = list(members_of(group))
            members += [device for device in found if device not in members]
            if not found:
                problems.append(
                    Problem(
                        "salt_group_empty",
                        f"no accepted minion is in group {printable(group, 100)}",
                        "check target and target_type; salt-key -L lists who is accepted",
                        fatal=False,
                    )
                )
        if len(members) > COMFORTABLE_DEVICES:
            problems.append(
                Problem(
                    "fleet_too_large",
                    f"{len(members)} devices behind one Salt master",
                    f"past {COMFORTABLE_DEVICES} split the fleet over several masters, each with its entry",
                    fatal=False,
                )
            )
        if members:
            problems += _minions(api.minions(members[:_ASK_AT_MOST], "hello", {}))
    except IocScanError as error:
        problems.append(Problem(error.code, error.message, error.hint))
    return problems


def _master(found: Mapping[str, Any], scanner_digest: str) -> list[Problem]:
    problems = []
    if found.get("folder") != "good":
        problems.append(
            Problem(
                "salt_folder",
                f"jobs cannot be kept on the master: {printable(found.get('folder'), 300)}",
                "name a folder under ext_pillar: - ioc_scan: ..., owned by the master's user, mode 0700",
            )
        )
    if found.get("scanner") != scanner_digest:
        older = found.get("scanner") is not None
        problems.append(
            Problem(
                "salt_scanner_outdated",
                "the master serves the scanner of another version"
                if older
                else "the master serves no scanner",
                "python -m ioc_scan build-scanner scanner.pyz; it belongs at salt://ioc_scan/scanner.pyz",
            )
        )
    if found.get("pillar_cache"):
        problems.append(
            Problem(
                "salt_pillar_cache",
                "pillar_cache is on: minions would be given jobs of yesterday",
                "switch pillar_cache off on the master",
            )
        )
    if not safe_release(found.get("salt"), found.get("minimum_auth_version")):
        problems.append(
            Problem(
                "salt_outdated",
                f"on this master (Salt {printable(found.get('salt'), 40)}) one minion can pass for another",
                "update to 3006.17, 3007.9 or later, and leave minimum_auth_version at 3 (CVE-2025-62349)",
                fatal=False,
            )
        )
    if "local_async" not in (found.get("clients") or ()):
        problems.append(
            Problem(
                "salt_no_push",
                "salt-api does not offer local_async: devices that were away are found by their schedule only",
                "netapi_enable_clients in docs/salt/master.conf",
                fatal=False,
            )
        )
    if not found.get("reactor"):
        problems.append(
            Problem(
                "salt_no_reactor",
                "nothing on the master reacts to the start of a minion",
                "docs/salt/reactor: without it devices that were off wait for their schedule or the next round",
                fatal=False,
            )
        )
    if found.get("auto_accept"):
        problems.append(
            Problem(
                "salt_auto_accept",
                "the master accepts every key: anybody can become a device and be handed its jobs",
                "set auto_accept and open_mode to False and accept keys by hand",
                fatal=False,
            )
        )
    return problems


def _minions(answers: Mapping[str, Any]) -> list[Problem]:
    """Those that are off are no problem; those that answer and lack the module are."""
    return [
        Problem(
            "salt_module_missing",
            f"{device} has no execution module ioc_scan",
            "docs/salt/_modules/ioc_scan.py belongs under _modules of file_roots: salt '*' saltutil.sync_modules",
            fatal=False,
            device_id=device,
        )
        for device, said in answers.items()
        if isinstance(said, str)
    ]


def safe_release(version: object, minimum_auth_version: object) -> bool:
    """Whether a master of this version and setting tells minions apart."""
    numbers = re.match(r"(\d{4})(?:\.(\d+))?", str(version))
    if numbers is None or not isinstance(minimum_auth_version, int):
        return False
    major, minor = int(numbers[1]), int(numbers[2] or 0)
    new_enough = major >= 3008 or (major in _SAFE_RELEASES and minor >= _SAFE_RELEASES[major])
    return new_enough and minimum_auth_version >= _SAFE_AUTH_VERSION


def too_wide(permissions: Sequence[Any]) -> list[str]:
    """The permissions of an account (as salt-api lists them) that reach past ``ioc_scan``."""
    wide: list[str] = []
    for entry in permissions:
        functions: list[Any] = [entry]
        if isinstance(entry, Mapping):
            functions = [
                f for value in entry.values() for f in (value if isinstance(value, list) else [value])
            ]
        for function in functions:
            name = next(iter(function)) if isinstance(function, Mapping) else function
            if not _OUR_OWN.fullmatch(str(name)):
                wide.append(printable(name, 60))
    return wide
