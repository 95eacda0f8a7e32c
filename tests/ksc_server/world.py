"""What the stand-in manages: groups, hosts, tasks, events; and what its hosts do with an IOC scan task.

Hosts really look: each has a folder, whose files are compared with the hashes and names of the task's IOC file.
Time moves when ``advance`` is called: scheduled, then running, then over.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from .values import Long

PENDING, RUNNING, OK, WARNING, FAILED, SCHEDULED, PAUSED = 1, 2, 4, 8, 16, 32, 64
VISIBLE, IN_GROUP, AGENT, AGENT_ALIVE, PROTECTION = 1, 2, 4, 8, 16
#: Ids that Kaspersky does not publish; these are the stand-in's own.
EVENT_IOC_FOUND = "SIM_EV_IOC_FOUND"
EVENT_QUARANTINED = "SIM_EV_QUARANTINED"
TASK_NAME = "SIM_IOC_SCAN"
COMPONENT = "SIM_COMPONENT"
START = datetime(2026, 1, 5, 8, 0, tzinfo=timezone.utc)


class ServerError(Exception):
    """Answered as PxgError with this code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Host:
    """``folder`` is its disk. ``alive`` False: its agent does not answer, tasks wait for it."""

    id: str
    name: str
    group: int
    folder: Path | None = None
    alive: bool = True
    managed: bool = True
    os_name: str = "Microsoft Windows 11"
    shown_root: str | None = None  # what its events call the folder, such as C:\\
    fails: bool = False

    def fields(self) -> dict[str, Any]:
        status = VISIBLE | IN_GROUP | (AGENT | PROTECTION if self.managed else 0)
        return {
            "KLHST_WKS_HOSTNAME": self.id,
            "KLHST_WKS_DN": self.name,
            "KLHST_WKS_FQDN": f"{self.name}.sim.example".lower(),
            "KLHST_WKS_GROUPID": self.group,
            "KLHST_WKS_STATUS": status | (AGENT_ALIVE if self.alive and self.managed else 0),
            "KLHST_WKS_OS_NAME": self.os_name,
            "KLHST_WKS_LAST_VISIBLE": START,
        }


@dataclass
class Task:
    id: str
    data: dict[str, Any]
    running: bool = False
    suspended: bool = False
    states: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.data.get("TASK_INFO_PARAMS", {}).get("DisplayName", ""))


class World:
    """All state, guarded by one lock. ``limit``: tasks of the kind SIM_IOC_SCAN the server takes."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.version = "14.2.0.26967"
        self.root_group = 0
        self.groups: dict[int, dict[str, Any]] = {0: {"id": 0, "name": "Managed devices", "parentId": -1}}
        self.hosts: dict[str, Host] = {}
        self.tasks: dict[str, Task] = {}
        self.events: list[dict[str, Any]] = []
        self.limit = 100
        #: Whether the server takes tasks whose targets are a list of devices.
        self.device_lists = True
        self.now = START
        self._number = 40

    # -- set up

    def add_group(self, group_id: int, name: str, parent: int = 0) -> None:
        self.groups[group_id] = {"id": group_id, "name": name, "parentId": parent}

    def add_host(self, host: Host) -> Host:
        self.hosts[host.id] = host
        if host.folder is not None:
            host.folder.mkdir(parents=True, exist_ok=True)
        return host

    def full_name(self, group_id: int) -> str:
        group = self.groups[group_id]
        above = group["parentId"]
        return f"{self.full_name(above)}/{group['name']}" if above in self.groups else str(group["name"])

    def subtree(self, group_id: int) -> set[int]:
        below = {g["id"] for g in self.groups.values() if g["parentId"] == group_id and g["id"] != group_id}
        return {group_id}.union(*(self.subtree(child) for child in below))

    def add_event(
        self, event_type: str, host: Host, task: Task | None = None, **fields: Any
    ) -> dict[str, Any]:
        event = {
            "event_db_id": Long(1000 + len(self.events) + 1),
            "event_id": str(1000 + len(self.events) + 1),
            "event_type": event_type,
            "rise_time": self.now,
            "hostname": host.id,
            "hostdn": host.name,
            "group_id": host.group,
            "product_name": "KES",
            "KLVSRV_ID": 0,
            "GNRL_EA_SEVERITY": 1,
            "GNRL_EA_DESCRIPTION": event_type,
            **({"task_display_name": task.name, "task_id": task.id} if task else {}),
            **fields,
        }
        self.events.append(event)
        return event

    # -- tasks

    def add_task(self, data: dict[str, Any]) -> str:
        info = data.get("TASK_INFO_PARAMS")
        if not isinstance(info, dict) or not isinstance(info.get("DisplayName"), str):
            raise ServerError(1192, "TASK_INFO_PARAMS with DisplayName is missing")
        if not 1 <= len(info["DisplayName"]) <= 100:
            raise ServerError(1192, "DisplayName must have 1 to 100 characters")
        for name in ("TASK_NAME", "TASKID_PRODUCT_NAME", "TASKID_VERSION", "TASKID_COMPONENT_NAME"):
            if not isinstance(data.get(name), str):
                raise ServerError(1192, f"{name} is missing")
        for name in ("TASK_UNIQUE_ID", "PRTS_TASK_CREATION_DATE", "SIM_STORAGE_ID"):
            if name in data or name in info:
                raise ServerError(1192, f"{name} is the server's to give")
        if "PRTS_TASK_GROUPID" in info:
            if info["PRTS_TASK_GROUPID"] not in self.groups:
                raise ServerError(1125, "no such group")
            if "SIM_HOST_LIST" in info:
                raise ServerError(1192, "a task has a group or a list of devices")
        else:
            hosts = info.get("SIM_HOST_LIST")
            if not self.device_lists:
                raise ServerError(1193, "tasks for a list of devices are not permitted")
            if not isinstance(hosts, list) or not hosts:
                raise ServerError(1192, "a task has a group or a list of devices")
            for entry in hosts:
                if not isinstance(entry, dict) or entry.get("SIM_HOST_NAME") not in self.hosts:
                    raise ServerError(1125, "a device of the list does not exist")
        if data["TASK_NAME"] == TASK_NAME:
            if sum(task.data["TASK_NAME"] == TASK_NAME for task in self.tasks.values()) >= self.limit:
                raise ServerError(1229, "the task group IOC is full")
            if not isinstance(data.get("TASK_ADDITIONAL_PARAMS", {}).get("SIM_IOC_FILES"), list):
                raise ServerError(1192, "SIM_IOC_FILES is missing")
        self._number += 1
        task = Task(str(self._number), copy.deepcopy(data))
        task.data["TASK_UNIQUE_ID"] = task.id
        task.data["PRTS_TASK_CREATION_DATE"] = self.now
        task.data["TASK_INFO_PARAMS"]["SIM_STORAGE_ID"] = f"storage-{task.id}"
        self.tasks[task.id] = task
        return task.id

    def task(self, task_id: str) -> Task:
        try:
            return self.tasks[task_id]
        except KeyError:
            raise ServerError(1125, "no such task") from None

    def targets(self, task: Task) -> list[Host]:
        info = task.data["TASK_INFO_PARAMS"]
        if "PRTS_TASK_GROUPID" in info:
            if info["PRTS_TASK_GROUPID"] not in self.groups:
                return []
            groups = self.subtree(info["PRTS_TASK_GROUPID"])
            return [host for host in self.hosts.values() if host.group in groups and host.managed]
        names = {entry["SIM_HOST_NAME"] for entry in info["SIM_HOST_LIST"]}
        return [host for host in self.hosts.values() if host.id in names]

    def run(self, task_id: str) -> None:
        task = self.task(task_id)
        task.running, task.suspended = True, False
        task.states = {host.id: PENDING for host in self.targets(task)}

    def advance(self, steps: int = 1) -> None:
        """A moment passes: hosts that are there take their tasks one state further."""
        with self.lock:
            for _ in range(steps):
                self.now += timedelta(seconds=30)
                for task in list(self.tasks.values()):
                    if task.running and not task.suspended:
                        for host in self.targets(task):
                            if host.alive:
                                self._step(task, host)

    def _step(self, task: Task, host: Host) -> None:
        state = task.states.get(host.id, PENDING)
        if state in (PENDING, SCHEDULED, PAUSED):
            task.states[host.id] = RUNNING
        elif state == RUNNING:
            task.states[host.id] = FAILED if host.fails else OK
            if not host.fails:
                self._scan(task, host)
            self.add_event(
                "KLPRCI_TaskState",
                host,
                task,
                task_new_state=task.states[host.id],
                GNRL_EA_DESCRIPTION="The disk cannot be read" if host.fails else "Completed",
            )

    def _scan(self, task: Task, host: Host) -> None:
        settings = task.data["TASK_ADDITIONAL_PARAMS"]
        wanted = [_wanted(ioc["SIM_IOC_CONTENT"]) for ioc in settings["SIM_IOC_FILES"]]
        responds = settings.get("SIM_ON_MATCH", {}).get("SIM_QUARANTINE_AND_DELETE", False)
        for path in _files(host.folder):
            content = path.read_bytes()
            sums = {name: hashlib.new(name, content).hexdigest() for name in ("md5", "sha256")}
            known = {*sums.values(), path.name}
            if not any(values & known for values in wanted):
                continue
            shown = str(path.resolve())
            if host.shown_root is not None and host.folder is not None:
                shown = host.shown_root + str(path.relative_to(host.folder)).replace(os.sep, "\\")
            fields = {
                "GNRL_EA_PARAM_1": sums["sha256"],
                "GNRL_EA_PARAM_2": shown,
                "GNRL_EA_PARAM_9": json.dumps({"md5": sums["md5"]}),
            }
            self.add_event(EVENT_IOC_FOUND, host, task, **fields)
            if responds:
                path.unlink()
                self.add_event(EVENT_QUARANTINED, host, task, **fields)


def _files(folder: Path | None) -> Iterator[Path]:
    for parent, _, names in sorted(os.walk(folder)) if folder is not None else ():
        yield from (Path(parent) / name for name in sorted(names))


def _wanted(content: bytes) -> set[str]:
    """Hashes and names of an OpenIOC file. What it says with AND is taken as said with OR: the hosts are simple."""
    values = set()
    for item in ET.fromstring(content).iter():
        if not item.tag.endswith("IndicatorItem"):
            continue
        context = next(child for child in item if child.tag.endswith("Context"))
        text = next(child for child in item if child.tag.endswith("Content")).text or ""
        if context.get("search", "").split("/")[-1] in ("Sha256sum", "Md5sum", "FileName"):
            values.add(text)
    return values


# -- the templates an administrator makes


def marker_bytes() -> bytes:
    """A marker IOC file: harmless, and recognized by its bytes."""
    return (
        b'<?xml version="1.0" encoding="utf-8"?>\n'
        b'<ioc xmlns="http://schemas.mandiant.com/2010/ioc" id="ioc-scan-marker">'
        b"<short_description>SIM marker</short_description><definition/></ioc>\n"
    )


def template(
    name: str, *, responds: bool, group: int | None = None, host: str | None = None
) -> dict[str, Any]:
    """The settings of an IOC Scan task as this stand-in imagines them."""
    target = (
        {"PRTS_TASK_GROUPID": group} if group is not None else {"SIM_HOST_LIST": [{"SIM_HOST_NAME": host}]}
    )
    return {
        "TASKID_PRODUCT_NAME": "KES",
        "TASKID_VERSION": "11.0.0.0",
        "TASKID_COMPONENT_NAME": COMPONENT,
        "TASK_NAME": TASK_NAME,
        "TASKSCH_TYPE": 0,
        "TASK_MAX_EXEC_TIME": 0,
        "TASK_ADDITIONAL_PARAMS": {
            "SIM_IOC_FILES": [{"SIM_IOC_NAME": "marker.ioc", "SIM_IOC_CONTENT": marker_bytes()}],
            "SIM_ONLY_WHEN_IDLE": True,
            "SIM_SCOPE": ["SIM_SYSTEM_DRIVES"],
            "SIM_ON_MATCH": {"SIM_QUARANTINE_AND_DELETE": responds, "SIM_SCAN_CRITICAL_AREAS": False},
        },
        "TASK_INFO_PARAMS": {"DisplayName": name, "klprts-TaskScheduleSubtype": 256, **target},
    }


def sim_world(folder: Path | None = None) -> World:
    """Managed devices with two groups, three hosts in the first, and the two templates."""
    world = World()
    world.add_group(5, "workstations")
    world.add_group(6, "servers")
    world.add_group(7, "templates")
    for number in (1, 2, 3):
        host_folder = folder / f"ws0{number}" if folder else None
        world.add_host(Host(f"ws0{number}", f"WS0{number}", 5, host_folder))
    world.add_host(Host("marker-device", "MARKER", 7, alive=False))
    world.add_task(template("ioc_scan template report", responds=False, group=7))
    world.add_task(template("ioc_scan template respond", responds=True, host="marker-device"))
    return world
