"""UserItem: the accounts of this device itself; those of a directory service are not listed."""

from __future__ import annotations

from typing import Iterator

from .base import IDENTITY, Fields, Item, Request, decode

FIELDS: Fields = {
    "linux": frozenset(
        ("fullname", "grouplist/groupname", "homedirectory", "SecurityID", "shell", "userid", "Username")
    ),
    "windows": frozenset(("description", "disabled", "fullname", "SecurityID", "Username")),
    "macos": frozenset(("fullname", "grouplist/groupname", "homedirectory", "shell", "userid", "Username")),
}
_MAX_BYTES = 16 * 1024 * 1024


def collect(request: Request) -> Iterator[Item]:
    if request.system == "linux":
        return _from_files("/etc/passwd", "/etc/group")
    if request.system == "windows":
        from .windows import users

        return users()
    return _from_directory()


def _entries(path: str, count: int) -> Iterator[list[bytes]]:
    with open(path, "rb") as stream:
        for line in stream.read(_MAX_BYTES).split(b"\n"):
            fields = line.split(b":")
            if len(fields) >= count:
                yield fields


def _from_files(passwd: str, group: str) -> Iterator[Item]:
    """The files and not the name service: asking that could mean every account of a company."""
    names: dict[bytes, bytes] = {}
    members: dict[bytes, list[bytes]] = {}
    for name, _, gid, users, *_ in _entries(group, 4):
        names.setdefault(gid, name)
        for user in users.split(b","):
            members.setdefault(user.strip(), []).append(name)
    for user, _, uid, gid, comment, home, shell, *_ in _entries(passwd, 7):
        groups = [names[gid]] if gid in names else []
        groups += [name for name in members.get(user, ()) if name not in groups]
        yield {
            "Username": decode(user),
            "userid": int(uid) if uid.isdigit() else None,
            "SecurityID": decode(uid),
            "fullname": decode(comment.split(b",")[0]),
            "homedirectory": decode(home),
            "shell": decode(shell),
            "grouplist/groupname": [decode(name) for name in groups],
            IDENTITY: f"{decode(user)} {decode(uid)}",
        }


def _from_directory() -> Iterator[Item]:
    """macOS keeps its accounts in a directory that only the name service reads."""
    import grp
    import pwd

    groups = grp.getgrall()
    for account in pwd.getpwall():
        own = [group.gr_name for group in groups if group.gr_gid == account.pw_gid]
        yield {
            "Username": account.pw_name,
            "userid": account.pw_uid,
            "fullname": account.pw_gecos,
            "homedirectory": account.pw_dir,
            "shell": account.pw_shell,
            "grouplist/groupname": own
            + [
                group.gr_name
                for group in groups
                if account.pw_name in group.gr_mem and group.gr_name not in own
            ],
            IDENTITY: f"{account.pw_name} {account.pw_uid}",
        }
