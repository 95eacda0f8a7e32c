"""Running processes: what they run is hashed and matched, and what hides itself is named."""

from __future__ import annotations

import os
import re
from typing import Any

from ..documents import Request, UnavailableError, procfs
from ..documents import processes as process_items
from .area import Area, Context, plain
from .files import Files

TEMPORARY_FOLDERS = ("/tmp/", "/var/tmp/", "/dev/shm/", "/run/shm/")
#: Of /proc/PID/maps: writable and executable at once, or executable without a name in any folder.
_WRITABLE_CODE = re.compile(rb"^\S+ rwx. ", re.MULTILINE)
_NAMELESS_CODE = re.compile(rb"^\S+ ..x. \S+ \S+ \d+ +(/memfd:[^\n]*|/[^\n]* \(deleted\))$", re.MULTILINE)
_PRELOAD = re.compile(rb"(?:^|\0)LD_PRELOAD=([^\0]+)")
_MAX_MAPS_BYTES = 16 * 1024 * 1024


def scan(area: Area, context: Context) -> None:
    if context.root is not None:
        area.unsupported("the device is a folder tree: no processes run on it")
        return
    files = Files(context)
    if context.system == "linux":
        _look_at_all(area, context, files)
    else:
        _look_at_executables(area, context, files)
    _match_processes(area, context)


def own_tree() -> set[int]:
    """This process and all it started: a scanner that holds what it looks for would find itself."""
    parents = {}
    for pid in procfs.pids():
        try:
            parents[pid] = procfs.read_stat(pid).parent
        except OSError:
            continue
    tree = {os.getpid()}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in tree} - tree
        tree |= more
        grown = bool(more)
    return tree


def _look_at_all(area: Area, context: Context, files: Files) -> None:
    refused = 0
    excluded = own_tree()
    for pid in procfs.pids():
        context.go_on()
        if pid in excluded:
            continue
        try:
            stat = procfs.read_stat(pid)
            if stat.kernel_thread:
                continue
            path, gone = procfs.executable(pid)
            _look_at_executable(area, files, pid, path, gone)
            _look_at_memory(area, pid, path)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        except PermissionError:
            refused += 1
        area.looked_at += 1
    if refused:
        area.refuse(f"{refused} of {area.looked_at} processes may not be looked at by this user")


def _look_at_executable(area: Area, files: Files, pid: int, path: str, gone: bool) -> None:
    known = files.look(f"{procfs.PROC}/{pid}/exe", path)
    files.report(area, known, path, path, pid)
    more = {"pid": pid, "sha256": known.sha256}
    if path.startswith("/memfd:"):
        area.find("memory_executable", "suspicious", path, "the program lies in memory only", **more)
    elif gone and os.path.lexists(path):
        detail = "the program was replaced since it was started, as updates do"
        area.find("replaced_executable", "note", path, detail, **more)
    elif gone:
        area.find("deleted_executable", "suspicious", path, "the program was deleted while it runs", **more)
    elif path.startswith(TEMPORARY_FOLDERS):
        area.find("temporary_executable", "note", path, "the program lies in a temporary folder", **more)
    words = procfs.read(f"{procfs.PROC}/{pid}/cmdline").split(b"\0")
    if words[0].startswith(b"[") and words[0].endswith(b"]"):
        name = os.fsdecode(words[0])
        detail = f"an ordinary program ({path}) calls itself {name} as threads of the kernel do"
        area.find("false_kernel_thread", "suspicious", name, detail, **more)


def _look_at_memory(area: Area, pid: int, path: str) -> None:
    """Raises OSError."""
    maps = procfs.read(f"{procfs.PROC}/{pid}/maps", _MAX_MAPS_BYTES)
    count = len(_WRITABLE_CODE.findall(maps))
    if count:
        detail = f"{count} parts of its memory are writable and executable, as in programs that compile"
        area.find("writable_code", "note", path, detail, pid=pid)
    names = dict.fromkeys(os.fsdecode(name) for name in _NAMELESS_CODE.findall(maps))
    names.pop(path + " (deleted)", None)  # said of the executable already
    if names:
        some = ", ".join(list(names)[:5])
        detail = f"it runs code of {len(names)} files that have no name any more: {some}"
        area.find("nameless_code", "note", path, detail, pid=pid)
    preload = _PRELOAD.search(procfs.read(f"{procfs.PROC}/{pid}/environ"))
    if preload is not None:
        detail = "LD_PRELOAD=" + os.fsdecode(preload.group(1))
        area.find("preloaded_library", "note", path, detail, pid=pid)


def _look_at_executables(area: Area, context: Context, files: Files) -> None:
    """Where there is no /proc: the programs on disk that processes were started from."""
    area.say("memory of processes is not looked at on this system")
    refused = 0
    own = os.getpid()
    try:
        for item in process_items.collect(_everything(context)):
            context.go_on()
            path = (item.get("path") or [None])[0]
            if path is None or item.get("pid") == own or item.get("parentpid") == own:
                continue
            area.looked_at += 1
            try:
                files.report(area, files.look(path, path), path, path, item.get("pid"))
            except FileNotFoundError:
                area.find(
                    "deleted_executable", "suspicious", path, "the program is gone", pid=item.get("pid")
                )
            except OSError:
                refused += 1
    except UnavailableError as error:
        area.unsupported(error.reason)
    if refused:
        area.refuse(f"{refused} programs may not be read by this user")


def _match_processes(area: Area, context: Context) -> None:
    """What IOC files say of processes themselves: names, command lines, users."""
    evaluator = context.evaluator
    if evaluator is None or "ProcessItem" not in evaluator.documents or area.state == "unsupported":
        return
    excluded = own_tree() if context.system == "linux" else {os.getpid()}
    items: Any = process_items.collect(_everything(context))
    try:
        for item in items:
            if item["pid"] not in excluded:
                for hit in evaluator.feed("ProcessItem", plain(item)):
                    what = item.get("arguments") or item.get("name") or str(item["pid"])
                    area.match(hit, str(what), item, pid=item["pid"])
    except UnavailableError as error:
        area.say(error.reason)


def _everything(context: Context) -> Request:
    return Request(process_items.FIELDS.get(context.system, ()), context.system)
