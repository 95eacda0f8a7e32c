"""The groups of a Salt manager, as its configuration names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from ..text import printable
from .base import Group

TARGET_TYPES = ("list", "glob", "grain", "nodegroup", "compound", "pcre")


@dataclass(frozen=True)
class SaltGroup:
    """A group of config: who is in it is Salt's word, what is said of single devices is the operator's."""

    group: Group
    target: str | tuple[str, ...]
    target_type: str
    tags: Mapping[str, tuple[str, ...]]


def salt_group(name: str, raw: Mapping[str, Any]) -> SaltGroup:
    group = Group(str(raw.get("name") or ""), str(raw.get("description") or ""))
    devices = {str(d.get("id")): tuple(str(t) for t in d.get("tags") or ()) for d in raw.get("devices") or []}
    kind = str(raw.get("target_type") or ("glob" if raw.get("target") else "list"))
    target: str | tuple[str, ...] = str(raw["target"]) if raw.get("target") else tuple(devices)
    if kind == "list" and isinstance(target, str):
        target = tuple(part.strip() for part in target.split(","))
    if not group.name or not target or kind not in TARGET_TYPES:
        raise invalid(
            name,
            f"has a group {printable(group.name, 100)} without a usable target",
            f"give target and target_type ({', '.join(TARGET_TYPES)}), or devices by id",
        )
    return SaltGroup(group, target, kind, devices)


def invalid(name: str, why: str, hint: str) -> ConfigError:
    return ConfigError("manager_invalid", f"device manager {printable(name, 100)} {why}", hint)
