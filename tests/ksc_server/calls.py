"""What each call answers."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .filters import BadFilter, parse_filter
from .values import Long
from .world import OK, PENDING, RUNNING, ServerError, World

Answer = dict[str, Any]
MAX_LIFETIME_SECONDS = 7200


@dataclass
class Listing:
    kind: str
    rows: list[dict[str, Any]]
    ends_at: float
    position: int = 0


class Calls:
    """One method per call, found by name; iterators are kept here until released or too old."""

    def __init__(self, world: World, clock: Callable[[], float] = time.monotonic) -> None:
        self.world = world
        self.listings: dict[str, Listing] = {}
        #: How GetRecordRange means nEnd. The reference's samples fit both.
        self.range_ends = "exclusive"
        self._clock = clock
        self._numbers = itertools.count(1)

    def answer(self, method: str, arguments: dict[str, Any]) -> Answer:
        with self.world.lock:
            return getattr(self, "_" + method.replace(".", "_"))(**arguments) or {}

    # -- iterators

    def _open(self, kind: str, rows: Iterable[dict[str, Any]], lifetime: int) -> str:
        if not 0 < lifetime <= MAX_LIFETIME_SECONDS:
            raise ServerError(1192, "the lifetime is out of bounds")
        name = f"{kind}-{next(self._numbers)}"
        self.listings[name] = Listing(kind, list(rows), self._clock() + lifetime)
        return name

    def _listing(self, kind: str, name: str) -> Listing:
        listing = self.listings.get(name)
        if listing is None or listing.kind != kind or listing.ends_at < self._clock():
            self.listings.pop(name, None)
            raise ServerError(1125, f"there is no {kind} {name[:40]}")
        return listing

    def _release(self, kind: str, name: str) -> None:
        self._listing(kind, name)
        del self.listings[name]

    def _range(self, kind: str, name: str, start: int, end: int) -> list[dict[str, Any]]:
        rows = self._listing(kind, name).rows
        if start < 0 or end < start or end > len(rows):
            raise ServerError(1192, "the range is out of bounds")
        return rows[start : end + (self.range_ends == "inclusive")]

    # -- server, groups, hosts

    def _HostGroup_GetStaticInfo(self, pValues: list[str]) -> Answer:
        known = {"KLADMSRV_PRODUCT_FULL_VERSION": self.world.version, "KLADMSRV_PRODUCT_NAME": "SIM KSC"}
        return {"PxgRetVal": {name: known[name] for name in pValues if name in known}}

    def _HostGroup_GroupIdGroups(self) -> Answer:
        return {"PxgRetVal": self.world.root_group}

    def _HostGroup_FindGroups(self, **arguments: Any) -> Answer:
        rows = [{**g, "grp_full_name": self.world.full_name(g["id"])} for g in self.world.groups.values()]
        return self._find(rows, **arguments)

    def _HostGroup_FindHosts(self, **arguments: Any) -> Answer:
        return self._find([host.fields() for host in self.world.hosts.values()], **arguments)

    def _find(
        self,
        rows: list[dict[str, Any]],
        wstrFilter: str,
        vecFieldsToReturn: list[str],
        vecFieldsToOrder: list[dict[str, Any]],
        pParams: dict[str, Any],
        lMaxLifeTime: int,
    ) -> Answer:
        found = _select(rows, wstrFilter, vecFieldsToReturn, vecFieldsToOrder)
        return {"strAccessor": self._open("accessor", found, lMaxLifeTime), "PxgRetVal": len(found)}

    def _HostGroup_GetSubgroups(self, nGroupId: int, nDepth: int) -> Answer:
        if nGroupId not in self.world.groups:
            raise ServerError(1125, "no such group")

        def below(group_id: int, depth: int) -> list[dict[str, Any]]:
            children = [g for g in self.world.groups.values() if g["parentId"] == group_id]
            return [
                {
                    "id": g["id"],
                    "name": g["name"],
                    **({"groups": inner} if depth != 1 and (inner := below(g["id"], depth - 1)) else {}),
                }
                for g in children
            ]

        return {"PxgRetVal": below(nGroupId, nDepth)}

    def _HostGroup_GetHostInfo(self, strHostName: str, pFields2Return: list[str]) -> Answer:
        host = self.world.hosts.get(strHostName)
        if host is None:
            raise ServerError(1125, "no such host")
        return {"PxgRetVal": {k: v for k, v in host.fields().items() if k in pFields2Return}}

    def _ChunkAccessor_GetItemsCount(self, strAccessor: str) -> Answer:
        return {"PxgRetVal": len(self._listing("accessor", strAccessor).rows)}

    def _ChunkAccessor_GetItemsChunk(self, strAccessor: str, nStart: int, nCount: int) -> Answer:
        rows = self._listing("accessor", strAccessor).rows[nStart : nStart + nCount]
        return {"pChunk": {"KLCSP_ITERATOR_ARRAY": rows}, "PxgRetVal": len(rows)}

    def _ChunkAccessor_Release(self, strAccessor: str) -> None:
        self._release("accessor", strAccessor)

    # -- tasks

    def _Tasks_AddTask(self, pData: dict[str, Any]) -> Answer:
        return {"PxgRetVal": self.world.add_task(pData)}

    def _Tasks_UpdateTask(self, strTask: str, pData: dict[str, Any]) -> None:
        self.world.task(strTask).data.update(pData)

    def _Tasks_DeleteTask(self, strTask: str) -> None:
        self.world.task(strTask)
        del self.world.tasks[strTask]

    def _Tasks_RunTask(self, strTask: str) -> None:
        self.world.run(strTask)

    def _Tasks_CancelTask(self, strTask: str) -> None:
        task = self.world.task(strTask)
        if not task.running:
            raise ServerError(1193, "the task does not run")
        task.running = False
        task.states = {h: s if s & (OK | 8 | 16) else 16 for h, s in task.states.items()}

    def _Tasks_SuspendTask(self, strTask: str) -> None:
        task = self.world.task(strTask)
        if not task.running:
            raise ServerError(1193, "the task does not run")
        task.suspended = True
        task.states = {h: 64 if s in (PENDING, RUNNING, 32) else s for h, s in task.states.items()}

    def _Tasks_ResumeTask(self, strTask: str) -> None:
        task = self.world.task(strTask)
        task.suspended = False
        task.states = {h: RUNNING if s == 64 else s for h, s in task.states.items()}

    def _Tasks_GetTask(self, strTask: str) -> Answer:
        task = self.world.task(strTask)
        return {
            "PxgRetVal": {
                "DisplayName": task.name,
                "TASK_UNIQUE_ID": task.id,
                "TASK_NAME": task.data["TASK_NAME"],
                "PRTS_TASK_CREATION_DATE": task.data["PRTS_TASK_CREATION_DATE"],
            }
        }

    def _Tasks_GetTaskData(self, strTask: str) -> Answer:
        return {"PxgRetVal": self.world.task(strTask).data}

    def _Tasks_GetTaskGroup(self, strTaskId: str) -> Answer:
        return {"PxgRetVal": self.world.task(strTaskId).data["TASK_INFO_PARAMS"].get("PRTS_TASK_GROUPID", -1)}

    def _Tasks_GetTaskStatistics(self, strTask: str) -> Answer:
        states = list(self.world.task(strTask).states.values())
        counts: dict[str, Any] = {str(bit): states.count(bit) for bit in (1, 2, 4, 8, 16, 32, 64)}
        over = sum(counts[str(bit)] for bit in (4, 8, 16))
        counts["GNRL_COMPLETED_PERCENT"] = 100 * over // len(states) if states else 0
        return {"PxgRetVal": {**counts, "KLTSK_NEED_RBT_CNT": 0}}

    def _Tasks_ResetTasksIterator(
        self, nGroupId: int, bGroupIdSignificant: bool, bIncludeSupergroups: bool, **filters: str | None
    ) -> Answer:
        rows = []
        for task in self.world.tasks.values():
            group = task.data["TASK_INFO_PARAMS"].get("PRTS_TASK_GROUPID")
            if bGroupIdSignificant and group != nGroupId:
                continue
            if filters["strTaskName"] not in (None, "", task.data["TASK_NAME"]):
                continue
            if filters["strProductName"] not in (None, "", task.data["TASKID_PRODUCT_NAME"]):
                continue
            rows.append(task.data)
        return {"strTaskIteratorId": self._open("tasks", rows, 600)}

    def _Tasks_GetNextTask(self, strTaskIteratorId: str) -> Answer:
        listing = self._listing("tasks", strTaskIteratorId)
        listing.position += 1
        rows = listing.rows[listing.position - 1 : listing.position]
        return {"pTaskData": rows[0] if rows else {}}

    def _Tasks_ReleaseTasksIterator(self, strTaskIteratorId: str) -> None:
        self._release("tasks", strTaskIteratorId)

    def _Tasks_ResetHostIteratorForTaskStatus(
        self, strTask: str, pFields2Return: list[str], nHostStateMask: int, nLifetime: int
    ) -> Answer:
        task = self.world.task(strTask)
        rows = []
        for host_id, state in task.states.items():
            host = self.world.hosts.get(host_id)
            if host is None or not state & nHostStateMask:
                continue
            row = {
                "hostname": host.id,
                "hostdn": host.name,
                "state_code": state,
                "state_descr": "The disk cannot be read" if state == 16 else "",
                "completed_percent": 100 if state & 28 else 50 if state == 2 else 0,
                **({"start_time": self.world.now} if state != 1 else {}),
                **({"finish_time": self.world.now} if state & 28 else {}),
            }
            rows.append({name: row[name] for name in pFields2Return if name in row})
        return {"strHostIteratorId": self._open("statuses", rows, nLifetime)}

    def _Tasks_GetHostStatusRecordsCount(self, strHostIteratorId: str) -> Answer:
        return {"PxgRetVal": len(self._listing("statuses", strHostIteratorId).rows)}

    def _Tasks_GetHostStatusRecordRange(self, strHostIteratorId: str, nStart: int, nEnd: int) -> Answer:
        rows = self._range("statuses", strHostIteratorId, nStart, nEnd)
        return {"PxgRetVal": len(rows), "pParHostStatus": {"statuses": rows}}

    def _Tasks_ReleaseHostStatusIterator(self, strHostIteratorId: str) -> None:
        self._release("statuses", strHostIteratorId)

    def _Tasks_GetTaskHistory(
        self,
        strTask: str,
        pFields2Return: list[str],
        pSortFields: list[dict[str, Any]],
        strHostName: str,
        pFilter: dict[str, Any],
    ) -> Answer:
        task = self.world.task(strTask)
        rows = [
            event
            for event in self.world.events
            if event.get("task_id") == task.id
            and strHostName in ("", event["hostname"])
            and pFilter.get("event_type") in (None, event["event_type"])
        ]
        return {"strIteratorId": self._open("events", _select(rows, "", pFields2Return, pSortFields), 600)}

    # -- events

    def _EventProcessingFactory_CreateEventProcessing2(
        self,
        pFilter: dict[str, Any],
        vecFieldsToReturn: list[str],
        vecFieldsToOrder: list[dict[str, Any]],
        lifetimeSec: int,
    ) -> Answer:
        since, kind = pFilter.get("KLEVP_EVENT_RISE_TIME_LEAST"), pFilter.get("event_type")
        if set(pFilter) - {"KLEVP_EVENT_RISE_TIME_LEAST", "event_type"}:
            raise ServerError(1192, "an attribute of the filter is not known")
        rows = [
            event
            for event in self.world.events
            if (since is None or event["rise_time"] >= since) and kind in (None, event["event_type"])
        ]
        found = _select(rows, "", vecFieldsToReturn, vecFieldsToOrder)
        return {"strIteratorId": self._open("events", found, lifetimeSec)}

    def _EventProcessing_GetRecordCount(self, strIteratorId: str) -> Answer:
        return {"PxgRetVal": len(self._listing("events", strIteratorId).rows)}

    def _EventProcessing_GetRecordRange(self, strIteratorId: str, nStart: int, nEnd: int) -> Answer:
        rows = self._range("events", strIteratorId, nStart, nEnd)
        return {"pParamsEvents": {"KLEVP_EVENT_RANGE_ARRAY": rows}}

    def _EventProcessing_ReleaseIterator(self, strIteratorId: str) -> None:
        self._release("events", strIteratorId)

    def _SrvView_ResetIterator(
        self,
        wstrViewName: str,
        wstrFilter: str,
        vecFieldsToReturn: list[str],
        vecFieldsToOrder: list[dict[str, Any]],
        pParams: dict[str, Any],
        lifetimeSec: int,
    ) -> Answer:
        if wstrViewName != "EventsSrvViewName":
            raise ServerError(1125, "no such view")
        found = _select(self.world.events, wstrFilter, vecFieldsToReturn, vecFieldsToOrder)
        top = pParams.get("TOP_N")
        if top is not None and not isinstance(top, Long):
            raise ServerError(1192, "TOP_N is a long")
        return {"wstrIteratorId": self._open("view", found[:top], lifetimeSec)}

    def _SrvView_GetRecordCount(self, wstrIteratorId: str) -> Answer:
        return {"PxgRetVal": len(self._listing("view", wstrIteratorId).rows)}

    def _SrvView_GetRecordRange(self, wstrIteratorId: str, nStart: int, nEnd: int) -> Answer:
        return {"pRecords": {"KLCSP_ITERATOR_ARRAY": self._range("view", wstrIteratorId, nStart, nEnd)}}

    def _SrvView_ReleaseIterator(self, wstrIteratorId: str) -> None:
        self._release("view", wstrIteratorId)


def _select(
    rows: list[dict[str, Any]], text: str, fields: list[str], order: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    try:
        test = parse_filter(text)
    except BadFilter as bad:
        raise ServerError(1192, str(bad)) from None
    if not fields:
        raise ServerError(1192, "no field is asked for")
    found = [row for row in rows if test(row)]
    for entry in reversed(order):
        found.sort(key=lambda row: row.get(entry["Name"], ""), reverse=not entry["Asc"])
    return [{name: row[name] for name in fields if name in row} for row in found]
