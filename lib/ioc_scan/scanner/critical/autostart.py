"""What starts by itself: each object, and the programs it names, is hashed and matched.

What is odd is named too: a system-wide object or its program that ordinary users can change, or a program in
a temporary or hidden folder.
"""

from __future__ import annotations

import os
import stat

from ..accounts import user_name
from .area import Area, Context
from .files import Files
from .processes import TEMPORARY_FOLDERS


def scan(area: Area, context: Context) -> None:
    root = (context.root or "").rstrip(os.sep)
    if context.system == "windows":
        from .autostart_windows import objects as find
    elif context.system == "linux" or context.root is not None:
        from .autostart_linux import objects as find
    else:
        from .autostart_macos import objects as find
    files = Files(context)
    refused = 0
    targets: set[tuple[str, int | None]] = set()
    for path, owner, programs in find(root, area):
        context.go_on()
        area.looked_at += 1
        place = _inside(root, path[len(root) :])
        if place is None:
            continue
        try:
            known = files.look(place, path)
        except FileNotFoundError:
            continue  # a dangling link, or gone meanwhile
        except OSError:
            refused += 1
            continue
        files.report(area, known, path, path)
        _look_at_owner(area, path, known.info, owner, "this object")
        for program in programs:
            if (program, owner) not in targets:
                targets.add((program, owner))
                refused += _look_at_program(area, files, root, path, program, owner)
    if refused:
        area.refuse(f"{refused} objects may not be read by this user")


def _look_at_program(area: Area, files: Files, root: str, path: str, program: str, owner: int | None) -> int:
    """1 if the program may not be read, else 0."""
    place = _inside(root, program)
    if place is None:
        return 0
    if program.startswith(TEMPORARY_FOLDERS) or "/." in program:
        detail = f"it starts {program}, which lies in a temporary or hidden folder"
        area.find("autostart_from_odd_folder", "suspicious", path, detail)
    try:
        known = files.look(place, place)
    except FileNotFoundError:
        # Units of the distribution name programs of packages that are not installed; people's own should not.
        if not os.path.lexists(place) and not path[len(root) :].startswith(("/usr/", "/lib/")):
            area.find("autostart_without_program", "note", path, f"it starts {program}, which is not there")
        return 0
    except OSError:
        return 1
    files.report(area, known, path, place)
    _look_at_owner(area, program, known.info, owner, f"the program that {path} starts")
    return 0


def _inside(root: str, program: str) -> str | None:
    """Where a file of a folder tree lies; None if a link there leads out of the tree."""
    if not root:
        return program
    place = os.path.realpath(root + program)
    return place if place.startswith(os.path.realpath(root) + os.sep) else None


def _look_at_owner(area: Area, path: str, info: os.stat_result, owner: int | None, what: str) -> None:
    """``owner``: the user whose object it is; None for the system's own."""
    if os.name != "posix":
        return
    if stat.S_IMODE(info.st_mode) & stat.S_IWOTH:
        area.find("autostart_writable", "suspicious", path, f"{what} can be changed by every user")
    elif info.st_uid not in (0, owner):
        name = user_name(info.st_uid)
        area.find("autostart_foreign_owner", "note", path, f"{what} belongs to {name}")
