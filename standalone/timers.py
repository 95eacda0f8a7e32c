"""Timers of rules, with the scheduler StackStorm uses. None of them fires at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger
from dateutil import parser  # type: ignore[import-untyped]

TIMER_TYPES = {"core.st2.IntervalTimer", "core.st2.CronTimer", "core.st2.DateTimer"}
DEFAULT_TIMEZONE = "America/Los_Angeles"  # StackStorm's own default where a timer names none


class Timers:
    """Runs until :meth:`stop`. ``fire`` gets the ref of the rule, in a thread of the scheduler's."""

    def __init__(self, rules: list[dict[str, Any]], fire: Callable[[str], Any]) -> None:
        self._scheduler = BackgroundScheduler(timezone=DEFAULT_TIMEZONE)
        for rule in rules:
            if rule["trigger"]["type"] in TIMER_TYPES:
                self._scheduler.add_job(fire, timer_trigger(rule["trigger"]), args=[rule["ref"]])
        self._scheduler.start()

    def stop(self) -> None:
        self._scheduler.shutdown(wait=False)


def timer_trigger(trigger: dict[str, Any]) -> Any:
    """The scheduler's trigger for a rule's one. Raises KeyError, ValueError, TypeError."""
    parameters = dict(trigger.get("parameters") or {})
    timezone = parameters.pop("timezone", None) or DEFAULT_TIMEZONE
    if trigger["type"] == "core.st2.IntervalTimer":
        return IntervalTrigger(**{parameters["unit"]: parameters["delta"]}, timezone=timezone)
    if trigger["type"] == "core.st2.DateTimer":
        return DateTrigger(parser.parse(parameters["date"]), timezone=timezone)
    return CronTrigger(**parameters, timezone=timezone)
