"""Which devices a task aims at, and with which response mode each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ioc_scan.devices.base import Device, Online
from ioc_scan.errors import DeviceError, IocScanError, NotFoundError
from ioc_scan.service.context import Context
from ioc_scan.service.policies import Target, device_mode, lower_mode
from ioc_scan.text import printable


@dataclass(frozen=True)
class Aim:
    """One group of one manager with its devices, those left out by the policy aside."""

    manager: str
    group: str
    response_mode: str
    devices: tuple[Device, ...]
    excluded: tuple[str, ...]


def resolve(context: Context, targets: Sequence[Target], exclude_devices: Sequence[str]) -> list[Aim]:
    """Find the groups of a policy among all managers. ``manager/group`` names one manager's, as ``manager/device``.

    Raises NotFoundError ``group_unknown`` if no manager has the group, DeviceError where a manager cannot be asked.
    """
    aims: dict[tuple[str, str], Aim] = {}
    exclude = frozenset(exclude_devices)
    for target in targets:
        found = _managers_with(context, target.group)
        if not found:
            raise NotFoundError(
                "group_unknown",
                f"no device manager has a group named {printable(target.group, 80)!r}",
                "st2 run ioc_scan.list_devices shows groups and devices.",
            )
        for manager, group in found:
            devices = context.manager(manager).devices(group)
            left_out = {name for device in devices for name in _names(manager, device) if name in exclude}
            excluded = tuple(d.id for d in devices if left_out.intersection(_names(manager, d)))
            kept = tuple(d for d in devices if not left_out.intersection(_names(manager, d)))
            aim = Aim(manager, group, target.response_mode, kept, excluded)
            if known := aims.get((manager, group)):  # `group` and `manager/group` are the same group
                aim = replace(aim, response_mode=lower_mode(known.response_mode, aim.response_mode))
            aims[manager, group] = aim
    return list(aims.values())


def _names(manager: str, device: Device) -> tuple[str, str]:
    return device.id, f"{manager}/{device.id}"


def _managers_with(context: Context, group: str) -> list[tuple[str, str]]:
    found = []
    for name in context.managers:
        wanted = group
        if "/" in group:
            manager, wanted = group.split("/", 1)
            if manager != name:
                continue
        try:
            groups = {known.name for known in context.managers[name].groups()}
        except IocScanError as error:
            raise DeviceError(
                "manager_unreachable",
                f"device manager {name}: {error.message}",
                error.hint or "Try again later.",
            ) from error
        if wanted in groups:
            found.append((name, wanted))
    return found


def reachability(context: Context, groups: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Online]:
    """(manager, device) -> whether it can be reached now. Devices of a manager that fails are left out."""
    found: dict[tuple[str, str], Online] = {}
    for manager, group in sorted(set(groups)):
        try:
            devices = context.manager(manager).devices(group)
        except IocScanError:
            continue
        found.update(((manager, device.id), device.online) for device in devices)
    return found


def mode_of(
    task_groups: Sequence[dict[str, Any]], device_row: dict[str, Any], settings: dict[str, Any]
) -> str:
    """The response mode for one device of a task: report where its group is not known (any more)."""
    for group in task_groups:
        if group["manager"] == device_row["manager"] and group["group"] == device_row["group"]:
            return device_mode(
                group["response_mode"], device_row["tags"] or [], settings.get("tag_ceilings") or {}
            )
    return "report"
