"""Names of users and groups by number, each looked up once."""

from __future__ import annotations

#: ("pwd" or "grp", number) -> name. Emptied when full: numbers in use are few, but files may bear any.
_known: dict[tuple[str, int], str] = {}
_MAX_KNOWN = 4096


def user_name(uid: int) -> str:
    """The account's name; the number as text if no account has it."""
    name = _known.get(("pwd", uid))
    if name is None:
        import pwd

        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = str(uid)
        _remember(("pwd", uid), name)
    return name


def group_name(gid: int) -> str:
    """The group's name; the number as text if no group has it."""
    name = _known.get(("grp", gid))
    if name is None:
        import grp

        try:
            name = grp.getgrgid(gid).gr_name
        except KeyError:
            name = str(gid)
        _remember(("grp", gid), name)
    return name


def _remember(key: tuple[str, int], name: str) -> None:
    if len(_known) >= _MAX_KNOWN:
        _known.clear()
    _known[key] = name
