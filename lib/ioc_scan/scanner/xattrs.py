"""Extended attributes and POSIX ACLs of a quarantined file: which are kept, and given back.

Given back: ``user.*`` (what people and programs noted down) and ``system.posix_acl_access`` (who may do
what). Never given back: ``security.*``, which holds file capabilities and labels, and ``trusted.*``: a
restored file must not gain a privilege or a trust it would have to earn again (xattr(7), capabilities(7)).
"""

from __future__ import annotations

import base64
import os
from typing import Any

_ACL = "system.posix_acl_access"
#: All kept values of one file. ext4 allows one block in total, XFS 64 KiB for one value.
MAX_BYTES = 64 * 1024


def _is_kept(name: str) -> bool:
    return name.startswith("user.") or name == _ACL


def kept_attributes(descriptor: int) -> dict[str, Any]:
    """``{"xattrs": {name: base64}, "xattrs_left": [names]}`` of an open file; what is empty is left out."""
    kept: dict[str, str] = {}
    left: list[str] = []
    room = MAX_BYTES
    try:
        names = sorted(os.listxattr(descriptor)) if hasattr(os, "listxattr") else []
    except OSError:  # a file system without them
        names = []
    for name in names:
        try:
            value = os.getxattr(descriptor, name) if _is_kept(name) else None
        except OSError:  # taken away meanwhile, or not for us to read
            value = None
        if value is None or len(value) > room:
            left.append(name)
        else:
            room -= len(value)
            kept[name] = base64.b64encode(value).decode("ascii")
    found: dict[str, Any] = {"xattrs": kept, "xattrs_left": left}
    return {name: value for name, value in found.items() if value}


def give_attributes(descriptor: int, traits: dict[str, Any]) -> list[str]:
    """Set the kept attributes of an open file; the names of those it now lacks."""
    missing = list(traits.get("xattrs_left", ()))
    for name, value in sorted(traits.get("xattrs", {}).items()):
        try:
            if not _is_kept(name):
                raise ValueError(name)
            os.setxattr(descriptor, name, base64.b64decode(value))
        except (OSError, ValueError):
            missing.append(name)
    return missing
