"""Administration groups and their devices as the pack names them, and which groups make up a set of devices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..ksc_client import Ksc
from ..text import printable
from .base import DEVICE_ID, Device, Group, Online

#: Bits of KLHST_WKS_STATUS (KSC Open API, list of host attributes).
AGENT_INSTALLED, AGENT_ALIVE = 4, 8
_SYSTEMS = (("windows", "windows"), ("linux", "linux"), ("mac", "macos"), ("darwin", "macos"))


@dataclass
class Tree:
    """The groups below "Managed devices". Names are paths from there: ``workstations/office``."""

    root: int
    names: dict[int, str] = field(default_factory=dict)
    children: dict[int, list[int]] = field(default_factory=dict)

    @classmethod
    def read(cls, ksc: Ksc) -> Tree:
        """Raises KscError."""
        root = ksc.root_group()
        tree = cls(root)
        rows = {
            row["id"]: row
            for row in ksc.groups()
            if isinstance(row.get("id"), int) and isinstance(row.get("name"), str)
        }
        if root in rows:
            tree.names[root] = str(rows[root]["name"])
        for row in rows.values():
            if row["id"] != root:
                tree.children.setdefault(row.get("parentId", -1), []).append(row["id"])
        level = sorted(tree.children.get(root, []))
        prefix = dict.fromkeys(level, "")
        while level:
            below: list[int] = []
            for group_id in level:
                if group_id in tree.names:
                    continue  # a tree that bites its tail
                tree.names[group_id] = prefix[group_id] + str(rows[group_id]["name"])
                for child in sorted(tree.children.get(group_id, [])):
                    prefix[child] = tree.names[group_id] + "/"
                    below.append(child)
            level = below
        return tree

    def groups(self) -> list[Group]:
        taken: dict[str, int] = {}
        for group_id, name in self.names.items():
            taken.setdefault(name, group_id)
        return [Group(name, f"administration group {group_id}") for name, group_id in taken.items()]

    def find(self, name: str) -> int | None:
        return next((group_id for group_id, known in self.names.items() if known == name), None)

    def subtree(self, group_id: int) -> list[int]:
        """The group and all below it: a group task reaches them all."""
        found, queue = [], [group_id]
        while queue:
            current = queue.pop(0)
            if current in self.names and current not in found:
                found.append(current)
                queue += self.children.get(current, [])
        return found


def as_device(row: Mapping[str, Any], group: str, tags: Mapping[str, Sequence[str]]) -> Device | None:
    """A host row as a device; None if its id could not be a folder's name. ``tags`` by id or shown name."""
    host_id, name = row.get("KLHST_WKS_HOSTNAME"), str(row.get("KLHST_WKS_DN") or "")
    if not isinstance(host_id, str) or not DEVICE_ID.fullmatch(host_id):
        return None
    status = row.get("KLHST_WKS_STATUS")
    bits = status if isinstance(status, int) else 0
    system = str(row.get("KLHST_WKS_OS_NAME") or "").lower()
    own = [*tags.get(host_id, ()), *tags.get(name, ()), f"name:{printable(name, 60)}"]
    if not bits & AGENT_INSTALLED:
        own.append("no_agent")
    return Device(
        host_id,
        group,
        next((known for word, known in _SYSTEMS if word in system), "unknown"),
        Online.YES if bits & AGENT_ALIVE else Online.NO,
        tuple(own),
    )


def cover(
    tree: Tree, hosts_of: Mapping[int, Iterable[str]], wanted: set[str]
) -> tuple[dict[int, list[str]], set[str]]:
    """Groups that together are exactly (part of) the wanted devices, and the devices no group can stand for.

    A group is taken only if every device in and below it is wanted: a group task asks no leave of a device. The
    root is taken only for devices that stand directly in it, so that a new group is not scanned unasked.
    """
    chosen: dict[int, list[str]] = {}
    left: set[str] = set()

    def visit(group_id: int) -> None:
        inside = [host for each in tree.subtree(group_id) for host in hosts_of.get(each, ())]
        if not set(inside) & wanted:
            return
        direct = list(hosts_of.get(group_id, ()))
        bearing = [c for c in tree.children.get(group_id, []) if _any_host(tree, hosts_of, c)]
        own_right = bool(direct) or (len(bearing) > 1 and group_id != tree.root)
        if own_right and set(inside) <= wanted:
            chosen[group_id] = sorted(set(inside))
            return
        left.update(set(direct) & wanted)
        for child in tree.children.get(group_id, []):
            visit(child)

    visit(tree.root)
    return chosen, left | (wanted - {h for hosts in chosen.values() for h in hosts} - left)


def _any_host(tree: Tree, hosts_of: Mapping[int, Iterable[str]], group_id: int) -> bool:
    return any(True for each in tree.subtree(group_id) for _ in hosts_of.get(each, ()))
