"""The compiled plan of a task as a device reads it: checked before use, never trusted to be well formed.

A plan is canonical JSON that the control side wrote (``ioc_scan.openioc.plan``). It holds every IOC file of
a task, compiled: no XML, no parser and no table of terms is needed here.
"""

from __future__ import annotations

from typing import NamedTuple

from .errors import ScannerError

PLAN_VERSION = 1


class PlanError(ScannerError):
    """The plan cannot be used: not JSON, another version, beyond a bound, or not of the agreed shape."""


class PlanIoc(NamedTuple):
    """One IOC file of the plan."""

    digest: str  #: SHA-256 of the IOC file, lower hex
    ioc_id: str
    name: str
    tier: str  #: "actionable" or "hunt"


class Plan:
    """A loaded plan. ``iocs`` in the order they were compiled; ``documents`` any of them names."""

    iocs: list[PlanIoc]
    documents: frozenset[str]


def load_plan(data: bytes) -> Plan:
    """Read and check a plan. Raises PlanError (``plan_not_json``, ``plan_version``, ``plan_shape``, ``plan_bound``)."""
    raise NotImplementedError
