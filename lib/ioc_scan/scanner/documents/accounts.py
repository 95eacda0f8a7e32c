"""Names of users and groups by number, each looked up once."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=4096)
def user_name(uid: int) -> str:
    """The account's name; the number as text if no account has it."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@lru_cache(maxsize=4096)
def group_name(gid: int) -> str:
    """The group's name; the number as text if no group has it."""
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
