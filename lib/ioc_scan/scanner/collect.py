"""Items of a device that are not files; collected only if a plan names their document."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Callable, Iterable, Sequence

from .errors import ScannerError
from .system import system_name

if TYPE_CHECKING:
    from .scanjob import Judge

Collector = Callable[[], Iterable["dict[str, Any]"]]

#: document -> module with a function of the same purpose; loaded only when asked for
_COLLECTORS = {
    "linux": {
        "ArpEntryItem": ("linux_network", "arp_entries"),
        "EventLogItem": ("linux_events", "event_log"),
        "PortItem": ("linux_network", "ports"),
        "ProcessItem": ("linux_processes", "processes"),
        "RouteEntryItem": ("linux_network", "routes"),
        "ServiceItem": ("linux_services", "services"),
        "SystemInfoItem": ("linux_host", "system_info"),
        "UserItem": ("linux_host", "users"),
        "VolumeItem": ("linux_host", "volumes"),
    },
    "windows": {
        "PortItem": ("with_psutil", "ports"),
        "ProcessItem": ("with_psutil", "processes"),
        "RegistryItem": ("windows_registry", "registry"),
        "ServiceItem": ("with_psutil", "services"),
        "UserItem": ("with_psutil", "users"),
        "VolumeItem": ("with_psutil", "volumes"),
    },
    "macos": {
        "PortItem": ("with_psutil", "ports"),
        "ProcessItem": ("with_psutil", "processes"),
        "VolumeItem": ("with_psutil", "volumes"),
    },
}


def collect_documents(jobs: Sequence[Judge], folder_tree: bool = False) -> None:
    """Feed all documents but files to the jobs that name them; what cannot be collected is said.

    ``folder_tree``: the device is a folder of this machine, so this machine's processes are not its own.
    """
    wanted = sorted({document for job in jobs for document in job.evaluator.documents} - {"FileItem"})
    for document in wanted:
        asking = [job for job in jobs if document in job.evaluator.documents]
        try:
            if folder_tree:
                raise ScannerError("unavailable", "the device is a folder tree: there are files only")
            # Read to the end first: an item counts only if the whole document could be collected.
            items = list(_collector(document)())
        except (ScannerError, OSError, ImportError, ValueError) as error:
            reason = error.message if isinstance(error, ScannerError) else f"cannot be collected: {error}"
            for job in asking:
                job.evaluator.unavailable(document, reason)
            continue
        for item in items:
            for job in asking:
                job.take_item(document, item)
        if items:
            _report_unanswered(document, items, asking)


def _report_unanswered(document: str, items: list[dict[str, Any]], asking: list[Judge]) -> None:
    """A field that no item of the document has was not looked at: that is not the same as "not there"."""
    answered = {field for item in items for field, value in item.items() if value is not None}
    for job in asking:
        for term in job.evaluator.plan.terms:
            if term.document == document and term.field not in answered:
                job.evaluator.unavailable(f"{document}/{term.field}", "no item of this device says it")


def _collector(document: str) -> Collector:
    place = _COLLECTORS[system_name()].get(document)
    if place is None:
        raise ScannerError("unavailable", "this scanner has no collector for it on this system")
    module = importlib.import_module("." + place[0], __package__)
    collector: Collector = getattr(module, place[1])
    return collector
