"""Items of a device that are not files: one module per document, each asked only if a plan names it.

A module says ``FIELDS`` (system -> the terms it answers there, without the document; the table of terms says
the same, a test compares them) and ``collect(request)``, which yields items. Every item carries, under
:data:`IDENTITY`, what makes it the same item when it is looked at again.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from .base import IDENTITY, Item, Request, UnavailableError

__all__ = ["IDENTITY", "MODULES", "Item", "Request", "UnavailableError", "module_of"]

#: document -> module; loaded only when asked for, since most scans ask for none.
MODULES = {
    "ArpEntryItem": "arp",
    "DnsEntryItem": "dns",
    "EventLogItem": "eventlog",
    "PortItem": "ports",
    "ProcessItem": "processes",
    "RegistryItem": "registry",
    "RouteEntryItem": "routes",
    "ServiceItem": "services",
    "SystemInfoItem": "systeminfo",
    "UserItem": "users",
    "VolumeItem": "volumes",
}


def module_of(document: str) -> ModuleType | None:
    """The collector of a document, or None if there is none."""
    name = MODULES.get(document)
    return None if name is None else importlib.import_module("." + name, __name__)
