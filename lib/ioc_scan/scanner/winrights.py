"""Who may change a folder, from its security descriptor as Windows writes it in text (SDDL).

Text only, so that recorded descriptors can be judged anywhere. Sources: Microsoft's "Security Descriptor
String Format", "ACE Strings" and "SID Strings".
"""

from __future__ import annotations

import re
from typing import Iterator

#: SYSTEM, Administrators, TrustedInstaller, the built-in administrator, and the owner himself.
_TRUSTED = frozenset(
    (
        "SY", "S-1-5-18", "BA", "S-1-5-32-544", "LA", "CO", "S-1-3-0", "OW", "S-1-3-4",
        "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464",
    )
)  # fmt: skip
_RIGHTS = {
    "CC": 0x1, "DC": 0x2, "LC": 0x4, "SW": 0x8, "RP": 0x10, "WP": 0x20, "DT": 0x40, "LO": 0x80, "CR": 0x100,
    "SD": 0x10000, "RC": 0x20000, "WD": 0x40000, "WO": 0x80000, "GA": 0x10000000, "GX": 0x20000000,
    "GW": 0x40000000, "GR": 0x80000000, "FA": 0x1F01FF, "FR": 0x120089, "FW": 0x120116, "FX": 0x1200A0,
}  # fmt: skip
#: Renaming or removing what is inside, or giving oneself the right to: DELETE_CHILD, DELETE, WRITE_DAC,
#: WRITE_OWNER, and the generic rights that hold them. To add files is none of them.
_REPLACES = 0x40 | 0x10000 | 0x40000 | 0x80000 | 0x10000000 | 0x40000000
_ANY = 0xFFFFFFFF

_OWNER = re.compile(r"O:(S-[0-9-]+|[A-Z]{2})")
_ACL = re.compile(r"D:([A-Z_]*)((?:\([^()]*(?:\([^()]*\))*[^()]*\))*)")
_ENTRY = re.compile(r"\(([^()]*)")


def private_descriptor(own: str) -> str:
    """For a folder of the scanner: SYSTEM, administrators and its own user, nothing inherited from above."""
    return "D:P" + "".join(f"(A;OICI;FA;;;{who})" for who in ("SY", "BA", own))


def objection(descriptor: str, own: str, private: bool) -> str | None:
    """Why a folder cannot be trusted, or None. ``own``: the SID of this process's user.

    ``private``: nobody else may do anything with it; else: nobody else may replace what is in it.
    """
    trusted = _TRUSTED | {own}
    owner = _OWNER.search(descriptor)
    if owner is None or owner.group(1) not in trusted:
        return f"belongs to {owner.group(1) if owner else 'nobody'}"
    entries = _ACL.search(descriptor)
    if entries is None or "NO_ACCESS_CONTROL" in entries.group(1):
        return "has no list of who may do what (is it on a drive without permissions?)"
    for who, rights in _grants(entries.group(2)):
        if who not in trusted and rights & (_ANY if private else _REPLACES):
            return f"is open to {who}" if private else f"can be changed by {who}"
    return None


def _grants(entries: str) -> Iterator[tuple[str, int]]:
    """(SID, rights) of all entries that give rights on the folder itself."""
    for text in _ENTRY.findall(entries):
        kind, flags, rights, _, _, who = [*text.split(";"), *[""] * 6][:6]
        if kind in ("A", "OA", "XA", "ZA") and "IO" not in re.findall("..", flags):
            yield who, _mask(rights)


def _mask(rights: str) -> int:
    """What cannot be read counts as everything."""
    if rights[:1].isdigit():
        try:
            return int(rights, 0)
        except ValueError:
            return _ANY
    mask = 0
    for word in re.findall("..?", rights):
        mask |= _RIGHTS.get(word, _ANY)
    return mask
