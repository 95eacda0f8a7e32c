"""One pack, run as StackStorm would: triggers match rules, rules and people request executions.

Everything a caller sees is a plain dict, an *execution*: ``id, action, status, parameters, result,
context, trace_tag, rule, parent, task, start_timestamp, end_timestamp``. Secrets in it are masked.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
from ioc_scan.clock import AHEAD_VARIABLE, system_clock, to_iso
from ioc_scan.errors import ConfigError, InputError, IocScanError, NotFoundError

from standalone import dialect, parameters, python_runner, rules, templates, timers
from standalone.config import read_config, resolve_config
from standalone.pack import Action, Pack, load_pack
from standalone.sensors import SensorProcess
from standalone.state import State
from standalone.workflow import WorkflowRun

SYSTEM_USER = "stanley"  # StackStorm's: what a rule fires runs as this user
WEBHOOK = "core.st2.webhook"
SLOTS = 60  # actions (not workflows) that one StackStorm action runner runs at once
LOG = logging.getLogger("standalone")


class Engine:
    """Runs one pack.

    ``config`` is a file, a mapping, or None (as on a StackStorm without a config file for the pack).
    ``clock_ahead_seconds`` moves the clock of the engine and of every child forward, to show lifetimes.
    ``poll_interval_seconds`` overrides that of every sensor. ``log`` takes what StackStorm writes to logs
    only. Raises ConfigError for a pack or config that does not load.
    """

    def __init__(
        self,
        pack_dir: str | os.PathLike[str],
        config: str | os.PathLike[str] | dict[str, Any] | None = None,
        state_dir: str | os.PathLike[str] = ".standalone",
        *,
        clock_ahead_seconds: int | None = None,
        poll_interval_seconds: float | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.pack: Pack = load_pack(Path(pack_dir))
        source = config if config is None or isinstance(config, dict) else Path(config)
        self._config_values = read_config(self.pack, source)
        self.state = State(Path(state_dir))
        inherited = int(os.environ.get(AHEAD_VARIABLE) or 0)
        self._ahead_seconds = inherited if clock_ahead_seconds is None else clock_ahead_seconds
        self._ahead_here = timedelta(seconds=self._ahead_seconds - inherited)
        self._poll_interval_seconds = poll_interval_seconds
        self._log = log or LOG.info
        self._callbacks: list[Callable[[dict[str, Any]], None]] = []
        self._sensors: list[SensorProcess] = []
        self._timers: timers.Timers | None = None
        self._slots = threading.BoundedSemaphore(SLOTS)
        self._idle = threading.Condition()
        self._active = 0
        self._stopping = threading.Event()
        self._processes: set[Any] = set()
        for problem in self.pack.problems:
            self._log(problem)

    # --- what callers use

    def clock(self) -> datetime:
        """Now, moved ahead as asked."""
        return system_clock() + self._ahead_here

    def config(self, user: str = SYSTEM_USER) -> dict[str, Any]:
        """The pack's config as an action of that user gets it."""
        return resolve_config(self.pack, self._config_values, self.state.values.get, user)

    def on_execution(self, callback: Callable[[dict[str, Any]], None]) -> None:
        """Call back with a copy of the execution at every change of its status, from any thread."""
        self._callbacks.append(callback)

    def executions(self, limit: int | None = None) -> list[dict[str, Any]]:
        """All executions of the state folder, oldest first."""
        return self.state.executions(limit)

    def run_action(
        self,
        ref: str,
        params: dict[str, Any] | None = None,
        user: str = "st2admin",
        *,
        api_user: str | None = None,
        trace_tag: str | None = None,
    ) -> dict[str, Any]:
        """Request an action as ``user`` and wait for its end; returns the execution, failed or not.

        Raises InputError (refused parameters) and NotFoundError (no such action), before anything runs.
        ``api_user`` is set for what comes through chat: the bot's word for who typed it.
        """
        context: dict[str, Any] = {"user": user, "pack": ref.partition(".")[0]}
        if api_user is not None:
            context["api_user"] = api_user
        finished = threading.Event()
        execution = self._request(
            ref, params or {}, context, trace_tag=trace_tag, done=lambda *_: finished.set()
        )
        finished.wait()
        return self.state.execution(execution["id"])

    def dispatch(
        self, trigger: str, payload: Any = None, trace_tag: str | None = None, *, strict: bool = False
    ) -> list[dict[str, Any]]:
        """Hand in a trigger; returns the executions that rules started.

        A payload that breaks its schema is dropped with a log line, as from a sensor; with ``strict``
        it raises InputError, as from ``core.inject_trigger``.
        """
        payload = json.loads(json.dumps(payload))
        try:
            declared = self.pack.trigger_types.get(trigger)
            if declared is None:
                raise InputError("trigger_unknown", f'Trigger type with reference "{trigger}" doesn\'t exist')
            schema = declared.get("payload_schema") or {}
            if schema:
                dialect.validate(payload, schema)
        except (InputError, jsonschema.ValidationError) as error:
            message = error.message
            if strict:
                raise InputError(
                    "trigger_refused", f"Trigger payload validation failed for {trigger}: {message}"
                ) from error
            self._log(f"payload validation failed, not dispatching {trigger}: {message}")
            return []
        return self._fire([r for r in self.pack.rules if r["trigger"]["type"] == trigger], payload, trace_tag)

    def post_webhook(
        self, url: str | None, body: Any, headers: dict[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """What ``POST /webhooks/<url>`` does; None: the pack's only one. Raises NotFoundError, InputError."""
        hooks = [rule for rule in self._enabled_rules() if rule["trigger"]["type"] == WEBHOOK]
        known = sorted({str(rule["trigger"]["parameters"]["url"]).strip("/") for rule in hooks})
        if url is None and len(known) == 1:
            url = known[0]
        if url is None or url.strip("/") not in known:
            raise NotFoundError(
                "webhook_unknown", f"Webhook {url} not registered with st2", f"Known: {', '.join(known)}"
            )
        if not isinstance(body, (dict, list)):
            raise InputError("webhook_body", "A webhook body is a JSON object or list.")
        headers = dict(headers or {})
        trace_tag = headers.pop("St2-Trace-Tag", None) or f"webhook-{url.strip('/')}-{uuid.uuid4().hex}"
        payload = {
            "headers": headers,
            "headers_lower": {name.lower(): value for name, value in headers.items()},
            "body": json.loads(json.dumps(body)),
        }
        wanted = [r for r in hooks if str(r["trigger"]["parameters"]["url"]).strip("/") == url.strip("/")]
        return self._fire(wanted, payload, trace_tag)

    def fire_timer(self, rule_ref: str) -> list[dict[str, Any]]:
        """Let the timer of this rule fire now. Raises NotFoundError."""
        for rule in self.pack.rules:
            if rule_ref in (rule["ref"], rule["name"]) and rule["trigger"]["type"] in timers.TIMER_TYPES:
                kind = rule["trigger"]["type"].partition(".")[2]
                payload = {"executed_at": str(self.clock()), "schedule": None}
                return self._fire([rule], payload, f"{kind}-{uuid.uuid4()}")
        raise NotFoundError("timer_unknown", f"No timer rule {rule_ref}", "See the rules/ folder.")

    def start_sensors(self) -> None:
        """Start every enabled sensor; they read config now and never again."""
        python_path = str(python_runner.CHILDREN)
        for metadata in self.pack.sensors:
            if not metadata.get("enabled", True):
                continue
            sensor = SensorProcess(
                pack_ref=self.pack.ref,
                metadata=metadata,
                folder=self.pack.directory / "sensors",
                config=self.config(),
                environment=self._environment(python_path),
                poll_interval_seconds=self._poll_interval_seconds,
                on_dispatch=self.dispatch,
                log=self._log,
            )
            self._sensors.append(sensor)
            sensor.start()

    def start_timers(self) -> None:
        """Start the timers of the enabled rules; none fires at once."""
        self._timers = timers.Timers(self._enabled_rules(), self.fire_timer)

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Wait until no execution runs (True), or ``timeout`` seconds are over (False)."""
        with self._idle:
            return self._idle.wait_for(lambda: self._active == 0, timeout)

    def stop(self) -> None:
        """End sensors, timers and running actions. The engine cannot be used afterwards."""
        self._stopping.set()
        if self._timers is not None:
            self._timers.stop()
        for sensor in self._sensors:
            sensor.stop()
        for process in list(self._processes):
            python_runner.end_process(process)
        self.wait_idle(10)
        self.state.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- rules

    def _enabled_rules(self) -> list[dict[str, Any]]:
        return [rule for rule in self.pack.rules if rule.get("enabled", False)]  # StackStorm's default: off

    def _fire(
        self, candidates: list[dict[str, Any]], payload: Any, trace_tag: str | None
    ) -> list[dict[str, Any]]:
        started = []
        for rule in candidates:
            if rule not in self._enabled_rules() or self._stopping.is_set():
                continue
            context = {"trigger": payload, "st2kv": self._key_values(SYSTEM_USER)}
            try:
                if not rules.matches(rule, payload, context, self.clock()):
                    continue
            except Exception as error:  # noqa: BLE001  a criterion that raises is a rule that does not match
                self._log(f"rule {rule['ref']} not matched: {type(error).__name__}: {error}")
                continue
            action = rule["action"]
            try:
                execution = self._request(
                    action["ref"],
                    action.get("parameters") or {},
                    {
                        "user": SYSTEM_USER,
                        "pack": action["ref"].partition(".")[0],
                        "rule": {"ref": rule["ref"]},
                    },
                    trace_tag=trace_tag or f"trigger_instance-{uuid.uuid4().hex[:24]}",
                    rule=rule["ref"],
                    extra={"trigger": payload},
                )
            except IocScanError as error:
                self._log(f"rule {rule['ref']} failed, no execution: {error.message}")
            else:
                started.append(execution)
        return started

    # --- executions

    def _key_values(self, user: str) -> dict[str, Any]:
        return templates.key_value_context(self.state.values.get, user)

    def _request(
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
        action = self.pack.actions.get(ref)
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
            "start_timestamp": to_iso(self.clock()),
            "end_timestamp": None,
        }
        with self._idle:
            self._active += 1
        self._tell(execution)
        threading.Thread(
            target=self._run, args=(execution, action, live, delay_seconds, done), daemon=True, name=ref
        ).start()
        return copy.deepcopy(execution)

    def _render_names(self, context: dict[str, Any], *, tolerant: bool = False) -> dict[str, Any]:
        user = context.get("api_user") or context.get("user") or SYSTEM_USER
        try:
            config = self.config(user)
        except ConfigError:
            if not tolerant:
                raise
            config = {}
        return {"st2kv": self._key_values(user), "action_context": context, "config_context": config}

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
            execution["start_timestamp"] = to_iso(self.clock())
            self._tell(execution)
            status, result = self._perform(execution, action, live)
            if status == "succeeded":
                status, result = self._check_output(action, status, result)
        except Exception as error:  # noqa: BLE001  as StackStorm: whatever a runner raises fails the execution
            status, result = "failed", {"error": str(error)}
        execution.update(status=status, end_timestamp=to_iso(self.clock()))
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
        entry_point = self.pack.directory / "actions" / action.entry_point
        if action.runner == "orquesta":
            return self._workflow(execution, entry_point, given)
        with self._slots:
            if self._stopping.is_set():
                return "canceled", None
            return python_runner.run_python_action(
                pack_ref=self.pack.ref,
                entry_point=entry_point,
                user=context["user"],
                config=self.config(context["user"]),
                parameters=given,
                runner_parameters=runner,
                environment=self._environment(python_runner.action_python_path(self.pack.directory)),
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
            self._request(
                ref,
                task_input,
                child,
                trace_tag=execution["trace_tag"],
                delay_seconds=delay_seconds,
                done=done,
            )

        run = WorkflowRun(submit, self.state.values.get)
        definition = entry_point.read_text(encoding="utf-8")
        return run.run(definition, given, {"st2": st2, "parent": context}, self.pack.actions)

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
            self.dispatch(trigger, payload, given["trace_tag"], strict=True)
        except InputError as error:
            return "failed", {**outcome, "exit_code": 1, "stderr": f"ValueError: {error.message}"}
        return "succeeded", {**outcome, "result": {"trigger": trigger, "payload": payload}}

    def _check_output(self, action: Action, status: str, result: Any) -> tuple[str, Any]:
        """StackStorm does this with ``[system] validate_output_schema``, off by default; here it is on."""
        if action.output_key is None or "type" not in action.output_schema:
            return status, result
        try:
            dialect.validate(result[action.output_key], action.output_schema, none_is_absent=False)
        except jsonschema.ValidationError as error:
            message = "Error validating output. See error output for more details."
            return "failed", {"error": str(error), "message": message}
        return status, result

    def _masked(self, action: Action, result: Any) -> Any:
        result = json.loads(json.dumps(result))
        if isinstance(result, dict) and action.output_key in result:
            result[action.output_key] = dialect.mask(result[action.output_key], action.output_schema)
        return result

    def _environment(self, python_path: str) -> dict[str, str]:
        return python_runner.child_environment(
            self.pack.directory, self.state.folder, self._ahead_seconds, python_path
        )

    def _tell(self, execution: dict[str, Any]) -> None:
        self.state.save(execution)
        for callback in self._callbacks:
            callback(copy.deepcopy(execution))
