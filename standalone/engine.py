"""One pack, run as StackStorm would: triggers match rules, rules and people request executions.

Everything a caller sees is a plain dict, an *execution*: ``id, action, status, parameters, result,
context, trace_tag, rule, parent, task, start_timestamp, end_timestamp``. Secrets in it are masked.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
from ioc_scan.clock import AHEAD_VARIABLE, system_clock
from ioc_scan.errors import InputError, IocScanError, NotFoundError

from standalone import dialect, python_runner, rules, timers
from standalone.config import read_config, resolve_config
from standalone.executor import SYSTEM_USER, Executor
from standalone.pack import Pack, load_pack
from standalone.sensors import SensorProcess
from standalone.state import State

WEBHOOK = "core.st2.webhook"
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
        self._sensors: list[SensorProcess] = []
        self._timers: timers.Timers | None = None
        self._executor = Executor(
            self.pack,
            self.state,
            config=self.config,
            clock=self.clock,
            environment=self._environment(python_runner.action_python_path(self.pack.directory)),
            inject=lambda trigger, payload, tag: self.dispatch(trigger, payload, tag, strict=True),
        )
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
        self._executor.callbacks.append(callback)

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
        execution = self._executor.request(
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
        return self._executor.wait_idle(timeout)

    def stop(self) -> None:
        """End sensors, timers and running actions. The engine cannot be used afterwards."""
        if self._timers is not None:
            self._timers.stop()
        for sensor in self._sensors:
            sensor.stop()
        self._executor.stop()

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
            if rule not in self._enabled_rules() or self._executor.stopping:
                continue
            context = {"trigger": payload, "st2kv": self._executor.key_values(SYSTEM_USER)}
            try:
                if not rules.matches(rule, payload, context, self.clock()):
                    continue
            except Exception as error:  # noqa: BLE001  a criterion that raises is a rule that does not match
                self._log(f"rule {rule['ref']} not matched: {type(error).__name__}: {error}")
                continue
            action = rule["action"]
            try:
                execution = self._executor.request(
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

    def _environment(self, python_path: str) -> dict[str, str]:
        return python_runner.child_environment(
            self.pack.directory, self.state.folder, self._ahead_seconds, python_path
        )
