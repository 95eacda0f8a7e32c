"""Every call the stand-in knows, with its documented arguments. A missing, extra or mistyped one is error 1192."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from .values import BadValue, decode, decode_params

_FIND = {
    "wstrFilter": "string",
    "vecFieldsToReturn": "strings",
    "vecFieldsToOrder": "order",
    "pParams": "params",
    "lMaxLifeTime": "int",
}
_TASK = {"strTask": "string"}
#: Optional strings may be null: all of them are filters of an iterator.
SIGNATURES: dict[str, dict[str, str]] = {
    "Session.StartSession": {},
    "Session.Ping": {},
    "Session.EndSession": {},
    "HostGroup.GetStaticInfo": {"pValues": "strings"},
    "HostGroup.GroupIdGroups": {},
    "HostGroup.FindGroups": _FIND,
    "HostGroup.FindHosts": _FIND,
    "HostGroup.GetSubgroups": {"nGroupId": "int", "nDepth": "int"},
    "HostGroup.GetHostInfo": {"strHostName": "string", "pFields2Return": "strings"},
    "ChunkAccessor.GetItemsCount": {"strAccessor": "string"},
    "ChunkAccessor.GetItemsChunk": {"strAccessor": "string", "nStart": "int", "nCount": "int"},
    "ChunkAccessor.Release": {"strAccessor": "string"},
    "Tasks.AddTask": {"pData": "params"},
    "Tasks.UpdateTask": {**_TASK, "pData": "params"},
    "Tasks.DeleteTask": _TASK,
    "Tasks.RunTask": _TASK,
    "Tasks.CancelTask": _TASK,
    "Tasks.SuspendTask": _TASK,
    "Tasks.ResumeTask": _TASK,
    "Tasks.GetTask": _TASK,
    "Tasks.GetTaskData": _TASK,
    "Tasks.GetTaskGroup": {"strTaskId": "string"},
    "Tasks.GetTaskStatistics": _TASK,
    "Tasks.ResetTasksIterator": {
        "nGroupId": "int",
        "bGroupIdSignificant": "bool",
        "strProductName": "string?",
        "strVersion": "string?",
        "strComponentName": "string?",
        "strInstanceId": "string?",
        "strTaskName": "string?",
        "bIncludeSupergroups": "bool",
    },
    "Tasks.GetNextTask": {"strTaskIteratorId": "string"},
    "Tasks.ReleaseTasksIterator": {"strTaskIteratorId": "string"},
    "Tasks.ResetHostIteratorForTaskStatus": {
        **_TASK,
        "pFields2Return": "strings",
        "nHostStateMask": "int",
        "nLifetime": "int",
    },
    "Tasks.GetHostStatusRecordsCount": {"strHostIteratorId": "string"},
    "Tasks.GetHostStatusRecordRange": {"strHostIteratorId": "string", "nStart": "int", "nEnd": "int"},
    "Tasks.ReleaseHostStatusIterator": {"strHostIteratorId": "string"},
    "Tasks.GetTaskHistory": {
        **_TASK,
        "pFields2Return": "strings",
        "pSortFields": "order",
        "strHostName": "string",
        "pFilter": "params",
    },
    "EventProcessingFactory.CreateEventProcessing2": {
        "pFilter": "params",
        "vecFieldsToReturn": "strings",
        "vecFieldsToOrder": "order",
        "lifetimeSec": "int",
    },
    "EventProcessing.GetRecordCount": {"strIteratorId": "string"},
    "EventProcessing.GetRecordRange": {"strIteratorId": "string", "nStart": "int", "nEnd": "int"},
    "EventProcessing.ReleaseIterator": {"strIteratorId": "string"},
    "SrvView.ResetIterator": {
        "wstrViewName": "string",
        "wstrFilter": "string",
        "vecFieldsToReturn": "strings",
        "vecFieldsToOrder": "order",
        "pParams": "params",
        "lifetimeSec": "int",
    },
    "SrvView.GetRecordCount": {"wstrIteratorId": "string"},
    "SrvView.GetRecordRange": {"wstrIteratorId": "string", "nStart": "int", "nEnd": "int"},
    "SrvView.ReleaseIterator": {"wstrIteratorId": "string"},
}


def check_arguments(method: str, body: Any) -> dict[str, Any]:
    """The decoded arguments. Raises BadValue."""
    signature = SIGNATURES[method]
    if not isinstance(body, dict):
        raise BadValue("the body is not an object")
    if missing := sorted(set(signature) - set(body)):
        raise BadValue(f"argument {missing[0]} is missing")
    if extra := sorted(set(body) - set(signature)):
        raise BadValue(f"argument {extra[0]} is not known")
    return {name: _argument(kind, name, body[name]) for name, kind in signature.items()}


def _argument(kind: str, name: str, value: Any) -> Any:
    if kind == "params":
        return decode_params(value)
    if kind == "order":
        if not isinstance(value, list):
            raise BadValue(f"{name} is not an array")
        # both forms of an item are accepted: wrapped and plain
        return [_order(entry) for entry in value]
    if kind.endswith("?") and value is None:
        return None
    decoded = decode(value)
    fits = {
        "string": isinstance(decoded, str),
        "int": isinstance(decoded, int) and not isinstance(decoded, bool),
        "bool": isinstance(decoded, bool),
        "strings": isinstance(decoded, list) and all(isinstance(entry, str) for entry in decoded),
        "datetime": isinstance(decoded, datetime),
    }[kind.rstrip("?")]
    if not fits:
        raise BadValue(f"argument {name} is not of type {kind}")
    return decoded


def _order(entry: Any) -> dict[str, Any]:
    plain = entry if isinstance(entry, dict) and "Name" in entry else decode(entry)
    if not isinstance(plain, dict) or not isinstance(plain.get("Name"), str):
        raise BadValue("an order names no attribute")
    return {"Name": plain["Name"], "Asc": bool(plain.get("Asc", True))}
