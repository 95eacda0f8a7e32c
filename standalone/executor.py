"""Requests executions, runs them, and tells about every change of their status."""

from __future__ import annotations

import copy
import json
import threading
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
from ioc_scan.clock import to_iso
from ioc_scan.errors import ConfigError, InputError, NotFoundError

from standalone import dialect, parameters, python_runner, templates
from standalone.pack import Action, Pack
from standalone.state import State
from standalone.workflow import WorkflowRun

SYSTEM_USER = "stanley"  # StackStorm's: what a rule fires runs as this user
SLOTS = 60  # actions (not workflows) that one StackStorm action runner runs at once

Execution = dict[str, Any]
Done = Callable[[str, Any], None]


class Executor:
    """Runs actions of one pack, each in a thread of its own.

    ``config`` gives the pack's config for a user, ``inject`` takes what ``core.inject_trigger`` dispatches
    and raises InputError. ``environment`` is that of every python action.
    """

    def __init__(
        self,
        pack: Pack,
        state: State,
        *,
        config: Callable[[str], dict[str, Any]],
        clock: Callable[[], datetime],
        environment: dict[str, str],
        inject: Callable[[str, Any, str | None], Any],
    ) -> None:
        self._pack = pack
        self._state = state
        self._config = config
        self._clock = clock
        self._environment = environment
        self._inject = inject
        self.callbacks: list[Callable[[Execution], None]] = []
        self._slots = threading.BoundedSemaphore(SLOTS)
        self._idle = threading.Condition()
        self._active = 0
        self._stopping = threading.Event()
        self._processes: set[Any] = set()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def wait_idle(self, timeout_seconds: float | None) -> bool:
        """True as soon as nothing runs, False after ``timeout_seconds``."""
        with self._idle:
            return self._idle.wait_for(lambda: self._active == 0, timeout_seconds)

    def stop(self) -> None:
        """Kill running actions and wait for what waits for them."""
        self._stopping.set()
        for process in list(self._processes):
            python_runner.kill(process)
        self.wait_idle(10)

    def key_values(self, user: str) -> dict[str, Any]:
        """``st2kv`` of a template rendered for that user."""
        return templates.key_value_context(self._state.values.get, user)

    def request(
        self,
        ref: str,
        given: dict[str, Any],
        context: dict[str, Any],
        *,
        trace_tag: str | None = None,
        rule: str | None = None,
        extra: dict[str, Any] | None = None,
        delay_seconds: float = 0,
        done: Callable[[str, Any], None] | None = None,
    ) -> dict[str, Any]:
        """Check the parameters and start the execution; ``done(status, unmasked result)`` at its end."""
        action = self._pack.actions.get(ref)
        if action is None or not action.enabled:
            raise NotFoundError(
                "action_unknown",
                f'Action "{ref}" ' + ("cannot be found." if action is None else "is disabled."),
                "See: python -m standalone lint",
            )
        names = {**self._render_names(context, tolerant=True), **(extra or {})}
        live = parameters.live_parameters(action, json.loads(json.dumps(given)), names)
        parameters.check_parameters(action, live)
        execution_id = f"{int(time.time()):08x}{uuid.uuid4().hex[:16]}"
        execution = {
            "id": execution_id,
            "action": ref,
            "status": "delayed" if delay_seconds else "requested",
            "parameters": action.mask_parameters(live),
            "result": None,
            "context": context,
            "trace_tag": trace_tag or f"execution-{execution_id}",
            "rule": rule,
            "parent": (context.get("parent") or {}).get("execution_id"),
            "task": (context.get("orquesta") or {}).get("task_name"),
            "start_timestamp": to_iso(self._clock()),
            "end_timestamp": None,
        }
        self._tell(execution)
        with self._idle:
            self._active += 1
        threading.Thread(
            target=self._run, args=(execution, action, live, delay_seconds, done), daemon=True, name=ref
        ).start()
        return copy.deepcopy(execution)

    def _render_names(self, context: dict[str, Any], *, tolerant: bool = False) -> dict[str, Any]:
        user = context.get("user") or SYSTEM_USER
        try:
            config = self._config(user)
        except ConfigError:
            if not tolerant:
                raise
            config = {}
        values = self.key_values(context.get("api_user") or user)
        return {"st2kv": values, "action_context": context, "config_context": config}

    def _run(
        self,
        execution: dict[str, Any],
        action: Action,
        live: dict[str, Any],
        delay_seconds: float,
        done: Callable[[str, Any], None] | None,
    ) -> None:
        result: Any = None
        try:
            if delay_seconds:
                self._stopping.wait(delay_seconds)
            execution["status"] = "running"
            execution["start_timestamp"] = to_iso(self._clock())
            self._tell(execution)
            status, result = self._perform(execution, action, live)
            if status == "succeeded":
                status, result = self._check_output(action, status, result)
        except Exception as error:  # noqa: BLE001  as StackStorm: whatever a runner raises fails the execution
            status, result = "failed", {"error": str(error)}
        execution.update(status=status, end_timestamp=to_iso(self._clock()))
        execution["result"] = self._masked(action, result)
        try:
            self._tell(execution)
        finally:
            if done is not None:
                done(status, result)
            with self._idle:
                self._active -= 1
                self._idle.notify_all()

    def _perform(self, execution: dict[str, Any], action: Action, live: dict[str, Any]) -> tuple[str, Any]:
        context = execution["context"]
        runner, given = parameters.final_parameters(action, live, self._render_names(context))
        if action.runner == "builtin":
            return self._builtin(action.ref, given)
        entry_point = self._pack.directory / "actions" / action.entry_point
        if action.runner == "orquesta":
            return self._workflow(execution, entry_point, given)
        with self._slots:
            if self._stopping.is_set():
                return "canceled", None
            return python_runner.run_python_action(
                pack_ref=self._pack.ref,
                entry_point=entry_point,
                user=context["user"],
                config=self._config(context["user"]),
                parameters=given,
                runner_parameters=runner,
                environment=self._environment,
                running=self._processes,
            )

    def _workflow(
        self, execution: dict[str, Any], entry_point: Path, given: dict[str, Any]
    ) -> tuple[str, Any]:
        context = execution["context"]
        inherited = {name: context[name] for name in ("api_user", "source_channel") if context.get(name)}
        above = {
            "execution_id": execution["id"],
            "user": context["user"],
            "pack": context["pack"],
            **inherited,
        }
        st2 = {
            "action_execution_id": execution["id"],
            "action": execution["action"],
            "runner": "orquesta",
            **{name: value for name, value in above.items() if name != "execution_id"},
        }

        def submit(
            ref: str,
            task_input: dict[str, Any],
            task: dict[str, Any],
            delay_seconds: float,
            done: Callable[[str, Any], None],
        ) -> None:
            child = {
                "pack": ref.partition(".")[0],
                "user": context["user"],
                "parent": above,
                "orquesta": {"task_name": task["id"], "task_id": task["id"], "task_route": task["route"]},
                **inherited,
            }
            self.request(
                ref,
                task_input,
                child,
                trace_tag=execution["trace_tag"],
                delay_seconds=delay_seconds,
                done=done,
            )

        run = WorkflowRun(submit, self._state.values.get)
        definition = entry_point.read_text(encoding="utf-8")
        return run.run(definition, given, {"st2": st2, "parent": context}, self._pack.actions)

    def _builtin(self, ref: str, given: dict[str, Any]) -> tuple[str, Any]:
        if ref == "core.noop":
            return "succeeded", {"failed": False, "succeeded": True, "return_code": 0}
        if ref == "core.echo":
            text = str(given["message"])
            done = {"failed": False, "succeeded": True, "return_code": 0, "stdout": text, "stderr": ""}
            return "succeeded", done
        outcome = {"stdout": "", "stderr": "", "exit_code": 0, "result": "None"}
        trigger, payload = given["trigger"] or given["trigger_name"], given["payload"] or {}
        if not trigger or (given["trigger"] and given["trigger_name"]):
            return "failed", {**outcome, "exit_code": 1, "stderr": "Give one of trigger and trigger_name."}
        try:
            self._inject(trigger, payload, given["trace_tag"])
        except InputError as error:
            return "failed", {**outcome, "exit_code": 1, "stderr": f"ValueError: {error.message}"}
        return "succeeded", {**outcome, "result": {"trigger": trigger, "payload": payload}}

    def _check_output(self, action: Action, status: str, result: Any) -> tuple[str, Any]:
        """StackStorm does this with ``[system] validate_output_schema``, off by default; here it is on."""
        schema = dialect.heeded_output_schema(action.output_schema)
        if action.output_key is None or schema is None:
            return status, result
        try:
            dialect.validate(result[action.output_key], schema, none_is_absent=False)
        except jsonschema.ValidationError as error:
            message = "Error validating output. See error output for more details."
            return "failed", {"error": str(error), "message": message}
        return status, result

    def _masked(self, action: Action, result: Any) -> Any:
        result = json.loads(json.dumps(result))
        if isinstance(result, dict) and action.output_key in result:
            result[action.output_key] = dialect.mask_output(result[action.output_key], action.output_schema)
        return result

    def _tell(self, execution: dict[str, Any]) -> None:
        self._state.save(execution)
        for callback in self.callbacks:
            callback(copy.deepcopy(execution))
