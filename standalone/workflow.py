"""Conducts one orquesta workflow: asks for the next tasks, hands them out, feeds results back."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

import yaml

from standalone.orquesta_shim import conducting  # first: it makes orquesta importable

from orquesta import events, statuses  # isort: skip
from orquesta.conducting import WorkflowConductor  # isort: skip
from orquesta.specs.native.v1.models import WorkflowSpec  # isort: skip

# (action ref, input, task, delay in seconds, done) -> None; must call done(status, result) once
Submit = Callable[[str, dict[str, Any], dict[str, Any], float, Callable[[str, Any], None]], None]


class WorkflowRun:
    """One run of one definition. Not reusable."""

    def __init__(self, submit: Submit, get_value: Callable[[str], str | None]) -> None:
        self._submit = submit
        self._get_value = get_value
        self._done: queue.SimpleQueue[tuple[dict[str, Any], int | None, str, Any]] = queue.SimpleQueue()
        self._running = 0
        self._task_results: dict[str, Any] = {}
        self._items: dict[tuple[str, int], list[Any]] = {}

    def run(
        self, definition: str, inputs: dict[str, Any], context: dict[str, Any], known_actions: dict[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        """(status, ``{"output": ..., "errors": [...]}``), as StackStorm's runner answers."""
        try:
            with self._conducting():
                spec = WorkflowSpec(yaml.safe_load(definition))
                problems = inspect_workflow(spec, known_actions)
                if problems:
                    return "failed", {"errors": problems, "output": None}
                conductor = WorkflowConductor(spec, context=context, inputs=inputs)
                if conductor.get_workflow_status() not in statuses.COMPLETED_STATUSES:
                    conductor.request_workflow_status(statuses.RUNNING)
        except Exception as error:  # noqa: BLE001  StackStorm turns any of them into a failed execution
            return "failed", {"errors": [{"message": str(error)}], "output": None}
        broken = False
        while True:
            with self._conducting():
                broken = broken or not self._hand_out(conductor)
                if not self._running:
                    break
            self._take_back(conductor)
        with self._conducting():
            status = conductor.get_workflow_status()
            if (
                status not in statuses.COMPLETED_STATUSES
            ):  # nothing runs and nothing can: a join never reached
                conductor.request_workflow_status(statuses.FAILED)
                status = conductor.get_workflow_status()
            conductor.render_workflow_output()
            status = conductor.get_workflow_status()
            result: dict[str, Any] = {"output": conductor.get_workflow_output() or None}
            if status in statuses.ABENDED_STATUSES:
                result["errors"] = conductor.errors
        return status, result

    def _conducting(self) -> Any:
        return conducting(self._get_value, self._task_results)

    def _hand_out(self, conductor: Any) -> bool:
        """Mark all next tasks running, then submit them; False if one could not be requested."""
        tasks = conductor.get_next_tasks()
        while tasks:
            for task in tasks:
                for number in self._numbers(task):
                    self._tell(conductor, task, number, statuses.RUNNING, None)
            for task in tasks:
                try:
                    self._start(conductor, task)
                except Exception as error:  # noqa: BLE001  whatever it is, as in StackStorm:
                    # what cannot be requested fails the whole workflow, and its error branches never run
                    conductor.request_workflow_status(statuses.FAILED)
                    conductor.log_error(error, task_id=task["id"], route=task["route"])
                    return False
            tasks = conductor.get_next_tasks()
        return True

    @staticmethod
    def _numbers(task: dict[str, Any]) -> list[int | None]:
        if task["spec"].has_items() and task.get("items_count") == 0:
            return [None]
        return [action.get("item_id") for action in task["actions"]]

    def _start(self, conductor: Any, task: dict[str, Any]) -> None:
        empty = task["spec"].has_items() and task.get("items_count") == 0
        if task["spec"].action is None or empty:
            self._tell(conductor, task, None, statuses.SUCCEEDED, None)
            return
        for action in task["actions"]:
            number = action.get("item_id")

            def done(status: str, result: Any, number: int | None = number) -> None:
                self._done.put((task, number, status, result))

            self._submit(action["action"], action["input"] or {}, task, task.get("delay") or 0, done)
            self._running += 1

    def _take_back(self, conductor: Any) -> None:
        task, number, status, result = self._done.get()
        self._running -= 1
        with self._conducting():
            self._task_results[task["id"]] = {
                "task_id": task["id"],
                "task_name": task["id"],
                "route": task["route"],
                "status": status,
                "result": result,
            }
            self._tell(conductor, task, number, status, result)

    def _tell(
        self, conductor: Any, task: dict[str, Any], number: int | None, status: str, result: Any
    ) -> None:
        if number is None:
            event = events.ActionExecutionEvent(status, result=result)
        else:
            results = self._items.setdefault((task["id"], task["route"]), [None] * task["items_count"])
            results[number] = result
            event = events.TaskItemActionExecutionEvent(
                number, status, result=result, accumulated_result=list(results)
            )
        conductor.update_task_state(task["id"], task["route"], event)


def inspect_workflow(spec: Any, known_actions: dict[str, Any]) -> list[dict[str, Any]]:
    """What StackStorm finds wrong before a run: orquesta's inspection, unknown actions and inputs.

    ``known_actions`` maps refs to objects with ``parameters``. Hold :func:`conducting` around it.
    """
    problems: list[dict[str, Any]] = []
    for kind, entries in (spec.inspect(app_ctx={"st2": {}, "parent": {}}) or {}).items():
        problems.extend({**entry, "type": kind} for entry in entries)
    for name, task in spec.tasks.items():
        ref, given = getattr(task, "action", None), getattr(task, "input", None) or {}
        if not ref or "<%" in ref or "{{" in ref:
            continue
        where = f"tasks.{name}"
        if ref not in known_actions:
            message = f'The action "{ref}" is not registered in the database.'
            problems.append({"type": "content", "message": message, "spec_path": f"{where}.action"})
            continue
        if not isinstance(given, dict):
            continue
        parameters = known_actions[ref].parameters
        needed = {n for n, s in parameters.items() if s.get("required") and "default" not in s}
        for missing in sorted(needed - set(given)):
            message = f'Action "{ref}" is missing required input "{missing}".'
            problems.append({"type": "content", "message": message, "spec_path": f"{where}.input"})
        for unexpected in sorted(set(given) - set(parameters)):
            message = f'Action "{ref}" has unexpected input "{unexpected}".'
            problems.append(
                {"type": "content", "message": message, "spec_path": f"{where}.input.{unexpected}"}
            )
    return problems
