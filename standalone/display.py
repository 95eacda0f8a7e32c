"""Showing executions: a line per change as they run, a block or a table afterwards. As ``st2`` does."""

from __future__ import annotations

import json
import threading
import time
from typing import Any, TextIO

import yaml
from ioc_scan.text import printable

_COLOURS = {"succeeded": "32", "failed": "31", "timeout": "31", "running": "36", "delayed": "33", "log": "2"}


def paint(text: str, kind: str, colour: bool) -> str:
    """``text`` in the colour of a status, where the terminal takes colours."""
    return f"\033[{_COLOURS[kind]}m{text}\033[0m" if colour and kind in _COLOURS else text


def reason(execution: dict[str, Any]) -> str:
    """One safe line that says why an execution failed."""
    result = execution.get("result") or {}
    if not isinstance(result, dict):
        return printable(result)
    output = result.get("output")
    inner = output.get("error") if isinstance(output, dict) else result.get("result")
    if isinstance(inner, dict) and "code" in inner:
        hint = f" ({inner['hint']})" if inner.get("hint") else ""
        return printable(f"{inner['code']}: {inner.get('message', '')}{hint}")
    if result.get("error"):
        return printable(result["error"])
    if result.get("errors"):
        return printable((result["errors"][0] or {}).get("message", ""))
    lines = str(result.get("stderr") or "").strip().splitlines()
    return printable(lines[-1]) if lines else ""


class _Readable(yaml.SafeDumper):
    """Texts of several lines as such; PyYAML quotes and escapes those with control characters."""


_Readable.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text.strip() else None
    ),
)


class LivePrinter:
    """A line for every start of a workflow or top-level action, and for every end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._colour = stream.isatty()
        self._started: dict[str, float] = {}
        self._depth: dict[str, int] = {}
        self._lock = threading.Lock()

    def execution(self, execution: dict[str, Any]) -> None:
        """Give this to ``Engine.on_execution``."""
        key, status = execution["id"], execution["status"]
        with self._lock:
            self._depth.setdefault(key, self._depth.get(execution["parent"], -1) + 1)
            if status == "running":
                self._started[key] = time.monotonic()
                if execution["parent"]:
                    return
            elif status in ("requested", "delayed"):
                return
            self._stream.write(self._line(execution) + "\n")
            self._stream.flush()

    def log(self, message: str) -> None:
        """A line that StackStorm would write to a log file only."""
        with self._lock:
            line = f"{time.strftime('%H:%M:%S')} log        {printable(message, 500)}"
            self._stream.write(paint(line, "log", self._colour) + "\n")
            self._stream.flush()

    def _line(self, execution: dict[str, Any]) -> str:
        status = execution["status"]
        name = execution["action"]
        if execution["task"]:
            name = f"{execution['task']} ({name})"
        parts = [f"{'  ' * self._depth[execution['id']]}{name}"]
        if status == "running":
            parts += [execution["id"], f"user={execution['context'].get('user')}"]
            parts += [f"rule={execution['rule']}"] if execution["rule"] else []
            parts += [f"trace={printable(execution['trace_tag'])}"]
        else:
            elapsed = time.monotonic() - self._started.get(execution["id"], time.monotonic())
            parts += [f"{elapsed:.1f} s"]
            parts += [reason(execution)] if status != "succeeded" else []
        shown = paint(f"{status:<10}", status, self._colour)
        return f"{time.strftime('%H:%M:%S')} {shown} {'  '.join(parts)}"


def block(execution: dict[str, Any], children: list[dict[str, Any]], colour: bool) -> str:
    """One execution as ``st2 run`` and ``st2 execution get`` print it; a workflow with its tasks."""
    lines = [
        f"id: {execution['id']}",
        f"action.ref: {execution['action']}",
        f"context.user: {execution['context'].get('user')}",
        f"trace_tag: {printable(execution['trace_tag'])}",
        f"parameters: {_indented(execution['parameters'] or None)}",
        f"status: {paint(execution['status'], execution['status'], colour)}",
        f"start_timestamp: {execution['start_timestamp']}",
        f"end_timestamp: {execution['end_timestamp']}",
        f"result: {_indented(execution['result'])}",
    ]
    if children:
        lines.append(table(children))
    return "\n".join(lines)


def table(executions: list[dict[str, Any]]) -> str:
    """Rows of executions, as ``st2 execution list`` has them."""
    header = ("id", "action.ref", "task", "user", "status", "start_timestamp")
    rows = [
        (
            e["id"],
            e["action"],
            e["task"] or "",
            str(e["context"].get("user")),
            e["status"],
            e["start_timestamp"],
        )
        for e in executions
    ]
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    ruler = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    body = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in rows]
    head = "| " + " | ".join(c.ljust(w) for c, w in zip(header, widths, strict=True)) + " |"
    return "\n".join([ruler, head, ruler, *body, ruler])


def as_json(value: Any) -> str:
    return json.dumps(value, indent=4)


def _indented(value: Any) -> str:
    """Plain values on the line, others as YAML below it, ASCII only."""
    if not isinstance(value, (dict, list)):
        return json.dumps(value)
    text = yaml.dump(value, Dumper=_Readable, default_flow_style=False, sort_keys=True, width=110)
    return "\n" + "\n".join("  " + line for line in text.rstrip().splitlines())
