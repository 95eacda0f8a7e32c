"""check_setup: tries everything before it is needed, and says what to do."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ioc_scan.errors import IocScanError, StoreError
from ioc_scan.reports import tables
from ioc_scan.reports.tables import Column
from ioc_scan.service.context import Context
from ioc_scan.service.intake import check_guard
from ioc_scan.service.policies import Target
from ioc_scan.service.setup_parts import MORE_PARTS, Check, bad, good
from ioc_scan.service.targeting import resolve
from ioc_scan.service.views import TABLE_WIDTH

#: Below this much free space a store will soon fail.
LOW_SPACE_BYTES = 1024**3
_OLDEST_PYTHON = (3, 10)


def check_setup(context: Context) -> dict[str, Any]:
    """Every check is made whatever the others find. ``ok`` is False if a needed thing does not work."""
    checks = [check for part in _PARTS for check in part(context)]
    columns: list[Column | str] = [
        Column("name", "check", fixed=True),
        Column("state", "", fixed=True),
        "message",
        "hint",
    ]
    for check in checks:
        check["state"] = (
            "ok" if check["ok"] else "warning" if check["code"].startswith("warning") else "FAILED"
        )
    return {
        "ok": all(check["state"] != "FAILED" for check in checks),
        "checks": checks,
        "table": tables.render(checks, columns, TABLE_WIDTH),
    }


def _try(name: str, attempt: Callable[[], str]) -> Check:
    try:
        return good(name, attempt())
    except IocScanError as error:
        return bad(name, error.code, error.message, error.hint)


def _python(context: Context) -> Iterator[Check]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < _OLDEST_PYTHON:
        yield bad(
            "python", "python_too_old", f"Python {version}", "Use 3.10 or newer for the pack's virtualenv."
        )
    else:
        yield good("python", f"Python {version}")


def _store(context: Context) -> Iterator[Check]:
    def attempt() -> str:
        facts = context.store.describe()
        return (
            f"{facts['database']} {facts['version']}, schema {facts['schema']}, {facts['size_bytes']} bytes"
        )

    yield _try("store", attempt)
    try:
        free = shutil.disk_usage(context.folder).free
    except OSError as error:
        yield bad(
            "store folder",
            "store_folder_missing",
            f"{context.folder}: {error.strerror}",
            "Create it, mode 0700.",
        )
        return
    if free < LOW_SPACE_BYTES:
        yield bad("store folder", "warning_low_space", f"{free // 2**20} MiB free", "Free some space.")
    else:
        yield good("store folder", f"{free // 2**20} MiB free at {context.folder}")
    with contextlib.suppress(StoreError):  # said above
        if context.stopped:
            hint = "st2 run ioc_scan.kill_switch switch=go"
            yield bad("kill switch", "warning_stopped", "the kill switch is on: no response runs", hint)


def _guard(context: Context) -> Iterator[Check]:
    def attempt() -> str:
        check_guard(context)
        return f"threshold {context.config['guard']['threshold_score']}"

    yield _try("guard", attempt)


def _sources(context: Context) -> Iterator[Check]:
    if not context.config["sources"]:
        yield bad("sources", "warning_no_sources", "no source is configured", "Name one under `sources`.")
    for entry in context.config["sources"]:
        name = f"source {entry['name']}"
        if entry["type"] == "webhook":
            yield good(name, f"webhook, trust {entry['trust']}")
            continue
        try:
            health = context.source(entry["name"]).health()
        except IocScanError as error:
            yield bad(name, error.code, error.message, error.hint)
            continue
        problems = "; ".join(health.problems)
        if health.ok:
            yield good(name, problems or f"{entry['type']}, trust {entry['trust']}")
        else:
            yield bad(name, "source_unhealthy", problems, "See the source's part of the documentation.")


def _managers(context: Context) -> Iterator[Check]:
    if not context.config["device_managers"]:
        hint = "Name one under `device_managers`."
        yield bad("device managers", "warning_no_managers", "no device manager is configured", hint)
    try:
        managers = context.managers
    except IocScanError as error:
        yield bad("device managers", error.code, error.message, error.hint)
        return
    for name, manager in managers.items():
        try:
            health = manager.health()
            devices = sum(len(manager.devices(group.name)) for group in manager.groups())
        except IocScanError as error:
            yield bad(f"manager {name}", error.code, error.message, error.hint)
            continue
        for problem in health.problems:
            code = problem.code if problem.fatal else f"warning_{problem.code}"
            yield bad(f"manager {name}", code, problem.message, problem.hint)
        if health.ok:
            yield good(f"manager {name}", f"{len(manager.groups())} groups, {devices} devices")


def _policies(context: Context) -> Iterator[Check]:
    policies = context.config["threat_response_policies"]
    if not policies:
        message = "no threat response policy: detections are recorded and nothing runs"
        yield bad("policies", "warning_no_policies", message, "Name one under `threat_response_policies`.")
    for policy in policies:

        def attempt(policy: dict[str, Any] = policy) -> str:
            aims = [Target(entry["group"], entry["response_mode"]) for entry in policy["run_ioc_scan_on"]]
            found = resolve(context, aims, policy["exclude_devices"])
            return f"{len(found)} groups, {sum(len(aim.devices) for aim in found)} devices"

        yield _try(f"policy {policy['name']}", attempt)


_PARTS = (_python, _store, _guard, _sources, _managers, _policies, *MORE_PARTS)
