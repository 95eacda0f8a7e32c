"""What the pack asks a server for. Every iterator that is opened is released, whatever happens in between.

Task settings stay in the server's own JSON form (``raw``), so that a clone differs in nothing but what is changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from .errors import KscError
from .transport import KscTransport
from .values import Raw, all_of, any_of, decode, greater, order_by

Row = dict[str, Any]
#: Seconds the server keeps an iterator of ours; at most 7200.
LIFETIME_SECONDS = 600
PAGE_ROWS = 500
MAX_ROWS = 200_000
HOST_FIELDS = (
    "KLHST_WKS_HOSTNAME",
    "KLHST_WKS_DN",
    "KLHST_WKS_FQDN",
    "KLHST_WKS_GROUPID",
    "KLHST_WKS_STATUS",
    "KLHST_WKS_OS_NAME",
)
STATE_FIELDS = (
    "hostname",
    "state_code",
    "state_descr",
    "start_time",
    "finish_time",
    "completed_percent",
)


class Ksc:
    """Thin and typed; raises KscError."""

    def __init__(self, transport: KscTransport) -> None:
        self._call = transport.call
        self.close = transport.close
        self.settings = transport.settings

    # -- server, groups, hosts

    def version(self) -> tuple[str, tuple[int, ...]]:
        """The server's full version as text and as numbers; empty numbers where it is no version."""
        answer = decode(
            self._call("HostGroup.GetStaticInfo", pValues=["KLADMSRV_PRODUCT_FULL_VERSION"]).get("PxgRetVal")
        )
        text = str((answer if isinstance(answer, dict) else {}).get("KLADMSRV_PRODUCT_FULL_VERSION") or "")
        parts = text.split(".")
        return text, tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()

    def root_group(self) -> int:
        """The id of "Managed devices"."""
        return self._number("HostGroup.GroupIdGroups")

    def groups(self) -> list[Row]:
        """All groups with id, name and parentId."""
        return self._find("HostGroup.FindGroups", "", ("id", "name", "parentId"), "id")

    def hosts(self, group_ids: Sequence[int]) -> list[Row]:
        """Hosts that are directly in one of the groups."""
        rows: list[Row] = []
        for start in range(0, len(group_ids), 100):
            condition = any_of("KLHST_WKS_GROUPID", group_ids[start : start + 100])
            rows += self._find("HostGroup.FindHosts", condition, HOST_FIELDS, "KLHST_WKS_HOSTNAME")
        return rows

    def _find(self, method: str, condition: str, fields: Sequence[str], order: str) -> list[Row]:
        def opened() -> str:
            answer = self._call(
                method,
                wstrFilter=condition,
                vecFieldsToReturn=list(fields),
                vecFieldsToOrder=order_by(order),
                pParams={},
                lMaxLifeTime=LIFETIME_SECONDS,
            )
            return _text(answer, "strAccessor", method)

        def count(accessor: str) -> int:
            return self._number("ChunkAccessor.GetItemsCount", strAccessor=accessor)

        def read(accessor: str, start: int, count: int) -> list[Row]:
            answer = self._call(
                "ChunkAccessor.GetItemsChunk", strAccessor=accessor, nStart=start, nCount=count
            )
            return _rows(answer, "pChunk", "KLCSP_ITERATOR_ARRAY")

        def release(accessor: str) -> None:
            self._call("ChunkAccessor.Release", strAccessor=accessor)

        return _listed(opened, count, read, release, lambda row: row.get(order))

    # -- tasks

    def task_data(self, task_id: str) -> Row:
        """All settings of a task, raw."""
        data = self._call("Tasks.GetTaskData", strTask=task_id).get("PxgRetVal")
        if not isinstance(data, dict):
            raise _odd("Tasks.GetTaskData")
        return data

    def tasks(self, task_name: str | None = None) -> list[Row]:
        """All tasks (of a kind) with ``id``, ``name`` (display name) and ``kind``."""
        answer = self._call(
            "Tasks.ResetTasksIterator",
            nGroupId=0,
            bGroupIdSignificant=False,
            strProductName=None,
            strVersion=None,
            strComponentName=None,
            strInstanceId=None,
            strTaskName=task_name,
            bIncludeSupergroups=False,
        )
        iterator = _text(answer, "strTaskIteratorId", "Tasks.ResetTasksIterator")
        found: list[Row] = []
        with self._released("Tasks.ReleaseTasksIterator", strTaskIteratorId=iterator):
            while len(found) < MAX_ROWS:
                data = decode(self._call("Tasks.GetNextTask", strTaskIteratorId=iterator).get("pTaskData"))
                if not data or not isinstance(data, dict):  # the end: null or nothing in it
                    break
                info = data.get("TASK_INFO_PARAMS")
                name = info.get("DisplayName") if isinstance(info, dict) else data.get("DisplayName")
                found.append(
                    {"id": str(data.get("TASK_UNIQUE_ID")), "name": name, "kind": data.get("TASK_NAME")}
                )
        return found

    def add_task(self, raw: Mapping[str, Any]) -> str:
        """Create a task from raw settings; its id. Not repeated by itself: look for the name first."""
        answer = self._call("Tasks.AddTask", pData=Raw(raw))
        return _text(answer, "PxgRetVal", "Tasks.AddTask")

    def task_exists(self, task_id: str) -> bool:
        try:
            self._call("Tasks.GetTask", strTask=task_id)
        except KscError as error:
            if error.not_found:
                return False
            raise
        return True

    def run_task(self, task_id: str) -> None:
        self._call("Tasks.RunTask", strTask=task_id)

    def suspend_task(self, task_id: str) -> None:
        self._call("Tasks.SuspendTask", strTask=task_id)

    def resume_task(self, task_id: str) -> None:
        self._call("Tasks.ResumeTask", strTask=task_id)

    def cancel_task(self, task_id: str) -> None:
        self._call("Tasks.CancelTask", strTask=task_id)

    def delete_task(self, task_id: str) -> None:
        self._call("Tasks.DeleteTask", strTask=task_id)

    def host_states(self, task_id: str) -> list[Row]:
        """The state of the task on each of its hosts."""

        def opened() -> str:
            answer = self._call(
                "Tasks.ResetHostIteratorForTaskStatus",
                strTask=task_id,
                pFields2Return=list(STATE_FIELDS),
                nHostStateMask=127,
                nLifetime=LIFETIME_SECONDS,
            )
            return _text(answer, "strHostIteratorId", "Tasks.ResetHostIteratorForTaskStatus")

        def count(iterator: str) -> int:
            return self._number("Tasks.GetHostStatusRecordsCount", strHostIteratorId=iterator)

        def read(iterator: str, start: int, count: int) -> list[Row]:
            answer = self._call(
                "Tasks.GetHostStatusRecordRange",
                strHostIteratorId=iterator,
                nStart=start,
                nEnd=start + count,
            )
            return _rows(answer, "pParHostStatus", "statuses")

        def release(iterator: str) -> None:
            self._call("Tasks.ReleaseHostStatusIterator", strHostIteratorId=iterator)

        return _listed(opened, count, read, release, lambda row: row.get("hostname"))

    # -- events

    def events_after(
        self, event_db_id: int, types: Sequence[str], fields: Sequence[str], *, most: int, extra: str = ""
    ) -> list[Row]:
        """Events of these types with a greater event_db_id, oldest first, at most ``most`` (SrvView)."""
        condition = all_of(greater("event_db_id", event_db_id), any_of("event_type", types), extra)

        def opened() -> str:
            answer = self._call(
                "SrvView.ResetIterator",
                wstrViewName="EventsSrvViewName",
                wstrFilter=condition,
                vecFieldsToReturn=list(fields),
                vecFieldsToOrder=order_by("event_db_id"),
                pParams={},
                lifetimeSec=LIFETIME_SECONDS,
            )
            return _text(answer, "wstrIteratorId", "SrvView.ResetIterator")

        def count(iterator: str) -> int:
            return self._number("SrvView.GetRecordCount", wstrIteratorId=iterator)

        def read(iterator: str, start: int, count: int) -> list[Row]:
            answer = self._call(
                "SrvView.GetRecordRange", wstrIteratorId=iterator, nStart=start, nEnd=start + count
            )
            return _rows(answer, "pRecords", "KLCSP_ITERATOR_ARRAY")

        def release(iterator: str) -> None:
            self._call("SrvView.ReleaseIterator", wstrIteratorId=iterator)

        return _listed(opened, count, read, release, _event_key, most)

    def events_since(
        self, moment: datetime | None, event_type: str, fields: Sequence[str], *, most: int
    ) -> list[Row]:
        """Events of one type that arose at or after a moment (EventProcessing, where SrvView may not be used)."""
        limits: Row = {"event_type": event_type}
        if moment is not None:
            limits["KLEVP_EVENT_RISE_TIME_LEAST"] = moment

        def opened() -> str:
            answer = self._call(
                "EventProcessingFactory.CreateEventProcessing2",
                pFilter=limits,
                vecFieldsToReturn=list(fields),
                vecFieldsToOrder=order_by("rise_time"),
                lifetimeSec=LIFETIME_SECONDS,
            )
            return _text(answer, "strIteratorId", "EventProcessingFactory.CreateEventProcessing2")

        return self._event_listing(opened, most)

    def task_history(self, task_id: str, event_type: str, fields: Sequence[str], *, most: int) -> list[Row]:
        """Events of one type that hosts sent about a task."""

        def opened() -> str:
            answer = self._call(
                "Tasks.GetTaskHistory",
                strTask=task_id,
                pFields2Return=list(fields),
                pSortFields=order_by("rise_time"),
                strHostName="",
                pFilter={"event_type": event_type},
            )
            return _text(answer, "strIteratorId", "Tasks.GetTaskHistory")

        return self._event_listing(opened, most)

    def _event_listing(self, opened: Callable[[], str], most: int) -> list[Row]:
        def count(iterator: str) -> int:
            return self._number("EventProcessing.GetRecordCount", strIteratorId=iterator)

        def read(iterator: str, start: int, count: int) -> list[Row]:
            answer = self._call(
                "EventProcessing.GetRecordRange", strIteratorId=iterator, nStart=start, nEnd=start + count
            )
            return _rows(answer, "pParamsEvents", "KLEVP_EVENT_RANGE_ARRAY")

        def release(iterator: str) -> None:
            self._call("EventProcessing.ReleaseIterator", strIteratorId=iterator)

        return _listed(opened, count, read, release, _event_key, most)

    # -- inside

    def _number(self, method: str, **arguments: Any) -> int:
        return _count(self._call(method, **arguments).get("PxgRetVal"), method)

    @contextlib.contextmanager
    def _released(self, method: str, **arguments: Any) -> Iterator[None]:
        try:
            yield
        finally:
            with contextlib.suppress(KscError):  # it ends by itself
                self._call(method, **arguments)


def _listed(
    opened: Callable[[], str],
    count: Callable[[str], int],
    read: Callable[[str, int, int], list[Row]],
    release: Callable[[str], None],
    key: Callable[[Row], object],
    most: int = MAX_ROWS,
) -> list[Row]:
    """All rows of a listing. One that the server lost meanwhile (its session ended) is opened once more.

    Whether a range's end counts itself is not documented: pages go on from what came, and rows are kept once.
    """
    for attempt in (1, 2):
        iterator = opened()
        rows: dict[object, Row] = {}
        try:
            position, total = 0, min(count(iterator), most)
            while position < total:
                page = read(iterator, position, min(PAGE_ROWS, total - position))
                if not page:
                    break
                for row in page:
                    rows.setdefault(key(row), row)
                position += len(page)
            return list(rows.values())[:most]
        except KscError as error:
            if attempt == 2 or not error.not_found:
                raise
        finally:
            with contextlib.suppress(KscError):  # it ends by itself
                release(iterator)
    raise AssertionError("not reached")


def _event_key(row: Row) -> object:
    return row.get("event_db_id") or row.get("event_id")


def _rows(answer: Row, member: str, array: str) -> list[Row]:
    inner = decode(answer.get(member))
    rows = inner.get(array) if isinstance(inner, dict) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _text(answer: Row, member: str, method: str) -> str:
    value = answer.get(member)
    if not isinstance(value, str) or not value or len(value) > 1000:
        raise _odd(method)
    return value


def _count(value: object, method: str) -> int:
    value = decode(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _odd(method)
    return value


def _odd(method: str) -> KscError:
    return KscError(
        "ksc_bad_answer",
        f"{method}: the answer lacks what the reference promises",
        "is this version of the server supported? see docs/kaspersky.md",
    )
